"""The OCSP responder: request in, response out (RFC 6960; RFC 8954 nonces; RFC 5019 for the rest).

    parse -> find the issuer's signer -> what is known of each serial -> sign, or the answer we have

`good`: the issuer that is named issued the serial, and it is not revoked; also when the certificate
has ended, for that is not what a client asks. `revoked`: it was, also when it has ended since; and
everything under an authority that was tainted (RFC 6960 2.7), whose key may have issued another
certificate of the same serial. `unknown`: that issuer never issued it. An intent counts as issued.

A request of one certificate without a nonce gets an answer that was signed before, for as long as
nothing has changed. Who sends a nonce, asks for several, or for a serial that is not ours has it
signed for himself, within an allowance: strangers cannot take the process for themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cachetools import LRUCache

from ca.ocsp.allowance import Allowance
from ca.ocsp.delegate import Delegate
from ca.ocsp.inventory import IssuedSerials, Record
from ca.ocsp.request import CertId, OcspRequest, parse_request
from ca.ocsp.response import (
    KEY_COMPROMISED_AUTHORITY,
    Failure,
    Revoked,
    Status,
    assemble,
    response_data,
)
from ca.ocsp.signers import OcspSigners, Slot
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocation
from meshca.clock import Clock
from meshca.errors import MeshcaError, NotFound, RequestRefused
from meshca.metrics import Metrics

VALID: Final = timedelta(hours=1)
UNKNOWN_VALID: Final = timedelta(minutes=5)
BACKDATE: Final = timedelta(minutes=10)
"""For clients whose clock is behind ours, or ours behind theirs."""
MAXIMUM_KEPT: Final = 20_000
SIGNATURES_PER_SECOND: Final = 2_000


@dataclass(frozen=True, slots=True)
class Answer:
    """A DER OCSPResponse; `next_update` is None for one that is for its asker alone.

    `signed_at` is None for a failure, which nobody signs.
    """

    der: bytes = field(repr=False)
    signed_at: datetime | None = None
    next_update: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, and what it was made of: another one is made as soon as that has changed."""

    answer: Answer
    name: str
    delegate: Delegate
    revocation: Revocation | None
    sign_again_at: datetime


@dataclass(slots=True, kw_only=True)
class Responder:
    """Answers requests about the certificates of the authorities whose signers are here."""

    signers: OcspSigners
    issued: IssuedSerials
    state: RevocationState
    clock: Clock
    metrics: Metrics
    allowance: Allowance = field(init=False)
    _kept: LRUCache[CertId, _Kept] = field(default_factory=lambda: LRUCache(MAXIMUM_KEPT))

    def __post_init__(self) -> None:
        self.allowance = Allowance(SIGNATURES_PER_SECOND, self.clock)

    async def answer(self, octets: bytes) -> Answer:
        """Return the response to a request, whatever the request is."""
        try:
            return await self._answer(parse_request(octets))
        except RequestRefused:
            return self._failed(Failure.malformed)
        except NotFound:
            return self._failed(Failure.unauthorized)
        except MeshcaError:
            return self._failed(Failure.try_later)

    def _failed(self, failure: Failure) -> Answer:
        self._count(failure.name)
        return Answer(failure.der)

    def _count(self, name: str) -> None:
        self.metrics.ocsp_answers.labels(name).inc()

    async def _answer(self, request: OcspRequest) -> Answer:
        slot = self._slot(request.singles)
        if request.nonce is not None or len(request.singles) > 1:
            return await self._for_one_asker(slot, request)
        now, cert_id = self.clock.now(), request.singles[0]
        kept = self._kept.get(cert_id)
        if kept is not None and self._stands(kept, slot, cert_id) and _is_fresh(kept, now):
            self._count(kept.name)
            return kept.answer
        try:
            return await self._for_all(slot, cert_id)
        except MeshcaError:
            # What nothing contradicts is true until its end, though its half is over.
            if kept is None or not self._stands(kept, slot, cert_id) or not _is_valid(kept, now):
                raise
            self._count(kept.name)
            return kept.answer

    def _slot(self, singles: Sequence[CertId]) -> Slot:
        """Return the one issuer of all; a response has one signer, and he speaks for one issuer.

        Raises NotFound when there is no such issuer here, or they have several.
        """
        slot = self.signers.find(singles[0])
        if any(self.signers.find(cert_id) is not slot for cert_id in singles[1:]):
            raise NotFound("the certificates have several issuers")
        return slot

    def _stands(self, kept: _Kept, slot: Slot, cert_id: CertId) -> bool:
        """Return whether nothing has changed since `kept` was signed."""
        return (
            kept.delegate is slot.delegate
            and slot.barred_at is None
            and kept.revocation is self._revocation(slot, cert_id)
        )

    def _revocation(self, slot: Slot, cert_id: CertId) -> Revocation | None:
        return self.state.of_authority(slot.authority_id).get(f"{cert_id.serial:x}")

    async def _for_all(self, slot: Slot, cert_id: CertId) -> Answer:
        """Sign an answer that anybody may have; keep it if it is about a certificate of ours."""
        record = await self._record(slot, cert_id)
        now = self.clock.now()
        status, delegate = self._status(slot, cert_id, record, now), slot.signer(now)
        answer = self._sign(delegate, (status,), None, now)
        if status.known and slot.barred_at is None:
            again_at = now + (status.next_update - now) / 2
            revocation = self._revocation(slot, cert_id)
            self._kept[cert_id] = _Kept(answer, status.name, delegate, revocation, again_at)
        return answer

    async def _for_one_asker(self, slot: Slot, request: OcspRequest) -> Answer:
        records = [await self._record(slot, cert_id) for cert_id in request.singles]
        now = self.clock.now()
        statuses = [
            self._status(slot, cert_id, record, now)
            for cert_id, record in zip(request.singles, records, strict=True)
        ]
        return self._sign(slot.signer(now), statuses, request.nonce, now)

    async def _record(self, slot: Slot, cert_id: CertId) -> Record | None:
        """Look into the database, unless memory knows better; None when it was never issued."""
        now = self.clock.now()
        slot.signer(now)
        if slot.barred_at is not None:
            return None
        revocation = self._revocation(slot, cert_id)
        if revocation is not None:
            return Record(revocation.not_after, None, 0, now)
        return await self.issued.find(slot.authority_id, f"{cert_id.serial:x}")

    def _status(self, slot: Slot, cert_id: CertId, record: Record | None, now: datetime) -> Status:
        """Decide. Nothing here waits: what is decided is true of one moment."""
        self.signers.heed_taint(slot)
        revocation = self._revocation(slot, cert_id)
        if slot.barred_at is not None:
            revoked: Revoked | None = Revoked(slot.barred_at, KEY_COMPROMISED_AUTHORITY)
        elif revocation is not None:
            revoked = Revoked(revocation.revoked_at, revocation.reason.value)
        else:
            revoked = _on_record(record, self.state.revision, now)
        known = record is not None or revoked is not None
        at, valid = now.replace(microsecond=0), VALID if known else UNKNOWN_VALID
        next_update = min(at + valid, slot.signer(now).not_after)
        return Status(cert_id, known, revoked, at - BACKDATE, next_update)

    def _sign(
        self, delegate: Delegate, statuses: Sequence[Status], nonce: bytes | None, now: datetime
    ) -> Answer:
        self.allowance.take()
        data = response_data(delegate.key_hash, now, statuses, nonce)
        signer = delegate.signer
        der = assemble(data, signer.signature_algorithm, signer.sign(data), delegate.der)
        for status in statuses:
            self._count(status.name)
        is_for_all = nonce is None and len(statuses) == 1
        return Answer(der, now, statuses[0].next_update if is_for_all else None)


def _on_record(record: Record | None, revision: int, now: datetime) -> Revoked | None:
    """Return the revocation that the database has and the state in memory has not.

    The state is behind, or has forgotten a certificate that has ended.
    """
    if record is None or record.revoked is None:
        return None
    is_news = record.revision > revision or now >= record.not_after
    return record.revoked if is_news else None


def _is_fresh(kept: _Kept, now: datetime) -> bool:
    signed_at = kept.answer.signed_at
    return signed_at is not None and signed_at <= now < kept.sign_again_at


def _is_valid(kept: _Kept, now: datetime) -> bool:
    signed_at, ends = kept.answer.signed_at, kept.answer.next_update
    return signed_at is not None and ends is not None and signed_at <= now < ends
