"""Replicas answer for each other: any of them may be asked about any certificate.

    publish   this process says which public key it answers with
    certify   for each authority whose key is here, the keys of the other replicas
    appoint   what others have certified for our key, verified, is what we answer with

A replica counts while it was seen in the last `SEEN_FOR`; its key is one of its process, and gone
with it. A certificate of a colleague lives as long as our own (delegate.py) and is renewed at half
of its life. What fails is logged and tried again with the next look; what we have goes on.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from ca import keys
from ca.authority import Authority
from ca.keys import PrivateKeySigner
from ca.ocsp import delegate
from ca.ocsp.colleagues_store import Colleagues, Delegation, ResponderSeen, key_hash
from ca.ocsp.delegate import Delegate
from ca.ocsp.signers import OcspSigners
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import IssuanceFault, MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics

TICK_SECONDS: Final = 30.0
SEEN_EVERY: Final = timedelta(minutes=1)
SEEN_FOR: Final = timedelta(minutes=5)
MAXIMUM_RESPONDERS: Final = 64
"""Replicas certified for one authority; more than that is not a deployment, but a mistake."""

log = get_logger("ca")


@dataclass(slots=True, kw_only=True)
class OcspColleagues:
    """Keeps `signers` able to answer for the authorities of every replica."""

    replica: str
    signers: OcspSigners
    colleagues: Colleagues
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    _signer: PrivateKeySigner = field(
        default_factory=lambda: PrivateKeySigner(keys.generate_key()), repr=False
    )
    _said_at: datetime | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def public_key(self) -> bytes:
        """Return the DER public key that this process answers with for others."""
        return keys.public_key_der(self._signer.key.public_key())

    def heed(self) -> None:
        """Look again soon: somebody has another key, or was certified, or there is an authority."""
        self._changed.set()

    async def run(self) -> None:
        """Keep in step until cancelled."""
        while True:
            self._changed.clear()
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._changed.wait()

    async def look(self) -> None:
        """Publish, certify and be appointed, once; what fails is logged."""
        now = self.clock.now()
        try:
            await self._publish(now)
            known = await asyncio.to_thread(self.colleagues.delegations, now)
            await self._certify(known, now)
        except MeshcaError as error:
            log.warning("ocsp_colleagues_unknown", error=str(error))
            return
        self.signers.appoint(self._verified(known))

    async def _publish(self, now: datetime) -> None:
        said_at = self._said_at
        if said_at is None or not timedelta(0) <= now - said_at < SEEN_EVERY:
            await self.writer.submit(ResponderSeen(self.replica, self.public_key, now))
            self._said_at = now

    async def _certify(self, known: list[Delegation], now: datetime) -> None:
        """Certify each colleague for each authority whose key is here, where that is due."""
        others = await asyncio.to_thread(self.colleagues.responders, now - SEEN_FOR)
        certified = {(one.authority_id, one.key_sha256): one for one in known}
        for authority in [*self.signers.held()]:
            if self.signers.authorities.is_barred(authority.authority_id):
                continue
            for other in others[:MAXIMUM_RESPONDERS]:
                held = certified.get((authority.authority_id, key_hash(other.public_key)))
                if other.replica != self.replica and _is_due(authority, held, now):
                    await self._certify_one(authority, other, now)

    async def _certify_one(self, authority: Authority, other: ResponderSeen, now: datetime) -> None:
        name = authority.authority_id
        try:
            certificate = await self.signers.certify(authority, other.public_key, now)
            await self.writer.submit(
                Delegation(
                    authority_id=name,
                    key_sha256=key_hash(other.public_key),
                    issuer=authority.certificate.public_bytes(Encoding.DER),
                    certificate=certificate.public_bytes(Encoding.DER),
                    not_after=certificate.not_valid_after_utc,
                )
            )
        except MeshcaError as error:
            self.metrics.ocsp_signer_failures.inc()
            log.warning(
                "ocsp_colleague_not_certified",
                authority=name,
                replica=other.replica,
                error=str(error),
            )

    def _verified(self, known: list[Delegation]) -> dict[str, tuple[x509.Certificate, Delegate]]:
        """Return what others have certified for our key, each held against its issuer."""
        found: dict[str, tuple[x509.Certificate, Delegate]] = {}
        for one in known:
            if one.key_sha256 != key_hash(self.public_key):
                continue
            try:
                issuer = x509.load_der_x509_certificate(one.issuer)
                certificate = x509.load_der_x509_certificate(one.certificate)
                certificate.verify_directly_issued_by(issuer)
                held = delegate.appoint(one.authority_id, certificate, self._signer)
            except (ValueError, TypeError, InvalidSignature, IssuanceFault) as error:
                log.error("ocsp_delegation_refused", authority=one.authority_id, error=repr(error))
                continue
            found[one.authority_id] = (issuer, held)
        return found


def _is_due(authority: Authority, held: Delegation | None, now: datetime) -> bool:
    if not authority.not_before <= now < authority.not_after:
        return False
    if held is None:
        return True
    try:
        certificate = x509.load_der_x509_certificate(held.certificate)
    except ValueError as error:
        log.error("ocsp_delegation_unreadable", authority=held.authority_id, error=repr(error))
        return True
    return now >= delegate.renewal_of(certificate) and held.not_after < authority.not_after
