"""A witness as an anchor (C2SP tlog-witness): it cosigns what grows from what it cosigned before.

The one anchor that answers: its cosignature is verified and kept with the checkpoint, so that
whoever has only the witness's key sees that the log had no second history when it was signed.

A witness that has seen more of our log than there is, or in whose eyes our log does not grow from
what it saw, contradicts us: EvidenceBroken. What is wrong with the witness itself (a wrong key, a
signature that does not hold, a time far off, an answer without end) is Unavailable: we go on
asking, and it is shown and alarmed as an anchor that does not work.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import httpx

from audit.anchors.anchor import Published
from audit.log import Log
from audit.note import NoteRefused, Signature, VerifierKey, parse_signature, verify_signature
from audit.witness.request import SIZE_TYPE, read_size, write_request
from meshca.clock import Clock
from meshca.errors import EvidenceBroken, Unavailable
from meshca.web import read_bounded

TOTAL_SECONDS: Final = 15.0
FARTHEST_OFF: Final = timedelta(minutes=10)
_ANSWER_BYTES: Final = 64 * 1024
_HEADERS: Final = {"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"}
_OK: Final = 200
_CONFLICT: Final = 409
_UNPROCESSABLE: Final = 422
_MEANS: Final = {
    403: ": none of our signatures is by a key that it knows",
    404: ": it does not know our log",
    429: ": too often",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    kind: str
    body: bytes


@dataclass(slots=True, kw_only=True)
class WitnessAnchor:
    """The witness with the key `key` at `url` (its submission prefix)."""

    url: str
    key: VerifierKey
    log: Log
    clock: Clock
    context: ssl.SSLContext | None = None
    total_seconds: float = TOTAL_SECONDS
    _seen: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        """Return the anchor's name."""
        return f"witness:{self.key.name}"

    @property
    def is_readable(self) -> bool:
        """Return False: a witness compares by itself."""
        return False

    async def newest(self) -> Published | None:
        """Return None: a witness compares by itself, and tells what it has when asked to cosign."""
        return None

    async def publish(self, published: Published) -> Sequence[Signature]:
        """Return the witness's cosignature; raises Unavailable and EvidenceBroken."""
        size = published.checkpoint.size
        answer = await self._ask(published, min(self._seen, size))
        if answer.status == _CONFLICT:
            self._seen = await self._told(published, answer)
            answer = await self._ask(published, self._seen)
        if answer.status == _UNPROCESSABLE or (answer.status == _CONFLICT and self._seen == size):
            raise EvidenceBroken(
                self._seen,
                f"{self.name} says that our log of {size} entries does not grow from the "
                f"{self._seen} that it cosigned: it was rewritten, or there are two of it",
            )
        if answer.status != _OK:
            means = _MEANS.get(answer.status, "")
            raise Unavailable(f"{self.name} answers with status {answer.status}{means}")
        signature = self._verified(published, answer.body)
        self._seen = size
        return (signature,)

    async def _told(self, published: Published, answer: _Answer) -> int:
        """Return the size that the witness says it has seen, if we can prove growth from there."""
        told = read_size(answer.body) if answer.kind == SIZE_TYPE else None
        if told is None:
            raise Unavailable(f"{self.name} refuses and does not say what it has seen")
        size = published.checkpoint.size
        head = await asyncio.to_thread(self.log.head)
        if told > head.size:
            raise EvidenceBroken(
                head.size,
                f"{self.name} has cosigned our log with {told} entries; it has {head.size}: it was "
                "cut off or rolled back",
            )
        if told > size:
            raise Unavailable(f"{self.name} has seen a newer checkpoint already")
        return told

    async def _ask(self, published: Published, old: int) -> _Answer:
        size = published.checkpoint.size
        proof = await asyncio.to_thread(self.log.consistency_proof, old, size)
        body = write_request(old, proof, published.note)
        url = f"{self.url}/add-checkpoint"
        verify = True if self.context is None else self.context
        try:
            async with (
                asyncio.timeout(self.total_seconds),
                httpx.AsyncClient(
                    verify=verify, trust_env=False, timeout=self.total_seconds
                ) as client,
                client.stream("POST", url, content=body, headers=_HEADERS) as answer,
            ):
                kind = answer.headers.get("content-type", "").partition(";")[0].strip()
                content = await read_bounded(answer, _ANSWER_BYTES)
                return _Answer(answer.status_code, kind, content)
        except TimeoutError as error:
            raise Unavailable(f"{self.name}: no answer in {self.total_seconds:g} s") from error
        except (httpx.HTTPError, ssl.SSLError, OSError, ValueError) as error:
            raise Unavailable(f"{self.name}: {str(error) or type(error).__name__}") from error

    def _verified(self, published: Published, body: bytes) -> Signature:
        """Return the signature by `key` among the lines of `body`; raises Unavailable."""
        try:
            for line in body.decode().removesuffix("\n").split("\n"):
                signature = parse_signature(line)
                if (signature.name, signature.key_id) == (self.key.name, self.key.key_id):
                    verified = verify_signature(published.note.text, signature, self.key)
                    self._check_time(verified.time_seconds or 0)
                    return signature
        except (NoteRefused, UnicodeDecodeError) as error:
            raise Unavailable(
                f"{self.name} answers with what is no cosignature: {error}"
            ) from error
        raise Unavailable(f"{self.name} answers without a cosignature by its key")

    def _check_time(self, time_seconds: int) -> None:
        off = abs(time_seconds - self.clock.now().timestamp())
        if off > FARTHEST_OFF.total_seconds():
            raise Unavailable(f"{self.name} cosigns with a time that is {off:.0f} s off")
