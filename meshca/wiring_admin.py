"""Building the admin doors: who gets in, who answers applications, and the door over TLS."""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from starlette.types import ASGIApp

from admin.applications import Applications
from admin.entrance import Access
from admin.logins import Logins
from admin.proofs import NoPeople, Proofs
from admin.roles import Roles, build_roles
from admin.serve import serve_admin_tls
from admin.tls import ServerTls
from admin.visitor import Visit
from audit.refusals import RefusalRecorder
from authz.policy import PolicySet
from authz.records.recorder import DecisionRecorder
from authz.workload import Workload
from ca.authority import Authorities
from ca.revocation.state import RevocationState
from ca.store import Inventory
from identity.caller import Caller
from identity.oidc import OidcVerifier, build_oidc
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import AuthorityUnavailable, ProofRefused
from meshca.logs import get_logger
from meshca.settings import Settings
from sds.server_identity import ServerIdentity

_FOR_OWNER: Final = 0o600
_FOR_ALL: Final = 0o666
"""Whoever connects is told apart by uid; the directory decides who reaches the socket."""

log = get_logger("meshca")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """What the admin doors stand on; `loops` are run by the service."""

    access: Access
    applications: Applications
    people: OidcVerifier | None
    authorities: Authorities
    socket_mode: int

    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return the loops to run, by name."""
        return {} if self.people is None else {"admin keys": self.people.run}

    @contextlib.asynccontextmanager
    async def serve_tls(
        self, app: ASGIApp, address: str, identity: ServerIdentity
    ) -> AsyncIterator[None]:
        """Serve `app` over TLS with our own certificate, as it is renewed, for the duration."""
        tls = ServerTls()
        tls.ask_for_certificates(self._refuse_handshake)
        identity.follow(tls.replace)

        def trust() -> None:
            with contextlib.suppress(AuthorityUnavailable):  # the roots there were stay
                tls.trust(self.authorities.bundle.pem())
            for authority in self.authorities.held():
                tls.know(b"".join(authority.chain_pem))

        trust()
        self.authorities.subscribe(trust)
        async with serve_admin_tls(app, address, tls.context) as bound:
            log.info("listening", door="admin", address=bound)
            yield

    def _refuse_handshake(self, why: str) -> None:
        error = ProofRefused("untrusted", f"a client certificate does not verify: {why}")
        self.access.refuse(error, Visit(""), "", None)


def build_admin(
    settings: Settings,
    *,
    authorities: Authorities,
    revocation: RevocationState,
    refusals: RefusalRecorder,
    workload_of: Callable[[Caller], Workload | None],
    policies: Callable[[], PolicySet],
    recorder: DecisionRecorder,
    engine: sa.Engine,
    writer: GroupWriter,
    clock: Clock,
) -> AdminParts:
    """Return the parts; root and the user that we run as are admins at the unix socket."""
    own = {0, os.geteuid()}
    roles = build_roles(settings.admin, own)
    people = build_oidc(settings.admin.oidc, clock=clock) if settings.admin.oidc else None
    proofs = Proofs(
        roles=roles,
        trust_domain=settings.trust_domain,
        authorities=authorities,
        inventory=Inventory(engine),
        clock=clock,
        people=people or NoPeople(),
        check_caller=revocation.check_caller,
        check_serial=revocation.check_serial,
    )
    return AdminParts(
        access=Access(
            proofs=proofs,
            refusals=refusals,
            logins=Logins(writer=writer, recorder=refusals, clock=clock),
            writer=writer,
            clock=clock,
        ),
        applications=Applications(
            roles=roles,
            workload_of=workload_of,
            policies=policies,
            recorder=recorder,
            clock=clock,
        ),
        people=people,
        authorities=authorities,
        socket_mode=_socket_mode(roles, own),
    )


def _socket_mode(roles: Roles, own: set[int]) -> int:
    return _FOR_OWNER if roles.uids() <= own else _FOR_ALL
