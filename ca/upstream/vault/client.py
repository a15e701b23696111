"""One HTTP request to Vault, with a deadline: JSON in, JSON out, anything else is a fault.

hvac builds the request; its exceptions are not used, since they lose the status, and no redirect is
followed, since a standby may send us to a node that is dead. Nothing here knows tokens' lives
(session.py) or tries again (patience.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import requests
import urllib3
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter

from ca.upstream.vault.errors import Asking, Reaction, VaultFault, fault_of
from meshca.clock import Clock
from meshca.logs import clip

CALL_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 3.0
MAXIMUM_BYTES: Final = 4 * 1024 * 1024
CONNECTIONS: Final = 16
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a 2xx answer holds; its repr shows nothing, since it may be a token."""

    content: Mapping[str, Any] = field(repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """Return `data`, empty where there is none."""
        return _mapping(self.content.get("data"))

    @property
    def auth(self) -> Mapping[str, Any]:
        """Return `auth`: what a login gives."""
        return _mapping(self.content.get("auth"))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings: a 200 that did something else than was asked says so here."""
        found = self.content.get("warnings")
        return tuple(str(text) for text in found) if isinstance(found, list) else ()

    def text(self, name: str) -> str:
        """Return a text of `data`; raises VaultFault when it is not there."""
        value = self.data.get(name)
        if not isinstance(value, str) or not value:
            raise not_vault(f"the answer holds no {name}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A Vault server at one address; safe to use from several threads."""

    adapter: RawAdapter
    clock: Clock
    call_seconds: float = CALL_SECONDS

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        deadline: float,
        token: str | None = None,
        asking: Asking = Asking.WITH_TOKEN,
    ) -> Answer:
        """Return the answer to one request; `deadline` is on the monotonic clock.

        Raises VaultFault for anything but a 2xx answer of Vault's shape before the deadline.
        """
        seconds = min(self.call_seconds, deadline - self.clock.monotonic())
        if seconds <= 0:
            raise VaultFault("timed_out", Reaction.RETRY, f"no time is left to ask {path}")
        response = self._send(method, path, body, token, seconds)
        try:
            content = _content(self._read(response, path, seconds), response.status_code)
        finally:
            response.close()
        if not 200 <= response.status_code < 300:
            raise fault_of(
                response.status_code, _errors(response, content), what=path, asking=asking
            )
        return Answer(content)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        token: str | None,
        seconds: float,
    ) -> requests.Response:
        try:
            return self.adapter.request(
                method,
                f"/v1/{path}",
                headers={"X-Vault-Token": token} if token else {},
                raise_exception=False,
                json=body,
                stream=True,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
            )
        except requests.Timeout as error:
            raise VaultFault(
                "timed_out", Reaction.RETRY, f"no answer to {path} within {seconds:.0f} s"
            ) from error
        except requests.exceptions.SSLError as error:
            raise VaultFault("tls", Reaction.CONFIGURE, clip(str(error), 300)) from error
        except OSError as error:  # requests' own errors are of this kind too
            raise VaultFault("unreachable", Reaction.RETRY, clip(str(error), 300)) from error

    def _read(self, response: requests.Response, path: str, seconds: float) -> bytes:
        """Return the body, in so many seconds at most however slowly it drips."""
        deadline = self.clock.monotonic() + seconds
        body = bytearray()
        try:
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > MAXIMUM_BYTES:
                    raise not_vault(f"the answer to {path} is larger than {MAXIMUM_BYTES} bytes")
                if self.clock.monotonic() > deadline:
                    raise VaultFault(
                        "timed_out", Reaction.RETRY, f"{path} drips for over {seconds:.0f} s"
                    )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise VaultFault(
                "unreachable", Reaction.RETRY, f"the answer to {path} breaks off"
            ) from error
        return bytes(body)


def connect(
    address: str, *, ca_file: Path | None, namespace: str | None, clock: Clock
) -> Connection:
    """Return a connection that opens when it is first used.

    Proxies and credentials of the environment are not looked at: tokens go to Vault alone.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = True if ca_file is None else str(ca_file)
    session.mount(address, HTTPAdapter(pool_maxsize=CONNECTIONS))
    adapter = RawAdapter(address, session=session, namespace=namespace, allow_redirects=False)
    return Connection(adapter=adapter, clock=clock)


def not_vault(message: str) -> VaultFault:
    """Return the fault of an answer that Vault does not give: something else answers there."""
    return VaultFault("not_vault", Reaction.CONFIGURE, message)


def _content(body: bytes, status: int) -> Mapping[str, Any]:
    if not body:
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if 200 <= status < 300:
            raise not_vault("the answer is not JSON") from error
        return {"errors": [body[:300].decode("utf-8", "replace")]}
    return _mapping(content)


def _errors(response: requests.Response, content: Mapping[str, Any]) -> list[str]:
    """Return what a failure says; a redirect says nothing but where it leads."""
    if response.is_redirect:
        return [f"go to {response.headers['location']}"]
    texts = content.get("errors")
    return [str(text) for text in texts] if isinstance(texts, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
