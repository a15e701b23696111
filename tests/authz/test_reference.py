"""The engine against the naive reference, over random policies and requests."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.engine import decide
from authz.policy import Default
from tests.authz import naive
from tests.authz.builders import load
from tests.authz.generated import LABELS, make_asked, make_documents, to_request


@settings(max_examples=300, deadline=None)
@given(random=st.randoms(use_true_random=False), default=st.sampled_from(("allow", "deny")))
def test_engine_decides_as_the_naive_reference(random: Random, default: Default) -> None:
    documents = make_documents(random)
    policies = load(*documents, default=default)
    for _ in range(10):
        asked = make_asked(random)
        expected = naive.allows(documents, asked, namespace="shop", labels=LABELS, default=default)
        decision = decide(policies, to_request(asked))
        assert decision.allowed is expected, (documents, asked, decision.reason)
