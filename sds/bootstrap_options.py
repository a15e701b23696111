"""The options of `meshca envoy bootstrap`: their texts, read into a `Bootstrap`.

Every mistake is reported at once, each with the option it was made in. Nothing here touches a
file: paths are only anchored.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from meshca.durations import parse_duration
from meshca.errors import InvalidDocument, Problem
from meshca.spiffe_id import SpiffeId, parse_trust_domain
from sds.bootstrap_values import (
    CONNECTION_LIFETIME,
    VALIDATORS,
    Bootstrap,
    Endpoint,
    Inbound,
    Outbound,
    is_ip_address,
)

DEFAULT_OUTPUT = Path("envoy.json")
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  # a sidecar's peers come from anywhere
_MAXIMUM_NAME = 253
_MOST_HOPS = 16
_SHORTEST_LIFETIME = timedelta(seconds=1)
_LONGEST_LIFETIME = timedelta(days=1)
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+)):(\d{1,5})")
_DNS_NAME = re.compile(
    r"[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?"
    r"(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*"
)
_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.A
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.A)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """The options of `meshca envoy bootstrap` as typed; None and empty mean "not given".

    `trust_domain` is required here; the command line may take it from the trust bundle.
    `read_from` is the directory Envoy will find the files in when it is not `output`'s own,
    such as the mount point of a ConfigMap.
    """

    server: str
    token_file: Path
    trust_bundle: Path
    trust_domain: str
    output: Path = DEFAULT_OUTPUT
    read_from: Path | None = None
    server_name: str | None = None
    inbound: str | None = None
    app: str | None = None
    inbound_tcp: Sequence[str] = ()
    outbound: Sequence[str] = ()
    federate: Sequence[str] = ()
    admin: str | None = None
    connection_lifetime: str | None = None
    validator: str | None = None
    permissive: bool = False
    trusted_hops: str | None = None
    decision_log: bool = True
    node_id: str | None = None
    labels: Sequence[str] = ()


def parse_options(options: BootstrapOptions, *, directory: Path) -> Bootstrap:
    """Return the bootstrap that `options` describe; relative paths are relative to `directory`.

    Raises InvalidDocument with every problem; a problem's path is the option's name.
    """
    reader = _Reader(options)
    server = reader.one("--server", options.server, parse_endpoint)
    listener = reader.one("--inbound", options.inbound, parse_listen)
    app = reader.one("--app", options.app, parse_endpoint)
    trust_domain = reader.one("--trust-domain", options.trust_domain, parse_trust_domain)
    federated = reader.each("--federate", options.federate, parse_trust_domain)
    server_name = reader.one("--server-name", options.server_name, _parse_host)
    labels = dict(reader.each("--label", options.labels, _parse_label))
    inbound_tcp = reader.each("--inbound-tcp", options.inbound_tcp, _parse_inbound_tcp)
    outbound = reader.each("--outbound", options.outbound, _parse_outbound)
    admin_port = reader.one("--admin", options.admin, _parse_port)
    lifetime = reader.one("--connection-lifetime", options.connection_lifetime, _parse_lifetime)
    validator = reader.one("--validator", options.validator, _parse_validator)
    trusted_hops = reader.one("--trusted-hops", options.trusted_hops, _parse_hops)
    node_id = reader.one("--node-id", options.node_id, _parse_node_id)
    reader.check_combination()
    reader.check_ports([*_listened(listener, inbound_tcp, outbound, admin_port)])
    if reader.problems or server is None or trust_domain is None:
        raise InvalidDocument(reader.problems)
    return Bootstrap(
        path=directory / (options.read_from or options.output.parent) / options.output.name,
        server=server,
        server_name=server_name or server.host,
        token_file=directory / options.token_file,
        trust_bundle=directory / options.trust_bundle,
        trust_domain=trust_domain,
        federated=tuple(dict.fromkeys(name for name in federated if name != trust_domain)),
        inbound=Inbound(listener, app) if listener and app else None,
        inbound_tcp=tuple(inbound_tcp),
        outbound=tuple(outbound),
        admin_port=admin_port,
        connection_lifetime=lifetime or CONNECTION_LIFETIME,
        validator=validator,
        permissive=options.permissive,
        trusted_hops=trusted_hops or 0,
        decision_log=options.decision_log,
        node_id=node_id or "envoy",
        labels=MappingProxyType(labels),
    )


class _Reader:
    """Reads option texts and keeps every problem."""

    def __init__(self, options: BootstrapOptions) -> None:
        self.options = options
        self.problems: list[Problem] = []

    def each(
        self, option: str, texts: Sequence[str], read: Callable[[str], _Value]
    ) -> list[_Value]:
        values: list[_Value] = []
        for text in texts:
            try:
                values.append(read(text))
            except ValueError as error:
                self.problems.append(Problem(option, str(error)))
        return values

    def one(self, option: str, text: str | None, read: Callable[[str], _Value]) -> _Value | None:
        values = self.each(option, [] if text is None else [text], read)
        return values[0] if values else None

    def check_combination(self) -> None:
        given = self.options
        if given.inbound is not None and given.app is None:
            self.problems.append(Problem("--inbound", "needs --app: where requests are handed to"))
        if given.app is not None and given.inbound is None:
            self.problems.append(Problem("--app", "needs --inbound: the port in front of the app"))
        if given.inbound is None and not given.inbound_tcp and not given.outbound:
            self.problems.append(
                Problem("", "give at least one of --inbound, --inbound-tcp, --outbound")
            )
        if given.permissive and given.inbound is None and not given.inbound_tcp:
            self.problems.append(
                Problem("--permissive", "needs --inbound or --inbound-tcp: who may come plaintext")
            )
        keys = [text.partition("=")[0] for text in given.labels]
        for key in sorted({key for key in keys if keys.count(key) > 1}):
            self.problems.append(Problem("--label", f"{key!r} is given twice"))

    def check_ports(self, ports: Sequence[int]) -> None:
        for port in sorted({port for port in ports if ports.count(port) > 1}):
            self.problems.append(Problem("", f"two listeners would share port {port}"))


def _listened(
    listener: Endpoint | None,
    inbound_tcp: Sequence[Inbound],
    outbound: Sequence[Outbound],
    admin_port: int | None,
) -> list[int]:
    ports = [each.listen.port for each in inbound_tcp] + [each.port for each in outbound]
    ports += [listener.port] if listener else []
    return ports + ([admin_port] if admin_port else [])


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint written `HOST:PORT`, IPv6 addresses in brackets; raise ValueError."""
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not HOST:PORT")
    host = match[1] or match[2]
    if match[1] and not is_ip_address(host):
        raise ValueError(f"{host!r} is not an IP address")
    return Endpoint(_parse_host(host), _parse_port(match[3]))


def parse_listen(text: str) -> Endpoint:
    """Return where to listen, `PORT` (every IPv4 address) or `ADDRESS:PORT`; raise ValueError."""
    if text.isascii() and text.isdigit():
        return Endpoint(EVERY_ADDRESS, _parse_port(text))
    endpoint = parse_endpoint(text)
    if not endpoint.is_address:
        raise ValueError(f"{endpoint.host!r} is not an IP address to listen on")
    return endpoint


def _parse_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port between 1 and 65535")
    return int(text)


def _parse_host(text: str) -> str:
    is_name = len(text) <= _MAXIMUM_NAME and _DNS_NAME.fullmatch(text)
    if not is_ip_address(text) and not is_name:
        raise ValueError(f"{text!r} is neither a DNS name nor an IP address")
    return text


def _parse_node_id(text: str) -> str:
    if not 1 <= len(text) <= 253 or not text.isprintable():
        raise ValueError("must be 1 to 253 printable characters")
    return text


def _parse_lifetime(text: str) -> timedelta:
    lifetime = parse_duration(text)
    if not _SHORTEST_LIFETIME <= lifetime <= _LONGEST_LIFETIME:
        raise ValueError(f"{text!r} is not between 1s and 1d: it bounds what a revocation leaves")
    return lifetime


def _parse_hops(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > _MOST_HOPS:
        raise ValueError(f"{text!r} is not a number of proxies, 0 to {_MOST_HOPS}")
    return int(text)


def _parse_validator(text: str) -> str:
    if text not in VALIDATORS:
        raise ValueError(f"{text!r} is neither {' nor '.join(VALIDATORS)}")
    return text


def _parse_inbound_tcp(text: str) -> Inbound:
    listen, equals, app = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not PORT=HOST:PORT")
    return Inbound(parse_listen(listen), parse_endpoint(app))


def _parse_outbound(text: str) -> Outbound:
    parts = text.split("=")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is not PORT=HOST:PORT=SPIFFE_ID")
    peer = SpiffeId.parse(parts[2])
    if not peer.is_leaf:
        raise ValueError(f"{parts[2]!r} names a trust domain, not a workload: it has no path")
    return Outbound(_parse_port(parts[0]), parse_endpoint(parts[1]), peer)


def _parse_label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"{text!r} is not a Kubernetes label, KEY=VALUE")
    return key, value
