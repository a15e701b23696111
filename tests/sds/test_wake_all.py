"""A change reaches thousands of streams a few at a time, and each at its latest state."""

import asyncio
import contextlib

from sds.resources import EXTENSION_TYPE
from tests.sds.conftest import Mesh, make_policies, running
from tests.sds.proxy import Proxy

MANY = 150
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p{number}, namespace: shop}}
spec: {{rules: [{{}}]}}
"""


def test_changes_in_quick_succession_reach_every_stream(mesh: Mesh) -> None:
    async def story() -> None:
        async with running(mesh), contextlib.AsyncExitStack() as stack:
            proxies = [
                await stack.enter_async_context(
                    Proxy(mesh.doors, token=f"shop/web/web-{number}", service="ecds")
                )
                for number in range(MANY)
            ]
            for proxy in proxies:
                proxy.subscribe("authz", type_url=EXTENSION_TYPE)
            first = [await proxy.receive() for proxy in proxies]

            mesh.policies = make_policies(POLICY.format(number=1))
            mesh.ledger.wake_all()
            await asyncio.sleep(0)  # some have been woken, others not
            mesh.policies = make_policies(POLICY.format(number=2))
            mesh.ledger.wake_all()

            latest = await _last_version(proxies[0])
            assert latest != first[0].resources[0].version
            for proxy in proxies[1:]:  # fails by its deadline where the latest never arrives
                while (await proxy.receive()).resources[0].version != latest:
                    pass

    asyncio.run(story())


async def _last_version(proxy: Proxy) -> str:
    version = ""
    while not await proxy.is_quiet():
        version = (await proxy.receive()).resources[0].version
    return version
