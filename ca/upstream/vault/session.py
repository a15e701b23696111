"""Our standing with Vault: a token, kept alive and replaced, for all who ask.

- Two thirds into its life a token is renewed, by one caller; the others go on with it meanwhile.
- One whose lease stops growing (`explicit_max_ttl` is near), that cannot be renewed, or that Vault
  refuses (the bare 403), is replaced by a login: once for a request, and never within a second of
  the login before, so that a fleet of us does not drown Vault.
- A token that was given to us cannot be replaced by us: its end is measured and warned of.

All times are on the monotonic clock. What Vault's policy denies is not tried again here.
"""

import math
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from ca.upstream.vault.client import Answer, Connection
from ca.upstream.vault.errors import Reaction, VaultFault
from ca.upstream.vault.login import Lease, Login
from ca.upstream.vault.patience import Patience
from meshca.clock import Clock
from meshca.durations import format_duration
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

LOGIN_GAP_SECONDS: Final = 1.0
RENEW_GAP_SECONDS: Final = 5.0
GROWTH_SECONDS: Final = 1.0
DAY_SECONDS: Final = 86400.0

log = get_logger("vault")


@dataclass(slots=True, kw_only=True)
class Session:
    """Asks Vault with a token that is good; safe to use from several threads."""

    connection: Connection
    login: Login
    clock: Clock
    metrics: Metrics
    patience: Patience
    draw: random.Random = field(default_factory=random.SystemRandom)
    _lease: Lease | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _logged_in_at: float = -math.inf
    _renewed_at: float = -math.inf

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        deadline: float,
    ) -> Answer:
        """Return the answer to one request, logging in again once if the token is refused.

        Raises VaultFault, or AuthorityUnavailable when a file for the login cannot be read.
        """
        lease = self._usable(deadline)
        try:
            return self.connection.ask(method, path, body, token=lease.token, deadline=deadline)
        except VaultFault as fault:
            if fault.reaction is not Reaction.LOGIN:
                raise
            log.warning("vault_token_refused", what=path)
        lease = self._replace(lease, deadline)
        return self.connection.ask(method, path, body, token=lease.token, deadline=deadline)

    def keep_alive(self, *, deadline: float) -> None:
        """Log in or renew if that is due; a failure is logged and counted, and tried again later.

        So that a login that would not work is known long before an intermediate is needed.
        """
        try:
            self._usable(deadline)
        except AuthorityUnavailable as error:
            log.error("vault_login_failed", error=str(error))

    def _usable(self, deadline: float) -> Lease:
        """Return a lease that has not ended, renewed or replaced if that is due."""
        lease, now = self._lease, self.clock.monotonic()
        if lease is not None and now < lease.renew_at:
            return lease
        if lease is not None and now < lease.ends_at:
            if not self._lock.acquire(blocking=False):
                return lease
            try:
                return self._prolong(lease, deadline)
            finally:
                self._lock.release()
        return self._replace(lease, deadline)

    def _prolong(self, lease: Lease, deadline: float) -> Lease:
        """Renew `lease`, or log in again if it will not grow; on failure go on with it.

        For a token from a file, to log in is to read the file again.
        """
        now = self.clock.monotonic()
        if self._lease is not lease:
            return self._lease or lease
        if now - self._renewed_at < RENEW_GAP_SECONDS:
            return lease
        self._renewed_at = now
        try:
            renewed = self._renew(lease, deadline) or self._log_in(deadline)
        except AuthorityUnavailable as error:
            self.metrics.upstream_failures.labels("renew").inc()
            log.warning("vault_token_not_renewed", error=str(error))
            return lease
        if renewed.ends_at <= lease.ends_at + GROWTH_SECONDS:
            self._warn_of_end(renewed)
        self._lease = renewed
        return renewed

    def _renew(self, lease: Lease, deadline: float) -> Lease | None:
        """Return the lease renewed, or None when that does not make it longer."""
        if not lease.renewable:
            return None
        since = self.clock.monotonic()
        try:
            answer = self.connection.ask(
                "post", "auth/token/renew-self", {}, token=lease.token, deadline=deadline
            )
        except VaultFault as fault:
            if fault.reaction is Reaction.LOGIN:
                return None
            raise
        seconds = answer.auth.get("lease_duration")
        if not isinstance(seconds, int) or since + seconds <= lease.ends_at + GROWTH_SECONDS:
            return None
        return Lease(lease.token, since, float(seconds), answer.auth.get("renewable") is True)

    def _replace(self, refused: Lease | None, deadline: float) -> Lease:
        """Log in, unless somebody else has done so since `refused` was taken."""
        with self._held(deadline):
            lease = self._lease
            if lease is not None and lease is not refused and self._lives(lease):
                return lease
            return self._log_in(deadline)

    def _lives(self, lease: Lease) -> bool:
        return self.clock.monotonic() < lease.ends_at

    def _log_in(self, deadline: float) -> Lease:
        """Return a fresh lease; the lock is held."""
        gap = self._logged_in_at + LOGIN_GAP_SECONDS - self.clock.monotonic()
        if gap > 0:
            self.patience.wait(gap * (1 + self.draw.random() / 2))
        self._logged_in_at = self.clock.monotonic()
        try:
            lease = self.login.log_in(self.connection, deadline=deadline)
        except AuthorityUnavailable:
            self.metrics.upstream_failures.labels("login").inc()
            raise
        self._lease = lease
        self._measure(lease)
        log.info("vault_logged_in", lives=_words(lease.seconds), renewable=lease.renewable)
        return lease

    def _measure(self, lease: Lease) -> None:
        """Publish when a token ends that nobody but a person can replace.

        One of less than a day is somebody's who brings the next one in time, such as an agent.
        """
        ours = self.login.can_repeat or lease.renewable or lease.seconds < DAY_SECONDS
        end = math.inf if ours else self.clock.now().timestamp() + lease.seconds
        self.metrics.soonest_expiry.labels("upstream_token").set(end)

    def _warn_of_end(self, lease: Lease) -> None:
        left = lease.ends_at - self.clock.monotonic()
        self.metrics.soonest_expiry.labels("upstream_token").set(
            self.clock.now().timestamp() + left
        )
        log.warning(
            "vault_token_ends",
            remaining=_words(left),
            hint="it cannot be renewed: put a fresh one into upstream.auth.token_file",
        )

    @contextmanager
    def _held(self, deadline: float) -> Iterator[None]:
        """Hold the lock; raise VaultFault when a login under way takes until the deadline."""
        seconds = max(0.0, deadline - self.clock.monotonic())
        if not self._lock.acquire(timeout=seconds):
            raise VaultFault("timed_out", Reaction.RETRY, "another login is still under way")
        try:
            yield
        finally:
            self._lock.release()


def _words(seconds: float) -> str:
    return "for ever" if seconds == math.inf else format_duration(timedelta(seconds=seconds))
