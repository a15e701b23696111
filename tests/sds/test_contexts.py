"""Validation contexts with revocation lists, in both flavours, and who gets which."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import (
    SPIFFECertValidatorConfig,
)
from structlog.testing import capture_logs

from authz.policy import PolicySet
from ca.bundle import NO_FEDERATION, Federated, TrustBundle
from ca.revocation.view import NOTHING_REVOKED, RevocationView
from meshca.errors import IssuanceFault
from meshca.spiffe_id import SpiffeId
from sds.contexts import Validator
from sds.resources import SECRET_TYPE
from sds.snapshot import (
    Shared,
    Subject,
    current_bundle_versions,
    current_revoked_version,
    subject_of,
)
from tests.builders import NOW, TRUST_DOMAIN, make_pki
from tests.fakes import FakeClock
from tests.sds.conftest import Mesh, running
from tests.sds.lists import make_crl, make_upper
from tests.sds.proxy import Proxy, secrets

PARTNER = "partner.test"
WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
PKI = make_pki(number=31)
OWN = TrustBundle(TRUST_DOMAIN, (PKI.root,), 1)
THEIRS = TrustBundle(PARTNER, (make_pki(trust_domain=PARTNER, number=32).root,), 1)
BOTH = Federated({PARTNER: THEIRS})
CRL = make_crl(PKI, [7], now=NOW)
UPPER = make_upper(PKI, now=NOW)
VIEW = RevocationView(revision=1, lists=(CRL,), upper=UPPER, revoked={"s": frozenset(["a" * 64])})


def shared(federated: Federated = NO_FEDERATION, view: RevocationView = VIEW) -> Shared:
    policies = PolicySet.empty(trust_domain=TRUST_DOMAIN, root_namespace="meshca")
    return Shared(lambda: policies, lambda: OWN, lambda: federated, lambda: view, clock=FakeClock())


def context(made_from: Shared, name: str, chosen: Validator | None = None) -> Any:
    secret = Secret()
    made_from.context(name, chosen).pack().Unpack(secret)
    assert secret.name == name
    return secret.validation_context


def bundles(pushed: Any) -> dict[str, bytes]:
    """Return each domain's bundle in a context for the SPIFFE validator."""
    assert not pushed.HasField("trusted_ca")
    assert not pushed.HasField("crl")
    config = SPIFFECertValidatorConfig()
    pushed.custom_validator_config.typed_config.Unpack(config)
    return {each.name: each.trust_bundle.inline_bytes for each in config.trust_domains}


def test_the_default_flavour_has_every_issuers_list_and_checks_leaves_only() -> None:
    other = make_crl(make_pki(number=33), now=NOW)
    view = replace(VIEW, lists=(CRL, other))
    pushed = context(shared(view=view), "ROOTCA")

    assert pushed.trusted_ca.inline_bytes == OWN.pem()
    assert pushed.crl.inline_bytes == CRL.pem + other.pem
    assert pushed.only_verify_leaf_cert_crl
    assert not pushed.match_typed_subject_alt_names


def test_without_lists_leaves_are_not_looked_up_in_them() -> None:
    pushed = context(shared(view=NOTHING_REVOKED), "ROOTCA")

    assert not pushed.HasField("crl")
    assert not pushed.only_verify_leaf_cert_crl


def test_the_spiffe_flavour_has_the_lists_of_the_whole_chain_in_our_bundle_alone() -> None:
    pushed = context(shared(BOTH), "ALL")

    assert bundles(pushed) == {TRUST_DOMAIN: OWN.pem() + CRL.pem + UPPER, PARTNER: THEIRS.pem()}
    assert bundles(context(shared(BOTH), f"spiffe://{PARTNER}")) == {PARTNER: THEIRS.pem()}


def test_an_incomplete_set_is_left_out_of_the_spiffe_flavour_and_said() -> None:
    with capture_logs() as logged:
        pushed = context(shared(view=replace(VIEW, upper=None)), "ROOTCA@spiffe")

    assert bundles(pushed) == {TRUST_DOMAIN: OWN.pem()}
    assert [each["event"] for each in logged] == ["context_without_revocation_lists"]


FLAVOURS = {
    "alone": ("ROOTCA", None, NO_FEDERATION, Validator.DEFAULT),
    "alone, by node": ("ROOTCA", Validator.SPIFFE, NO_FEDERATION, Validator.SPIFFE),
    "alone, by name": ("ROOTCA@spiffe", None, NO_FEDERATION, Validator.SPIFFE),
    "a name goes before the node": (
        "ROOTCA@default",
        Validator.SPIFFE,
        NO_FEDERATION,
        Validator.DEFAULT,
    ),
    "every domain, by name": ("ALL@spiffe", None, NO_FEDERATION, Validator.SPIFFE),
    "federated": ("ROOTCA", None, BOTH, Validator.SPIFFE),
    "federated, our own by node": ("ROOTCA", Validator.DEFAULT, BOTH, Validator.DEFAULT),
    "federated, our own by name": (
        f"spiffe://{TRUST_DOMAIN}@default",
        None,
        BOTH,
        Validator.DEFAULT,
    ),
    "several domains, whatever the node says": ("ALL", Validator.DEFAULT, BOTH, Validator.SPIFFE),
    "another's, whatever the node says": (
        f"spiffe://{PARTNER}",
        Validator.DEFAULT,
        BOTH,
        Validator.SPIFFE,
    ),
}


@pytest.mark.parametrize("case", FLAVOURS)
def test_the_flavour_is_chosen_by_name_then_by_node_then_by_federation(case: str) -> None:
    name, chosen, federated, expected = FLAVOURS[case]
    pushed = context(shared(federated), name, chosen)

    assert pushed.HasField("custom_validator_config") == (expected is Validator.SPIFFE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ROOTCA@spiffe", Subject.BUNDLE),
        ("ROOTCA@default", Subject.BUNDLE),
        ("ALL@spiffe", Subject.BUNDLE),
        (f"spiffe://{TRUST_DOMAIN}@default", Subject.BUNDLE),
        (f"spiffe://{PARTNER}@spiffe", Subject.BUNDLE),
        ("ALL@default", None),  # any root would speak for any domain
        (f"spiffe://{PARTNER}@default", None),  # their root would speak for ours
        ("ROOTCA@", None),
        ("ROOTCA@SPIFFE", None),
        ("ROOTCA@spiffe@spiffe", None),
        ("default@spiffe", None),
        (f"{WEB}@spiffe", None),
    ],
)
def test_only_a_bundles_name_ends_in_a_flavour(name: str, expected: Subject | None) -> None:
    assert subject_of(SECRET_TYPE, name, WEB, BOTH) is expected


def test_an_empty_list_is_never_pushed() -> None:
    empty = replace(CRL, der=b"")

    with pytest.raises(IssuanceFault, match="an empty revocation list"):
        context(shared(view=replace(VIEW, lists=(CRL, empty))), "ROOTCA")


@pytest.mark.parametrize("hours", [-2, 24 * 40])
def test_a_list_that_is_not_current_is_pushed_and_is_an_error(hours: int) -> None:
    made_from = shared()
    made_from.clock = FakeClock(at=NOW + timedelta(hours=hours))

    with capture_logs() as logged:
        pushed = context(made_from, "ROOTCA")

    assert pushed.crl.inline_bytes == CRL.pem
    (entry,) = logged
    assert entry["event"] == "revocation_list_not_current"
    assert entry["authority"] == CRL.authority_id


def test_contexts_and_filters_are_made_anew_only_when_the_view_changes() -> None:
    view = VIEW
    policies = PolicySet.empty(trust_domain=TRUST_DOMAIN, root_namespace="meshca")
    made_from = Shared(lambda: policies, lambda: OWN, revocation=lambda: view, clock=FakeClock())
    before = made_from.context("ROOTCA"), made_from.revoked(Subject.HTTP_REVOKED)
    assert made_from.context("ROOTCA") is before[0]
    assert made_from.revoked(Subject.HTTP_REVOKED) is before[1]

    view = RevocationView(revision=2, lists=(make_crl(PKI, [7, 8], now=NOW, number=2),))

    assert made_from.context("ROOTCA").version != before[0].version
    assert made_from.revoked(Subject.HTTP_REVOKED).version != before[1].version


def test_equal_views_have_equal_versions_on_every_replica() -> None:
    one, other = shared(), shared(view=replace(VIEW, revision=9))

    assert one.context("ROOTCA").version == other.context("ROOTCA").version
    assert current_revoked_version(one, "revoked") == current_revoked_version(other, "revoked")


def test_the_current_versions_of_our_bundle_are_those_of_each_flavour() -> None:
    made_from = shared()
    versions = current_bundle_versions(made_from, "ROOTCA")

    assert versions == {made_from.context("ROOTCA", each).version for each in (None, *Validator)}
    assert len(versions) == 2
    assert len(current_bundle_versions(made_from, "ROOTCA@spiffe")) == 1
    for name in ("default", f"spiffe://{PARTNER}", "authz", "ALL@default"):
        assert current_bundle_versions(shared(BOTH), name) == frozenset()
    assert current_revoked_version(made_from, "authz") is None


def test_a_proxy_says_its_validator_in_its_first_node_and_once(mesh: Mesh) -> None:
    def node(validator: str) -> Node:
        said = Node(id="n")
        said.metadata["validator"] = validator
        return said

    async def story() -> None:
        async with running(mesh), Proxy(mesh.doors) as proxy:
            proxy.subscribe("ROOTCA", node=node("spiffe"))
            first = secrets(await proxy.receive())["ROOTCA"]
            assert first.validation_context.HasField("custom_validator_config")

            proxy.subscribe("spiffe://example.org", node=node("default"))
            (second,) = secrets(await proxy.receive()).values()
            assert second.validation_context.HasField("custom_validator_config")

    asyncio.run(story())
