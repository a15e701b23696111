"""The values of a term: what one text of a request is compared with.

Every kind answers `matches(text)` and writes itself down again (`written`), and says which texts
it names `exact`ly, so that indexes and maps can be made of them. No value at all matches nothing.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

Network = IPv4Network | IPv6Network
NO_TEXTS: frozenset[str] = frozenset()


class Values(Protocol):
    """The OR of the values of one field."""

    @property
    def exact(self) -> frozenset[str]:
        """Return the texts that match by being equal."""
        ...

    @property
    def is_exact(self) -> bool:
        """Return whether `exact` is all there is."""
        ...

    def matches(self, text: str) -> bool:
        """Return whether one of the values matches `text`."""
        ...

    def written(self) -> list[str]:
        """Return the values as a document writes them, in a fixed order."""
        ...


@dataclass(frozen=True, slots=True)
class Strings:
    """The OR of match forms; `present` matches any non-empty text. No form matches nothing."""

    exact: frozenset[str] = NO_TEXTS
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    present: bool = False
    is_exact: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        patterns = self.prefixes or self.suffixes or self.present
        object.__setattr__(self, "is_exact", not patterns)

    def matches(self, text: str) -> bool:
        """Return whether one of the forms matches `text`."""
        if text in self.exact:
            return True
        return not self.is_exact and (
            text.startswith(self.prefixes)
            or text.endswith(self.suffixes)
            or (self.present and text != "")
        )

    def written(self) -> list[str]:
        """Return the values as a document writes them, in a fixed order."""
        return [
            *(["*"] if self.present else []),
            *sorted(self.exact),
            *(f"{prefix}*" for prefix in sorted(self.prefixes)),
            *(f"*{suffix}" for suffix in sorted(self.suffixes)),
        ]


@dataclass(frozen=True, slots=True)
class Networks:
    """IP addresses and CIDR blocks; a text that is no address is in none of them."""

    networks: tuple[Network, ...]

    @property
    def exact(self) -> frozenset[str]:
        """Return nothing: an address has several spellings."""
        return NO_TEXTS

    @property
    def is_exact(self) -> bool:
        """Return False."""
        return False

    def matches(self, text: str) -> bool:
        """Return whether `text` is an address in one of the blocks."""
        address = parse_address(text)
        return address is not None and any(address in network for network in self.networks)

    def written(self) -> list[str]:
        """Return the blocks, in a fixed order."""
        return sorted(str(network) for network in self.networks)


@lru_cache(maxsize=4096)
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `text` is, or None; IPv4 mapped into IPv6 is IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """One path template; `regex` (RE2 and Python read it alike) matches the whole path."""

    text: str
    regex: re.Pattern[str] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Paths:
    """Paths: the four string forms, and templates with `{*}` (a segment) and `{**}` (the rest)."""

    strings: Strings
    templates: tuple[PathTemplate, ...]

    @property
    def exact(self) -> frozenset[str]:
        """Return the paths named as they are."""
        return self.strings.exact

    @property
    def is_exact(self) -> bool:
        """Return whether there is neither pattern nor template."""
        return self.strings.is_exact and not self.templates

    def matches(self, text: str) -> bool:
        """Return whether a string form or a template matches `text`."""
        return self.strings.matches(text) or any(
            template.regex.fullmatch(text) is not None for template in self.templates
        )

    def written(self) -> list[str]:
        """Return forms, then templates, in a fixed order."""
        return [*self.strings.written(), *sorted(template.text for template in self.templates)]


SEPARATOR = "\n"
"""Between issuer and subject in the fact of a request principal: neither may hold it. `/` will
not do: `iss/a` with subject `b` is somebody else than `iss` with subject `a/b`."""


@dataclass(frozen=True, slots=True)
class IssuerSubject:
    """One value of `requestPrincipals`: a form for the issuer and one for the subject."""

    text: str
    issuer: Strings
    subject: Strings


@dataclass(frozen=True, slots=True)
class RequestPrincipals:
    """The OR of request principals."""

    principals: tuple[IssuerSubject, ...]

    @property
    def exact(self) -> frozenset[str]:
        """Return nothing: issuer and subject are compared apart."""
        return NO_TEXTS

    @property
    def is_exact(self) -> bool:
        """Return False."""
        return False

    def matches(self, text: str) -> bool:
        """Return whether issuer and subject in `text` match those of one value."""
        issuer, _, subject = text.partition(SEPARATOR)
        return any(
            principal.issuer.matches(issuer) and principal.subject.matches(subject)
            for principal in self.principals
        )

    def written(self) -> list[str]:
        """Return the values, in a fixed order."""
        return sorted(principal.text for principal in self.principals)
