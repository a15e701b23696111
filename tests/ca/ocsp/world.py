"""A responder on real parts: SQLite, the issuance function, revocations; and requests for it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ca import der
from ca.authority import Authority
from ca.issuer import Svid
from ca.ocsp.inventory import IssuedSerials
from ca.ocsp.request import issuer_ids
from ca.ocsp.responder import Responder
from ca.ocsp.signers import OcspSigners
from ca.request import generate
from ca.revocation.operations import RevocationOperations
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocations
from tests.builders import TRUST_DOMAIN, Issuing, issuing, make_authority, make_caller
from tests.fakes import FakeClock

DAY = timedelta(days=1)
WHO: Any = {"actor": "uid:0", "why": "a test"}


@dataclass
class World:
    """A responder and what it stands on; `held` are the authorities whose keys are here."""

    ca: Issuing
    held: list[Authority]
    signers: OcspSigners
    issued: IssuedSerials
    state: RevocationState
    responder: Responder
    operations: RevocationOperations
    clock: FakeClock = field(default_factory=FakeClock)

    @property
    def authority(self) -> Authority:
        """Return the first authority."""
        return self.held[0]

    async def issue(self) -> Svid:
        """Return an SVID under the active authority, with its record marked issued."""
        caller = make_caller(expires_at=self.clock.now() + DAY)
        svid = await self.ca.issuance.issue(caller, generate().request)
        await self.ca.writer.submit()
        return svid

    async def revoke(self, svid: Svid, reason: Reason = Reason.keyCompromise) -> None:
        """Revoke it."""
        await self.operations.revoke(Selector(serial=svid.serial), reason, **WHO)

    async def ask(self, *svids: Svid | int, **changes: Any) -> ocsp.OCSPResponse:
        """Return what the responder says, parsed; keyword arguments are those of `request`."""
        asked = request(self.authority, *svids, **changes)
        return ocsp.load_der_ocsp_response((await self.responder.answer(asked)).der)

    def sample(self, status: str) -> float:
        """Return how often `status` was said."""
        return self.ca.sample("meshca_ocsp_answers_total", status=status)


@asynccontextmanager
async def responding(
    directory: Path,
    *,
    authority: Authority | None = None,
    clock: FakeClock | None = None,
    is_ready: bool = True,
) -> AsyncIterator[World]:
    """Run a responder in `directory`, with its signer certified if `is_ready`."""
    clock, authority = clock or FakeClock(), authority or make_authority()
    async with issuing(directory, authority=authority, clock=clock) as ca:
        world = make_world(ca, [authority], clock)
        await world.state.load()
        if is_ready:
            await world.signers.refresh()
        yield world


def make_world(ca: Issuing, held: list[Authority], clock: FakeClock) -> World:
    """Return a responder for `held` on what `ca` issues; nobody signs yet."""
    revocations = Revocations(ca.engine)
    state = RevocationState(revocations=revocations, clock=clock)
    signers = OcspSigners(
        authorities=ca.authorities,
        held=lambda: held,
        trust_domain=TRUST_DOMAIN,
        writer=ca.writer,
        clock=clock,
        metrics=ca.metrics,
    )
    issued = IssuedSerials(engine=ca.engine, clock=clock)
    responder = Responder(
        signers=signers, issued=issued, state=state, clock=clock, metrics=ca.metrics
    )
    operations = RevocationOperations(
        trust_domain=TRUST_DOMAIN,
        revocations=revocations,
        inventory=ca.inventory,
        state=state,
        writer=ca.writer,
        clock=clock,
        confirm_above=10,
    )
    return World(ca, held, signers, issued, state, responder, operations, clock)


def request(
    authority: Authority,
    *asked: Svid | int,
    algorithm: str = "sha1",
    nonce: bytes | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """Return a DER request about certificates, or serials, of `authority`."""
    serials = [each if isinstance(each, int) else int(each.serial, 16) for each in asked]
    singles = [_single(authority, serial, algorithm, nonce, extensions) for serial in serials]
    if len(singles) == 1:
        return singles[0]
    parts = [der.items(der.items(single)[0]) for single in singles]
    listed = der.encode(0x30, *(der.items(part[0])[0] for part in parts))
    return der.encode(0x30, der.encode(0x30, listed, *parts[0][1:]))


def _single(
    authority: Authority,
    serial: int,
    algorithm: str,
    nonce: bytes | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> bytes:
    ids = {name: hashed for name, *hashed in issuer_ids(authority.certificate)}
    chosen = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}  # noqa: S303  # what clients send
    digest = chosen[algorithm]
    name_hash, key_hash = ids.get(algorithm, (bytes(64), bytes(64)))
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, serial, digest)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.build().public_bytes(Encoding.DER)


def verify(response: ocsp.OCSPResponse, authority: Authority) -> x509.Certificate:
    """Check a response as a client does; return the certificate of its signer."""
    (signer,) = response.certificates
    signer.verify_directly_issued_by(authority.certificate)
    key: Any = signer.public_key()
    key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    return signer


def all_statuses(response: ocsp.OCSPResponse) -> list[tuple[int, ocsp.OCSPCertStatus]]:
    """Return every serial of a response with its status."""
    return [(each.serial_number, each.certificate_status) for each in response.responses]
