"""The first thing every door does: turn what the caller shows into an attested `Caller`.

One place, so that every door refuses in the same way and every refusal is recorded with its reason
and what was claimed. The caller learns only that it was refused.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit.entry import Entry
from ca.authority import Authorities
from ca.store import Intent, Inventory
from identity.caller import Caller
from identity.peer import verify_peer
from meshca.clock import Clock
from meshca.errors import NotFound, ProofRefused, Refused
from meshca.logs import clip, get_logger

_SCHEME: Final = "bearer "
log = get_logger("sds")


class Authenticator(Protocol):
    """Whoever verifies bearer tokens."""

    async def authenticate(self, token: str) -> Caller:
        """Return the caller that `token` proves; raises Refused or Unavailable."""
        ...


class Recorder(Protocol):
    """Whoever records refusals, within bounds."""

    def record(self, entry: Entry) -> None:
        """Record `entry` without waiting."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a call comes from: the transport's address, and the client certificates it verified."""

    address: str
    certificates: Sequence[x509.Certificate] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Attests callers and records refusals.

    `check_caller` raises Refused for whoever is banned, `check_serial` for a certificate (serial in
    hex) that is revoked.
    """

    authenticator: Authenticator
    authorities: Authorities
    inventory: Inventory
    refusals: Recorder
    clock: Clock
    trust_domain: str
    check_caller: Callable[[Caller], None] = lambda _caller: None
    check_serial: Callable[[str], None] = lambda _serial: None

    async def admit(self, door: str, metadata: Mapping[str, str], peer: Peer) -> Caller:
        """Return the attested caller of `door`.

        A verified client certificate is proof on the door that asks for one; else the bearer token
        in `authorization`. Raises Refused (recorded) or Unavailable.
        """
        try:
            caller = await self._attested(metadata, peer)
        except Refused as error:
            self.refuse(door, error, peer)
            raise
        try:
            self.check_caller(caller)
        except Refused as error:
            self.refuse(door, error, peer, caller)
            raise
        return caller

    async def _attested(self, metadata: Mapping[str, str], peer: Peer) -> Caller:
        if peer.certificates:
            return await self._known_peer(peer.certificates)
        return await self.authenticator.authenticate(_bearer(metadata))

    async def _known_peer(self, certificates: Sequence[x509.Certificate]) -> Caller:
        """Return the caller of an SVID of ours, with the evidence it was first issued on."""
        caller = verify_peer(
            certificates,
            roots=self.authorities.bundle.roots,
            trust_domain=self.trust_domain,
            now=self.clock.now(),
        )
        serial = f"{certificates[0].serial_number:x}"
        self.check_serial(serial)
        try:
            record = await asyncio.to_thread(self.inventory.get, serial)
        except NotFound as error:
            raise ProofRefused(
                "not_issued_here", f"{caller.spiffe_id} shows serial {serial}, which is not ours"
            ) from error
        _check_recorded(record.intent, caller, certificates[0])
        evidence = replace(record.intent.evidence, method=caller.evidence.method)
        return replace(caller, evidence=evidence, certificate_serial=serial)

    def refuse(self, door: str, error: Refused, peer: Peer, caller: Caller | None = None) -> None:
        """Record a refusal with its reason, what was claimed, and who is attested, if anyone."""
        evidence = caller.evidence if caller is not None else None
        claimed = {key: clip(value, 256) for key, value in error.claimed.items()}
        identity = str(caller.spiffe_id) if caller is not None else ""
        self.refusals.record(
            Entry(
                time=self.clock.now(),
                kind="refusal",
                outcome="refused",
                actor=identity,
                spiffe_id=identity,
                serial=caller.certificate_serial if caller is not None else "",
                cluster=evidence.cluster if evidence else "",
                namespace=evidence.namespace if evidence else "",
                service_account=evidence.service_account if evidence else "",
                pod=evidence.pod_name if evidence else "",
                node=evidence.node if evidence else "",
                reason=error.reason,
                details={
                    "door": door,
                    "message": clip(str(error)),
                    "peer": peer.address,
                    "claimed": dict(claimed),
                },
            )
        )
        log.warning("refused", door=door, reason=error.reason, peer=peer.address, **claimed)


def _check_recorded(intent: Intent, caller: Caller, leaf: x509.Certificate) -> None:
    """Refuse a certificate that is not the recorded one, whoever signed it: a stolen CA could."""
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if intent.spiffe_id != str(caller.spiffe_id) or intent.key_sha256 != sha256(key).hexdigest():
        raise ProofRefused(
            "not_issued_here",
            f"{caller.spiffe_id} shows serial {intent.serial}, which was issued to "
            f"{intent.spiffe_id} for another key or identity",
        )


def _bearer(metadata: Mapping[str, str]) -> str:
    header = metadata.get("authorization", "")
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise ProofRefused("no_token", "no bearer token in the authorization header")
    return header[len(_SCHEME) :].strip()
