"""Selectors: what they refuse, and that memory and database select the same."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ca.revocation.reason import Reason, parse_reason
from ca.revocation.selector import OF_ONE_CERTIFICATE, Selector, parse_selector
from ca.revocation.store import Revocations
from ca.store import Intent
from meshca.errors import RequestRefused
from tests.ca.revocation.world import ORDERS, caller, clear, fingerprint, intent, issue
from tests.fakes import FakeClock

NAMES = [f.name for f in fields(Selector)]
OF_CALLERS = [name for name in NAMES if name not in OF_ONE_CERTIFICATE]
AWKWARD = ["shop", "Shop", "shop ", "sh_p", "sh%", "*", "", "' OR ''='", "schön", "a\\", "a\n"]
IDENTITIES = [ORDERS, f"{ORDERS}-2", "spiffe://example.org/ns/Shop/sa/orders"]


def test_every_field_is_kept_as_it_is_said() -> None:
    said = {
        "serial": "00:A1:b2",
        "fingerprint": ":".join(["AB"] * 32),
        "spiffe_id": ORDERS,
        "cluster": " prod-eu ",
        "namespace": "shop",
        "service_account": "orders",
        "pod_uid": "u",
        "node": "n",
        "token_id": "t",
        "authority_id": "CD" * 20,
    }
    hexed = {"serial": "a1b2", "fingerprint": "ab" * 32, "authority_id": "cd" * 20}

    assert set(said) == set(NAMES)
    assert parse_selector(said).given() == {**said, **hexed, "cluster": "prod-eu"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "that is not all"),
        ({"node": ""}, "node is empty"),
        ({"namespace": "shop", "node": "  "}, "node is empty"),
        ({"pod": "orders-0"}, "unknown field 'pod'"),
        ({"__class__": "x"}, "unknown field"),
        ({"node": "x" * 2049}, "longer than 2048"),
        ({"node": "a\x00b"}, "cannot be printed"),
        ({"node": "a\ud800b"}, "cannot be printed"),
        ({"node": "a\nb"}, "cannot be printed"),
        ({"serial": "0x1f"}, "is not hex digits"),
        ({"serial": "f" * 65}, "is not hex digits"),
        ({"fingerprint": "ab" * 20}, "is not 64 hex digits"),
        ({"fingerprint": "ab" * 33}, "is not 64 hex digits"),
        ({"authority_id": "ab"}, "is not 40 hex digits"),
        ({"spiffe_id": "spiffe://Example.org/a"}, "trust domain"),
        ({"spiffe_id": f"{ORDERS}/"}, "trailing slash"),
    ],
)
def test_refuses(said: dict[str, str], message: str) -> None:
    with pytest.raises(RequestRefused, match=message) as refused:
        parse_selector(said)
    assert refused.value.reason == "selector"


@pytest.mark.parametrize(
    "selector",
    [Selector(), *(Selector(**{name: "a1", "node": "n"}) for name in OF_ONE_CERTIFICATE)],
    ids=["nothing", *OF_ONE_CERTIFICATE],
)
def test_nobody_is_banned_by(selector: Selector) -> None:
    with pytest.raises(RequestRefused) as refused:
        selector.of_callers()
    assert refused.value.reason == "ban"
    assert not selector.admits(caller(FakeClock()))


@pytest.mark.parametrize("name", [*(r.name for r in Reason), "removeFromCRL", "cACompromise", "1"])
def test_reasons_are_those_of_rfc_5280_for_a_leaf(name: str) -> None:
    if name in Reason.__members__:
        assert parse_reason(name).name == name
        return
    with pytest.raises(RequestRefused, match=f"unknown reason '{name}': one of unspecified"):
        parse_reason(name)


RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "spiffe_id": st.sampled_from(IDENTITIES),
            **{name: st.sampled_from(AWKWARD) for name in OF_CALLERS if name != "spiffe_id"},
        }
    ),
    max_size=6,
)
SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "spiffe_id": st.sampled_from(IDENTITIES),
        **{name: st.sampled_from(AWKWARD) for name in OF_CALLERS if name != "spiffe_id"},
    },
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(records=RECORDS, said=SELECTORS)
def test_memory_and_database_select_the_same_callers(
    engine: sa.Engine, records: list[dict[str, str]], said: dict[str, str]
) -> None:
    clear(engine)
    clock, selector = FakeClock(), Selector(**said)
    intents = [intent(f"{n + 1:x}", clock, **record) for n, record in enumerate(records)]
    issue(engine, *intents)

    assert selected(engine, selector, clock) == {
        i.serial for i in intents if selector.selects(i.spiffe_id, i.evidence)
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_database_selects_what_a_naive_reading_does(
    engine: sa.Engine, data: st.DataObject
) -> None:
    clear(engine)
    clock = FakeClock()
    intents = list(certificates(data, clock))
    issue(engine, *intents)
    one = data.draw(st.sampled_from(intents))
    said = data.draw(st.sets(st.sampled_from(NAMES)))
    selector = Selector(**{name: value(one, name) for name in said})

    assert selected(engine, selector, clock) == {
        i.serial
        for i in intents
        if said
        and i.not_after > clock.now()
        and all(value(i, name) == value(one, name) for name in selector.given())
        and selector.given()
    }


def certificates(data: st.DataObject, clock: FakeClock) -> Iterator[Intent]:
    """Yield a few certificates that differ in everything that selectors speak of."""
    texts = st.sampled_from(["shop", "pay"])
    for number in range(data.draw(st.integers(1, 5))):
        yield intent(
            f"{number + 1:x}",
            clock,
            spiffe_id=data.draw(st.sampled_from(IDENTITIES)),
            authority_id=data.draw(st.sampled_from(["ab" * 20, "cd" * 20])),
            not_after=clock.now() + timedelta(hours=data.draw(st.sampled_from([-1, 0, 1]))),
            **{name: data.draw(texts) for name in OF_CALLERS if name != "spiffe_id"},
        )


def value(one: Intent, name: str) -> str:
    """Return what a certificate says of a field."""
    if name == "fingerprint":
        return fingerprint(one.serial)
    source = one if name in ("serial", "authority_id", "spiffe_id") else one.evidence
    return str(getattr(source, name))


def selected(engine: sa.Engine, selector: Selector, clock: FakeClock) -> set[str]:
    found = Revocations(engine).select(selector, now=clock.now(), reason=Reason.unspecified)
    return {revocation.serial for revocation in found}


def test_a_selector_that_says_nothing_selects_nothing(engine: sa.Engine) -> None:
    clock = FakeClock()
    issue(engine, intent("1", clock))

    assert selected(engine, Selector(), clock) == set()
    assert not Selector().selects(ORDERS, intent("1", clock).evidence)
