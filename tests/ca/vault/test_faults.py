"""Every way in which Vault does not do what it is asked; most of them only a fake can show."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ca.ca_certificate import make_root
from ca.request import generate
from ca.upstream.vault.errors import VaultFault
from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from meshca.errors import AuthorityUnavailable
from tests.builders import TRUST_DOMAIN, issuing, make_caller
from tests.ca.vault.fake import HARMLESS, SIGN, TOKEN, YEAR, FakeVault, Fault, fake_vault, stranger
from tests.ca.vault.world import World, secret_file, token_settings
from tests.kube_pki import write_certificates
from tests.real_parts import wait_until


@pytest.fixture
def fake() -> Iterator[FakeVault]:
    """A fake Vault."""
    with fake_vault() as running:
        yield running


@pytest.fixture
def world(fake: FakeVault, secrets: Path) -> World:
    """An upstream of the fake."""
    secret_file(secrets / "token", TOKEN)
    return World(token_settings(fake.address, secrets))


def refusal(world: World) -> str:
    """Return why the upstream provides nothing."""
    with pytest.raises(AuthorityUnavailable) as caught:
        world.hasty().provide(world.now())
    return str(caught.value)


def condition(world: World) -> str:
    """Return the code of the fault that the upstream ends with."""
    with pytest.raises(VaultFault) as caught:
        world.hasty().provide(world.now())
    return caught.value.condition


def test_the_fake_is_a_vault_when_nothing_is_wrong(world: World, fake: FakeVault) -> None:
    provision = world.upstream().provide(world.now())

    assert provision.roots == (fake.root,)
    assert world.waited == []


DAY = timedelta(days=1)
URI = x509.UniformResourceIdentifier
OURS = URI(f"spiffe://{TRUST_DOMAIN}")
BENT: list[tuple[str, dict[str, Any], str]] = [
    ("for another key", {"another_key": True}, "the key does not belong to"),
    ("CA:FALSE", {"ca": False, "path_length": None}, "it may not sign certificates"),
    ("without keyCertSign", {"key_cert_sign": False}, "it may not sign certificates"),
    ("without cRLSign", {"crl_sign": False}, "may not sign revocation lists"),
    ("with any path length", {"path_length": None}, "path length None, not 0"),
    ("with a longer path", {"path_length": 1}, "path length 1, not 0"),
    ("without a name", {"names": []}, "names are not exactly spiffe://example.org: none"),
    ("with a DNS name", {"names": [OURS, x509.DNSName("evil")]}, "org: spiffe://example.org, evil"),
    ("for another trust domain", {"names": [URI("spiffe://example.com")]}, "is for spiffe://examp"),
    ("with a path", {"names": [URI("spiffe://example.org/a")]}, "is for spiffe://example.org/a"),
    ("not valid yet", {"begin": timedelta(minutes=5)}, "is valid from"),
    ("outliving its root", {"end": SystemClock().now() + 2 * YEAR}, "after its issuer, which ends"),
]


@pytest.mark.parametrize(("bent", "said"), [row[1:] for row in BENT], ids=[r[0] for r in BENT])
def test_refuses_a_certificate(
    world: World, fake: FakeVault, bent: dict[str, Any], said: str
) -> None:
    fake.bent = bent

    assert said in refusal(world)


def test_refuses_a_chain_of_another_root(world: World, fake: FakeVault) -> None:
    key = stranger()
    now = SystemClock().now()
    root = make_root(key, trust_domain=TRUST_DOMAIN, now=now, lifetime=YEAR)
    fake.signs_under = root, key

    assert "is not signed by any of the roots" in refusal(world)


WARNINGS = [
    'TTL "720h0m0s" is longer than permitted maxTTL "24h0m0s", so maxTTL is being used',
    "Endpoint ignored these unrecognized parameters: [permitted_uri_domains]",
    "The expiration time for the signed certificate is after the CA's expiration time.",
    "something that nobody has seen yet",
]


@pytest.mark.parametrize("warning", WARNINGS)
def test_refuses_a_certificate_with_a_warning(world: World, fake: FakeVault, warning: str) -> None:
    fake.warnings = (*HARMLESS, warning)

    said = refusal(world)

    assert said.endswith("(warning)")
    assert warning in said


PASSING = [
    ("a leader that was lost", 500, "local node not active but active cluster node not found"),
    ("a standby", 307, ""),
    ("a limit", 429, 'request path "pki/root/sign-intermediate": rate limit quota exceeded'),
    ("a commit cut off", 500, "unable to store certificate locally: leadership lost while c"),
    ("a gateway", 502, ""),
    ("no answer", 0, ""),
]


@pytest.mark.parametrize(
    ("status", "text"), [row[1:] for row in PASSING], ids=[r[0] for r in PASSING]
)
def test_asks_again_with_the_same_key_after(
    world: World, fake: FakeVault, status: int, text: str
) -> None:
    fake.faults = [Fault(SIGN, status, [text]), Fault(SIGN, status, [text])]

    world.upstream().provide(world.now())

    asked = fake.asked(SIGN)
    assert len(asked) == 3
    assert asked[0]["csr"] == asked[2]["csr"]
    assert len(world.waited) == 2
    assert 0.1 <= world.waited[0] <= 0.25 <= world.waited[1] * 1.01


def test_a_leader_that_stays_lost_ends_within_its_time(world: World, fake: FakeVault) -> None:
    fake.faults = [Fault(SIGN, 500, ["active cluster node not found"]) for _ in range(99)]

    assert condition(world) == "leader_lost"
    assert 8 < sum(world.waited) <= 12
    assert world.failures("sign") == 1


def test_a_redirect_is_not_followed(world: World, fake: FakeVault) -> None:
    elsewhere = f"http://127.0.0.1:{free_port()}/v1/pki/issuers"
    redirect = {"Location": elsewhere}
    fake.faults = [Fault("/issuers", 307, headers=redirect) for _ in range(99)]

    assert refusal(world).endswith(f"answers 307, saying 'go to {elsewhere}' (standby)")
    assert fake.asked(SIGN) == []


@pytest.mark.parametrize(("status", "expected"), [(503, "sealed"), (501, "not_initialized")])
def test_what_somebody_must_mend_is_not_asked_again_at_once(
    world: World, fake: FakeVault, status: int, expected: str
) -> None:
    fake.faults = [Fault("/issuers", status, ["Vault is sealed"])]

    assert condition(world) == expected
    assert world.waited == []


def test_what_the_policy_denies_is_neither_asked_again_nor_a_reason_to_log_in(
    world: World, fake: FakeVault
) -> None:
    fake.faults = [Fault(SIGN, 403, ["1 error occurred:\n\t* permission denied\n\n"])]

    assert condition(world) == "policy_denies"
    assert len(fake.asked("lookup-self")) == 1
    assert world.waited == []


def test_something_else_that_answers_is_not_a_vault(world: World, fake: FakeVault) -> None:
    fake.faults = [Fault("/issuers", 200, body=b"<html>sign in</html>")]

    assert condition(world) == "not_vault"


def test_an_answer_without_end_is_cut_off(world: World, fake: FakeVault) -> None:
    fake.faults = [Fault("/issuers", 200, body=b'{"data": "' + b"x" * 5_000_000 + b'"}')]

    assert "larger than 4194304 bytes" in refusal(world)


def test_an_unreachable_vault_is_named_with_its_address(secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    port = free_port()
    world = World(token_settings(f"http://127.0.0.1:{port}", secrets))

    said = refusal(world)

    assert said.endswith("(unreachable)")
    assert str(port) in said
    assert TOKEN not in said


def test_vault_is_known_by_who_signed_its_certificate(
    secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret_file(secrets / "token", TOKEN)
    ours, others = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("others")
    write_certificates(ours)
    write_certificates(others)
    with fake_vault(tls=ours) as fake:
        known = token_settings(fake.address, secrets, ca_file=str(ours / "ca.pem"))
        unknown = token_settings(fake.address, secrets, ca_file=str(others / "ca.pem"))
        nobody = token_settings(fake.address, secrets)
        missing = token_settings(fake.address, secrets, ca_file="none.pem")

        assert World(known).upstream().provide(World(known).now()).authority.chain
        seen = len(fake.seen)
        assert condition(World(unknown)) == condition(World(nobody)) == "tls"
        assert "none.pem" in refusal(World(missing))
        assert len(fake.seen) == seen


def test_a_slow_vault_is_given_up_in_time(world: World, fake: FakeVault) -> None:
    fake.hold = threading.Event()

    assert condition(world) == "timed_out"
    assert sum(world.waited) <= 8


def test_a_slow_vault_does_not_hold_issuance(world: World, fake: FakeVault, tmp_path: Path) -> None:
    fake.hold = threading.Event()
    upstream = world.hasty(10.0)

    async def story() -> None:
        async with issuing(tmp_path) as ca:
            providing = asyncio.create_task(asyncio.to_thread(upstream.provide, world.now()))
            await asyncio.to_thread(
                wait_until, lambda: len(fake.seen) > 0, within_seconds=10, what="Vault is asked"
            )
            svid = await ca.issuance.issue(make_caller(), generate().request)
            assert svid.serial
            assert not providing.done()
            assert fake.hold is not None
            fake.hold.set()
            fake.hold = None
            assert (await providing).authority.chain

    asyncio.run(story())


def test_killed_between_csr_and_answer_nothing_is_lost(world: World, fake: FakeVault) -> None:
    fake.faults = [Fault(SIGN, 0) for _ in range(99)]
    assert condition(world) == "unreachable"

    fake.faults = []

    provision = world.upstream().provide(world.now())
    first, last = fake.asked(SIGN)[0], fake.asked(SIGN)[-1]
    assert provision.authority.chain
    assert first["csr"] != last["csr"]


def test_no_root_that_may_speak_for_us_is_no_authority(world: World, fake: FakeVault) -> None:
    key = stranger()
    now = SystemClock().now()
    fake.root = make_root(key, trust_domain="example.com", now=now, lifetime=YEAR)

    assert "no root that may speak for example.org" in refusal(world)
