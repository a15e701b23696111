"""The leaf profile: what every SVID we issue looks like, validated once."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple


class Urls(NamedTuple):
    """Where a leaf says that its issuer is published; None where nothing answers."""

    crl: str | None
    ocsp: str | None
    issuer: str | None


_NONE: Final = Urls(None, None, None)


@dataclass(frozen=True, slots=True)
class Profile:
    """How SVIDs are made: lifetimes, backdating, and URLs when a public listener answers them.

    `lifetime` is the default, `maximum_lifetime` the most that a caller may ask for. `public_url`
    is None while nothing answers: then no certificate names a CRL, OCSP or issuer URL.
    """

    trust_domain: str
    lifetime: timedelta
    maximum_lifetime: timedelta
    backdate: timedelta
    public_url: str | None = None

    def __post_init__(self) -> None:
        if not timedelta(0) < self.lifetime <= self.maximum_lifetime:
            raise ValueError("the lifetime must be positive and at most the maximum")
        if self.backdate < timedelta(0):
            raise ValueError("backdate is negative")

    def urls_of(self, authority_id: str) -> Urls:
        """Return where the CRL, the OCSP responder and the certificate of an authority are."""
        if self.public_url is None:
            return _NONE
        url = self.public_url
        return Urls(f"{url}/crl/{authority_id}.crl", f"{url}/ocsp", f"{url}/ca/{authority_id}.der")
