"""Continuous calls through a proxy, counted: the demo's proof that rotation loses nothing."""

import http.client
import threading
from typing import Self

CALLERS = 3
_TIMEOUT_SECONDS = 10.0
_FAILURES_KEPT = 20


class Traffic:
    """Calls 127.0.0.1:`port` from a few threads while its `with` block runs.

    Each pauses for `pause_seconds` after a call; by default not at all.
    """

    def __init__(
        self,
        port: int,
        path: str = "/items",
        callers: int = CALLERS,
        *,
        pause_seconds: float = 0.0,
    ) -> None:
        self.port = port
        self.pause_seconds = pause_seconds
        self.path = path
        self.failures: list[str] = []
        self._counts = [0] * callers
        self._failed = [0] * callers
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(i,), daemon=True) for i in range(callers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS * 2)

    @property
    def requests(self) -> int:
        """Return how many requests were made so far."""
        return sum(self._counts)

    @property
    def failed(self) -> int:
        """Return how many of them failed; the first ones' reasons are in `failures`."""
        return sum(self._failed)

    def _call(self, caller: int) -> None:
        connection = self._connect()
        while not self._stop.is_set():
            problem = self._one(connection)
            self._counts[caller] += 1
            if problem:
                self._failed[caller] += 1
                if len(self.failures) < _FAILURES_KEPT:
                    self.failures.append(problem)
                connection.close()
                connection = self._connect()
            if self.pause_seconds:
                self._stop.wait(self.pause_seconds)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_SECONDS)

    def _one(self, connection: http.client.HTTPConnection) -> str:
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        return "" if answer.status == 200 else f"{answer.status}: {body[:200]!r}"
