"""An anchor in an object store that speaks S3: one object a checkpoint, never written twice.

    <prefix><size, twenty digits>        the note, text/plain

Keys sort by size. Objects are put with `If-None-Match: *`: what is there stays, and if it is not
what we would have written, that is told. What keeps objects from the administrator of our database
is the bucket's: another account, Object Lock, versioning. We ask for the rights to put, get and
list below the prefix, and need no right to delete.

Credentials are read from a file or the environment at each request, so that they can change. They
are in no message and no log.
"""

import asyncio
import base64
import hashlib
import html
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import httpx

from audit.anchors.anchor import Published
from audit.anchors.s3_credentials import CredentialSource
from audit.anchors.sigv4 import encoded_path, encoded_query, signed_headers
from audit.note import NoteRefused, Signature
from meshca.clock import Clock
from meshca.errors import EvidenceBroken, Unavailable
from meshca.web import IDENTITY, read_bounded

TOTAL_SECONDS: Final = 15.0
DIGITS: Final = 20
_LARGEST: Final = 2**63 - 1
_OK: Final = 200
_EXISTS: Final = (409, 412)  # 409: another conditional put of the same key is under way
_ANSWER_BYTES: Final = 256 * 1024
_KEY: Final = re.compile(rb"<Key>([^<]*)</Key>")
_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where objects are: `endpoint` is scheme and host; `prefix` goes before each key as it is.

    With `virtual_host` the bucket is part of the host name, as some services want it.
    """

    endpoint: str
    bucket: str
    prefix: str
    region: str
    virtual_host: bool = False

    def host(self) -> str:
        """Return what the request is signed for and sent to."""
        host = urlsplit(self.endpoint).netloc
        return f"{self.bucket}.{host}" if self.virtual_host else host

    def path(self, key: str = "") -> str:
        """Return the encoded path of an object, or of the bucket."""
        return encoded_path(key) if self.virtual_host else encoded_path(self.bucket, key)

    def url(self) -> str:
        """Return scheme and host."""
        return f"{urlsplit(self.endpoint).scheme}://{self.host()}"


@dataclass(slots=True, kw_only=True)
class S3Anchor:
    """A prefix of a bucket, for checkpoints of the log `origin` only."""

    bucket: Bucket
    origin: str
    credentials: CredentialSource
    clock: Clock
    context: ssl.SSLContext | None = None
    total_seconds: float = TOTAL_SECONDS
    _known: int = field(default=-1, init=False)

    @property
    def name(self) -> str:
        """Return the anchor's name."""
        return f"s3:{self.bucket.url()}/{self.bucket.bucket}/{self.bucket.prefix}"

    @property
    def is_readable(self) -> bool:
        """Return True."""
        return True

    async def newest(self) -> Published | None:
        """Return the object with the largest size.

        The first time it is searched for, in some forty requests; later from the one that was the
        newest, if that is still there: it is read each time. Raises Unavailable, and EvidenceBroken
        for what is not of our log.
        """
        async with self._client() as client:
            size = await self._largest(client, await self._still(client))
            self._known = size
            return await self._get(client, size) if size >= 0 else None

    async def publish(self, published: Published) -> Sequence[Signature]:
        """Put one object; raises Unavailable, EvidenceBroken if another is there already."""
        body, size = bytes(published), published.checkpoint.size
        headers = {
            "content-type": "text/plain; charset=utf-8",
            "if-none-match": "*",
            "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        async with self._client() as client:
            status, answer = await self._ask(client, "PUT", self._key(size), body, headers=headers)
            if status in _EXISTS:
                held = await self._get(client, size)
                if held.checkpoint != published.checkpoint:
                    raise EvidenceBroken(size, f"{self.name} holds another checkpoint of {size}")
            elif status != _OK:
                raise self._failed(status, answer)
        self._known = size
        return ()

    async def _still(self, client: httpx.AsyncClient) -> int:
        """Return the size of what was the newest, -1 if it is not there any more."""
        is_there = self._known >= 0 and await self._after(client, self._known - 1) == self._known
        return self._known if is_there else -1

    async def _largest(self, client: httpx.AsyncClient, known: int) -> int:
        """Return the largest size that there is an object of, `known` if none is larger."""
        low = await self._after(client, known)
        if low is None:
            return known
        step, high = 1, low
        while high == low:  # in growing steps, until nothing is beyond
            found = await self._after(client, min(low + step, _LARGEST))
            if found is None:
                high = min(low + step, _LARGEST)
            else:
                low = high = found
                step *= 2
        while low < high:
            middle = (low + high) // 2
            found = await self._after(client, middle)
            low, high = (low, middle) if found is None else (found, high)
        return low

    async def _after(self, client: httpx.AsyncClient, size: int) -> int | None:
        """Return the smallest size above `size` that there is an object of."""
        query = {"list-type": "2", "max-keys": "1", "prefix": self.bucket.prefix}
        if size >= 0:
            query["start-after"] = self._key(size)
        status, answer = await self._ask(client, "GET", query=encoded_query(query))
        if status != _OK:
            raise self._failed(status, answer)
        keys = _KEY.findall(answer)
        if not keys:
            return None
        number = html.unescape(keys[0].decode()).removeprefix(self.bucket.prefix)
        if not re.fullmatch(r"[0-9]{20}", number, re.ASCII):
            raise EvidenceBroken(0, f"{self.name} holds an object that is no checkpoint")
        return int(number)

    async def _get(self, client: httpx.AsyncClient, size: int) -> Published:
        status, answer = await self._ask(client, "GET", self._key(size))
        if status != _OK:
            raise self._failed(status, answer)
        try:
            published = Published.parse(answer)
        except NoteRefused as error:
            raise EvidenceBroken(size, f"{self.name} holds no checkpoint as {size}") from error
        checkpoint = published.checkpoint
        if (checkpoint.origin, checkpoint.size) != (self.origin, size):
            raise EvidenceBroken(size, f"{self.name} holds another log's checkpoint as {size}")
        return published

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        key: str = "",
        body: bytes = b"",
        *,
        query: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, bytes]:
        """Return status and body of the answer to one signed request; raises Unavailable."""
        path = self.bucket.path(key)
        signed = signed_headers(
            method,
            path,
            query,
            body,
            host=self.bucket.host(),
            headers=headers,
            credentials=await asyncio.to_thread(self.credentials.read),
            region=self.bucket.region,
            now=self.clock.now(),
        )
        url = f"{self.bucket.url()}{path}{'?' if query else ''}{query}"
        try:
            async with (
                asyncio.timeout(self.total_seconds),
                client.stream(method, url, content=body, headers=signed) as answer,
            ):
                return answer.status_code, await read_bounded(answer, _ANSWER_BYTES)
        except TimeoutError as error:
            raise Unavailable(f"{self.name}: no answer in {self.total_seconds:g} s") from error
        except (httpx.HTTPError, ssl.SSLError, OSError, ValueError) as error:
            raise Unavailable(f"{self.name}: {str(error) or type(error).__name__}") from error

    def _client(self) -> httpx.AsyncClient:
        verify = True if self.context is None else self.context
        return httpx.AsyncClient(
            verify=verify, trust_env=False, timeout=self.total_seconds, headers=IDENTITY
        )

    def _key(self, size: int) -> str:
        return f"{self.bucket.prefix}{size:0{DIGITS}d}"

    def _failed(self, status: int, answer: bytes) -> Unavailable:
        code = _CODE.search(answer)
        said = f" {code[1].decode()}" if code else ""
        return Unavailable(f"{self.name} answers with status {status}{said}")
