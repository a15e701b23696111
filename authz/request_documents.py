"""Reading RequestAuthentication documents: whose tokens are valid, where they are, what is passed.

Keys are never fetched here; a key set that is written into the document is checked.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from authz.annotations import refuse_annotations
from authz.metadata import Metadata, read_target
from authz.reader import StrictReader
from authz.request_authentication import FromHeader, JwtRule, RequestAuthentication
from meshca.errors import Problem
from meshca.yaml_source import Path

KIND: Final = "RequestAuthentication"
MAXIMUM_JWT_RULES: Final = 128

_FIELDS = (
    *("issuer", "audiences", "jwks", "jwksUri", "fromHeaders", "fromParams", "fromCookies"),
    *("forwardOriginalToken", "outputPayloadToHeader", "outputClaimToHeaders", "timeout"),
)
_ADVICE: Final = {
    "jwks_uri": "write jwksUri",
    "spaceDelimitedClaims": "scope and permission are split at spaces, and no other claim is",
}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_DURATION = re.compile(r"(?:(\d{1,4})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def read_request_authentication(
    strict: StrictReader, metadata: Metadata, spec: Mapping[str, Any]
) -> RequestAuthentication:
    """Return what a RequestAuthentication says, noting what is wrong with it."""
    refuse_annotations(strict, metadata.annotations, KIND)
    target = read_target(strict, spec, metadata.namespace)
    path: Path = ("spec", "jwtRules")
    if "jwtRules" not in spec:
        strict.problem(("spec",), "without jwtRules it says nothing; write whose tokens are valid")
    entries = strict.entries(path, spec.get("jwtRules", [{}]), at_most=MAXIMUM_JWT_RULES)
    rules = [
        _rule(strict, (*path, index), entry)
        for index, entry in enumerate(entries)
        if "jwtRules" in spec
    ]
    return RequestAuthentication(
        namespace=metadata.namespace,
        name=metadata.name,
        selector=target.selector,
        gateways=target.gateways,
        rules=tuple(rule for rule in rules if rule is not None),
        source=strict.document.source,
        line=strict.document.line_of(()),
    )


def _rule(strict: StrictReader, path: Path, value: Any) -> JwtRule | None:
    rule = strict.mapping(path, value, _FIELDS, advice=_ADVICE)
    if rule is None:
        return None
    if "issuer" not in rule:
        strict.problem(path, "issuer is missing: write the `iss` of its tokens")
    if "jwks" in rule and "jwksUri" in rule:
        strict.problem((*path, "jwksUri"), "cannot stand beside jwks; write one of them")
    return JwtRule(
        issuer=_line(strict, (*path, "issuer"), rule.get("issuer", "-")),
        audiences=_lines(strict, (*path, "audiences"), rule),
        jwks=_key_set(strict, (*path, "jwks"), rule["jwks"]) if "jwks" in rule else "",
        jwks_uri=_uri(strict, (*path, "jwksUri"), rule["jwksUri"]) if "jwksUri" in rule else "",
        headers=_headers(strict, (*path, "fromHeaders"), rule),
        params=_lines(strict, (*path, "fromParams"), rule),
        cookies=_lines(strict, (*path, "fromCookies"), rule),
        forward=_flag(strict, (*path, "forwardOriginalToken"), rule),
        payload_header=_payload_header(strict, (*path, "outputPayloadToHeader"), rule),
        claim_headers=_claim_headers(strict, (*path, "outputClaimToHeaders"), rule),
        timeout_seconds=_timeout(strict, (*path, "timeout"), rule.get("timeout", "5s")),
    )


def _line(strict: StrictReader, path: Path, value: Any) -> str:
    text = strict.text(path, value)
    if text is not None and (not text or _CONTROL.search(text)):
        strict.problem(path, "must be one line of text that is not empty")
    return text or ""


def _lines(strict: StrictReader, path: Path, rule: Mapping[str, Any]) -> tuple[str, ...]:
    if path[-1] not in rule:
        return ()
    entries = strict.entries(path, rule[str(path[-1])])
    return tuple(_line(strict, (*path, index), entry) for index, entry in enumerate(entries))


def _key_set(strict: StrictReader, path: Path, value: Any) -> str:
    text = strict.text(path, value)
    if text is None:
        return ""
    try:
        keys = json.loads(text)
    except (ValueError, RecursionError):
        strict.problem(path, "is not JSON; write the key set as one text")
        return ""
    listed = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(listed, list) or not all(isinstance(key, dict) for key in listed):
        strict.problem(path, 'is not a key set: write {"keys": [...]}')
    elif not listed:
        strict.problem(path, "has no keys; no token would be valid")
    elif any({"d", "k"} & key.keys() for key in listed):
        strict.problem(path, "holds a secret or a private key; write public keys only")
    return text


def _uri(strict: StrictReader, path: Path, value: Any) -> str:
    text = _line(strict, path, value)
    scheme = _scheme(text)
    if scheme not in ("http", "https"):
        strict.problem(path, f"{text!r} is not an address: write https://HOST/PATH")
    elif scheme == "http":
        strict.warn(path, "keys fetched over http can be exchanged on the way; write https")
    return text


def _scheme(text: str) -> str:
    """Return the scheme of an address with a host; nothing for any other text."""
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return ""
    return parts.scheme if has_host else ""


def _headers(strict: StrictReader, path: Path, rule: Mapping[str, Any]) -> tuple[FromHeader, ...]:
    found: list[FromHeader] = []
    for index, entry in enumerate(strict.entries(path, rule.get("fromHeaders", [{}]))):
        if "fromHeaders" not in rule:
            continue
        place = (*path, index)
        header = strict.mapping(place, entry, ("name", "prefix"))
        if header is not None:
            name = _header(strict, (*place, "name"), header.get("name"))
            prefix = strict.text((*place, "prefix"), header.get("prefix", ""))
            found.append(FromHeader(name, prefix or ""))
    return tuple(found)


def _header(strict: StrictReader, path: Path, value: Any) -> str:
    text = strict.text(path, value)
    if text is not None and not _HEADER.fullmatch(text):
        strict.problem(path, f"{text!r} is not the name of a header")
    return (text or "").lower()


def _flag(strict: StrictReader, path: Path, rule: Mapping[str, Any]) -> bool:
    value = rule.get(str(path[-1]), False)
    if not isinstance(value, bool):
        strict.problem(path, "write true or false")
        return False
    return value


def _payload_header(strict: StrictReader, path: Path, rule: Mapping[str, Any]) -> str:
    return _header(strict, path, rule[str(path[-1])]) if path[-1] in rule else ""


def _claim_headers(
    strict: StrictReader, path: Path, rule: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    if path[-1] not in rule:
        return ()
    pairs: list[tuple[str, str]] = []
    for index, entry in enumerate(strict.entries(path, rule[str(path[-1])])):
        place = (*path, index)
        pair = strict.mapping(place, entry, ("header", "claim"))
        if pair is not None:
            header = _header(strict, (*place, "header"), pair.get("header"))
            pairs.append((header, _line(strict, (*place, "claim"), pair.get("claim"))))
    return tuple(pairs)


def _timeout(strict: StrictReader, path: Path, value: Any) -> float:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    minutes, seconds, millis = match.groups() if match else (None, None, None)
    total = int(minutes or 0) * 60 + float(seconds or 0) + int(millis or 0) / 1000
    if total <= 0:
        strict.problem(path, f"{value!r} is not a duration; write it like 5s or 500ms")
        return 5.0
    return total


def forgeable_headers(
    documents: Sequence[RequestAuthentication], root_namespace: str
) -> list[Problem]:
    """Return where a caller could forge a header that is made of a token: every rule involved.

    A proxy removes such a header only for the issuer whose token it looks at: with two issuers, who
    has a token of one could send the header of the other.
    """
    problems: list[Problem] = []
    for document in documents:
        if not any(rule.payload_header or rule.claim_headers for rule in document.rules):
            continue
        beside = [d for d in documents if d is not document and _meet(d, document, root_namespace)]
        beside = [each for each in beside if each.rules]
        if len(document.rules) > 1 or beside:
            alone = len(document.rules) > 1
            problems.append(_forgeable(document, () if alone else beside))
            problems += (_forgeable(each, [document]) for each in beside)
    return problems


def _forgeable(document: RequestAuthentication, others: Iterable[RequestAuthentication]) -> Problem:
    message = (
        "headers made of a token are safe with one issuer only, and other jwtRules may "
        "apply to the same workload; use request.auth.claims[...] instead of the header"
    )
    files = tuple(each.source for each in others)
    return Problem("spec.jwtRules", message, document.source, document.line, others=files)


def _meet(one: RequestAuthentication, other: RequestAuthentication, root_namespace: str) -> bool:
    """Return whether one workload may be selected by both."""
    if one.namespace != other.namespace and root_namespace not in (one.namespace, other.namespace):
        return False
    wanted = dict(one.selector)
    return all(wanted.get(name, value) == value for name, value in other.selector)
