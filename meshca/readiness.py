"""Whether the service can do its work now; what /readyz and `meshca status` say."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature

from ca.issuer import compare, prepare, sign
from ca.request import generate
from meshca.errors import IssuanceFault, MeshcaError
from meshca.wiring import Service, own_caller

READINESS_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 5.0


def sign_probe(service: Service) -> None:
    """Sign a certificate with the active authority and throw it away.

    Raises MeshcaError when signing does not work, whatever the reason. Nothing is recorded: the
    probe never leaves this function.
    """
    now = service.clock.now()
    authority = service.authorities.active(now)
    prepared = prepare(
        own_caller(service),
        generate().request,
        authority=authority,
        profile=service.issuance.profile,
        now=now,
    )
    certificate = compare(prepared, sign(prepared))
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise IssuanceFault("a probe was signed, but its signature does not verify") from error


@dataclass(slots=True)
class Readiness:
    """Whether the service can do its work: it signs a probe and commits an empty transaction.

    Anyone may ask, so the answer is kept for a second: asking often costs nothing.
    """

    service: Service
    stopping: asyncio.Event
    _found: list[str] = field(default_factory=list)
    _asked_at: float | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def problems(self) -> list[str]:
        """Return what keeps the service from its work now: empty when it is ready."""
        if self.stopping.is_set():
            return ["the server is stopping"]
        async with self._asking:
            now = self.service.clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= READINESS_SECONDS:
                self._found = await self._ask()
                self._asked_at = now
            return self._found

    async def _ask(self) -> list[str]:
        found: list[str] = []
        checks = (
            ("signing", asyncio.to_thread(sign_probe, self.service)),
            ("the database", self.service.writer.submit()),
        )
        for what, check in checks:
            try:
                await asyncio.wait_for(check, PROBE_SECONDS)
            except TimeoutError:
                found.append(f"{what} does not answer within {PROBE_SECONDS:.0f} s")
            except MeshcaError as error:
                found.append(str(error))
        return found
