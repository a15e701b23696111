"""The semantic difference of two sets, against the engine: thousands of requests, every witness."""

from random import Random

import pytest

from authz.analysis.difference import difference
from authz.decision import Outcome
from authz.engine import decide
from authz.policy import Default
from tests.authz.analysis.requests import is_changed
from tests.authz.analysis.worlds import NOW, changed, load, make_documents, make_request

SETS = 60
REQUESTS = 60


@pytest.mark.parametrize("seed", range(SETS))
def test_a_request_is_in_a_region_exactly_when_its_verdict_differs(seed: int) -> None:
    random = Random(seed)
    documents = make_documents(random)
    defaults: tuple[Default, ...] = ("deny", "allow")
    default = random.choice(defaults)
    sets = load(documents, default), load(changed(random, documents), default)
    found = difference(*sets, now=NOW)

    assert (found.defects, found.beyond) == ([], [])
    for _ in range(REQUESTS):
        request, answers = make_request(random)
        before, after = (decide(each, request, answers=answers) for each in sets)
        assert Outcome.ERROR not in (before.outcome, after.outcome)
        differs = before.allowed is not after.allowed
        assert is_changed(found, sets, request, answers) is differs, request
