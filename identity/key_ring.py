"""The verification keys of one cluster, kept current without ever blocking the event loop.

    never loaded --fetch ok--> loaded --fetch ok--> loaded with what the source says now
         |                        `--fetch failed--> loaded, unchanged: the last good keys
         `--fetch failed--> never loaded: KeysUnavailable

Keys are fetched at start and then periodically (`identity.kubernetes.REFRESH_SECONDS`), which is
also how long a key that its source has dropped stays good; through an outage of the source it
stays good for as long as that lasts. A token with an unknown `kid` triggers a fetch, too, that all
such tokens share: at most one in `REFETCH_SECONDS`, on a clock that does not jump.
"""

import asyncio
from typing import Final, Protocol

from identity.keys import VerificationKey, parse_key_set
from identity.shared_calls import SharedCalls
from meshca.clock import Clock
from meshca.errors import KeysUnavailable, ProofRefused
from meshca.logs import get_logger

REFETCH_SECONDS: Final = 10.0
DEADLINE_SECONDS: Final = 10.0

_log = get_logger("identity")


class KeySource(Protocol):
    """Where a JWKS document is; `str()` of it is for logs."""

    def fetch(self) -> bytes:
        """Return the document as it is now; blocks; raises KeysUnavailable."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class KeyRing:
    """The last good keys of one source."""

    def __init__(self, source: KeySource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._document = b""
        self._keys: dict[str, VerificationKey] | None = None
        self._attempted_at: float | None = None
        self._fetches = SharedCalls[None, None]()

    async def get(self, key_id: str) -> VerificationKey:
        """Return the key named `key_id`.

        Raises ProofRefused `unknown_key`, or KeysUnavailable when no key was ever fetched.
        """
        key = self._find(key_id)
        if key is None and self._may_fetch():
            await self.refresh()
            key = self._find(key_id)
        if key is not None:
            return key
        if self._keys is None:
            raise KeysUnavailable(f"no keys yet from {self._source}")
        raise ProofRefused("unknown_key", "no key of the cluster has the token's kid")

    async def refresh(self) -> None:
        """Fetch the keys; a failure is logged and leaves the last good ones in place."""
        await self._fetches.run(None, self._fetch)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _find(self, key_id: str) -> VerificationKey | None:
        return None if self._keys is None else self._keys.get(key_id)

    def _may_fetch(self) -> bool:
        if self._attempted_at is None or None in self._fetches:
            return True
        return self._clock.monotonic() - self._attempted_at >= REFETCH_SECONDS

    async def _fetch(self) -> None:
        self._attempted_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                document = await asyncio.to_thread(self._source.fetch)
            self._replace(document)
        except (KeysUnavailable, TimeoutError, ValueError) as error:
            kept = len(self._keys or {})
            reason = str(error) or type(error).__name__
            _log.warning("keys_not_fetched", source=str(self._source), reason=reason, kept=kept)

    def _replace(self, document: bytes) -> None:
        if document == self._document and self._keys is not None:
            return
        keys = parse_key_set(document, source=str(self._source))
        before = set(self._keys or {})
        self._keys, self._document = keys, document
        _log.info(
            "keys_changed",
            source=str(self._source),
            added=len(set(keys) - before),
            removed=len(before - set(keys)),
        )
