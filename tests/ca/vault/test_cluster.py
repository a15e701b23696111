"""The upstream `vault` against a cluster of three OpenBao nodes, of which one or two are lost.

Our configuration names one address: what the others then do for us is shown here.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from ca.upstream.provision import Provision, Upstream
from ca.upstream.vault.build import build_vault
from ca.upstream.vault.errors import VaultFault
from ca.upstream.vault.patience import Patience
from ca.upstream.vault.transit import TransitSigner
from meshca.clock import SystemClock
from tests.builders import TRUST_DOMAIN
from tests.ca.vault.balancer import balancer
from tests.ca.vault.cluster import SEALED, UNINITIALIZED, Cluster, Node, running_cluster
from tests.ca.vault.world import (
    ALL,
    WEEK,
    Prepared,
    World,
    prepare,
    secret_file,
    settings,
    token_settings,
)

DEADLINE_SECONDS = 30.0
PASSING = {"standby", "leader_lost", "may_have_happened", "unreachable", "timed_out"}
"""The conditions that pass by themselves, and of which any may be met while a leader is lost."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster; a test that loses a node leaves it lost."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def prepared(running: Cluster) -> Prepared:
    """The cluster after the set-up script."""
    return prepare(running.leader, AUTH="approle", **ALL)


@pytest.fixture
def cluster(running: Cluster, prepared: Prepared) -> Cluster:
    """The cluster, prepared and whole."""
    running.mend()
    return running


@pytest.fixture
def token(cluster: Cluster, prepared: Prepared, secrets: Path) -> Path:
    """A token file, which any node accepts."""
    return secret_file(secrets / "token", Prepared(cluster.leader, prepared.upstream).token())


def world_at(address: str, token: Path) -> World:
    """Return a world whose upstream has this address."""
    return World(token_settings(address, token.parent))


def patient(world: World, cluster: Cluster) -> Upstream:
    """Return an upstream that waits, between its attempts, until there is a leader."""

    def wait(seconds: float) -> None:
        cluster.wait_for_leader()
        world.wait(seconds)

    return world.upstream(patience=Patience(clock=world.clock, wait=wait))


def waiting(world: World) -> Upstream:
    """Return an upstream that really waits, as the server's does."""
    clock = SystemClock()
    return build_vault(
        world.settings, trust_domain=TRUST_DOMAIN, lifetime=WEEK, clock=clock, metrics=world.metrics
    )


def condition(world: World) -> str:
    """Return the code of the fault that the upstream ends with."""
    with pytest.raises(VaultFault) as caught:
        world.upstream().provide(world.now())
    return caught.value.condition


def ask_until_signed(world: World, *, call_seconds: float = 5.0) -> tuple[Provision, set[str]]:
    """Return what is provided at last, and the conditions met before, also of attempts repeated.

    Any exception but a VaultFault ends the test.
    """
    upstream = world.hasty(call_seconds)
    deadline = time.monotonic() + DEADLINE_SECONDS
    with capture_logs() as logs:
        while time.monotonic() < deadline:
            with suppress(VaultFault):
                provision = upstream.provide(world.now())
                return provision, {e["condition"] for e in logs if "condition" in e}
    pytest.fail(f"nothing is signed: {logs}")


def signed_in(node: Node) -> dict[int, x509.Certificate]:
    """Return the intermediates that Vault has signed, by serial."""
    found = {}
    for serial in node.call("LIST", "pki/certs")["data"]["keys"]:
        answer = node.call("GET", f"pki/cert/{serial}")
        certificate = x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())
        if certificate.issuer != certificate.subject:
            found[certificate.serial_number] = certificate
    return found


def test_a_standby_serves_us_by_forwarding(
    cluster: Cluster, prepared: Prepared, secrets: Path
) -> None:
    wrapped = Prepared(cluster.leader, prepared.upstream).wrapped_secret_id()
    secret_file(secrets / "vault-secret-id", wrapped)
    standby = cluster.standbys[0]
    auth = prepared.upstream["auth"]
    values = {"kind": "vault", "address": standby.address, "auth": auth}
    world = World(settings(values, secrets))
    upstream = world.upstream()

    provision = upstream.provide(world.now())

    assert provision.authority.certificate.serial_number in signed_in(cluster.leader)
    assert upstream.roots(world.now()) == provision.roots
    assert world.waited == []


def test_a_redirect_to_the_leader_is_named_and_not_followed(cluster: Cluster, token: Path) -> None:
    leader, standby = cluster.leader, cluster.standbys[0]
    world = world_at(standby.address, token)
    upstream = world.hasty(5.0)
    session = upstream.vault.session.connection.adapter.session
    session.headers["X-Vault-No-Request-Forwarding"] = "true"
    before = signed_in(leader)

    with pytest.raises(VaultFault, match=f"answers 307, saying 'go to {leader.address}/") as caught:
        upstream.provide(world.now())

    assert caught.value.condition == "standby"
    assert signed_in(leader) == before
    del session.headers["X-Vault-No-Request-Forwarding"]
    assert upstream.provide(world.now()).authority.chain


def test_a_leader_that_is_killed_is_an_outage_of_seconds_for_who_asks_a_standby(
    cluster: Cluster, token: Path
) -> None:
    leader, standby = cluster.leader, cluster.standbys[0]
    world = world_at(standby.address, token)
    before = world.upstream().provide(world.now())
    leader.stop()

    after, met = ask_until_signed(world)

    assert met
    assert met <= PASSING
    assert after.roots == before.roots
    assert after.authority.certificate.serial_number in signed_in(cluster.leader)


def test_a_leader_that_hangs_is_given_up_in_time_and_another_takes_over(
    cluster: Cluster, token: Path
) -> None:
    leader, standby = cluster.leader, cluster.standbys[0]
    world = world_at(standby.address, token)
    leader.send(signal.SIGSTOP)
    try:
        provision, met = ask_until_signed(world, call_seconds=1.0)
        assert provision.authority.chain
    finally:
        leader.send(signal.SIGCONT)

    assert "timed_out" in met
    assert met <= PASSING


def test_a_leader_that_dies_before_it_answers_leaves_one_authority_in_use(
    cluster: Cluster, token: Path
) -> None:
    leader = cluster.leader
    before = signed_in(leader)
    with balancer([leader.address, *(node.address for node in cluster.standbys)]) as front:
        front.before_answer = leader.stop

        world = world_at(front.address, token)

        provision = patient(world, cluster).provide(world.now())

    assert len(front.csrs) >= 2
    assert len(set(front.csrs)) == 1
    after = signed_in(cluster.leader)
    unanswered, used = (after[serial] for serial in after if serial not in before)
    ours = provision.authority.certificate
    assert ours in (unanswered, used)
    assert unanswered.public_key() == used.public_key() == ours.public_key()


@pytest.fixture
def transit(cluster: Cluster, prepared: Prepared, token: Path) -> World:
    """A world whose upstream has a key in Transit, and a standby as its address."""
    auth = {"method": "token", "token_file": "token"}
    values = {**prepared.upstream, "address": cluster.standbys[0].address, "auth": auth}
    return World(settings(values, token.parent))


def test_a_standby_signs_with_a_key_in_transit_also_without_the_leader(
    cluster: Cluster, transit: World
) -> None:
    authority = waiting(transit).provide(transit.now()).authority
    cluster.leader.stop()

    signature = authority.signer.sign(b"an SVID")

    key = authority.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, b"an SVID", ec.ECDSA(hashes.SHA256()))


def test_a_standby_that_is_behind_gives_no_two_intermediates_one_key(
    cluster: Cluster, transit: World
) -> None:
    upstream, versions = waiting(transit), []
    for _ in range(5):
        signer = upstream.provide(transit.now()).authority.signer
        assert isinstance(signer, TransitSigner)
        latest = cluster.leader.call("GET", "transit/keys/meshca")["data"]["latest_version"]
        versions.append((signer.version, latest))

    assert [version for version, _ in versions] == [latest for _, latest in versions]
    assert len(set(versions)) == 5


def test_without_a_quorum_nothing_is_signed_and_the_roots_are_still_known(
    cluster: Cluster, token: Path
) -> None:
    leader, (standby, other) = cluster.leader, cluster.standbys
    world = world_at(standby.address, token)
    provision = world.upstream().provide(world.now())
    other.stop()
    leader.stop()

    assert condition(world) in PASSING
    assert world.upstream().roots(world.now()) == provision.roots


def test_a_node_that_is_sealed_is_told_from_one_that_is_away(
    cluster: Cluster, token: Path, tmp_path: Path
) -> None:
    node = cluster.standbys[0]
    world = world_at(node.address, token)
    node.stop()
    away = condition(world)
    node.start()
    back = node.health(), condition(world)
    cluster.unseal(node)
    ask_until_signed(world)
    with Node(tmp_path / "new", audit=tmp_path / "audit.log") as fresh:
        new = fresh.health(), condition(world_at(fresh.address, token))

    assert away == "unreachable"
    assert back == (SEALED, "sealed")
    assert new == (UNINITIALIZED, "sealed")
