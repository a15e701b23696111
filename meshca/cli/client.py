"""The command line's side of the admin socket: requests, and errors a person can act on."""

import getpass
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshca.cli.failure import CommandFailed
from meshca.cli.options import load_settings
from meshca.errors import Problem

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 30.0
VERIFY_TIMEOUT_SECONDS = 3600.0
_UNIX = "unix:"

Explain = Callable[[Problem], Problem]


class AdminClient:
    """Talks to the running server through its admin socket; use it as a context manager."""

    def __init__(self, socket: Path, start: str) -> None:
        """Prepare to talk through `socket`; `start` is the command that starts the server."""
        self.socket = socket
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

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        return self._request(method, path, **arguments).json()

    def _request(
        self, method: str, path: str, *, explain: Explain = lambda p: p, **arguments: Any
    ) -> "httpx.Response":
        import httpx

        self._check_reachable()
        try:
            # Nothing is verified on a unix socket; reading a store of roots for it takes 50 ms.
            transport = httpx.HTTPTransport(uds=str(self.socket), verify=False)
            with httpx.Client(
                transport=transport, base_url="http://meshca/v1", trust_env=False
            ) as client:
                response = client.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise CommandFailed(f"the server at {self.socket} did not answer in time") from error
        except httpx.HTTPError as error:
            raise CommandFailed(f"the server at {self.socket} broke off: {error}") from error
        if response.is_error:
            raise _refusal(response, explain)
        return response

    def _check_reachable(self) -> None:
        """Raise CommandFailed saying what to do, unless somebody listens on the socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT_SECONDS)
            try:
                probe.connect(str(self.socket))
            except PermissionError as error:
                raise CommandFailed(
                    f"permission denied: user {getpass.getuser()} may not use {self.socket}",
                    hint="run this as root or as the user that the server runs as",
                ) from error
            except OSError as error:
                refused = isinstance(error, ConnectionRefusedError)
                what = "nobody listens on it" if refused else (error.strerror or str(error))
                raise CommandFailed(
                    f"the server is not running: {self.socket}: {what}",
                    hint=f"start it: {self.start}",
                ) from error


def connect(config: Path, url: str | None) -> AdminClient:
    """Return the client of the server that `--url`, or else the configuration, names."""
    if url is None:
        return AdminClient(load_settings(config).admin_socket, f"meshca serve --config {config}")
    if not url.startswith(_UNIX) or len(url) == len(_UNIX):
        raise CommandFailed(f"--url {url!r} is not unix:/path/to/admin.sock", exit_status=2)
    return AdminClient(Path(url.removeprefix(_UNIX)), f"meshca serve --config {config}")


def _refusal(response: "httpx.Response", explain: Explain) -> CommandFailed:
    try:
        error = response.json()["error"]
        problems = [explain(Problem(**problem)) for problem in error["problems"]]
        lines = [error["message"], *(f"  {problem}" for problem in problems)]
    except (ValueError, KeyError, TypeError):
        lines = [f"the server answered {response.status_code} {response.reason_phrase}"]
    return CommandFailed("\n".join(lines))
