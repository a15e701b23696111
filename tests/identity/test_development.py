"""The development cluster: tokens as Kubernetes makes them, a key for its owner only, a warning."""

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from identity.development import UnsafeDevelopmentCluster
from meshca.errors import InvalidDocument, ProofRefused
from tests.fakes import FakeClock
from tests.identity.builders import FakeSource, World, world


def token(cluster: UnsafeDevelopmentCluster, clock: FakeClock, **changes: Any) -> str:
    """Return a token of shop/orders in pod orders-1."""
    values: dict[str, Any] = {
        "namespace": "shop",
        "service_account": "orders",
        "pod": "orders-1",
        "node": "node-1",
        "audiences": ["meshca"],
        "lifetime": timedelta(hours=1),
        "now": clock.now(),
    }
    return cluster.token(**{**values, **changes})


def server_of(cluster: UnsafeDevelopmentCluster, directory: Path, **changes: Any) -> World:
    """Return a world that validates by the cluster's key set file."""
    source = FakeSource((directory / "jwks.json").read_bytes())
    return world(source=source, issuer=cluster.issuer, **changes)


def test_its_tokens_prove_their_pod(tmp_path: Path) -> None:
    cluster = UnsafeDevelopmentCluster.create(tmp_path)
    w = server_of(cluster, tmp_path)

    caller = w.authenticate(token(cluster, w.clock))

    assert str(caller.spiffe_id) == "spiffe://example.org/ns/shop/sa/orders"
    assert caller.evidence.pod_name == "orders-1"
    assert caller.evidence.node == "node-1"
    assert caller.expires_at == w.clock.now() + timedelta(hours=1)


def test_its_tokens_are_shaped_as_those_of_a_real_api_server(tmp_path: Path) -> None:
    made = token(UnsafeDevelopmentCluster.create(tmp_path), FakeClock())

    assert set(jwt.get_unverified_header(made)) == {"alg", "kid"}
    payload = jwt.decode(made, options={"verify_signature": False})
    assert list(payload) == ["aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"]
    about = payload["kubernetes.io"]
    assert list(about) == ["namespace", "node", "pod", "serviceaccount"]
    assert (
        set(about["node"]) == set(about["pod"]) == set(about["serviceaccount"]) == {"name", "uid"}
    )
    assert payload["aud"] == ["meshca"]


def test_a_pod_keeps_its_uid_but_no_token_its_id(tmp_path: Path) -> None:
    cluster = UnsafeDevelopmentCluster.create(tmp_path)
    w = server_of(cluster, tmp_path)

    first = w.authenticate(token(cluster, w.clock)).evidence
    again = w.authenticate(token(UnsafeDevelopmentCluster.load(tmp_path), w.clock)).evidence
    other = w.authenticate(token(cluster, w.clock, pod="orders-2")).evidence

    assert first.pod_uid == again.pod_uid != other.pod_uid
    assert first.service_account_uid == other.service_account_uid
    assert first.token_id != again.token_id


def test_a_token_without_a_pod_is_unbound(tmp_path: Path) -> None:
    cluster = UnsafeDevelopmentCluster.create(tmp_path)
    w = server_of(cluster, tmp_path)

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(token(cluster, w.clock, pod=None))

    assert refused.value.reason == "unbound"


def test_the_key_is_for_its_owner_only_and_nothing_is_overwritten(tmp_path: Path) -> None:
    UnsafeDevelopmentCluster.create(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert stat.S_IMODE((tmp_path / "UNSAFE-signing-key.pem").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        UnsafeDevelopmentCluster.create(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_key_others_can_read_is_not_used(tmp_path: Path) -> None:
    UnsafeDevelopmentCluster.create(tmp_path)
    (tmp_path / "UNSAFE-signing-key.pem").chmod(0o640)

    with pytest.raises(InvalidDocument, match="chmod 600"):
        UnsafeDevelopmentCluster.load(tmp_path)


def test_a_directory_without_a_cluster_is_not_one(tmp_path: Path) -> None:
    assert not UnsafeDevelopmentCluster.is_in(tmp_path)
    with pytest.raises(InvalidDocument, match="no development cluster"):
        UnsafeDevelopmentCluster.load(tmp_path)


def test_it_warns_whenever_it_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    UnsafeDevelopmentCluster.create(tmp_path)
    UnsafeDevelopmentCluster.load(tmp_path)

    assert capsys.readouterr().out.count("unsafe_development_cluster") == 2


def test_the_private_key_is_in_one_file_and_in_no_text(tmp_path: Path) -> None:
    cluster = UnsafeDevelopmentCluster.create(tmp_path)

    [key] = json.loads((tmp_path / "jwks.json").read_text())["keys"]
    assert "d" not in key
    assert "PRIVATE" not in repr(cluster) + str(vars(cluster))
