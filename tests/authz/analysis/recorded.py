"""Recorded decisions with good defaults."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from authz.records.decisions import Distinct
from authz.records.operation import Operation
from authz.records.tables import Outcome
from authz.request import Http, Request
from meshca.spiffe_id import SpiffeId
from tests.authz.builders import ORDERS, WEB
from tests.fakes import FakeClock

NOW = FakeClock().now()
PROXY = "spiffe://example.org/ns/shop/sa/orders"


def seen(
    seen_path: str | None = "/items/1",
    *,
    principal: str | None = WEB,
    method: str = "GET",
    allowed: bool = True,
    count: int = 1,
    **changes: Any,
) -> Distinct:
    """Return one recorded decision; a `seen_path` of None is a TCP connection."""
    source = None if principal is None else SpiffeId.parse(f"spiffe://{principal}")
    http = None if seen_path is None else Http(method, seen_path, "orders.shop")
    operation = Operation.of(Request(source, ORDERS, port=8080, http=http), PROXY)
    return Distinct(
        operation=replace(operation, **changes),
        outcome=Outcome(allowed, "shop/p" if allowed else "", 0 if allowed else None),
        count=count,
        first=NOW - timedelta(hours=1),
        last=NOW,
    )
