"""Every way to log in, against a real OpenBao; leases on a clock of our own."""

import base64
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import urllib3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.upstream.vault.errors import Reaction, VaultFault
from meshca.clock import SystemClock
from meshca.errors import AuthorityUnavailable
from tests.builders import make_key, make_pki
from tests.ca.vault.fake import TOKEN, Fault, fake_vault, pem_of
from tests.ca.vault.world import ALL, Prepared, World, prepare, secret_file, token_settings
from tests.identity.servers import http_server
from tests.real_parts import wait_until

ME = "auth/token/lookup-self"


def world_of(vault: Prepared, directory: Path, auth: dict[str, Any]) -> World:
    """Return the surroundings of a session that logs in as `auth` says."""
    return World(token_settings(vault.server.address, directory, auth=auth))


def look(world: World, session: Any) -> dict[str, Any]:
    """Return what Vault says of our token."""
    deadline = world.clock.monotonic() + 10
    return dict(session.ask("get", ME, deadline=deadline).data)


def refusal(world: World) -> VaultFault:
    """Return why the login fails."""
    with pytest.raises(VaultFault) as caught:
        look(world, world.session())
    return caught.value


def approle(vault: Prepared, *, wrapped: bool) -> dict[str, Any]:
    """Return the login that the set-up script printed."""
    return {**vault.upstream["auth"], "secret_id_file": "secret", "wrapped": wrapped}


def test_an_approle_logs_in(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "secret", vault.secret_id())
    world = world_of(vault, secrets, approle(vault, wrapped=False))

    assert look(world, world.session())["policies"] == ["meshca"]


def test_a_wrapped_secret_id_is_unwrapped_once_and_kept(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "secret", vault.wrapped_secret_id())
    world = world_of(vault, secrets, approle(vault, wrapped=True))
    session = world.session()

    first = look(world, session)
    vault.server.call("POST", "auth/token/revoke-accessor", {"accessor": first["accessor"]})

    assert look(world, session)["accessor"] != first["accessor"]


def test_a_wrapping_token_that_somebody_else_used_is_refused(
    vault: Prepared, secrets: Path
) -> None:
    wrapped = vault.wrapped_secret_id()
    vault.server.call("POST", "sys/wrapping/unwrap", token=wrapped)
    secret_file(secrets / "secret", wrapped)

    fault = refusal(world_of(vault, secrets, approle(vault, wrapped=True)))

    assert (fault.condition, fault.reaction) == ("wrapping_token_used", Reaction.CONFIGURE)


def test_a_wrapping_token_of_something_else_is_refused(vault: Prepared, secrets: Path) -> None:
    headers = {"X-Vault-Wrap-TTL": "60"}
    body = {"secret_id": "chosen by somebody else"}
    answer = vault.server.call("POST", "sys/wrapping/wrap", body, headers=headers)
    secret_file(secrets / "secret", answer["wrap_info"]["token"])

    fault = refusal(world_of(vault, secrets, approle(vault, wrapped=True)))

    assert fault.condition == "wrapping_token_foreign"
    assert "it may have been replaced" in str(fault)


def test_a_wrong_secret_id_is_refused_and_not_shown(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "secret", "guessed")

    fault = refusal(world_of(vault, secrets, approle(vault, wrapped=False)))

    assert fault.condition == "login_refused"
    assert "guessed" not in str(fault)


def test_a_secret_that_others_can_read_is_refused(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "secret", "x").chmod(0o644)
    world = world_of(vault, secrets, approle(vault, wrapped=False))

    with pytest.raises(AuthorityUnavailable, match="mode 0644"):
        look(world, world.session())


def b64(content: bytes) -> str:
    """Return unpadded base64url."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def make_jwt(**changes: Any) -> str:
    """Return a service-account token for Vault, signed with the key that the role trusts."""
    key = make_key("p256", 950)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = int(SystemClock().now().timestamp())
    claims = {
        "iss": "https://kubernetes.test",
        "sub": "system:serviceaccount:meshca:meshca",
        "aud": "vault",
        "iat": now,
        "exp": now + 600,
        **changes,
    }
    parts = [b64(json.dumps(p).encode()) for p in ({"alg": "ES256", "typ": "JWT"}, claims)]
    signature = key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    return ".".join([*parts, b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])


@pytest.fixture(scope="session")
def with_jwt(vault: Prepared) -> Prepared:
    """The server with JWT logins by a static key."""
    prepared = prepare(vault.server, AUTH="jwt", **ALL)
    pem = make_key("p256", 950).public_key()
    text = pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    vault.server.call("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [text]})
    return prepared


def jwt_world(prepared: Prepared, directory: Path, token: str) -> World:
    """Return the surroundings of a JWT login."""
    (directory / "jwt").write_text(token)
    return world_of(prepared, directory, {**prepared.upstream["auth"], "token_file": "jwt"})


def test_a_jwt_logs_in(with_jwt: Prepared, secrets: Path) -> None:
    world = jwt_world(with_jwt, secrets, make_jwt())

    assert look(world, world.session())["policies"] == ["meshca"]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "meshca"}, "audience"),
        ({"exp": 1}, "expired"),
        ({"sub": "system:serviceaccount:meshca:default"}, "sub"),
    ],
    ids=["audience", "expired", "another account"],
)
def test_a_jwt_is_refused_for(
    with_jwt: Prepared, secrets: Path, claims: dict[str, Any], said: str
) -> None:
    fault = refusal(jwt_world(with_jwt, secrets, make_jwt(**claims)))

    assert (fault.condition, fault.reaction) == ("login_refused", Reaction.CONFIGURE)
    assert said in str(fault)


def review(*, authenticated: bool) -> bytes:
    """Return an API server's answer to a TokenReview."""
    user = {"username": "system:serviceaccount:meshca:meshca", "uid": "u-1"}
    status = {"authenticated": authenticated, "audiences": ["vault"], "user": user}
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    return json.dumps({**kind, "status": status}).encode()


def kubernetes_jwt() -> str:
    """Return a token with the claims that Vault looks at before it asks the API server."""
    account = {"name": "meshca", "uid": "u-1"}
    claims = {"namespace": "meshca", "serviceaccount": account}
    return make_jwt(**{"aud": ["vault"], "kubernetes.io": claims})


def test_kubernetes_logs_in_and_an_api_server_that_is_down_is_an_outage(
    vault: Prepared, secrets: Path
) -> None:
    with http_server() as api:
        prepared = prepare(vault.server, AUTH="kubernetes", **ALL)
        config = {"kubernetes_host": api.url, "disable_local_ca_jwt": True}
        config["kubernetes_ca_cert"] = pem_of(make_pki().root)
        vault.server.call("POST", "auth/kubernetes/config", config)
        api.status, api.body = 201, review(authenticated=True)
        api.headers = {"Content-Type": "application/json"}
        (secrets / "jwt").write_text(kubernetes_jwt())
        auth = {**prepared.upstream["auth"], "token_file": "jwt"}
        world = world_of(prepared, secrets, auth)
        assert look(world, world.session())["policies"] == ["meshca"]
        api.status, api.body = 503, b"{}"

        fault = refusal(world)

    assert (fault.condition, fault.reaction) == ("login_denied", Reaction.RETRY)


def test_a_token_that_was_revoked_is_replaced_once(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", vault.token())
    world = World(token_settings(vault.server.address, secrets))
    session = world.session()
    first = look(world, session)
    vault.server.call("POST", "auth/token/revoke-accessor", {"accessor": first["accessor"]})

    with pytest.raises(VaultFault) as caught:
        look(world, session)
    assert caught.value.condition == "token_refused"
    secret_file(secrets / "token", vault.token())

    assert look(world, session)["accessor"] != first["accessor"]
    assert world.failures("login") == 1
    assert world.waited
    assert all(1.0 <= seconds <= 1.5 for seconds in world.waited)


def test_an_expired_token_is_replaced_without_being_shown(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "secret", vault.secret_id())
    world = world_of(vault, secrets, approle(vault, wrapped=False))
    session = world.session()
    first = look(world, session)

    world.clock.advance(timedelta(minutes=21))

    assert look(world, session)["accessor"] != first["accessor"]
    assert first["id"] not in repr(session)


def test_a_token_that_expired_in_vault_is_replaced(vault: Prepared, secrets: Path) -> None:
    short = vault.token(ttl="1s")
    secret_file(secrets / "token", short)
    world = World(token_settings(vault.server.address, secrets))
    session = world.session()
    first = look(world, session)
    by_accessor = {"accessor": first["accessor"]}
    pool = urllib3.PoolManager()
    url = f"{vault.server.address}/v1/auth/token/lookup-accessor"
    headers = {"X-Vault-Token": "root"}
    wait_until(
        lambda: pool.request("POST", url, json=by_accessor, headers=headers).status != 200,
        within_seconds=20,
        what="the token expires",
    )
    pool.clear()
    secret_file(secrets / "token", vault.token())

    assert look(world, session)["accessor"] != first["accessor"]


def test_a_token_is_renewed_after_two_thirds_of_its_life(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "secret", vault.secret_id())
    world = world_of(vault, secrets, approle(vault, wrapped=False))
    session = world.session()
    first = look(world, session)
    renewed: list[str] = []
    for minutes in (13, 0.5, 0.5, 13):
        world.clock.advance(timedelta(minutes=minutes))
        session.keep_alive(deadline=world.clock.monotonic() + 10)
        lease = session._lease
        assert lease is not None
        renewed.append(f"{lease.ends_at - world.clock.monotonic():.0f}")

    assert look(world, session)["accessor"] == first["accessor"]
    assert renewed == ["420", "1200", "1170", "1200"]


def test_a_lease_that_stops_growing_is_replaced_in_time(secrets: Path) -> None:
    secret_file(secrets / "secret", "s")
    auth = {"method": "approle", "role_id": "r", "secret_id_file": "secret"}
    with fake_vault() as fake:
        world = World(token_settings(fake.address, secrets, auth=auth))
        session = world.session()
        look(world, session)
        world.clock.advance(timedelta(minutes=14))
        capped = b'{"auth": {"lease_duration": 200, "renewable": true}, "warnings": ["capped"]}'
        fake.faults = [Fault("renew-self", 200, body=capped)]

        look(world, session)

        assert len(fake.asked("login")) == 2
        assert session._lease is not None
        assert session._lease.ends_at - world.clock.monotonic() == 1200


def test_a_token_goes_on_while_its_renewal_fails(secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    with fake_vault() as fake:
        world = World(token_settings(fake.address, secrets))
        fake.faults = [Fault("lookup-self", 200, body=b'{"data":{"ttl":900,"renewable":true}}')]
        session = world.session()
        look(world, session)
        world.clock.advance(timedelta(minutes=11))
        fake.faults = [Fault("renew-self", 503, ["Vault is sealed"])]

        look(world, session)

    assert world.failures("renew") == 1


def test_the_end_of_a_token_that_nobody_here_can_replace_is_measured(
    vault: Prepared, secrets: Path
) -> None:
    secret_file(secrets / "token", vault.token(renewable=False, ttl="48h"))
    world = World(token_settings(vault.server.address, secrets))

    look(world, world.session())

    end = world.metrics.registry.get_sample_value(
        "meshca_soonest_expiry_timestamp_seconds", {"kind": "upstream_token"}
    )
    assert end is not None
    assert abs(end - world.now().timestamp() - 48 * 3600) < 60


def test_a_token_that_is_brought_in_time_is_taken(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", vault.token(renewable=False, ttl="15m"))
    world = World(token_settings(vault.server.address, secrets))
    session = world.session()
    first = look(world, session)
    world.clock.advance(timedelta(minutes=11))
    secret_file(secrets / "token", vault.token(renewable=False, ttl="15m"))

    assert look(world, session)["accessor"] != first["accessor"]


def test_a_token_that_ends_and_is_not_replaced_is_warned_of(secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    with fake_vault() as fake:
        world = World(token_settings(fake.address, secrets))
        session = world.session()
        look(world, session)
        world.clock.advance(timedelta(minutes=50))
        left = b'{"data": {"ttl": 600, "renewable": false}}'
        fake.faults = [Fault("lookup-self", 200, body=left)]

        with structlog.testing.capture_logs() as logs:
            session.keep_alive(deadline=world.clock.monotonic() + 5)

    assert [e["remaining"] for e in logs if e["event"] == "vault_token_ends"] == ["10m"]


def test_a_failed_login_is_seen_long_before_it_matters(secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    with fake_vault() as fake:
        world = World(token_settings(fake.address, secrets))
        fake.faults = [Fault("lookup-self", 403, ["permission denied"])]

        assert world.upstream().roots(world.now()) == (fake.root,)

    assert world.failures("login") == 1


def test_many_callers_share_one_login(secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    with fake_vault() as fake:
        world = World(token_settings(fake.address, secrets))
        session = world.session()
        threads = [threading.Thread(target=look, args=(world, session)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(fake.asked("lookup-self")) == 1 + 8


def test_a_token_file_of_several_lines_is_refused(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", "one\ntwo")
    world = World(token_settings(vault.server.address, secrets))

    with pytest.raises(AuthorityUnavailable, match="does not hold one line of text"):
        look(world, world.session())
