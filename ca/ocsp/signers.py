"""Keeps one OCSP signer for each authority whose key this process holds, and knows of the others.

A signer is certified when its authority appears, and again at half of its life. What cannot be
certified now (the key is in a Vault that is sealed, the database is down) is tried again, ever less
often; the signer there is goes on until its end. An authority that was barred certifies nothing any
more, and the signer it had says that everything under it is revoked (RFC 6960 2.7). A signer whose
authority is gone answers until its end: its leaves may live. For the authorities of other replicas
this process answers with what they certified for it (colleagues.py).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509

from audit.entry import Entry
from ca import keys
from ca.authority import Authorities, Authority
from ca.keys import PrivateKeySigner
from ca.ocsp import delegate
from ca.ocsp.delegate import Delegate, Draft
from ca.ocsp.request import CertId, IssuerId, issuer_ids
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import AuthorityUnavailable, MeshcaError, NotFound
from meshca.logs import get_logger
from meshca.metrics import Metrics

TICK_SECONDS: Final = 30.0
SIGN_SECONDS: Final = 15.0
FIRST_RETRY: Final = timedelta(seconds=30)
LAST_RETRY: Final = timedelta(minutes=16)
_MOST_DOUBLINGS: Final = 5

log = get_logger("ca")


@dataclass(slots=True)
class Slot:
    """One authority and the one who signs for it; `barred_at` is when we heard of a taint.

    `authority` is None where another replica has its key.
    """

    authority_id: str
    certificate: x509.Certificate
    authority: Authority | None = None
    delegate: Delegate | None = None
    barred_at: datetime | None = None
    failures: int = 0
    try_after: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Return whether to have another signer certified."""
        if self.barred_at is not None or (self.try_after is not None and now < self.try_after):
            return False
        if self.authority is None:
            return False
        held = self.delegate
        if held is None or not held.not_before <= now < held.not_after:
            return True
        return now >= held.renew_at and held.not_after < self.authority.not_after

    def signer(self, now: datetime) -> Delegate:
        """Return who signs now; raises AuthorityUnavailable when nobody may."""
        held = self.delegate
        if held is None or not held.not_before <= now < held.not_after:
            raise AuthorityUnavailable(f"authority {self.authority_id} has no OCSP signer now")
        return held


@dataclass(slots=True, kw_only=True)
class OcspSigners:
    """The signers of the authorities that `held` returns; `run` keeps them."""

    authorities: Authorities
    held: Callable[[], Iterable[Authority]]
    trust_domain: str
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    _slots: dict[str, Slot] = field(default_factory=dict)
    _appointed: dict[str, Slot] = field(default_factory=dict)
    _by_issuer: Mapping[IssuerId, Slot] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def find(self, cert_id: CertId) -> Slot:
        """Return the authority that `cert_id` names; raises NotFound when it is none of ours."""
        slot = self._by_issuer.get(cert_id.issuer)
        if slot is None:
            raise NotFound("no such issuer here")
        self.heed_taint(slot)
        return slot

    def heed(self) -> None:
        """Look again soon: an authority came or went."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the signers until cancelled."""
        while True:
            self._changed.clear()
            await self.refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._changed.wait()

    async def refresh(self) -> None:
        """Have certified what is due; what fails is logged, and tried again later."""
        now = self.clock.now()
        self._keep(now)
        due = [slot for slot in self._slots.values() if slot.is_due(now)]
        await asyncio.gather(*(self._renew(slot, now) for slot in due))

    def _keep(self, now: datetime) -> None:
        held = {authority.authority_id: authority for authority in self.held()}
        for name, authority in held.items():
            slot = self._slots.setdefault(name, Slot(name, authority.certificate))
            slot.authority, slot.certificate = authority, authority.certificate
        for name, slot in [*self._slots.items()]:
            self.heed_taint(slot)
            mine = slot.delegate
            if name not in held and (mine is None or now >= mine.not_after):
                del self._slots[name]
        self._index()

    def _index(self) -> None:
        """Find slots by issuer: for those whose key is here, what it certified itself."""
        self._by_issuer = {
            issuer_id: slot
            for slot in (*self._appointed.values(), *self._slots.values())
            for issuer_id in issuer_ids(slot.certificate)
        }

    def appoint(self, delegates: Mapping[str, tuple[x509.Certificate, Delegate]]) -> None:
        """Answer for authorities of other replicas, too: id, certificate, and who signs for it."""
        kept = self._appointed
        self._appointed = {}
        for name, (certificate, held) in delegates.items():
            slot = self._appointed[name] = kept.get(name) or Slot(name, certificate)
            if slot.delegate is None or slot.delegate.der != held.der:
                slot.delegate = held
            self.heed_taint(slot)
        self._index()

    def heed_taint(self, slot: Slot) -> None:
        """Note when its authority is barred: from now on."""
        if slot.barred_at is None and self.authorities.is_barred(slot.authority_id):
            slot.barred_at = self.clock.now().replace(microsecond=0)

    async def _renew(self, slot: Slot, now: datetime) -> None:
        assert slot.authority is not None  # noqa: S101  # only such a slot is due
        name, signer = slot.authority_id, PrivateKeySigner(keys.generate_key())
        try:
            public_key = keys.public_key_der(signer.key.public_key())
            certificate = await self.certify(slot.authority, public_key, now)
            slot.delegate = delegate.appoint(name, certificate, signer, now)
        except MeshcaError as error:
            doublings = min(slot.failures, _MOST_DOUBLINGS)
            slot.failures += 1
            slot.try_after = now + min(FIRST_RETRY * 2**doublings, LAST_RETRY)
            self.metrics.ocsp_signer_failures.inc()
            log.warning("ocsp_signer_not_certified", authority=name, error=str(error))
            return
        slot.failures, slot.try_after = 0, None
        log.info("ocsp_signer", authority=name, until=slot.delegate.not_after.isoformat())

    async def certify(
        self, authority: Authority, public_key: bytes, now: datetime
    ) -> x509.Certificate:
        """Let the holder of `public_key` answer for `authority`.

        Made, linted, recorded, signed, verified: the order of docs/issuance.md. Raises MeshcaError.
        """
        draft = delegate.make(authority, now, self.trust_domain, public_key)
        await self.writer.submit(_entry(draft, "done", now))
        try:
            async with asyncio.timeout(SIGN_SECONDS):
                return await asyncio.to_thread(self._signed, draft)
        except TimeoutError as error:
            self.writer.note(_entry(draft, "failed", now))
            raise AuthorityUnavailable("the authority's key is too slow") from error
        except MeshcaError:
            self.writer.note(_entry(draft, "failed", now))
            raise

    def _signed(self, draft: Draft) -> x509.Certificate:
        self.authorities.check_signing(draft.authority)
        signed = delegate.sign(draft)
        self.authorities.check_signing(draft.authority)
        return signed


def _entry(draft: Draft, outcome: str, now: datetime) -> Entry:
    """Return the audit entry: `done` means "from here on it may exist"."""
    return Entry(
        time=now,
        kind="authority_change",
        outcome=outcome,
        actor="meshca",
        serial=draft.serial,
        reason="OCSP signer certified" if outcome == "done" else "the key did not sign",
        details={
            "what": "ocsp_signer",
            "authority": draft.authority.authority_id,
            "key_sha256": sha256(draft.public_key).hexdigest(),
            "not_before": int(draft.not_before.timestamp()),
            "not_after": int(draft.not_after.timestamp()),
        },
    )
