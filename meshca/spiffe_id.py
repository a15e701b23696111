"""SPIFFE IDs (SPIFFE-ID.md section 2), parsed once at the edge and trusted inside.

Only the canonical form is accepted: lowercase scheme and trust domain, no port, query, fragment,
userinfo or percent-encoding, no empty or dot path segment. A leaf's ID has a path, an authority's
has none; `SpiffeId` can hold both, and whoever needs a leaf asks `is_leaf`.
"""

import re
from dataclasses import dataclass

MAXIMUM_BYTES = 2048
MAXIMUM_TRUST_DOMAIN_BYTES = 255
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_SCHEME = "spiffe://"


def parse_trust_domain(name: str) -> str:
    """Return `name` if it is a trust domain name (SPIFFE-ID.md 2.1), else raise ValueError."""
    if not name:
        raise ValueError("the trust domain is empty")
    if len(name) > MAXIMUM_TRUST_DOMAIN_BYTES:
        raise ValueError(f"the trust domain is longer than {MAXIMUM_TRUST_DOMAIN_BYTES} bytes")
    if not _TRUST_DOMAIN.fullmatch(name):
        raise ValueError(
            f"trust domain {name!r} has characters other than a-z, 0-9, dot, dash and underscore"
        )
    return name


def _check_segment(segment: str) -> None:
    if not segment:
        raise ValueError("the path has an empty segment or a trailing slash")
    if segment in (".", ".."):
        raise ValueError("the path has a dot segment")
    if not _SEGMENT.fullmatch(segment):
        raise ValueError(
            f"path segment {segment!r} has characters other than letters, digits, dot, dash, "
            "underscore"
        )


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """One SPIFFE ID: `spiffe://` + `trust_domain` + `path`; `path` is empty or begins with `/`."""

    trust_domain: str
    path: str

    @classmethod
    def parse(cls, text: str) -> "SpiffeId":
        """Return the ID written as `text`.

        Raises ValueError, naming the rule of SPIFFE-ID.md section 2 that `text` breaks.
        """
        if len(text) > MAXIMUM_BYTES:
            raise ValueError(f"longer than {MAXIMUM_BYTES} bytes")
        if not text.startswith(_SCHEME):
            raise ValueError(f"{text!r} does not begin with {_SCHEME}")
        trust_domain, slash, rest = text[len(_SCHEME) :].partition("/")
        parse_trust_domain(trust_domain)
        if slash:
            for segment in rest.split("/"):
                _check_segment(segment)
        return cls(trust_domain, slash + rest)

    @property
    def is_leaf(self) -> bool:
        """Whether a workload may carry it: its path is not empty (X509-SVID.md 3.1)."""
        return bool(self.path)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{self.path}"
