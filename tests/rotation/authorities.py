"""Intermediates on real parts: a development root, SQLite, the real machine; the upstream obeys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from cryptography import x509

from ca.authority import Authority
from ca.revocation.state import RevocationState
from ca.revocation.store import Revocations
from ca.revocation.view import Crl
from ca.upstream import self_signed
from ca.upstream.issuer_crl import IssuerCrl
from ca.upstream.provision import Provision, Upstream
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable
from meshca.name_locks import NameLocks, open_name_locks
from rotation.build import build_intermediates
from rotation.intermediates import Intermediates
from rotation.proxies import ProxyState
from rotation.revocation_views import RevocationViews
from tests.sds.conftest import Mesh


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

    def revoke(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Revoke, or fail as when it is away."""
        if self.fails:
            raise AuthorityUnavailable("told to fail")
        return self.real.revoke(certificate, now)

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Say what the real one says."""
        return self.real.revokes(certificate, now)

    def lists(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Return the real one's, or fail as when it is away."""
        if self.fails:
            raise AuthorityUnavailable("told to fail")
        return self.real.lists(now)

    def bridges(self) -> tuple[x509.Certificate, ...]:
        """Return the real one's."""
        return self.real.bridges()

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


def of_mesh(mesh: Mesh, upstream: Upstream, **parts: Any) -> Intermediates:
    """Return the intermediates of a process on the mesh's database; a second call is a restart.

    `parts` take the place of the mesh's own.
    """
    given = {
        "engine": mesh.writer.engine,
        "authorities": mesh.authorities,
        "leaves": mesh.leaves,
        "writer": mesh.writer,
        "clock": mesh.clock,
        "metrics": mesh.metrics,
    }
    return make_intermediates(upstream, **{**given, **parts})


def make_intermediates(upstream: Upstream, **parts: Any) -> Intermediates:
    """Return what wiring builds around `upstream`; what `parts` leaves out is absent.

    Whoever gives no `replica` follows another process of that name, which has just ended.
    """
    engine = parts["engine"]
    absent: dict[str, Any] = {
        "at_rest": None,
        "proxies": Connected(),
        "bundle_version": lambda _name: frozenset(),
        "replica": "main",
        "views": _views_of(engine, parts["clock"]),
        "patience": timedelta(0),
        "locks": open_name_locks(engine) if "replica" in parts else _locks_of_main(engine),
    }
    return build_intermediates(upstream, **{**absent, **parts})


@dataclass
class HeldLists:
    """Revocation lists of all replicas of one database, not signed: to be there is enough here."""

    made: dict[str, Crl] = field(default_factory=dict)

    def current(self) -> Mapping[str, Crl]:
        """Return them."""
        return self.made

    async def ensure(self, authority: Authority) -> None:
        """Have one."""
        name = authority.authority_id
        begin, end = authority.not_before, authority.not_after
        self.made.setdefault(name, Crl(name, 1, 0, begin, end, begin, b""))


def _views_of(engine: sa.Engine, clock: Clock) -> RevocationViews:
    """Return a process's views, on lists that every process of the database shares."""
    lists = _LISTS.setdefault(str(engine.url), HeldLists())
    state = RevocationState(revocations=Revocations(engine), clock=clock)
    return RevocationViews(lists=lists, state=state)


_LISTS: Final[dict[str, HeldLists]] = {}


def _locks_of_main(engine: sa.Engine) -> NameLocks:
    if engine not in _LOCKS:
        _LOCKS[engine] = open_name_locks(engine)
    return _LOCKS[engine]


_LOCKS: Final[WeakKeyDictionary[sa.Engine, NameLocks]] = WeakKeyDictionary()
