"""What the audit log is told of a change: names, digests and texts, within one entry's bounds."""

import orjson

from authz.change import (
    MAXIMUM_DIFF_BYTES,
    MAXIMUM_NAME_CHARACTERS,
    MAXIMUM_RECORDED,
    Change,
    difference,
)
from authz.load import load_policies
from authz.policy import PolicySet

READ = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
TOKENS = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec: {jwtRules: [{issuer: https://issuer.example}]}
"""
AN_ENTRY = 64 * 1024


def policies(*texts: str) -> PolicySet:
    return load_policies(
        [("t.yaml", "---".join(texts))],
        trust_domain="example.org",
        root_namespace="meshca",
        default="deny",
    )


def test_documents_of_every_kind_have_their_digest_before_and_after() -> None:
    before = policies(READ, STRICT)
    after = policies(READ.replace("GET", "PUT"), TOKENS)
    told = difference(before, after).recorded("+ it")
    assert told["counts"] == {"added": 1, "removed": 1, "changed": 1}
    assert told["added"] == ["RequestAuthentication shop/tokens"]
    assert told["removed"] == ["PeerAuthentication shop/strict"]
    assert told["changed"] == ["shop/read"]
    (tokens,) = told["digests"]["added"]
    (strict,) = told["digests"]["removed"]
    (read,) = told["digests"]["changed"]
    assert (tokens[0], strict[1]) == (None, None)
    assert read == [before.policies[0].digest, after.policies[0].digest]
    assert len({*tokens, *strict, *read}) == 5, "four digests, and nothing"


def test_digests_do_not_depend_on_where_and_how_a_document_is_written() -> None:
    same = READ.replace("[GET]", '["GET"]').replace("{name: read, ", "{'name': read, ")
    assert difference(policies(READ, STRICT), policies(STRICT, same)).recorded("")["counts"] == {
        "added": 0,
        "removed": 0,
        "changed": 0,
    }


def test_the_name_of_a_document_is_told_where_it_is_the_only_one() -> None:
    assert (
        difference(policies(READ), policies(READ, STRICT)).only == "PeerAuthentication shop/strict"
    )
    assert difference(policies(READ), policies(STRICT, TOKENS)).only == ""


def test_the_largest_change_fits_an_entry_and_says_how_much_there_was() -> None:
    names = tuple(f"{'n' * 63}/{number:0>253}" for number in range(MAXIMUM_RECORDED * 2))
    digests = dict.fromkeys(names, "d" * 32)
    change = Change(names, names, names, "v1", "v2", digests, digests)
    told = change.recorded("\U0001f600\x01" * AN_ENTRY)
    assert len(orjson.dumps(told)) < AN_ENTRY
    assert told["counts"]["removed"] == len(names)
    assert sum(map(len, told["added"])) <= MAXIMUM_NAME_CHARACTERS
    assert told["diff"].endswith("is left out]\n")
    assert len(orjson.dumps(told["diff"])) <= MAXIMUM_DIFF_BYTES + 100

    short = tuple(str(number) for number in range(MAXIMUM_RECORDED * 2))
    digests = dict.fromkeys(short, "d" * 32)
    told = Change((), (), short, "v1", "v2", digests, digests).recorded("")
    assert len(told["changed"]) == len(told["digests"]["changed"]) == MAXIMUM_RECORDED
    assert len(orjson.dumps(told)) < AN_ENTRY
