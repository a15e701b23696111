"""For how long bodies are kept: rules that make sense, and those that do not."""

from datetime import timedelta

import pytest

from audit.entry import KINDS
from audit.retention.rules import FOREVER, Rules
from meshca.errors import InvalidDocument
from tests.audit.retention.world import NOW

DAY = timedelta(days=1)


def test_nothing_expires_unless_a_rule_says_so() -> None:
    assert Rules().cutoffs(NOW) == {}
    assert set(Rules().as_text().values()) == {"forever"}


def test_each_kind_has_its_own_time_and_the_rest_the_default() -> None:
    rules = Rules(default=365 * DAY, kinds={"read": 90 * DAY, "ban": None})
    cutoffs = rules.cutoffs(NOW)
    microseconds = round(NOW.timestamp() * 1_000_000)
    assert cutoffs["read"] == microseconds - 90 * 86_400_000_000
    assert cutoffs["refusal"] == microseconds - 365 * 86_400_000_000
    assert "ban" not in cutoffs
    assert rules.as_text()["read"] == "90d"
    assert rules.as_text()["ban"] == "forever"


@pytest.mark.parametrize("kind", sorted(FOREVER))
def test_what_shows_that_the_log_is_whole_never_expires(kind: str) -> None:
    assert kind in KINDS
    assert kind not in Rules(default=DAY).cutoffs(NOW)
    with pytest.raises(InvalidDocument, match=f"kinds.{kind}: entries of this kind are kept"):
        Rules(kinds={kind: 9_999 * DAY})


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"kinds": {"reads": DAY}}, "audit.retention.kinds.reads: unknown kind; known: issuance,"),
        ({"kinds": {"read": DAY / 2}}, "kinds.read: shorter than 1d"),
        ({"default": DAY / 2}, "audit.retention.default: shorter than 1d"),
        ({"kinds": {"issuance": 2 * DAY}, "svid_maximum": 3 * DAY}, "issuance: shorter than 3d"),
        ({"kinds": {"revocation": 2 * DAY}, "svid_maximum": 3 * DAY}, "revocation: shorter"),
        ({"default": 2 * DAY, "svid_maximum": 3 * DAY}, "default: shorter than 3d"),
    ],
)
def test_refuses_a_rule_that_makes_no_sense(rules: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        Rules(**rules)  # type: ignore[arg-type]  # a table of keyword arguments
