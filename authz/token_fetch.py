"""Fetching the keys of a token issuer over HTTP; blocking, called in a thread.

From its `jwksUri`, or by OpenID Connect Discovery 1.0 section 4 from the issuer itself. Bounded:
one answer of at most `authz.jwks.MAXIMUM_BYTES`, within the rule's timeout, no redirect, no retry.
What policy names is fetched: who may write policy may have us ask any address (threat model).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import urllib3

from authz.jwks import MAXIMUM_BYTES
from authz.request_authentication import JwtRule
from meshca.clock import Clock
from meshca.errors import KeysUnavailable

LONGEST_TIMEOUT_SECONDS: Final = 30.0
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_CHUNK: Final = 16 * 1024
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

    clock: Clock
    ca_file: Path | None = None

    def fetch(self, source: KeySource) -> str:
        """Return the key set of `source` as it is now; raises KeysUnavailable."""
        return self._get(source.uri or self._discover(source), source.timeout_seconds)

    def _discover(self, source: KeySource) -> str:
        """Return where the issuer says that its keys are."""
        if urlsplit(source.issuer).scheme != "https":
            raise KeysUnavailable("the issuer is no https URL to ask for its keys; write jwksUri")
        text = self._get(source.issuer.rstrip("/") + DISCOVERY_PATH, source.timeout_seconds)
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

    def _get(self, url: str, seconds: float) -> str:
        deadline = self.clock.monotonic() + seconds
        ca_certs = str(self.ca_file) if self.ca_file else None
        try:
            with urllib3.PoolManager(ca_certs=ca_certs, cert_reqs="CERT_REQUIRED") as pool:
                response = pool.request(
                    "GET",
                    url,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    timeout=urllib3.Timeout(total=seconds),
                )
                try:
                    if response.status != _OK:
                        raise KeysUnavailable(f"{url} answers with status {response.status}")
                    return self._read(response, url, deadline).decode()
                finally:
                    response.close()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise KeysUnavailable(f"{url}: {error}") from error

    def _read(self, response: urllib3.BaseHTTPResponse, url: str, deadline: float) -> bytes:
        body = b""
        while chunk := response.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > MAXIMUM_BYTES:
                raise KeysUnavailable(f"{url}: larger than {MAXIMUM_BYTES} bytes")
            if self.clock.monotonic() > deadline:
                raise KeysUnavailable(f"{url}: did not end in time")
        return body
