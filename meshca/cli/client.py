"""The command line's side of the admin doors: requests, and errors a person can act on."""

import getpass
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshca.cli.credentials import Credentials, given
from meshca.cli.failure import CommandFailed
from meshca.cli.options import load_settings
from meshca.errors import Problem

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 30.0
VERIFY_TIMEOUT_SECONDS = 3600.0
STREAM_TIMEOUT_SECONDS = 3600.0
"""Between two pieces of a long answer."""
_UNIX, _HTTPS = "unix:", "https://"

_HINTS = {401: "meshca --token-file FILE ..., or meshca --cert FILE --key FILE ..."}

Explain = Callable[[Problem], Problem]


@dataclass(frozen=True, slots=True)
class Remote:
    """A server over the network: `https://HOST:PORT`, and what to prove oneself with."""

    url: str
    credentials: Credentials

    def __str__(self) -> str:
        return self.url


class AdminClient:
    """Talks to a running server through its admin socket, or over the network."""

    def __init__(self, server: "Path | Remote", start: str) -> None:
        """Prepare to talk to `server`; `start` is the command that starts one here."""
        self.server = server
        self.start = start

    def get(self, path: str, *, timeout: float = TIMEOUT_SECONDS, **params: object) -> Any:
        """Return the JSON at `path`; parameters that are None are left out.

        Raises CommandFailed with the server's own words when it refuses.
        """
        given = {name: str(value) for name, value in params.items() if value is not None}
        return self._json("GET", path, params=given, timeout=timeout)

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        explain: Explain = lambda problem: problem,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Any:
        """Send `body` and return the answer's JSON; raises as `get` does.

        `explain` may place each problem that the server reports.
        """
        return self._json("POST", path, explain=explain, json=body, timeout=timeout)

    def text(self, path: str, **params: str) -> str:
        """Return the text at `path`; raises as `get` does."""
        return self._request("GET", path, params=params, timeout=TIMEOUT_SECONDS).text

    def chunks(self, path: str, **params: object) -> Iterator[bytes]:
        """Yield the bytes at `path` as they come; raises as `get` does, also in the middle."""
        import httpx

        given = {name: str(value) for name, value in params.items() if value is not None}
        waiting = httpx.Timeout(TIMEOUT_SECONDS, read=STREAM_TIMEOUT_SECONDS)
        try:
            with (
                self.open() as client,
                client.stream("GET", path, params=given, timeout=waiting) as response,
            ):
                if response.is_error:
                    response.read()
                    raise _refusal(response, lambda problem: problem)
                yield from response.iter_raw()
        except httpx.HTTPError as error:
            raise CommandFailed(f"the server at {self.server} broke off: {error}") from error

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        return self._request(method, path, **arguments).json()

    def _request(
        self, method: str, path: str, *, explain: Explain = lambda p: p, **arguments: Any
    ) -> "httpx.Response":
        import httpx

        try:
            with self.open() as client:
                response = client.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise CommandFailed(f"the server at {self.server} did not answer in time") from error
        except httpx.ConnectError as error:
            raise CommandFailed(
                f"the server at {self.server} cannot be reached: {error}"
            ) from error
        except httpx.HTTPError as error:
            raise CommandFailed(f"the server at {self.server} broke off: {error}") from error
        if response.is_error:
            raise _refusal(response, explain)
        return response

    def open(self) -> "httpx.Client":
        """Return a client for paths below /v1, to be closed; raises CommandFailed."""
        import httpx

        if isinstance(self.server, Remote):
            credentials = self.server.credentials
            return httpx.Client(
                transport=httpx.HTTPTransport(verify=credentials.context()),
                base_url=f"{self.server.url}/v1",
                headers=credentials.headers(),
                trust_env=False,
            )
        _check_reachable(self.server, self.start)
        # Nothing is verified on a unix socket; reading a store of roots for it takes 50 ms.
        transport = httpx.HTTPTransport(uds=str(self.server), verify=False)
        return httpx.Client(transport=transport, base_url="http://meshca/v1", trust_env=False)


def _check_reachable(path: Path, start: str) -> None:
    """Raise CommandFailed saying what to do, unless somebody listens on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(TIMEOUT_SECONDS)
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise CommandFailed(
                f"permission denied: user {getpass.getuser()} may not use {path}",
                hint="run this as root or as the user that the server runs as",
            ) from error
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            what = "nobody listens on it" if refused else (error.strerror or str(error))
            raise CommandFailed(
                f"the server is not running: {path}: {what}", hint=f"start it: {start}"
            ) from error


def connect(config: Path, url: str | None) -> AdminClient:
    """Return the client of the server that `--url`, or else the configuration, names."""
    start = f"meshca serve --config {config}"
    if url is None:
        return AdminClient(load_settings(config).admin_socket, start)
    if url.startswith(_HTTPS) and len(url) > len(_HTTPS):
        return AdminClient(Remote(url.rstrip("/"), given()), start)
    if not url.startswith(_UNIX) or len(url) == len(_UNIX):
        text = f"--url {url!r} is neither unix:/path/to/admin.sock nor https://HOST:PORT"
        raise CommandFailed(text, exit_status=2)
    return AdminClient(Path(url.removeprefix(_UNIX)), start)


def _refusal(response: "httpx.Response", explain: Explain) -> CommandFailed:
    try:
        error = response.json()["error"]
        problems = [explain(Problem(**problem)) for problem in error["problems"]]
        lines = [error["message"], *(f"  {problem}" for problem in problems)]
    except (ValueError, KeyError, TypeError):
        lines = [f"the server answered {response.status_code} {response.reason_phrase}"]
    return CommandFailed("\n".join(lines), hint=_HINTS.get(response.status_code, ""))
