"""How `meshca authz check` decides: by the running server's policies, or by files, without one."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from meshca.cli.client import AdminClient, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.policy_options import Options

if TYPE_CHECKING:
    from authz.policy import PolicySet

STANDARD_INPUT = Path("-")
LINES_PER_REQUEST = 500


class Checker(Protocol):
    """Whoever decides."""

    def one(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request."""
        ...

    def explained(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request with near misses and what would have allowed it."""
        ...

    def lines(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the answer, as a line of JSON, to each line that is not blank."""
        ...


def offline(directory: Path, options: Options) -> Checker:
    """Return what decides by the policies in `directory`; raises as `load` does."""
    return _Files(load_directory(directory, options))


def load_directory(directory: Path, options: Options) -> "PolicySet":
    """Return the set of the policies in `directory`; raises as `load` does."""
    from authz.directory import read_directory

    return load(lambda: read_directory(directory), options)


def load(read: Callable[[], Iterable[tuple[str, str]]], options: Options) -> "PolicySet":
    """Return the set of what `read` returns; it is called once the options are known to be good.

    Raises InvalidDocument with every problem of the set, and CommandFailed for bad options.
    """
    from authz.load import load_policies

    if options.default not in ("allow", "deny"):
        raise CommandFailed("--default is allow or deny", exit_status=2)
    if options.trust_domain is None:
        raise CommandFailed("--policies needs --trust-domain", exit_status=2)
    trust_domain = _trust_domain("--trust-domain", options.trust_domain)
    aliases = [_trust_domain("--trust-domain-alias", alias) for alias in options.aliases]
    return load_policies(
        read(),
        trust_domain=trust_domain,
        aliases=aliases,
        root_namespace=options.root_namespace,
        default="allow" if options.default == "allow" else "deny",
    )


def _trust_domain(option: str, text: str) -> str:
    from meshca.spiffe_id import parse_trust_domain

    try:
        return parse_trust_domain(text)
    except ValueError as error:
        raise CommandFailed(f"{option}: {error}", exit_status=2) from error


def online(config: Path, url: str | None) -> Checker:
    """Return what asks the running server."""
    return _Server(connect(config, url))


@dataclass(frozen=True, slots=True)
class _Files:
    policies: "PolicySet"

    def one(self, request: dict[str, Any]) -> dict[str, Any]:
        from authz.check import check

        return check(self.policies, request, now=_now())

    def explained(self, request: dict[str, Any]) -> dict[str, Any]:
        from authz.analysis.counterfactual import explained_check

        return explained_check(self.policies, request, now=_now())

    def lines(self, lines: Iterable[str]) -> Iterator[str]:
        from authz.check import check_lines

        return check_lines(self.policies, lines, now=_now())


def _now() -> float:
    from meshca.clock import SystemClock

    return SystemClock().now().timestamp()


@dataclass(frozen=True, slots=True)
class _Server:
    client: AdminClient

    def one(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._ask([request])[0]

    def explained(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post("/authz/check/explained", {"request": request})
        return cast(dict[str, Any], answer)  # as docs/cli.md has it

    def lines(self, lines: Iterable[str]) -> Iterator[str]:
        import json

        filled = (line for line in lines if line.strip())
        while chunk := list(islice(filled, LINES_PER_REQUEST)):
            for answer in self._ask([_parsed(line) for line in chunk]):
                yield json.dumps(answer, ensure_ascii=False)

    def _ask(self, requests: Sequence[Any]) -> list[dict[str, Any]]:
        answer = self.client.post("/authz/check", {"requests": list(requests)})
        return cast(list[dict[str, Any]], answer["answers"])  # as docs/cli.md has it


def _parsed(line: str) -> Any:
    import json

    try:
        return json.loads(line)
    except ValueError:
        return line  # the server answers deny: it is no request


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of `path` as they can be read."""
    if path == STANDARD_INPUT:
        yield from sys.stdin
        return
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from error


def request(
    *,
    source: str | None,
    destination: str,
    labels: Sequence[str],
    port: int | None,
    http: dict[str, str | None],
) -> dict[str, Any]:
    """Return the request that the options describe, as a line of a batch has it."""
    namespace, _, workload = destination.partition("/")
    named = {"app": workload} if workload else {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals:
            raise CommandFailed(f"--label {label!r} is not KEY=VALUE", exit_status=2)
        named[key] = value
    given = {key: value for key, value in http.items() if value is not None}
    return {
        "source": {"principal": source},
        "destination": {"namespace": namespace, "labels": named, "port": port},
        **({"http": given} if given else {}),
    }
