"""Building the upstream that the configuration names; nothing is asked of Vault yet."""

from datetime import timedelta

from ca.at_rest import KeyAtRest
from ca.upstream.provision import Upstream
from ca.upstream.vault.at_rest import TransitAtRest
from ca.upstream.vault.client import connect
from ca.upstream.vault.login import AppRole, Login, ServiceAccount, TokenFile
from ca.upstream.vault.mount import MountView
from ca.upstream.vault.patience import Patience
from ca.upstream.vault.session import Session
from ca.upstream.vault.sign import PkiMount
from ca.upstream.vault.transit_upstream import VaultTransitUpstream
from ca.upstream.vault.upstream import VaultPki, VaultUpstream
from meshca.clock import Clock
from meshca.metrics import Metrics
from meshca.settings_vault import (
    KeysUnderTransit,
    Vault,
    VaultAppRole,
    VaultAuth,
    VaultServer,
    VaultToken,
    VaultTransit,
)


def build_vault(
    chosen: Vault,
    *,
    trust_domain: str,
    lifetime: timedelta,
    clock: Clock,
    metrics: Metrics,
    patience: Patience | None = None,
) -> Upstream:
    """Return the upstream; `lifetime` is the intermediate's unless `chosen` names one."""
    session = build_session(
        chosen, clock=clock, metrics=metrics, patience=patience or Patience(clock=clock)
    )
    vault = build_pki(chosen, session=session, trust_domain=trust_domain, lifetime=lifetime)
    if isinstance(chosen, VaultTransit):
        return VaultTransitUpstream(
            vault=vault, transit_mount=chosen.transit_mount, key_name=chosen.key_name
        )
    return VaultUpstream(vault=vault)


def build_at_rest(
    chosen: KeysUnderTransit, *, clock: Clock, metrics: Metrics, patience: Patience | None = None
) -> KeyAtRest:
    """Return what wraps the keys of authorities; nothing is asked of Vault yet."""
    session = build_session(
        chosen, clock=clock, metrics=metrics, patience=patience or Patience(clock=clock)
    )
    return TransitAtRest(session=session, mount=chosen.transit_mount, key_name=chosen.key_name)


def build_session(
    chosen: VaultServer, *, clock: Clock, metrics: Metrics, patience: Patience
) -> Session:
    """Return a session that logs in when it is first used."""
    return Session(
        connection=connect(
            chosen.address, ca_file=chosen.ca_file, namespace=chosen.namespace, clock=clock
        ),
        login=_login(chosen.auth),
        clock=clock,
        metrics=metrics,
        patience=patience,
    )


def build_pki(
    chosen: Vault, *, session: Session, trust_domain: str, lifetime: timedelta
) -> VaultPki:
    """Return the PKI mount that signs our intermediate."""
    return VaultPki(
        session=session,
        pki=PkiMount(
            mount=chosen.mount,
            issuer=chosen.issuer,
            trust_domain=trust_domain,
            lifetime=chosen.ttl or lifetime,
        ),
        view=MountView(
            connection=session.connection,
            mount=chosen.mount,
            issuer=chosen.issuer,
            trust_domain=trust_domain,
            clock=session.clock,
            metrics=session.metrics,
        ),
    )


def _login(auth: VaultAuth) -> Login:
    if isinstance(auth, VaultToken):
        return TokenFile(token_file=auth.token_file)
    if isinstance(auth, VaultAppRole):
        return AppRole(
            role_id=auth.role_id,
            secret_id_file=auth.secret_id_file,
            wrapped=auth.wrapped,
            mount=auth.mount,
        )
    return ServiceAccount(role=auth.role, token_file=auth.token_file, mount=auth.mount)
