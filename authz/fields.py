"""The fields of a source and of an operation, and how each one's values are read.

Rules. `*` alone is "present", a leading `*` a suffix, a trailing `*` a prefix, anything else exact;
a `*` elsewhere is an error, never a literal. What cannot match any request is an error too: in a
DENY it would be a hole. Every parser raises ValueError with a sentence that says what to write.

A field of the full language that this version does not read is listed here, so that its error says
so; it is never ignored.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.attributes import Attribute
from authz.values import Strings
from meshca.spiffe_id import SpiffeId, parse_trust_domain

_PRINCIPAL_TEXT = re.compile(r"[A-Za-z0-9._/-]+")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,253}")
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'^_`|~+.-]+")
_PATH = re.compile(r"[!-~]+")
_PORT = re.compile(r"[0-9]{1,5}")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Value:
    """One value in one of the four forms: `exact`, `prefix`, `suffix` or `present`."""

    form: str
    text: str


def parse_form(text: str) -> Value:
    """Return `text` in the form its stars give it."""
    if not text:
        raise ValueError("the value is empty")
    if text == "*":
        return Value("present", "")
    if "*" not in text:
        return Value("exact", text)
    if text.count("*") == 1 and text.startswith("*"):
        return Value("suffix", text[1:])
    if text.count("*") == 1 and text.endswith("*"):
        return Value("prefix", text[:-1])
    raise ValueError(
        f"{text!r} has a `*` that is not its only one at one end; nothing else is a wildcard"
    )


def parse_principal(text: str) -> Value:
    """Return a peer identity without `spiffe://`, e.g. `example.org/ns/shop/sa/web`."""
    if text.startswith("spiffe://"):
        raise ValueError(f"write it without spiffe://: {text.removeprefix('spiffe://')!r}")
    value = parse_form(text)
    if value.form == "present":
        return value
    if not _PRINCIPAL_TEXT.fullmatch(value.text) or "//" in value.text:
        raise ValueError(f"{text!r} cannot be part of a SPIFFE ID")
    if value.form == "exact" and not SpiffeId.parse(f"spiffe://{text}").is_leaf:
        raise ValueError(f"{text!r} is a trust domain, which no workload carries; write {text}/*")
    if value.form == "prefix":
        trust_domain, slash, _ = value.text.partition("/")
        parse_trust_domain(trust_domain)
        if not slash:
            raise ValueError(f"{text!r} must hold a whole trust domain: write {value.text}/*")
    if value.form == "suffix" and value.text.endswith("/"):
        raise ValueError(f"{text!r} ends with a slash, as no SPIFFE ID does")
    return value


def parse_namespace(text: str) -> Value:
    """Return a namespace, one whole segment of the peer's identity."""
    value = parse_form(text)
    if value.form != "present" and not _NAMESPACE.fullmatch(value.text):
        raise ValueError(f"{text!r} cannot be a namespace: letters, digits, dot, dash, underscore")
    return value


def parse_method(text: str) -> Value:
    """Return an HTTP method; case matters."""
    value = parse_form(text)
    if value.form != "present" and not _METHOD.fullmatch(value.text):
        raise ValueError(f"{text!r} cannot be an HTTP method")
    return value


def parse_path(text: str) -> Value:
    """Return a path as the proxy sees it: normalised, without the query; case matters."""
    if "{*}" in text or "{**}" in text:
        raise ValueError(f"{text!r} is a path template: not supported by this version")
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r} has a brace: write %7B or %7D for a literal one")
    value = parse_form(text)
    if value.form == "present":
        return value
    if not _PATH.fullmatch(value.text):
        raise ValueError(f"{text!r} has characters that a path only holds percent-encoded")
    if "?" in value.text or "#" in value.text:
        raise ValueError(f"{text!r} never matches: the query is removed first, and # is refused")
    if value.form != "suffix" and not value.text.startswith("/"):
        raise ValueError(f"{text!r} never matches: a path begins with /")
    return value


def parse_port(text: str) -> Value:
    """Return a port, 0 to 65535, in plain decimal; ports have no wildcard."""
    if not _PORT.fullmatch(text) or int(text) > _HIGHEST_PORT:
        raise ValueError(f"{text!r} is not a port: write a number from 0 to 65535")
    return Value("exact", str(int(text)))


@dataclass(frozen=True, slots=True)
class Field:
    """How one field of a source or an operation is read."""

    attribute: Attribute
    negative: bool
    parse: Callable[[str], Value]


def _pair(name: str, attribute: Attribute, parse: Callable[[str], Value]) -> dict[str, Field]:
    negative = f"not{name[0].upper()}{name[1:]}"
    return {name: Field(attribute, False, parse), negative: Field(attribute, True, parse)}


@dataclass(frozen=True, slots=True)
class Part:
    """One half of a rule: `key` holds a list of mappings, each with `inner`, a mapping of `fields`.

    `to_come` are the fields of the full language that this version refuses by name.
    """

    key: str
    inner: str
    fields: Mapping[str, Field]
    to_come: tuple[str, ...]


FROM: Final = Part(
    key="from",
    inner="source",
    fields={
        **_pair("principals", Attribute.PRINCIPAL, parse_principal),
        **_pair("namespaces", Attribute.NAMESPACE, parse_namespace),
    },
    to_come=(
        *("requestPrincipals", "notRequestPrincipals", "serviceAccounts", "notServiceAccounts"),
        *("trustDomains", "notTrustDomains", "ipBlocks", "notIpBlocks"),
        *("remoteIpBlocks", "notRemoteIpBlocks"),
    ),
)
TO: Final = Part(
    key="to",
    inner="operation",
    fields={
        **_pair("ports", Attribute.PORT, parse_port),
        **_pair("methods", Attribute.METHOD, parse_method),
        **_pair("paths", Attribute.PATH, parse_path),
    },
    to_come=("hosts", "notHosts"),
)


def to_strings(values: list[Value]) -> Strings:
    """Return the OR of `values`."""
    texts: dict[str, set[str]] = {
        "exact": set(),
        "prefix": set(),
        "suffix": set(),
        "present": set(),
    }
    for value in values:
        texts[value.form].add(value.text)
    return Strings(
        exact=frozenset(texts["exact"]),
        prefixes=tuple(sorted(texts["prefix"])),
        suffixes=tuple(sorted(texts["suffix"])),
        present=bool(texts["present"]),
    )
