"""How the values of fields and conditions are read: one parser for each kind of text.

Rules. `*` alone is "present", a leading `*` a suffix, a trailing `*` a prefix, anything else exact;
a `*` elsewhere is an error, never a literal. What cannot match any request is an error too: in a
DENY it would be a hole. Every parser raises ValueError with a sentence that says what to write.

Paths are in `authz.paths`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Network, ip_network
from typing import Final

from authz.values import IssuerSubject, Network, Strings
from meshca.spiffe_id import SpiffeId, parse_trust_domain

LONGEST_SERVICE_ACCOUNT: Final = 320

_PRINCIPAL_TEXT = re.compile(r"[A-Za-z0-9._/-]+")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,253}")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]+")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'^_`|~+.-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[a-z0-9._:\[\]-]+")
_HOST_END = re.compile(r"\.(:[0-9]*)?$")
_SERVER_NAME = re.compile(r"[a-z0-9._-]+")
_HEADER_TEXT = re.compile(r"[\t -~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Value:
    """One value in one of the four forms: `exact`, `prefix`, `suffix` or `present`."""

    form: str
    text: str


PRESENT: Final = Value("present", "")


def parse_form(text: str) -> Value:
    """Return `text` in the form its stars give it."""
    if not text:
        raise ValueError("the value is empty")
    if text == "*":
        return PRESENT
    if "*" not in text:
        return Value("exact", text)
    if text.count("*") == 1 and text.startswith("*"):
        return Value("suffix", text[1:])
    if text.count("*") == 1 and text.endswith("*"):
        return Value("prefix", text[:-1])
    raise ValueError(
        f"{text!r} has a `*` that is not its only one at one end; nothing else is a wildcard"
    )


def to_strings(values: Iterable[Value]) -> Strings:
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


def parse_service_account(text: str) -> Value:
    """Return `namespace/account`, or `account` in the policy's own namespace; no wildcards."""
    if "*" in text:
        raise ValueError(f"{text!r}: service accounts have no wildcards; use principals")
    if len(text) > LONGEST_SERVICE_ACCOUNT:
        raise ValueError(f"longer than {LONGEST_SERVICE_ACCOUNT} characters")
    parts = text.split("/")
    if len(parts) > 2 or not all(_ACCOUNT.fullmatch(part) for part in parts):
        raise ValueError(f"{text!r} is not a service account: write namespace/account or account")
    return Value("exact", text)


def parse_trust_domain_form(text: str) -> Value:
    """Return a trust domain: the part of an identity before the first slash."""
    value = parse_form(text)
    if value.form != "present" and not _TRUST_DOMAIN.fullmatch(value.text):
        raise ValueError(f"{text!r} cannot be a trust domain: a-z, 0-9, dot, dash, underscore")
    return value


def parse_method(text: str) -> Value:
    """Return an HTTP method; case matters."""
    value = parse_form(text)
    if value.form != "present" and not _METHOD.fullmatch(value.text):
        raise ValueError(f"{text!r} cannot be an HTTP method")
    return value


def parse_port(text: str) -> Value:
    """Return a port, 0 to 65535, in plain decimal; ports have no wildcard."""
    if not _PORT.fullmatch(text) or int(text) > _HIGHEST_PORT:
        raise ValueError(f"{text!r} is not a port: write a number from 0 to 65535")
    return Value("exact", str(int(text)))


def parse_host(text: str) -> Value:
    """Return a host as hosts are compared: in lower case, without a final dot before the port."""
    value = parse_form(text)
    if value.form == "present":
        return value
    host = _HOST_END.sub(r"\1", value.text.lower()) if ends_name(value) else value.text.lower()
    if not _HOST.fullmatch(host):
        raise ValueError(
            f"{text!r} cannot be a host: write a name in ASCII (xn--... for other letters), and a "
            "port behind a colon; no scheme, no path"
        )
    return Value(value.form, host)


def ends_name(value: Value) -> bool:
    """Return whether a final dot of a host's value is one that hosts are compared without."""
    return value.form != "prefix" or ":" in value.text


def parse_server_name(text: str) -> Value:
    """Return a server name of TLS, in lower case as proxies see it."""
    value = parse_form(text)
    if value.form == "present":
        return value
    if not _SERVER_NAME.fullmatch(value.text.lower()):
        raise ValueError(f"{text!r} cannot be a server name: write it in ASCII, without a port")
    return Value(value.form, value.text.lower())


def parse_header_value(text: str) -> Value:
    """Return the value of a header; case matters."""
    value = parse_form(text)
    if value.form == "present":
        return value
    if not _HEADER_TEXT.fullmatch(value.text):
        raise ValueError(f"{text!r} has characters other than printable ASCII, and never matches")
    begins, ends = value.form != "suffix", value.form != "prefix"
    if (begins and value.text[0] in " \t") or (ends and value.text[-1] in " \t"):
        raise ValueError(f"{text!r} never matches: proxies remove spaces around a header's value")
    return value


def parse_claim_value(text: str) -> Value:
    """Return the value of a claim; case matters."""
    if _CONTROL.search(text):
        raise ValueError(f"{text!r} has control characters")
    return parse_form(text)


@lru_cache(maxsize=4096)
def parse_network(text: str) -> Network:
    """Return an IP address or a CIDR block; host bits are dropped, as in Istio."""
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither an IP address nor a block like 10.0.0.0/8 or 2001:db8::/32"
        ) from error
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None or network.network_address.scope_id is not None:
            raise ValueError(f"{text!r} never matches: write IPv4 as 10.0.0.1, and no zone")
    return network


def parse_request_principal(text: str) -> IssuerSubject:
    """Return `issuer/subject` of a token, split at the last slash, with at most one `*`."""
    if _CONTROL.search(text):
        raise ValueError(f"{text!r} has control characters")
    value = parse_form(text)
    if value.form == "present":
        return _issuer_subject(text, PRESENT, PRESENT)
    if "/" not in value.text:
        match value.form:
            case "suffix":
                return _issuer_subject(text, PRESENT, value)
            case "prefix":
                return _issuer_subject(text, value, PRESENT)
        raise ValueError(f"{text!r} has no subject and never matches: write {text}/*")
    issuer, _, subject = text.rpartition("/")
    if issuer.endswith(":/"):
        raise ValueError(
            f"{text!r} is an issuer without a subject and never matches: "
            f"write {text.removesuffix('*')}/*"
        )
    if not issuer or not subject:
        raise ValueError(f"{text!r} never matches: write issuer/subject")
    return _issuer_subject(text, parse_form(issuer), parse_form(subject))


def _issuer_subject(text: str, issuer: Value, subject: Value) -> IssuerSubject:
    return IssuerSubject(text, to_strings([issuer]), to_strings([subject]))


_REGEX = re.compile(r"\.\*|\.\+|^\^|\$$|\[[^\]]+-[^\]]+\]|\([^)]*\|[^)]*\)|\\[.dwsDWS]")


@lru_cache(maxsize=4096)
def looks_like_regex(text: str) -> bool:
    """Return whether `text` looks like a regular expression, which no value is."""
    return _REGEX.search(text) is not None
