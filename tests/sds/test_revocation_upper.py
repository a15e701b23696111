"""Which lists a real Envoy needs of the CAs above when it checks whole chains (SPIFFE flavour)."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca.ca_certificate import authority_key_identifier, ca_builder, make_bridge, make_intermediate
from ca.keys import check_public_key
from ca.revocation.upper import MARGIN, find_upper
from ca.revocation.view import RevocationView
from ca.upstream.disk import DiskRoot
from ca.upstream.issuer_crl import IssuerCrl, read_issuer_crl
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.builders import Pki, make_key, make_pki
from tests.ca.test_upstreams import root
from tests.real_parts import wait_until
from tests.sds.lists import fingerprint, make_crl, make_sibling
from tests.sds.served import Peer, ServedMesh

pytestmark = pytest.mark.end_to_end
HOUR = timedelta(hours=1)


class Above:
    """A mesh, and an Envoy of the SPIFFE flavour that is called."""

    def __init__(self, mesh: ServedMesh, port: int) -> None:
        self.mesh = mesh
        self.port = port

    def push(self, pkis: Sequence[Pki], upper: bytes | None, *revoked: Peer) -> None:
        """Let Envoy have the lists of `pkis` and those above."""
        serials = [peer.certificate.serial_number for peer in revoked]
        lists = tuple(make_crl(pki, serials, now=self.mesh.now, number=2) for pki in pkis)
        names = {"spiffe://example.org/": frozenset(fingerprint(p.certificate) for p in revoked)}
        self.mesh.show(RevocationView(revision=2, lists=lists, upper=upper, revoked=names))

    def wait_for(self, peer: Peer, expected: int) -> None:
        """Wait until a new connection of `peer` ends as `expected`; 0 is TLS that is refused."""
        wait_until(
            lambda: peer.call(self.port) == expected,
            within_seconds=10,
            what=f"new connections end as {expected}",
        )

    def call(self, peer: Peer) -> int:
        """Return what a new connection of `peer` ends as."""
        return peer.call(self.port)


@contextlib.contextmanager
def above(directory: Path, *more_roots: x509.Certificate) -> Iterator[Above]:
    """Run the mesh with its own root in the bundle, and others."""
    mesh = ServedMesh(directory)
    mesh.mesh.authorities.trust((mesh.pki.root, *more_roots), sequence=2)
    with mesh, EchoApp() as app:
        port = free_port()
        inbound = {"inbound": f"127.0.0.1:{port}", "app": f"127.0.0.1:{app.port}"}
        with mesh.envoy("orders", validator="spiffe", **inbound):
            yield Above(mesh, port)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Above]:
    """One root, one intermediate."""
    with above(tmp_path) as found:
        yield found


def upstream_of(world: Above) -> DiskRoot:
    """Return the upstream that has the key of the mesh's root."""
    directory = world.mesh.directory / "root"
    directory.mkdir()
    return root(directory, world.mesh.pki)


def list_of(pki: Pki, world: Above, *, end: timedelta = 30 * 24 * HOUR) -> IssuerCrl:
    """Return an empty list of the root of `pki`."""
    now = world.mesh.now
    builder = (
        x509.CertificateRevocationListBuilder(pki.root.subject)
        .last_update(now - 2 * HOUR if end <= timedelta(0) else now - timedelta(minutes=10))
        .next_update(now + end)
        .add_extension(authority_key_identifier(pki.root), critical=False)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    assert isinstance(pki.root_key, ec.EllipticCurvePrivateKey)
    return read_issuer_crl(builder.sign(pki.root_key, hashes.SHA256()), pki.root)


def pem(*lists: IssuerCrl) -> bytes:
    return b"".join(crl.parsed.public_bytes(Encoding.PEM) for crl in lists)


def test_our_own_roots_list_lets_the_revoked_be_refused_and_nobody_else(world: Above) -> None:
    mesh = world.mesh
    thief, other = mesh.peer("web"), mesh.peer("web")
    world.wait_for(thief, 200)
    lists = upstream_of(world).lists(mesh.now)
    upper = find_upper([(mesh.pki.intermediate,)], [mesh.pki.root], lists, mesh.now)

    world.push([mesh.pki], upper.pem, thief)

    world.wait_for(thief, 0)
    assert world.call(other) == 200


def test_an_intermediate_on_the_roots_list_is_refused_with_all_that_it_signed(
    world: Above,
) -> None:
    mesh = world.mesh
    stolen = make_sibling(mesh.pki, now=mesh.now - timedelta(minutes=9), number=1)
    victim, other = mesh.peer("web", pki=stolen), mesh.peer("web")
    upstream = upstream_of(world)
    chains = [(mesh.pki.intermediate,), (stolen.intermediate,)]

    def upper() -> bytes | None:
        return find_upper(chains, [mesh.pki.root], upstream.lists(mesh.now), mesh.now).pem

    world.push([mesh.pki, stolen], upper())
    world.wait_for(victim, 200)

    assert upstream.revoke(stolen.intermediate, mesh.now)
    world.push([mesh.pki, stolen], upper())

    world.wait_for(victim, 0)
    assert world.call(other) == 200


@pytest.mark.parametrize("end", [-HOUR, timedelta(0)], ids=["ended", "absent"])
def test_a_roots_list_that_is_not_there_or_has_ended_would_refuse_everybody(
    world: Above, end: timedelta
) -> None:
    """What `find_upper` is for: it gives no lists at all then."""
    mesh, peer = world.mesh, world.mesh.peer("web")
    world.wait_for(peer, 200)
    lists = [list_of(mesh.pki, world, end=end)] if end else []

    world.push([mesh.pki], pem(*lists))
    world.wait_for(peer, 0)

    upper = find_upper([(mesh.pki.intermediate,)], [mesh.pki.root], lists, mesh.now)
    assert upper.pem is None
    world.push([mesh.pki], upper.pem)
    world.wait_for(peer, 200)


def test_a_list_near_its_end_is_taken_back_while_it_still_holds(world: Above) -> None:
    mesh, thief = world.mesh, world.mesh.peer("web")
    lists = [list_of(mesh.pki, world, end=MARGIN + timedelta(minutes=5))]
    chains = [(mesh.pki.intermediate,)]
    upper = find_upper(chains, [mesh.pki.root], lists, mesh.now)
    world.push([mesh.pki], upper.pem, thief)
    world.wait_for(thief, 0)

    later = find_upper(chains, [mesh.pki.root], lists, mesh.now + timedelta(minutes=6))
    world.push([mesh.pki], later.pem, thief)

    world.wait_for(thief, 403)  # the filter: TLS lets it in


def test_of_two_roots_each_needs_a_list_only_if_something_chains_to_it(tmp_path: Path) -> None:
    with two_roots(tmp_path) as (world, new):
        mesh = world.mesh
        old_peer, new_peer = mesh.peer("web"), mesh.peer("web", pki=new)
        only_old = pem(list_of(mesh.pki, world))

        world.push([mesh.pki, new], only_old)
        world.wait_for(new_peer, 0)
        world.wait_for(old_peer, 200)

        world.push([mesh.pki, new], only_old + pem(list_of(new, world)))
        world.wait_for(new_peer, 200)
        assert world.call(old_peer) == 200


@contextlib.contextmanager
def two_roots(directory: Path) -> Iterator[tuple[Above, Pki]]:
    """Run a mesh with a second root in the bundle, and an intermediate under it."""
    new = recent_pki()
    with above(directory, new.root) as world:
        yield world, new


def recent_pki() -> Pki:
    """Return another root, with an intermediate."""
    return make_pki(now=SystemClock().now() - timedelta(minutes=30), number=901)


def test_a_bridge_in_the_chain_needs_no_list_of_the_root_that_signed_it(tmp_path: Path) -> None:
    """While both roots are trusted, as they are for as long as bridges are shown."""
    with two_roots(tmp_path) as (world, new):
        mesh = world.mesh
        plain, bridged = mesh.peer("web", pki=new), mesh.peer("web", pki=new)
        bridge = make_bridge(
            new.root,
            issuer=mesh.pki.root,
            issuer_key=mesh.pki.root_key,
            trust_domain="example.org",
            now=mesh.now - timedelta(minutes=20),
        )
        append(bridged, bridge)

        world.push([new], pem(list_of(new, world)))

        world.wait_for(bridged, 200)
        assert world.call(plain) == 200
        assert world.call(mesh.peer("web")) == 0


def test_a_bridge_to_the_only_root_that_is_trusted_needs_the_lists_of_both(
    tmp_path: Path,
) -> None:
    new = recent_pki()
    with above(tmp_path) as world:
        mesh = world.mesh
        bridge = make_bridge(
            new.root,
            issuer=mesh.pki.root,
            issuer_key=mesh.pki.root_key,
            trust_domain="example.org",
            now=mesh.now - timedelta(minutes=20),
        )
        bridged = mesh.peer("web", pki=new)
        append(bridged, bridge)
        world.wait_for(bridged, 200)

        for upper in (list_of(new, world), list_of(mesh.pki, world)):
            world.push([mesh.pki, new], pem(upper))
            world.wait_for(bridged, 0)
        world.push([mesh.pki, new], pem(list_of(new, world), list_of(mesh.pki, world)))
        world.wait_for(bridged, 200)


def test_a_ca_between_needs_a_list_of_its_own(world: Above) -> None:
    mesh = world.mesh
    below = under_another(mesh.pki, mesh)
    peer = mesh.peer("web", pki=below)
    append(peer, below.root)
    chain, roots = (below.intermediate, below.root), [mesh.pki.root]
    complete = [list_of(mesh.pki, world), list_of(below, world)]

    for missing in complete:
        some = [crl for crl in complete if crl is not missing]
        assert len(find_upper([chain], roots, some, mesh.now).missing) == 1
        world.push([below], pem(*some))
        world.wait_for(peer, 0)
    world.push([below], find_upper([chain], roots, complete, mesh.now).pem)

    world.wait_for(peer, 200)


def under_another(pki: Pki, mesh: ServedMesh) -> Pki:
    """Return a leaf issuer under a CA between it and the root of `pki`; that CA is its "root"."""
    key = make_key("p256", 950)
    public = check_public_key(key.public_key())
    begin = mesh.now - timedelta(minutes=20)
    builder = ca_builder(
        public,
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "between")]),
        trust_domain="example.org",
        not_before=begin,
        not_after=mesh.now + timedelta(days=30),
        path_length=1,
        issuer=pki.root,
    )
    assert isinstance(pki.root_key, ec.EllipticCurvePrivateKey)
    between = builder.sign(pki.root_key, hashes.SHA256())
    leaf_key = make_key("p256", 951)
    leaf_issuer = make_intermediate(
        check_public_key(leaf_key.public_key()),
        root=between,
        root_key=key,
        trust_domain="example.org",
        now=mesh.now - timedelta(minutes=19),
        lifetime=timedelta(days=7),
    )
    return Pki(between, key, leaf_issuer, leaf_key)


def append(peer: Peer, *certificates: x509.Certificate) -> None:
    """Have `peer` show more of its chain."""
    with peer.file.open("ab") as file:
        for certificate in certificates:
            file.write(certificate.public_bytes(Encoding.PEM))
