"""Whatever is presented, the answer is a refusal with a documented reason: never another error."""

import asyncio
import re
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

import identity.kubernetes
from meshca.errors import Refused
from tests.fakes import FakeClock
from tests.identity.builders import (
    EC_KEY,
    FakeReviewer,
    FakeSource,
    about,
    claims,
    jwk,
    jwks,
    raw_token,
    sign,
    world,
)

TABLE = re.findall(r"^\| ([a-z_, ]+) \|", str(identity.kubernetes.__doc__), re.MULTILINE)
REASONS = {reason for cell in TABLE[1:] for reason in cell.split(", ")}
KEYS = jwks(jwk(EC_KEY, "key-1"))

# An event loop and its threads are made for each example: how long that takes says nothing.
UNHURRIED = settings(deadline=None)

# jti names no right; a time may be any that still fits.
HARMLESS = {"jti", "exp", "nbf", "iat"}

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def reason(token: str, *, reviewed: bool = False) -> str:
    """Return why `token` is refused, or `ok`."""
    if reviewed:
        w = world(reviewer=FakeReviewer(), validation="token_review", keys=None)
    else:
        w = world(source=FakeSource(KEYS))
    found = "ok"
    try:
        asyncio.run(w.authenticator.authenticate(token))
    except Refused as refusal:
        found = refusal.reason
    finally:
        w.authenticator.close()
    assert found in REASONS | {"ok"}
    return found


@UNHURRIED
@given(st.text())
@example("..")
@example("e30.e30.")
def test_any_text_is_refused(token: str) -> None:
    assert reason(token) != "ok"
    assert reason(token, reviewed=True) != "ok"


@UNHURRIED
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=80))
def test_any_bytes_in_three_parts_are_refused(header: bytes, payload: bytes, mac: bytes) -> None:
    assert reason(raw_token(header, payload, mac)) != "ok"


@UNHURRIED
@given(st.sampled_from(sorted(claims(FakeClock()))), json_values)
def test_any_value_of_any_claim_is_refused_or_as_good_as_before(name: str, value: Any) -> None:
    token = sign({**claims(FakeClock()), name: value})

    for reviewed in (False, True):
        assert reason(token, reviewed=reviewed) != "ok" or name in HARMLESS


@UNHURRIED
@given(st.sampled_from(sorted(about())), json_values)
def test_any_member_of_kubernetes_io_is_refused(name: str, value: Any) -> None:
    token = sign({**claims(FakeClock()), "kubernetes.io": {**about(), name: value}})

    for reviewed in (False, True):
        assert reason(token, reviewed=reviewed) != "ok"


@UNHURRIED
@given(st.data())
def test_a_token_changed_anywhere_is_refused(data: st.DataObject) -> None:
    good = sign(claims(FakeClock()))
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != good[at]))

    assert reason(good[:at] + other + good[at + 1 :]) != "ok"


@pytest.mark.parametrize("reviewed", [False, True])
def test_the_unchanged_token_is_accepted(reviewed: bool) -> None:
    assert reason(sign(claims(FakeClock())), reviewed=reviewed) == "ok"


def test_the_reasons_are_those_of_the_module_docstring() -> None:
    assert {"malformed", "expired", "bad_signature", "review_mismatch"} <= REASONS
    assert "ok" not in REASONS
