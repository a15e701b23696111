"""Representatives: of whatever texts there are, one of each kind is among them."""

import itertools
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.analysis.addresses import representative_addresses
from authz.analysis.bounds import TooLarge
from authz.analysis.identities import IdentityForms, representative_ids
from authz.analysis.strings import ALPHABET, Forms, Spelling, representatives
from authz.analysis.templates import representative_paths
from authz.paths import parse_template
from authz.request import identity_facts
from meshca.spiffe_id import SpiffeId

TEXTS = [*("".join(letters) for n in range(1, 5) for letters in itertools.product("ab", repeat=n))]
texts = st.sets(st.sampled_from(TEXTS), max_size=4)
forms = st.builds(Forms, texts, texts, texts)
ANY = Spelling(bool)


def signature(text: str, among: Forms) -> frozenset[str]:
    """Return which of the forms match `text`."""
    return frozenset(
        (
            *(f"={each}" for each in among.exact if text == each),
            *(f"{each}*" for each in among.prefixes if text.startswith(each)),
            *(f"*{each}" for each in among.suffixes if text.endswith(each)),
        )
    )


@settings(deadline=None, max_examples=60)
@given(forms)
def test_every_text_is_like_a_representative(among: Forms) -> None:
    known = {signature(text, among) for text in representatives(among, ANY)}

    assert {signature(text, among) for text in (*TEXTS, "c", "acb", "bcb")} <= known


@settings(deadline=None, max_examples=60)
@given(forms, st.sets(st.sampled_from(["/a/{*}", "/{**}/b", "/a/{**}", "/{*}/{*}", "/b/{*}/a"])))
def test_every_path_is_like_a_representative(among: Forms, templates: set[str]) -> None:
    parts = ("a", "b", "ab", "c")
    paths = [f"/{'/'.join(p)}{end}" for n in range(4) for end in ("", "/")
             for p in itertools.product(parts, repeat=n)]  # fmt: skip
    exact, prefixes = ({f"/{t}" for t in each} for each in (among.exact, among.prefixes))
    named = Forms(exact, prefixes, among.suffixes)
    regexes = [parse_template(text).regex for text in sorted(templates)]

    def kind(path: str) -> tuple[frozenset[str], tuple[bool, ...]]:
        return signature(path, named), tuple(bool(r.fullmatch(path)) for r in regexes)

    found = representative_paths(named, templates)

    assert {kind(path) for path in paths} <= {kind(path) for path in found}
    assert len({kind(path) for path in found}) == len(found)


SEGMENTS = ("ns", "sa", "shop", "shops", "web", "x")
PRINCIPALS = [
    f"{domain}/{'/'.join(path)}"
    for domain in ("example.org", "a.example.org", "ns")
    for n in (1, 2, 4)
    for path in itertools.product(SEGMENTS, repeat=n)
][::7] + [
    f"{domain}/ns/{namespace}/sa/{account}"
    for domain in ("example.org", "a.example.org", "other", "ns")
    for namespace in ("shop", "shops", "sh", "x", "ns", "sa")
    for account in ("web", "webx", "x", "shop")
]
principal_forms = st.builds(
    Forms,
    st.sets(st.sampled_from(PRINCIPALS), max_size=3),
    st.sets(
        st.sampled_from(
            ["example.org/", "example.org/ns/sh", "example.org/ns/shop/", "ns/ns/shop/sa/w"]
        )
    ),
    st.sets(
        st.sampled_from(
            ["web", "/web", "/sa/web", "op/sa/web", "/ns/shop/sa/web", "org/ns/shop/sa/x", "x"]
        )
    ),
)
namespace_forms = st.builds(
    Forms,
    st.sets(st.sampled_from(["shop", "x", "web"])),
    st.sets(st.sampled_from(["sh", "s"])),
    st.sets(st.sampled_from(["op", "s"])),
)
domain_forms = st.builds(
    Forms,
    st.just({"example.org"}),
    st.sets(st.sampled_from(["a", "ex"])),
    st.sets(st.sampled_from([".org", "s"])),
)
account_forms = st.builds(Forms, st.sets(st.sampled_from(["shop/web", "x/web", "sh/x"])))


@settings(deadline=None, max_examples=60)
@given(principal_forms, domain_forms, namespace_forms, account_forms)
def test_every_identity_is_like_a_representative(
    principals: Forms, domains: Forms, namespaces: Forms, accounts: Forms
) -> None:
    def kind(identity: SpiffeId) -> tuple[object, ...]:
        facts = identity_facts(identity, ("example.org",))
        principal, namespace, account, domain, any_namespace, any_account = facts
        return (
            *(_signature(principal, principals), _signature(domain, domains)),
            *(_signature(namespace, namespaces), _signature(any_namespace, namespaces)),
            *(_signature(account, accounts), _signature(any_account, accounts)),
        )

    found = representative_ids(IdentityForms(principals, domains, namespaces, accounts))
    known = {kind(each) for each in found}

    for text in PRINCIPALS:
        assert kind(SpiffeId.parse(f"spiffe://{text}")) in known, text


def _signature(text: str | None, among: Forms) -> frozenset[str] | None:
    return None if text is None else signature(text, among)


NETWORKS = [
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "255.0.0.0/8", "0.0.0.0/32"),
        *("2001:db8::/32", "2001:db8::1", "::/0", "fe80::/10"),
    )
]
ADDRESSES = ("10.0.0.1", "10.1.2.3", "10.1.2.4", "9.9.9.9", "255.255.255.255", "127.0.0.1",
             "2001:db8::1", "2001:db8::2", "fe80::1", "::1", "9::")  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.sets(st.sampled_from(NETWORKS)))
def test_every_address_is_like_a_representative(networks: set[object]) -> None:
    chosen = [network for network in NETWORKS if network in networks]

    def kind(text: str) -> tuple[bool, ...]:
        return tuple(ip_address(text) in network for network in chosen)

    known = {kind(text) for text in representative_addresses(chosen)}

    assert {kind(text) for text in ADDRESSES} <= known


def test_texts_that_are_not_valid_are_left_out() -> None:
    lower = Spelling(lambda text: text.islower())

    assert set(representatives(Forms({"A", "a"}, {"B"}), lower)) == {"a", "other"}


def test_says_so_when_no_letter_is_left_to_tell_texts_apart() -> None:
    with pytest.raises(TooLarge):
        representatives(Forms(set(), set(ALPHABET)), ANY)
