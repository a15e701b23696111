"""Check with providers: each decides what it is asked in time, and no more than that."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from authz.decision import Outcome
from authz.policy import Action, PolicySet, Stage
from authz.providers import METHOD, Providers
from meshca.demo.ports import free_port
from meshca.settings_policy import Provider
from tests.sds.asked import CLOSED, POLICIES, with_custom
from tests.sds.conftest import Mesh, make_policies
from tests.sds.deciding import check_message, deciding


class Authorizer:
    """A real gRPC server that answers as `verdict` says; it keeps what it was asked."""

    def __init__(self) -> None:
        self.verdict: Any = True
        self.asked: list[bytes] = []
        self.port = free_port()
        self.release = asyncio.Event()

    async def __aenter__(self) -> "Authorizer":
        self.server = grpc.aio.server()
        service, _, method = METHOD[1:].rpartition("/")
        handler: Any = grpc.unary_unary_rpc_method_handler(self._check)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        await self.server.stop(0)

    async def _check(self, request: bytes, _context: object) -> bytes:
        self.asked.append(request)
        if self.verdict == "slow":
            await self.release.wait()
        if self.verdict == "garbage":
            return b"\xff\xff"
        response = CheckResponse()
        if self.verdict is True:
            added = response.ok_response.headers.add()
            added.header.key, added.header.value = "x-user", "ann"
            response.ok_response.headers_to_remove.append("x-secret")
        else:
            response.status.code = 7
        return bytes(response.SerializeToString())

    def providers(self, *, timeout: float = 5.0, **more: Any) -> Providers:
        """Return the providers with this one under the name `opa`."""
        settings = Provider(address=f"127.0.0.1:{self.port}", timeout=timedelta(seconds=timeout))
        return Providers({"opa": settings}, **more)


def test_a_provider_decides_about_what_it_is_sent_and_may_add_headers(mesh: Mesh) -> None:
    async def story() -> None:
        async with Authorizer() as opa:
            policies = with_custom(make_policies(POLICIES), "opa")
            async with deciding(mesh, policies, providers=opa.providers()) as doors:
                message = check_message()
                answer = await doors.ask(message)
                assert answer.status.code == 0
                (added,) = answer.ok_response.headers
                assert (added.header.key, added.header.value) == ("x-user", "ann")
                assert list(answer.ok_response.headers_to_remove) == ["x-secret"]
                assert opa.asked == [message.SerializeToString()]
                opa.verdict = False
                assert not await doors.allows(), "no answer is kept"
                assert len(opa.asked) == 2
                assert "opa denied" in doors.seen[1].decision.reason

    asyncio.run(story())


def test_a_provider_cannot_allow_what_policy_denies(mesh: Mesh) -> None:
    async def story() -> None:
        async with Authorizer() as opa:
            policies = with_custom(make_policies(POLICIES), "opa")
            async with deciding(mesh, policies, providers=opa.providers()) as doors:
                assert not await doors.allows(method="POST")

    asyncio.run(story())


@pytest.mark.parametrize("verdict", ["slow", "garbage", False])
def test_a_provider_that_does_not_say_yes_in_time_denies(verdict: Any, mesh: Mesh) -> None:
    async def story() -> None:
        async with Authorizer() as opa:
            opa.verdict = verdict
            policies = with_custom(make_policies(POLICIES), "opa")
            timeout = 0.2 if verdict == "slow" else 5.0
            async with deciding(mesh, policies, providers=opa.providers(timeout=timeout)) as doors:
                assert not await doors.allows()
                assert doors.seen[0].decision.outcome is Outcome.CUSTOM

    asyncio.run(story())


def test_a_provider_that_is_away_or_unknown_denies(mesh: Mesh) -> None:
    async def story() -> None:
        gone = Providers({"opa": Provider(address=f"127.0.0.1:{free_port()}")})
        for name in ("opa", "nobody"):
            policies = with_custom(make_policies(POLICIES), name)
            async with deciding(mesh, policies, providers=gone) as doors:
                assert not await doors.allows()

    asyncio.run(story())


def test_no_more_calls_of_a_provider_are_under_way_than_the_bound(mesh: Mesh) -> None:
    async def story() -> None:
        async with Authorizer() as opa:
            opa.verdict = "slow"
            policies = with_custom(make_policies(POLICIES), "opa")
            bounded = opa.providers(timeout=0.5, maximum_at_once=2)
            async with deciding(mesh, policies, providers=bounded) as doors:
                answers = await asyncio.gather(*(doors.allows() for _ in range(6)))
                assert answers == [False] * 6
                assert len(opa.asked) == 2

    asyncio.run(story())


def test_a_provider_on_trial_is_not_asked_and_decides_nothing(mesh: Mesh) -> None:
    async def story() -> None:
        async with Authorizer() as opa:
            opa.verdict = "slow"
            base = with_custom(make_policies(POLICIES), "opa")
            trial = [
                replace(p, stage=Stage.SHADOW) if p.action is Action.CUSTOM else p
                for p in base.policies
            ]
            policies = PolicySet.of(
                trial, trust_domain="example.org", root_namespace="meshca", default="deny"
            )
            async with deciding(mesh, policies, providers=opa.providers()) as doors:
                assert await doors.allows()
                assert opa.asked == []
                shadow = doors.seen[0].decision.shadow
                assert shadow is not None
                assert shadow.allowed, "taken to allow"

    asyncio.run(story())


def test_what_came_into_force_while_a_provider_was_asked_counts(mesh: Mesh) -> None:
    async def story() -> None:
        async with Authorizer() as opa:
            opa.verdict = "slow"
            policies = with_custom(make_policies(POLICIES), "opa")
            async with deciding(mesh, policies, providers=opa.providers()) as doors:
                asking = asyncio.create_task(doors.allows())
                async with asyncio.timeout(5):
                    while not opa.asked:
                        await asyncio.sleep(0)
                mesh.policies = make_policies(CLOSED)
                opa.verdict = True
                opa.release.set()
                assert not await asking

    asyncio.run(story())
