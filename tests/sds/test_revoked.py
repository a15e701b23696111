"""The filters of the revoked, as they are sent."""

from typing import Any

import pytest
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.rbac.v3.rbac_pb2 import Action
from xds.type.matcher.v3.domain_pb2 import ServerNameMatcher

from ca.revocation.view import NOTHING_REVOKED, RevocationView
from sds.bootstrap_filters import PEER_PREFIX
from sds.revoked import http_revoked, network_revoked

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)
VIEW = RevocationView(revoked={"spiffe://a/x": frozenset([TWO, ONE]), "y": frozenset([THREE, ""])})


def action(on_match: Any) -> tuple[str, str]:
    """Return the name and the verdict of an action."""
    found = Action()
    on_match.action.typed_config.Unpack(found)
    return found.name, RULES.Action.Name(found.action)


@pytest.mark.parametrize("form", [http_revoked, network_revoked])
def test_denies_each_fingerprint_and_who_was_not_noted_and_nobody_else(form: Any) -> None:
    matcher = form(VIEW).matcher
    (noted,) = matcher.matcher_list.matchers
    chosen = noted.on_match.matcher
    table = ServerNameMatcher()
    chosen.matcher_tree.custom_match.typed_config.Unpack(table)
    (refused,) = table.domain_matchers

    assert noted.predicate.single_predicate.value_match.prefix == PEER_PREFIX
    assert list(refused.domains) == [PEER_PREFIX + each for each in (ONE, TWO, THREE)]
    assert action(refused.on_match) == ("revoked", "DENY")
    assert action(chosen.on_no_match) == ("not-revoked", "ALLOW")
    assert action(matcher.on_no_match) == ("peer-not-noted", "DENY")


@pytest.mark.parametrize("form", [http_revoked, network_revoked])
def test_with_nobody_revoked_everybody_noted_passes(form: Any) -> None:
    matcher = form(NOTHING_REVOKED).matcher
    (noted,) = matcher.matcher_list.matchers

    assert action(noted.on_match) == ("not-revoked", "ALLOW")
    assert action(matcher.on_no_match) == ("peer-not-noted", "DENY")


def test_equal_revocations_give_equal_bytes() -> None:
    other = RevocationView(revoked={"z": frozenset([THREE]), "w": frozenset([ONE, TWO])})

    assert http_revoked(VIEW).SerializeToString(deterministic=True) == http_revoked(
        other
    ).SerializeToString(deterministic=True)
