"""Signing with a key that is not in this process: in threads of its own, off the event loop.

A request to Vault or a token may take seconds, and nothing else may wait for it: not the loop, and
not the threads that everybody shares. A few sign at a time; too many that wait, or one that waits
too long, are turned away to come back later.
"""

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from ca import issuer
from ca.authority import Authorities
from ca.issuer import Prepared
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable, Overloaded

SIGNERS: Final = 16
MAXIMUM_WAITING: Final = 2_000
WAIT_SECONDS: Final = 10.0


def _threads() -> Executor:
    return ThreadPoolExecutor(SIGNERS, thread_name_prefix="sign")


@dataclass(slots=True)
class SigningThreads:
    """Calls `issuer.sign` for signers that may block; threads start with the first call."""

    _executor: Executor = field(default_factory=_threads)
    _waiting: int = 0

    async def sign(self, prepared: Prepared, clock: Clock, authorities: Authorities) -> bytes:
        """Return what `issuer.sign` returns, and raise what it raises.

        Raises Overloaded when too many wait already, AuthorityUnavailable when the turn of this
        one did not come within ten seconds, or its authority was barred by then.
        """
        if self._waiting >= MAXIMUM_WAITING:
            raise Overloaded("too many certificates wait for the authority's key")
        deadline = clock.monotonic() + WAIT_SECONDS

        def turn() -> bytes:
            if clock.monotonic() > deadline:
                raise AuthorityUnavailable("the authority's key is too slow for all who ask")
            authorities.check_signing(prepared.authority)
            signed = issuer.sign(prepared)
            authorities.check_signing(prepared.authority)
            return signed

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, turn)
        finally:
            self._waiting -= 1
