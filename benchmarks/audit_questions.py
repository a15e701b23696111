"""An auditor's questions to a long log: the life of an identity, and what a certificate is.

The inventory has the certificates of the entries that were written (benchmarks/audit_corpus.py),
each without its bytes; the log has ten copies more of their entries. What is asked is what answers
`GET /v1/audit/identity` and `POST /v1/audit/certificate`, without a door in front.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import sqlalchemy as sa

from admin.questions.certificate import Shown, certificate_json
from admin.questions.identity import identity_json
from admin.state import AdminState
from audit.log import Log
from benchmarks import audit_corpus
from benchmarks.development import Development, built
from benchmarks.figure import Context
from ca.holdings import Holdings
from ca.store import certificates
from meshca.database import bulk_insert
from meshca.wiring import admin_state

_PAGE: Final = 8_192
_LIFETIME: Final = 3_600

Ask = Callable[[], object]


def write_inventory(engine: sa.Engine, entries: int) -> int:
    """Write the certificate of each issuance among the first `entries`; return how many."""
    written = 0
    for first in range(0, entries, _PAGE):
        page = audit_corpus.rows(first, min(first + _PAGE, entries))
        rows = [_certificate(index, orjson.loads(body)) for index, _, kind, _, body in page
                if kind == "issuance"]  # fmt: skip
        with (
            engine.connect().execution_options(meshca_writes=True) as connection,
            connection.begin(),
        ):
            bulk_insert(connection, certificates, rows)
        written += len(rows)
    return written


def _certificate(index: int, body: Any) -> tuple[Any, ...]:
    seconds = (audit_corpus.START_US + index * audit_corpus.STEP_US) // 1_000_000
    details, issued = body["details"], (seconds, seconds + _LIFETIME)
    return (
        *(body["serial"], body["spiffe_id"], details["authority"], details["key_sha256"]),
        *(*issued, "issued", details["method"], body["cluster"], body["namespace"]),
        *(body["service_account"], body["pod"], details["pod_uid"], body["node"]),
        *(details["token_id"], None, index, bytes.fromhex(body["fingerprint"])),
    )


def questions(
    context: Context, engine: sa.Engine, entries: int
) -> Iterator[tuple[str, Iterator[Ask]]]:
    """Yield each question's name with a number of times to ask it, each of another subject."""
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        settings = Development(Path(directory)).settings
        url = engine.url.render_as_string(hide_password=False)
        service = built(settings.model_copy(update={"database": url}))
        state = admin_state(service, _ready)
        holdings, times = Holdings(service.engine), context.scale(100, 20)
        try:
            for name, ask in (
                ("certificate, by its serial", partial(_certificate_asked, state)),
                ("identity, its whole life", partial(_identity_asked, state, holdings)),
            ):
                yield name, (ask(body) for body in _issued(engine, name, entries, times))
        finally:
            service.engine.dispose()


async def _ready() -> list[str]:
    return []


def _certificate_asked(state: AdminState, body: Any) -> Ask:
    return lambda: certificate_json(state, Shown(body["serial"]))


def _identity_asked(state: AdminState, holdings: Holdings, body: Any) -> Ask:
    name = body["spiffe_id"]
    return lambda: identity_json(state, holdings, name, limit=100, cursor=None)


def _issued(engine: sa.Engine, name: str, entries: int, times: int) -> Iterator[Any]:
    """Yield the bodies of `times` issuances from anywhere in the log."""
    choose = random.Random(name)  # noqa: S311  # a benchmark, no secret
    while times:
        start = choose.randrange(max(entries - 64, 1))
        bodies = [stored.document() or {} for stored in Log(engine).entries(start, start + 64)]
        if issued := [body for body in bodies if body["kind"] == "issuance"]:
            times -= 1
            yield choose.choice(issued)
