"""How whoever comes to an admin door proves who they are: three ways, and nobody else.

    unix socket    the kernel's word: the uid of the process that connected
    OIDC           a bearer token in `authorization`, verified by `identity.oidc`
    client SVID    mutual TLS: the chain that was shown is verified to our roots now, the leaf is
                   held to the rules of SVIDs; neither it may be revoked nor its workload banned

A token that is shown counts, good or bad: a bad one is not made good by a certificate beside it.
A certificate is verified anew each minute of its connection; its end, revocations and bans are
looked at on every request. It must be on record here: whoever has stolen an authority can sign for
anybody, but cannot write our inventory.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.types import Scope

from admin.peer import Peer, TlsPeer, local_peer, tls_peer
from admin.roles import Roles
from admin.visitor import Proof, Visitor
from ca.authority import Authorities
from ca.store import Inventory
from identity.caller import Caller
from identity.oidc import Person
from identity.peer import verify_peer
from meshca.clock import Clock
from meshca.errors import NotFound, ProofRefused

VERIFIED_SECONDS: Final = 60.0
_SCHEME: Final = b"bearer "


class People(Protocol):
    """Whoever verifies the tokens of people."""

    async def verify(self, token: str) -> Person:
        """Return the person that `token` proves; raises ProofRefused or KeysUnavailable."""
        ...


class NoPeople:
    """Nobody is proven by a token: there is no `admin.oidc`."""

    async def verify(self, token: str) -> Person:
        """Raise ProofRefused."""
        raise ProofRefused("no_oidc", "a token was shown, but admin.oidc is not configured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """Attests visitors.

    `check_caller` raises Refused for whoever is banned, `check_serial` for a certificate (serial in
    hex) that is revoked.
    """

    roles: Roles
    trust_domain: str
    authorities: Authorities
    inventory: Inventory
    clock: Clock
    people: People
    check_caller: Callable[[Caller], None]
    check_serial: Callable[[str], None]

    async def attest(self, scope: Scope) -> Visitor:
        """Return who sent the request.

        Raises Refused for whoever proves nothing, Unavailable while that cannot be told.
        """
        try:
            return self._local(local_peer(scope))
        except LookupError:
            peer = tls_peer(scope)
        token = _token(scope)
        if token is not None:
            return self._person(await self.people.verify(token), peer)
        if peer.chain:
            visitor = self._workload(await self._caller(peer), peer)
            self.check(visitor)
            return visitor
        raise ProofRefused("no_proof", "neither a token nor a client certificate was shown")

    def check(self, visitor: Visitor) -> None:
        """Raise Refused when what `visitor` has proven does not hold any more."""
        if visitor.expires_at is not None and self.clock.now() >= visitor.expires_at:
            raise ProofRefused("expired", f"the proof of {visitor.actor} has ended")
        if visitor.caller is not None:
            self.check_serial(visitor.caller.certificate_serial)
            self.check_caller(visitor.caller)

    def _local(self, peer: Peer) -> Visitor:
        return Visitor(
            actor=peer.actor,
            proof=Proof.UNIX,
            address=f"pid:{peer.pid}",
            subjects=frozenset({peer.actor}),
            roles=self.roles.of([peer.actor]),
        )

    def _person(self, person: Person, peer: TlsPeer) -> Visitor:
        actor = f"oidc:{person.username}"
        subjects = frozenset({actor, *(f"oidc-group:{group}" for group in person.groups)})
        return Visitor(
            actor=actor,
            proof=Proof.OIDC,
            address=peer.address,
            subjects=subjects,
            roles=self.roles.of(subjects),
            credential=person.token_id,
            expires_at=person.expires_at,
        )

    def _workload(self, caller: Caller, peer: TlsPeer) -> Visitor:
        actor = str(caller.spiffe_id)
        return Visitor(
            actor=actor,
            proof=Proof.SVID,
            address=peer.address,
            subjects=frozenset({actor}),
            roles=self.roles.of([actor]),
            credential=f"serial:{caller.certificate_serial}",
            expires_at=caller.expires_at,
            caller=caller,
        )

    async def _caller(self, peer: TlsPeer) -> Caller:
        now = self.clock.monotonic()
        if peer.caller is None or now - peer.verified_at >= VERIFIED_SECONDS:
            peer.caller, peer.verified_at = await self._verified(peer.chain), now
        return peer.caller

    async def _verified(self, chain: tuple[x509.Certificate, ...]) -> Caller:
        caller = verify_peer(
            chain,
            roots=self.authorities.bundle.roots,
            trust_domain=self.trust_domain,
            now=self.clock.now(),
        )
        serial = f"{chain[0].serial_number:x}"
        try:
            record = await asyncio.to_thread(self.inventory.get, serial)
        except NotFound as error:
            raise ProofRefused("not_issued_here", f"serial {serial} is not ours") from error
        intent = record.intent
        if intent.spiffe_id != str(caller.spiffe_id) or intent.key_sha256 != _key_of(chain[0]):
            raise ProofRefused("not_issued_here", f"serial {serial} was issued to somebody else")
        evidence = replace(intent.evidence, method=caller.evidence.method)
        return replace(caller, evidence=evidence, certificate_serial=serial)


def _key_of(leaf: x509.Certificate) -> str:
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(key).hexdigest()


def _token(scope: Scope) -> str | None:
    """Return the bearer token; raises ProofRefused for any other, or a second, authorization."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        return None
    value = bytes(given[0])
    if len(given) > 1 or value[: len(_SCHEME)].lower() != _SCHEME:
        raise ProofRefused("no_token", "authorization is not one bearer token")
    return value[len(_SCHEME) :].strip().decode("latin-1")
