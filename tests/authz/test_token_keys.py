"""The keys of token issuers: fetched, kept, refused, forgotten."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from authz.jwks import MAXIMUM_BYTES, NOBODYS, read_key_set
from authz.policy import PolicySet
from authz.request_authentication import JwtRule, RequestAuthentication
from authz.token_fetch import KeyFetcher, KeySource
from authz.token_keys import FIRST_RETRY_SECONDS, REFRESH_SECONDS, TokenKeys
from meshca.errors import KeysUnavailable
from meshca.metrics import Metrics
from tests.authz.builders import ROOT_NAMESPACE, TRUST_DOMAIN
from tests.authz.test_jwks import EC, RSA, jwk, keys
from tests.authz.tls_server import tls_files
from tests.fakes import FakeClock
from tests.identity.servers import Answers, http_server

FIRST, SECOND = keys(jwk(EC)), keys(jwk(RSA))
RULE = JwtRule("https://issuer.test", jwks_uri="https://issuer.test/keys")


def naming(*rules: JwtRule) -> PolicySet:
    """Return a set that names these issuers."""
    document = RequestAuthentication("shop", "tokens", frozenset(), frozenset(), rules)
    return PolicySet.of(
        (),
        trust_domain=TRUST_DOMAIN,
        root_namespace=ROOT_NAMESPACE,
        default="deny",
        request_authentications=(document,) if rules else (),
    )


class Followed:
    """Token keys on fakes: `answer` is what the issuer says, an exception what goes wrong."""

    def __init__(self) -> None:
        self.answer: str | Exception = FIRST
        self.fetched: list[str] = []
        self.policies = naming(RULE)
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.changes = 0
        self.keys = TokenKeys(lambda: self.policies, self.fetch, self.clock, self.metrics)
        self.keys.subscribe(self.changed)

    async def fetch(self, source: KeySource) -> str:
        self.fetched.append(source.uri)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def changed(self) -> None:
        self.changes += 1

    def of(self, rule: JwtRule = RULE) -> str:
        return self.keys.current()(rule)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.keys.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_an_issuer_has_nobodys_key_until_its_own_is_fetched() -> None:
    async def story() -> None:
        followed = Followed()
        assert followed.of() == NOBODYS

        async with followed.running():
            await followed.until(lambda: followed.changes == 1)

        assert followed.of() == read_key_set(FIRST).text
        assert followed.metrics.token_issuers_without_keys._value.get() == 0

    asyncio.run(story())


def test_keys_are_fetched_again_and_a_change_is_told() -> None:
    async def story() -> None:
        followed = Followed()
        async with followed.running():
            await followed.until(lambda: followed.changes == 1)
            known = followed.keys.current()
            followed.clock.advance(timedelta(seconds=REFRESH_SECONDS))
            await followed.until(lambda: len(followed.fetched) == 2)
            assert followed.keys.current() is known

            followed.answer = SECOND
            followed.clock.advance(timedelta(seconds=REFRESH_SECONDS))
            await followed.until(lambda: followed.changes == 2)
        assert followed.of() == read_key_set(SECOND).text

    asyncio.run(story())


@pytest.mark.parametrize("failure", [KeysUnavailable("away"), "no key set"], ids=str)
def test_a_failure_keeps_the_last_good_keys_and_is_tried_again(failure: Exception | str) -> None:
    async def story() -> None:
        followed = Followed()
        async with followed.running():
            await followed.until(lambda: followed.changes == 1)
            followed.answer = failure
            followed.clock.advance(timedelta(seconds=REFRESH_SECONDS))
            failed = followed.metrics.token_key_fetches.labels("failed")._value
            await followed.until(lambda: failed.get() == 1)
            assert followed.of() == read_key_set(FIRST).text

            followed.answer = SECOND
            followed.clock.advance(timedelta(seconds=FIRST_RETRY_SECONDS))
            await followed.until(lambda: followed.changes == 2)

    asyncio.run(story())


def test_a_set_without_a_usable_key_trusts_nobody() -> None:
    async def story() -> None:
        followed = Followed()
        async with followed.running():
            await followed.until(lambda: followed.changes == 1)
            followed.answer = keys({"kty": "oct", "k": "c2VjcmV0"})
            followed.clock.advance(timedelta(seconds=REFRESH_SECONDS))
            await followed.until(lambda: followed.changes == 2)
        assert followed.of() == NOBODYS

    asyncio.run(story())


def test_an_issuer_that_no_policy_names_is_forgotten() -> None:
    async def story() -> None:
        followed = Followed()
        async with followed.running():
            await followed.until(lambda: followed.changes == 1)
            followed.policies = naming()
            await followed.until(lambda: followed.changes == 2)
        assert followed.of() == NOBODYS

    asyncio.run(story())


def test_the_keys_stay_when_only_the_time_for_fetching_them_changes() -> None:
    async def story() -> None:
        followed = Followed()
        patient = replace(RULE, timeout_seconds=10.0)
        async with followed.running():
            await followed.until(lambda: followed.changes == 1)
            followed.answer = KeysUnavailable("away")
            followed.policies = naming(patient)
            await followed.until(lambda: followed.keys._seen is followed.policies)
            assert followed.of(patient) == read_key_set(FIRST).text

    asyncio.run(story())


def test_keys_written_into_policy_are_not_fetched() -> None:
    async def story() -> None:
        followed = Followed()
        own = JwtRule("https://own.test", jwks=SECOND)
        followed.policies = naming(own, RULE)
        async with followed.running():
            await followed.until(lambda: followed.changes == 1)
        assert followed.fetched == [RULE.jwks_uri]
        assert followed.of(own) == read_key_set(SECOND).text
        assert followed.of(JwtRule("https://own.test", jwks="no keys")) == NOBODYS

    asyncio.run(story())


@pytest.fixture
def answers() -> Iterator[Answers]:
    with http_server() as server:
        yield server


def fetch(uri: str, *, issuer: str = "https://issuer.test", ca_file: Path | None = None) -> str:
    return asyncio.run(KeyFetcher(ca_file).fetch(KeySource(issuer, uri, 2.0)))


def test_fetches_what_a_uri_answers(answers: Answers) -> None:
    answers.body = FIRST.encode()
    assert fetch(f"{answers.url}/keys") == FIRST
    assert [(method, path) for method, path, _ in answers.seen] == [("GET", "/keys")]


def test_refuses_an_answer_for_its_reason_only(answers: Answers) -> None:
    answers.status = 503
    with pytest.raises(KeysUnavailable, match="answers with status 503"):
        fetch(answers.url)
    answers.status, answers.headers = 302, {"Location": f"{answers.url}/else"}
    with pytest.raises(KeysUnavailable, match="answers with status 302"):
        fetch(answers.url)
    answers.status, answers.headers, answers.body = 200, {}, b" " * (MAXIMUM_BYTES + 1)
    with pytest.raises(KeysUnavailable, match="larger than"):
        fetch(answers.url)
    assert [path for _, path, _ in answers.seen] == ["/"] * 3


def test_asks_an_issuer_for_its_keys_over_https_only(answers: Answers) -> None:
    with pytest.raises(KeysUnavailable, match="the issuer is no https URL"):
        fetch("", issuer=answers.url)
    assert answers.seen == []


def test_discovers_the_keys_of_an_issuer(tmp_path: Path) -> None:
    roots, context = tls_files(tmp_path)
    with http_server(tls=context) as answers:
        issuer = answers.url
        document = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
        answers.bodies = {
            "/.well-known/openid-configuration": json.dumps(document).encode(),
            "/keys": FIRST.encode(),
        }
        assert fetch("", issuer=issuer, ca_file=roots) == FIRST

        with pytest.raises(KeysUnavailable, match="certificate verify failed"):
            fetch("", issuer=issuer)
        for wrong, reason in (
            ({**document, "issuer": "https://other.test"}, "is of another issuer"),
            ({**document, "jwks_uri": issuer.replace("https", "http")}, "names no https jwks_uri"),
            ([], "is of another issuer"),
        ):
            answers.bodies["/.well-known/openid-configuration"] = json.dumps(wrong).encode()
            with pytest.raises(KeysUnavailable, match=reason):
                fetch("", issuer=issuer, ca_file=roots)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n{"])
def test_an_answer_that_comes_by_drops_ends_in_time(sent: bytes) -> None:
    handlers: list[asyncio.Task[None]] = []

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            writer.write(sent)
            while True:
                writer.write(b"x" if sent else b"")
                await writer.drain()
                await asyncio.sleep(0.02)

    async def story() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        source = KeySource("https://issuer.test", f"http://127.0.0.1:{port}/keys", 0.3)
        with pytest.raises(KeysUnavailable, match=r"no whole answer within 0\.3 s"):
            await KeyFetcher().fetch(source)
        server.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers)

    asyncio.run(story())
