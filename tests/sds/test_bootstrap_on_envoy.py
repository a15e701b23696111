"""A real Envoy accepts each form of the bootstrap."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sds.bootstrap import render_files
from sds.bootstrap_options import parse_options
from tests.real_parts import envoy
from tests.sds.bootstraps import ORDERS, PLAIN, root_certificate

VARIANTS: dict[str, dict[str, Any]] = {
    "inbound": {},
    "inbound on one address": {"inbound": "127.0.0.1:15006"},
    "inbound on IPv6": {"inbound": "[::1]:15006", "app": "[::1]:8080"},
    "server by address": {"server": "127.0.0.1:8443"},
    "server by address with a name": {"server": "127.0.0.1:8443", "server_name": "localhost"},
    "raw TCP only": {"inbound": None, "app": None, "inbound_tcp": ["15007=127.0.0.1:5432"]},
    "outbound only": {
        "inbound": None,
        "app": None,
        "outbound": [f"15001=127.0.0.1:15006={ORDERS}", f"15002=orders.shop.svc:15006={ORDERS}"],
    },
    "federated": {
        "federate": ["partner.test"],
        "outbound": ["15001=127.0.0.1:15006=spiffe://partner.test/ns/shop/sa/payments"],
    },
    "permissive": {"permissive": True, "inbound_tcp": ["15007=127.0.0.1:5432"]},
    "no decision log": {"decision_log": False, "trusted_hops": "1"},
    "everything": {
        "inbound_tcp": ["15007=127.0.0.1:5432", "15008=db.shop.svc:5432"],
        "outbound": [f"15001=orders.shop.svc:15006={ORDERS}"],
        "admin": "9901",
        "node_id": "no",
        "connection_lifetime": "1h",
        "validator": "spiffe",
        "permissive": True,
        "trusted_hops": "2",
        "labels": ["app=yes", "version=1"],
    },
}


@pytest.mark.end_to_end
@pytest.mark.parametrize("case", VARIANTS)
def test_envoy_accepts_what_we_write(case: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("not a token")
    (tmp_path / "roots.pem").write_bytes(root_certificate("spiffe://example.org"))
    options = replace(PLAIN, token_file=Path("token"), **VARIANTS[case])
    bootstrap = parse_options(options, directory=tmp_path)
    for name, text in render_files(bootstrap).items():
        (tmp_path / name).write_text(text)

    answer = subprocess.run(
        [envoy(), "--mode", "validate", "--log-level", "warning", "-c", str(bootstrap.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.endswith("OK\n")
    assert "deprecated" not in answer.stderr.lower()
