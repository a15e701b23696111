"""What the admin API renews, audited with who asked."""

import asyncio
from pathlib import Path
from typing import Any

from tests.admin.world import ORDERS, error, running


def test_a_renewal_is_done_and_audited(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            done = await world.client.post("/svids/renew", json={"spiffe_id": ORDERS})
            nobody = await world.client.post("/svids/renew", json={"spiffe_id": ORDERS + "x"})
            bad = await world.client.post("/svids/renew", json={"spiffe_id": "orders"})
            return (
                done.json(),
                nobody.json(),
                bad,
                await world.get("/audit/entries", kind="renewal"),
            )

    done, nobody, bad, entries = asyncio.run(story())
    assert (done["renewed"], nobody["renewed"]) == (1, 0)
    assert error(bad)[:2] == (400, "invalid_argument")
    told = [(e["outcome"], e["spiffe_id"], e["reason"]) for e in entries["entries"]]
    assert told == [("failed", ORDERS + "x", "nothing_to_renew"), ("done", ORDERS, "")]
    assert len({e["actor"] for e in entries["entries"]} - {""}) == 1
