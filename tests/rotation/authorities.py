"""Intermediates on real parts: a development root, SQLite, the real machine; the upstream obeys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from cryptography import x509

from ca.at_rest import KeyAtRest
from ca.authority import Authorities
from ca.upstream import self_signed
from ca.upstream.provision import Provision, Upstream
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import AuthorityUnavailable
from meshca.metrics import Metrics
from rotation.authority_watch import AuthorityWatch
from rotation.custody import Custody
from rotation.intermediates import Intermediates
from rotation.leaves import Leaves
from rotation.propagation import BundleVersion, Propagation
from rotation.proxies import Proxies, ProxyState
from rotation.roots import Roots
from rotation.standings import Standings
from rotation.trust import Trust

BUNDLE_NAME: Final = "ROOTCA"


@dataclass
class Switch:
    """A real upstream that can be told to fail, to be slow to renew, or to change its root."""

    real: Upstream
    fails: bool = False
    can_renew: bool = True
    calls: int = 0
    more_roots: tuple[x509.Certificate, ...] = ()

    def roots(self, now: datetime) -> tuple[x509.Certificate, ...]:
        """Tell the roots, or fail as when it is away."""
        if self.fails:
            raise AuthorityUnavailable("told to fail")
        return (*self.real.roots(now), *self.more_roots)

    def provide(self, now: datetime) -> Provision:
        """Provide, or fail as when it is away."""
        self.calls += 1
        if self.fails:
            raise AuthorityUnavailable("told to fail")
        return self.real.provide(now)


@dataclass
class Connected:
    """Connected proxies as the test says."""

    proxies: list[ProxyState] = field(default_factory=list)

    def connected(self) -> Sequence[ProxyState]:
        """Return them."""
        return self.proxies


def development_upstream(
    directory: Path, trust_domain: str, lifetime: timedelta = timedelta(days=7)
) -> Upstream:
    """Return the upstream of the development root in `directory`."""
    return self_signed.unsafe_self_signed(directory, trust_domain=trust_domain, lifetime=lifetime)


def make_intermediates(
    upstream: Upstream,
    *,
    engine: sa.Engine,
    authorities: Authorities,
    leaves: Leaves,
    writer: GroupWriter,
    clock: Clock,
    metrics: Metrics,
    proxies: Proxies | None = None,
    at_rest: KeyAtRest | None = None,
    replica: str = "main",
    bundle_version: BundleVersion = lambda _name: None,
) -> Intermediates:
    """Return what wiring would build around `upstream`."""
    standings = Standings(engine)
    trust = Trust(
        roots=Roots(engine),
        standings=standings,
        authorities=authorities,
        proxies=proxies or Connected(),
        propagation=Propagation(bundle_version),
        writer=writer,
        clock=clock,
    )
    watch = AuthorityWatch(
        authorities=authorities, leaves=leaves, metrics=metrics, can_renew=upstream.can_renew
    )
    return Intermediates(
        upstream=upstream,
        authorities=authorities,
        trust=trust,
        standings=standings,
        leaves=leaves,
        custody=Custody(authorities=authorities, clock=clock, at_rest=at_rest),
        watch=watch,
        writer=writer,
        clock=clock,
        metrics=metrics,
        replica=replica,
    )
