"""The bootstrap's options: what is refused and why, and where files are looked for."""

from pathlib import Path
from typing import Any

import pytest

from meshca.errors import InvalidDocument
from sds.bootstrap import render, render_files
from tests.sds.bootstraps import DIRECTORY, ORDERS, parse


def problems(**changes: Any) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        parse(**changes)
    return [str(problem) for problem in caught.value.problems]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "server without a port": ({"server": "ca"}, "--server: 'ca' is not HOST:PORT"),
    "server port too large": (
        {"server": "ca:65536"},
        "--server: '65536' is not a port between 1 and 65535",
    ),
    "port zero": ({"admin": "0"}, "--admin: '0' is not a port between 1 and 65535"),
    "a name that is none": (
        {"server": "c_a..b:1"},
        "--server: 'c_a..b' is neither a DNS name nor an IP address",
    ),
    "brackets around a name": ({"server": "[ab.c]:1"}, "--server: 'ab.c' is not an IP address"),
    "listening on a name": (
        {"inbound": "localhost:15006"},
        "--inbound: 'localhost' is not an IP address to listen on",
    ),
    "outbound with two parts": (
        {"outbound": ["15001=orders:15006"]},
        "--outbound: '15001=orders:15006' is not PORT=HOST:PORT=SPIFFE_ID",
    ),
    "outbound peer is a trust domain": (
        {"outbound": ["15001=orders:15006=spiffe://example.org"]},
        "--outbound: 'spiffe://example.org' names a trust domain, not a workload: it has no path",
    ),
    "outbound peer with a newline": (
        {"outbound": [f"15001=orders:15006={ORDERS}\n"]},
        "--outbound: path segment 'orders\\n' has characters other than letters, digits, dot, "
        "dash, underscore",
    ),
    "tcp without an app": (
        {"inbound_tcp": ["15007"]},
        "--inbound-tcp: '15007' is not PORT=HOST:PORT",
    ),
    "label without a value sign": (
        {"labels": ["app"]},
        "--label: 'app' is not a Kubernetes label, KEY=VALUE",
    ),
    "label twice": ({"labels": ["app=a", "app=b"]}, "--label: 'app' is given twice"),
    "inbound without app": (
        {"app": None},
        "--inbound: needs --app: where requests are handed to",
    ),
    "app without inbound": (
        {"inbound": None, "outbound": [f"15001=o:1={ORDERS}"]},
        "--app: needs --inbound: the port in front of the app",
    ),
    "nothing to listen on": (
        {"inbound": None, "app": None},
        "give at least one of --inbound, --inbound-tcp, --outbound",
    ),
    "one port for two": ({"admin": "15006"}, "two listeners would share port 15006"),
    "trust domain": (
        {"trust_domain": "Example.org"},
        "--trust-domain: trust domain 'Example.org' has characters other than a-z, 0-9, dot, "
        "dash and underscore",
    ),
    "a federated domain that is none": (
        {"federate": ["spiffe://partner.test"]},
        "--federate: trust domain 'spiffe://partner.test' has characters other than a-z, 0-9, dot, "
        "dash and underscore",
    ),
    "a lifetime that bounds nothing": (
        {"connection_lifetime": "2d"},
        "--connection-lifetime: '2d' is not between 1s and 1d: it bounds what a revocation leaves",
    ),
    "a lifetime of no time": (
        {"connection_lifetime": "0s"},
        "--connection-lifetime: '0s' is not between 1s and 1d: it bounds what a revocation leaves",
    ),
    "a validator that is none": (
        {"validator": "SPIFFE"},
        "--validator: 'SPIFFE' is neither default nor spiffe",
    ),
    "trusted hops that are no number": (
        {"trusted_hops": "-1"},
        "--trusted-hops: '-1' is not a number of proxies, 0 to 16",
    ),
    "permissive without anything inbound": (
        {"inbound": None, "app": None, "outbound": [f"15001=o:1={ORDERS}"], "permissive": True},
        "--permissive: needs --inbound or --inbound-tcp: who may come plaintext",
    ),
    "empty node id": ({"node_id": ""}, "--node-id: must be 1 to 253 printable characters"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_an_option_for_its_reason_only(case: str) -> None:
    changes, message = REFUSED[case]
    assert problems(**changes) == [message]


def test_reports_every_mistake_at_once() -> None:
    found = problems(server="ca", admin="x", outbound=["1=2"], labels=["="])

    options = [each.partition(":")[0] for each in found]
    assert options == [
        "--server",
        "--label",
        "--outbound",
        "--admin",
    ]


def test_anchors_relative_paths_and_keeps_absolute_ones() -> None:
    bootstrap = parse(output=Path("out/web.json"))

    assert bootstrap.path == DIRECTORY / "out/web.json"
    assert bootstrap.trust_bundle == DIRECTORY / "roots.pem"
    assert bootstrap.token_file == Path("/var/run/secrets/meshca/token")
    assert bootstrap.token_secret_path == DIRECTORY / "out/web-token.json"


def test_names_companions_where_envoy_will_read_them() -> None:
    bootstrap = parse(output=Path("out/web.json"), read_from=Path("/etc/envoy"))

    assert str(bootstrap.token_secret_path) in render(bootstrap)
    assert bootstrap.token_secret_path == Path("/etc/envoy/web-token.json")
    assert list(render_files(bootstrap)) == [
        "web.json",
        "web-token.json",
        "web-trust-bundle.json",
    ]
