"""SPIFFE IDs against the table of the standard: ID-1 to ID-16 of SPIFFE-ID.md section 2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshca.spiffe_id import MAXIMUM_BYTES, SpiffeId, parse_trust_domain

LONGEST_DOMAIN = "d" * 255
LONGEST = "spiffe://d/" + "p" * (MAXIMUM_BYTES - len("spiffe://d/"))

ACCEPTED = [
    ("ID_7 lowercase", "spiffe://example.org/ns/shop/sa/orders", "example.org"),
    ("ID_8 every character of a host", "spiffe://az-09._x/p", "az-09._x"),
    ("ID_10 dotted quad", "spiffe://10.0.0.1/p", "10.0.0.1"),
    ("ID_10 one label", "spiffe://localhost/p", "localhost"),
    ("ID_14 every character of a segment", "spiffe://d/aZ09.-_/x", "d"),
    ("ID_14 dots inside a segment", "spiffe://d/a..b/...", "d"),
    ("ID_15 2048 bytes", LONGEST, "d"),
    ("ID_16 255 bytes of trust domain", f"spiffe://{LONGEST_DOMAIN}/p", LONGEST_DOMAIN),
    ("ID_17 an authority has no path", "spiffe://example.org", "example.org"),
]

REFUSED = [
    ("ID_1 another scheme", "https://d/p", "does not begin with"),
    ("ID_1 no scheme", "d/p", "does not begin with"),
    ("ID_1 empty", "", "does not begin with"),
    ("ID_1 leading space", " spiffe://d/p", "does not begin with"),
    ("ID_1 upper case", "SPIFFE://d/p", "does not begin with"),
    ("ID_1 one slash", "spiffe:/d/p", "does not begin with"),
    ("ID_2 no trust domain", "spiffe:///p", "is empty"),
    ("ID_2 nothing", "spiffe://", "is empty"),
    ("ID_3 query", "spiffe://d/p?q=1", "path segment"),
    ("ID_3 query without path", "spiffe://d?q", "trust domain"),
    ("ID_4 fragment", "spiffe://d/p#f", "path segment"),
    ("ID_5 userinfo", "spiffe://user@d/p", "trust domain"),
    ("ID_6 port", "spiffe://d:8443/p", "trust domain"),
    ("ID_6 empty port", "spiffe://d:/p", "trust domain"),
    ("ID_7 upper case host", "spiffe://Example.org/p", "trust domain"),
    ("ID_8 other character", "spiffe://ex~mple/p", "trust domain"),
    ("ID_8 not ASCII", "spiffe://exämple/p", "trust domain"),
    ("ID_8 full-width letters", "spiffe://\uff44/p", "trust domain"),
    ("ID_9 percent in the host", "spiffe://ex%61mple/p", "trust domain"),
    ("ID_10 IPv6", "spiffe://[::1]/p", "trust domain"),
    ("ID_11 percent in the path", "spiffe://d/%61", "path segment"),
    ("ID_12 empty segment", "spiffe://d/a//b", "empty segment"),
    ("ID_12 dot", "spiffe://d/./a", "dot segment"),
    ("ID_12 dot dot", "spiffe://d/a/../b", "dot segment"),
    ("ID_13 trailing slash", "spiffe://d/a/", "trailing slash"),
    ("ID_13 only a slash", "spiffe://d/", "trailing slash"),
    ("ID_14 other character", "spiffe://d/a b", "path segment"),
    ("ID_14 not ASCII", "spiffe://d/ä", "path segment"),
    ("ID_14 an Arabic digit", "spiffe://d/\u0661", "path segment"),
    ("ID_14 trailing newline", "spiffe://d/a\n", "path segment"),
    ("ID_8 trailing newline", "spiffe://d\n", "trust domain"),
    ("ID_14 NUL", "spiffe://d/a\x00", "path segment"),
    ("ID_15 2049 bytes", LONGEST + "p", "longer than 2048"),
    ("ID_16 256 bytes of trust domain", f"spiffe://{LONGEST_DOMAIN}d/p", "longer than 255"),
]


@pytest.mark.parametrize(("name", "text", "domain"), ACCEPTED, ids=[c[0] for c in ACCEPTED])
def test_accepts(name: str, text: str, domain: str) -> None:
    parsed = SpiffeId.parse(text)
    assert parsed.trust_domain == domain
    assert str(parsed) == text


@pytest.mark.parametrize(("name", "text", "said"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refuses(name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SpiffeId.parse(text)


def test_only_an_id_with_a_path_is_a_leafs() -> None:
    assert SpiffeId.parse("spiffe://d/p").is_leaf
    assert not SpiffeId.parse("spiffe://d").is_leaf


def test_equals_only_its_own_type() -> None:
    text: object = "spiffe://d/p"
    assert SpiffeId.parse("spiffe://d/p") != text
    assert SpiffeId.parse("spiffe://d/p") == SpiffeId("d", "/p")


def naive(text: str) -> bool:
    """Say by the words of the standard whether `text` is a SPIFFE ID."""
    lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
    if len(text.encode()) > 2048 or text[:9] != "spiffe://":
        return False
    parts = text[9:].split("/")
    domain, segments = parts[0], parts[1:]
    if not 1 <= len(domain) <= 255 or any(c not in lower + digits + ".-_" for c in domain):
        return False
    allowed = lower + lower.upper() + digits + ".-_"
    return all(
        segment not in ("", ".", "..") and all(c in allowed for c in segment)
        for segment in segments
    )


PIECES = st.sampled_from([*"/aZ0_%?#@é:\n", "spiffe", "//", ".", "..", "-"])


@given(st.sampled_from(["", "spiffe://"]), st.lists(PIECES, max_size=8))
def test_agrees_with_the_naive_reading(scheme: str, pieces: list[str]) -> None:
    text = scheme + "".join(pieces)
    try:
        accepted = str(SpiffeId.parse(text)) == text
    except ValueError:
        accepted = False
    assert accepted == naive(text)


@pytest.mark.parametrize("name", ["", "Example.org", "a/b", "spiffe://d", "d\n", "d" * 256])
def test_refuses_a_trust_domain(name: str) -> None:
    with pytest.raises(ValueError, match="trust domain"):
        parse_trust_domain(name)
