"""Issuing one SVID: the numbered steps of docs/issuance.md, in their order, nothing else.

The order is the security argument. Identity comes from the attested caller only; lint has read
every byte before the authority's key is touched; the record and its audit entry are durable before
a signature exists, so that kill -9 at any moment loses no issued certificate (invariant 2).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from audit.entry import Entry, Json
from ca import issuer
from ca.authority import Authorities
from ca.blocking import SigningThreads
from ca.issuer import Prepared, Svid
from ca.profile import Profile
from ca.request import IssuanceRequest
from ca.store import Planned, Signed
from identity.caller import Caller
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import MeshcaError, ProofRefused, Refused
from meshca.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """Issues SVIDs to attested callers.

    `check_caller` raises Refused for whoever must not have one, however well attested: a ban.
    """

    authorities: Authorities
    profile: Profile
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    check_caller: Callable[[Caller], None] = lambda _caller: None
    signing: SigningThreads = field(default_factory=SigningThreads)

    async def issue(
        self,
        caller: Caller,
        request: IssuanceRequest,
        *,
        dns_names: tuple[str, ...] = (),
        renews: str = "",
    ) -> Svid:
        """Return a new SVID for `caller` with the requested key.

        `renews` is the serial of the one that it takes the place of, for the record only.
        Raises Refused, AuthorityUnavailable, StoreUnavailable, Overloaded or IssuanceFault; the
        caller gets no certificate then, and the inventory holds at most an intent.
        """
        started = self.clock.monotonic()
        try:
            svid = await self._steps(caller, request, dns_names, renews)
        except MeshcaError as error:
            outcome = "refused" if isinstance(error, Refused) else "failed"
            self._measure(outcome, started)
            raise
        self._measure("issued", started)
        return svid

    async def _steps(
        self, caller: Caller, request: IssuanceRequest, dns_names: tuple[str, ...], renews: str
    ) -> Svid:
        now = self.clock.now()
        # 1. The caller: attested by a door, its proof still good, and not banned.
        if caller.expires_at <= now:
            raise ProofRefused("expired", f"the proof of {caller.spiffe_id} has expired")
        self.check_caller(caller)
        # 2. The request: a public key whose possession was proven, and nothing else.
        # 3. Prepare the certificate under the active authority, and 4. lint it, without any key.
        prepared = issuer.prepare(
            caller,
            request,
            authority=self.authorities.active(now),
            profile=self.profile,
            now=now,
            dns_names=dns_names,
        )
        # 5. Record the intent together with its audit entry, durably.
        entry = _entry(prepared, caller, renews, "done")
        await self.writer.submit(Planned(prepared.intent, entry))
        try:
            # 6. Sign, unless the caller was banned or the authority tainted meanwhile; a key that
            # is not in this process may take its time, in a thread.
            self.check_caller(caller)
            self.authorities.check_signing(prepared.authority)
            signed = (
                issuer.sign(prepared)
                if issuer.signs_at_once(prepared)
                else await self.signing.sign(prepared, self.clock, self.authorities)
            )
            # 7. Compare what was signed with what was linted.
            certificate = issuer.compare(prepared, signed)
        except MeshcaError as error:
            self.writer.note(_entry(prepared, caller, renews, "failed", str(error)))
            raise
        # 8. Mark it issued: the next group carries this; until then the intent stands for it.
        self.writer.note(Signed(prepared.intent.serial, signed))
        # 9. Return it.
        return issuer.finish(prepared, certificate, signed)

    def _measure(self, outcome: str, started: float) -> None:
        self.metrics.issuance.labels(outcome).inc()
        self.metrics.issuance_seconds.labels(outcome).observe(self.clock.monotonic() - started)


def _entry(
    prepared: Prepared, caller: Caller, renews: str, outcome: str, reason: str = ""
) -> Entry:
    """Return the audit entry of an issuance: `done` means "from here on it may exist".

    What is about to be signed is named by its hash, so that a certificate that is found somewhere
    can be held against the entry: the fingerprint is not known before the signature.
    """
    intent, e = prepared.intent, prepared.intent.evidence
    details: dict[str, Json] = {
        "method": e.method,
        "issuer": e.issuer,
        "service_account_uid": e.service_account_uid,
        "pod_uid": e.pod_uid,
        "token_id": e.token_id,
        "authority": intent.authority_id,
        "key_sha256": intent.key_sha256,
        "tbs_sha256": sha256(prepared.tbs).hexdigest(),
        "not_before": int(intent.not_before.timestamp()),
        "not_after": int(intent.not_after.timestamp()),
    }
    if renews:
        details["renews"] = renews
    if caller.certificate_serial:
        details["proof_serial"] = caller.certificate_serial
    return Entry(
        time=prepared.issued_at,
        kind="issuance",
        outcome=outcome,
        actor=intent.spiffe_id,
        spiffe_id=intent.spiffe_id,
        serial=intent.serial,
        cluster=e.cluster,
        namespace=e.namespace,
        service_account=e.service_account,
        pod=e.pod_name,
        node=e.node,
        reason=reason,
        details=details,
    )
