"""Where a cluster's verification keys come from: a file, a URL, or its API server.

Each source has one blocking method, called in a thread: `fetch` returns a JWKS document as it is
now, or raises KeysUnavailable. What is in the document is the business of `identity.keys`.
"""

from pathlib import Path
from typing import Final

import urllib3
from kubernetes import client

from identity.key_ring import KeySource
from identity.keys import MAXIMUM_BYTES
from meshca.api_server import FAILURES, TIMEOUT_SECONDS, ApiServerConnection, read_limited
from meshca.errors import KeysUnavailable
from meshca.logs import get_logger
from meshca.settings import Keys

_OK: Final = 200

_log = get_logger("identity")


class FileKeys:
    """A JWKS file, written whole and renamed into place by whoever updates it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return f"file {self._path}"

    def fetch(self) -> bytes:
        """Return what the file holds now; raises KeysUnavailable."""
        try:
            with self._path.open("rb") as file:
                return file.read(MAXIMUM_BYTES + 1)
        except OSError as error:
            raise KeysUnavailable(f"{self}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is kept open."""


class UrlKeys:
    """A JWKS behind a URL; no redirects, and `ca_file` takes the place of the system's roots."""

    def __init__(self, url: str, ca_file: Path | None) -> None:
        self._url = url
        self._ca_file = ca_file

    def __str__(self) -> str:
        return f"URL {self._url}"

    def fetch(self) -> bytes:
        """Return what the URL answers now; raises KeysUnavailable."""
        ca_certs = str(self._ca_file) if self._ca_file else None
        try:
            with urllib3.PoolManager(ca_certs=ca_certs, cert_reqs="CERT_REQUIRED") as pool:
                response = pool.request(
                    "GET",
                    self._url,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    timeout=urllib3.Timeout(total=TIMEOUT_SECONDS),
                )
                body = read_limited(response, MAXIMUM_BYTES)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise KeysUnavailable(f"{self}: {error}") from error
        if response.status != _OK:
            raise KeysUnavailable(f"{self} answers with status {response.status}")
        return body

    def close(self) -> None:
        """Nothing is kept open."""


class ApiServerKeys:
    """The API server's own `/openid/v1/jwks`."""

    def __init__(self, connection: ApiServerConnection) -> None:
        self._connection = connection

    def __str__(self) -> str:
        return str(self._connection)

    def fetch(self) -> bytes:
        """Return the keys that the API server trusts now; raises KeysUnavailable."""
        try:
            api = client.OpenidApi(self._connection.client())
            response = api.get_service_account_issuer_open_id_keyset(
                _preload_content=False,  # the parsed answer would be Python's text of a dict
                _request_timeout=TIMEOUT_SECONDS,
            )
            return read_limited(response, MAXIMUM_BYTES)
        except FAILURES as error:
            self._connection.note(error)
            reason = getattr(error, "reason", None) or type(error).__name__
            raise KeysUnavailable(f"{self}: {reason}") from error

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


def build_source(keys: Keys) -> KeySource:
    """Return the source that the configuration names; warns of a URL that anybody may answer."""
    if keys.file is not None:
        return FileKeys(keys.file)
    if keys.url is not None:
        if keys.url.startswith("http:"):
            _log.warning("keys_over_plain_http", url=keys.url, advice="use https")
        return UrlKeys(keys.url, keys.ca_file)
    if keys.api_server is not None:
        return ApiServerKeys(ApiServerConnection(keys.api_server))
    raise ValueError("the configuration names no source of keys")
