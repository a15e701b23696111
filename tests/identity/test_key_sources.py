"""Where keys come from: files, URLs and API servers, each with what can go wrong there."""

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from identity.key_ring import KeySource
from identity.key_sources import build_source
from identity.keys import MAXIMUM_BYTES
from meshca.api_server import TIMEOUT_SECONDS
from meshca.demo.ports import free_port
from meshca.errors import KeysUnavailable
from meshca.settings import Keys
from tests.identity.builders import EC_KEY, jwk, jwks, write_key_set
from tests.identity.servers import http_server, write_kubeconfig

DOCUMENT = jwks(jwk(EC_KEY, "key-1"))


def source(**keys: Any) -> KeySource:
    """Return the source of a configuration."""
    return build_source(Keys.model_validate(keys))


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    path = write_key_set(tmp_path / "jwks.json", jwk(EC_KEY, "key-1"))
    keys = source(file=str(path))
    assert keys.fetch() == DOCUMENT

    path.write_bytes(b"changed")

    assert keys.fetch() == b"changed"
    keys.close()


def test_a_missing_file_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match="No such file"):
        source(file=str(tmp_path / "none")).fetch()


def test_no_more_than_the_limit_is_read_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(b"x" * (MAXIMUM_BYTES * 3))

    assert len(source(file=str(path)).fetch()) == MAXIMUM_BYTES + 1


def test_a_url_without_tls_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    source(url="https://keys.example.org")
    assert "keys_over_plain_http" not in capsys.readouterr().out

    source(url="http://keys.example.org")
    assert "keys_over_plain_http" in capsys.readouterr().out


def test_a_url_is_fetched() -> None:
    with http_server() as server:
        server.body = DOCUMENT

        assert source(url=f"{server.url}/keys").fetch() == DOCUMENT
        assert server.seen == [("GET", "/keys", None)]


@pytest.mark.parametrize("status", [204, 301, 302, 401, 404, 500, 503])
def test_any_status_but_200_is_an_outage_and_no_redirect_is_followed(status: int) -> None:
    with http_server() as server:
        server.status = status
        server.headers = {"Location": f"{server.url}/elsewhere", "Retry-After": "0"}

        with pytest.raises(KeysUnavailable, match=str(status)):
            source(url=f"{server.url}/keys").fetch()
        assert len(server.seen) == 1


def test_an_answer_over_the_limit_is_an_outage() -> None:
    with http_server() as server:
        server.body = b"x" * (MAXIMUM_BYTES + 1)

        with pytest.raises(KeysUnavailable, match="larger"):
            source(url=server.url).fetch()


def test_nobody_listening_is_an_outage() -> None:
    with pytest.raises(KeysUnavailable):
        source(url=f"http://127.0.0.1:{free_port()}").fetch()


def test_a_url_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(KeysUnavailable, match="timed out"):
            source(url=url).fetch()
    assert TIMEOUT_SECONDS <= 5


def test_an_api_server_is_asked_for_its_own_keys(tmp_path: Path) -> None:
    with http_server() as server:
        server.body = DOCUMENT
        config = write_kubeconfig(tmp_path / "kubeconfig", server.url)
        keys = source(api_server={"kubeconfig": str(config)})

        assert keys.fetch() == DOCUMENT
        assert server.seen == [("GET", "/openid/v1/jwks", None)]
        keys.close()


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_api_server_that_refuses_us_is_an_outage(tmp_path: Path, status: int) -> None:
    with http_server() as server:
        server.status = status
        config = write_kubeconfig(tmp_path / "kubeconfig", server.url)
        keys = source(api_server={"kubeconfig": str(config)})

        with pytest.raises(KeysUnavailable):
            keys.fetch()
        assert len(server.seen) == 1
        keys.close()


def test_a_broken_kubeconfig_is_an_outage(tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text("{}")

    with pytest.raises(KeysUnavailable):
        source(api_server={"kubeconfig": str(config)}).fetch()
    with pytest.raises(KeysUnavailable):
        source(api_server={"kubeconfig": str(tmp_path / "none")}).fetch()


def test_outside_a_pod_there_is_no_service_account_to_use() -> None:
    with pytest.raises(KeysUnavailable):
        source(api_server={}).fetch()


def test_a_credential_that_is_not_taken_is_read_again(tmp_path: Path) -> None:
    with http_server() as server:
        config = write_kubeconfig(tmp_path / "kubeconfig", server.url)
        keys = source(api_server={"kubeconfig": str(config)})
        server.status, server.body = 401, b"{}"
        with pytest.raises(KeysUnavailable):
            keys.fetch()

        with http_server() as moved:
            moved.body = DOCUMENT
            write_kubeconfig(config, moved.url)

            assert keys.fetch() == DOCUMENT
        keys.close()


def test_fetches_from_several_threads_share_one_client(tmp_path: Path) -> None:
    with http_server() as server:
        server.body = DOCUMENT
        config = write_kubeconfig(tmp_path / "kubeconfig", server.url)
        keys = source(api_server={"kubeconfig": str(config)})
        got: list[bytes] = []
        threads = [threading.Thread(target=lambda: got.append(keys.fetch())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert got == [DOCUMENT] * 8
        keys.close()
