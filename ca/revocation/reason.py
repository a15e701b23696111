"""Why a certificate is revoked: the codes of RFC 5280 5.3.1 that make sense for a leaf."""

from enum import Enum

from meshca.errors import RequestRefused


class Reason(Enum):
    """A CRLReason; the value is its code, and the name is as RFC 5280 spells it."""

    unspecified = 0
    keyCompromise = 1  # noqa: N815  # RFC 5280's own spelling, in every interface
    affiliationChanged = 3  # noqa: N815
    superseded = 4
    cessationOfOperation = 5  # noqa: N815
    certificateHold = 6  # noqa: N815
    privilegeWithdrawn = 9  # noqa: N815


def parse_reason(name: str) -> Reason:
    """Return the reason of that name; raises RequestRefused, naming those there are."""
    try:
        return Reason[name]
    except KeyError as error:
        known = ", ".join(reason.name for reason in Reason)
        raise RequestRefused("reason", f"unknown reason {name[:64]!r}: one of {known}") from error
