"""Validation contexts with several trust domains: side by side, never merged."""

from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import (
    SPIFFECertValidatorConfig,
)

from authz.policy import PolicySet
from ca.bundle import NO_FEDERATION, Federated, TrustBundle
from meshca.errors import IssuanceFault
from meshca.spiffe_id import SpiffeId
from sds.resources import NOBODY, SECRET_TYPE, SPIFFE_VALIDATOR, spiffe_validation_context
from sds.snapshot import Shared, Subject, subject_of
from tests.builders import TRUST_DOMAIN, make_pki

PARTNER = "partner.test"
WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
OWN = TrustBundle(TRUST_DOMAIN, (make_pki(number=1).root,), 1)
THEIRS = TrustBundle(PARTNER, (make_pki(trust_domain=PARTNER, number=2).root,), 1)
BOTH = Federated({PARTNER: THEIRS})
NAMES = ("ROOTCA", "ALL", f"spiffe://{TRUST_DOMAIN}", f"spiffe://{PARTNER}")


def shared(federated: Federated) -> Shared:
    policies = PolicySet.empty(trust_domain=TRUST_DOMAIN, root_namespace="meshca")
    return Shared(lambda: policies, lambda: OWN, lambda: federated)


def context(name: str, federated: Federated) -> Any:
    secret = Secret()
    shared(federated).context(name).pack().Unpack(secret)
    assert secret.name == name
    return secret.validation_context


def trusted(name: str, federated: Federated) -> Mapping[str, list[x509.Certificate]]:
    """Return the roots of each trust domain in the SPIFFE validator's configuration."""
    pushed = context(name, federated)
    assert not pushed.HasField("trusted_ca")
    assert pushed.custom_validator_config.name == SPIFFE_VALIDATOR
    config = SPIFFECertValidatorConfig()
    pushed.custom_validator_config.typed_config.Unpack(config)
    return {
        each.name: x509.load_pem_x509_certificates(each.trust_bundle.inline_bytes)
        for each in config.trust_domains
    }


@pytest.mark.parametrize("name", NAMES[:3])
def test_alone_the_roots_are_for_the_default_validator(name: str) -> None:
    pushed = context(name, NO_FEDERATION)

    assert pushed.trusted_ca.inline_bytes == OWN.pem()
    assert not pushed.HasField("custom_validator_config")


@pytest.mark.parametrize(
    ("name", "domains"),
    [
        ("ROOTCA", [OWN]),
        ("ALL", [OWN, THEIRS]),
        (f"spiffe://{TRUST_DOMAIN}", [OWN]),
        (f"spiffe://{PARTNER}", [THEIRS]),
    ],
)
def test_with_a_second_one_each_has_its_own_roots(name: str, domains: list[TrustBundle]) -> None:
    assert trusted(name, BOTH) == {each.trust_domain: list(each.roots) for each in domains}


def test_a_domain_without_roots_is_trusted_for_nothing() -> None:
    without = Federated({}, frozenset({PARTNER}))

    assert trusted(f"spiffe://{PARTNER}", without) == {NOBODY: list(OWN.roots)}
    assert context("ALL", without).trusted_ca.inline_bytes == OWN.pem()


def test_a_domain_without_roots_does_not_disturb_another() -> None:
    mixed = Federated({PARTNER: THEIRS}, frozenset({"third.test"}))

    assert set(trusted("ALL", mixed)) == {TRUST_DOMAIN, PARTNER}
    assert set(trusted("spiffe://third.test", mixed)) == {NOBODY}


def test_a_pushed_context_carries_no_name_matcher() -> None:
    for name in NAMES:
        assert not context(name, BOTH).match_typed_subject_alt_names


def test_an_empty_context_cannot_be_made() -> None:
    with pytest.raises(IssuanceFault, match="empty validation context"):
        spiffe_validation_context("ALL", {})


def test_contexts_are_made_anew_only_when_a_bundle_changes() -> None:
    current = BOTH

    def federated() -> Federated:
        return current

    policies = PolicySet.empty(trust_domain=TRUST_DOMAIN, root_namespace="meshca")
    resources = Shared(lambda: policies, lambda: OWN, federated)
    first = resources.context("ALL")
    assert resources.context("ALL") is first

    current = NO_FEDERATION

    assert resources.context("ALL").version != first.version


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"spiffe://{PARTNER}", Subject.BUNDLE),
        (f"spiffe://{PARTNER}/ns/shop/sa/web", None),
        ("spiffe://third.test", None),
        (PARTNER, None),
    ],
)
def test_only_federated_domains_names_mean_something(name: str, expected: Subject | None) -> None:
    assert subject_of(SECRET_TYPE, name, WEB, BOTH) is expected
    assert subject_of(SECRET_TYPE, name, WEB) is None
