"""Fetching the keys of a token issuer over HTTP.

From its `jwksUri`, or by OpenID Connect Discovery 1.0 section 4 from the issuer itself. Bounded:
answers of at most `authz.jwks.MAXIMUM_BYTES`, all of it within the rule's timeout, from the first
name to the last byte; no redirect, no retry, no proxy of the environment. What policy names is
fetched: who may write policy may have us ask any address (threat model).
"""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from authz.jwks import MAXIMUM_BYTES
from authz.request_authentication import JwtRule
from meshca.errors import KeysUnavailable
from meshca.web import IDENTITY, read_bounded, web_context

LONGEST_TIMEOUT_SECONDS: Final = 30.0
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the keys of `issuer` are: at `uri`, or if that is empty where discovery says."""

    issuer: str
    uri: str
    timeout_seconds: float = field(compare=False)

    @classmethod
    def of(cls, rule: JwtRule) -> "KeySource":
        """Return the source of the keys of `rule`, which has none of its own."""
        return cls(rule.issuer, rule.jwks_uri, min(rule.timeout_seconds, LONGEST_TIMEOUT_SECONDS))


@dataclass(frozen=True, slots=True)
class KeyFetcher:
    """Fetches key sets; `ca_file` takes the place of the system's roots."""

    ca_file: Path | None = None

    async def fetch(self, source: KeySource) -> str:
        """Return the key set of `source` as it is now; raises KeysUnavailable."""
        seconds = source.timeout_seconds
        where = source.uri or source.issuer
        try:
            async with asyncio.timeout(seconds):
                context = await asyncio.to_thread(self._context)
                async with httpx.AsyncClient(
                    verify=context, trust_env=False, timeout=seconds
                ) as client:
                    return await _get(client, source.uri or await _discover(client, source))
        except TimeoutError as error:
            raise KeysUnavailable(f"{where}: no whole answer within {seconds:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise KeysUnavailable(f"{where}: {said}") from error

    def _context(self) -> ssl.SSLContext:
        return web_context("" if self.ca_file is None else self.ca_file.read_text())


async def _discover(client: httpx.AsyncClient, source: KeySource) -> str:
    """Return where the issuer says that its keys are."""
    if urlsplit(source.issuer).scheme != "https":
        raise KeysUnavailable("the issuer is no https URL to ask for its keys; write jwksUri")
    text = await _get(client, source.issuer.rstrip("/") + DISCOVERY_PATH)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeysUnavailable("the issuer's discovery document is not JSON") from error
    if not isinstance(document, dict) or document.get("issuer") != source.issuer:
        raise KeysUnavailable("the discovery document is of another issuer")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str) or urlsplit(uri).scheme != "https":
        raise KeysUnavailable("the discovery document names no https jwks_uri")
    return uri


async def _get(client: httpx.AsyncClient, url: str) -> str:
    async with client.stream("GET", url, headers=IDENTITY) as response:
        if response.status_code != _OK:
            raise KeysUnavailable(f"{url} answers with status {response.status_code}")
        return (await read_bounded(response, MAXIMUM_BYTES)).decode()
