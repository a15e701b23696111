"""The leaf profile: what every SVID we issue looks like, validated once."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Profile:
    """How SVIDs are made: lifetimes, backdating, and URLs when a public listener answers them.

    `lifetime` is the default, `maximum_lifetime` the most that a caller may ask for. `public_url`
    is None while nothing answers: then no certificate names a CRL or issuer URL.
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

    def urls_of(self, authority_id: str) -> tuple[str | None, str | None]:
        """Return where the CRL and the certificate of an authority are published, or None twice."""
        if self.public_url is None:
            return None, None
        url = self.public_url
        return f"{url}/crl/{authority_id}.crl", f"{url}/ca/{authority_id}.der"
