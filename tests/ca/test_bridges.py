"""A cross-signed root is one only if it can be nothing else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.upstream.bridges import Bridges, check_bridge
from ca.upstream.chain import up_to_root
from meshca.errors import AuthorityUnavailable
from tests.builders import NOW, TRUST_DOMAIN, make_key
from tests.ca.test_chain import DAY, Ca, Extensions, constraints, identity
from tests.key_usage import key_usage

OLD = Ca("old", 11)
NEW = Ca("new", 12)
BRIDGE = replace(NEW, by=OLD)
ROOTS = (OLD, NEW)


def bridge(**changes: Any) -> Ca:
    """Return the bridge with other extensions."""
    return replace(BRIDGE, changes=changes)


def look(
    *candidates: Ca, roots: tuple[Ca, ...] = ROOTS, bridges: Bridges | None = None
) -> tuple[x509.Certificate, ...]:
    """Return what is found among `candidates`."""
    bridges = Bridges() if bridges is None else bridges
    bridges.look(
        [ca.certificate for ca in candidates],
        [ca.certificate for ca in roots],
        trust_domain=TRUST_DOMAIN,
        now=NOW,
    )
    return bridges.valid(NOW)


def test_a_root_that_the_old_one_signed_is_found_among_all_that_is_shown() -> None:
    intermediate = Ca("intermediate", 13, by=NEW)

    assert look(NEW, BRIDGE, OLD, intermediate, BRIDGE) == (BRIDGE.certificate,)


def test_it_leads_from_what_the_new_root_signed_to_the_old_one() -> None:
    chain = [Ca("intermediate", 13, by=NEW).certificate, BRIDGE.certificate]

    assert up_to_root([*chain, OLD.certificate]) == tuple(chain)
    assert up_to_root([chain[0], NEW.certificate, chain[1], OLD.certificate]) == (chain[0],)


def test_lengths_that_just_suffice_are_accepted() -> None:
    old: Extensions = {"constraints": constraints(path_length=2)}
    issuer = replace(OLD, changes=old)
    just = replace(bridge(constraints=constraints(path_length=1)), by=issuer, end=issuer.end)

    assert look(just, roots=(issuer, NEW)) == (just.certificate,)


def test_a_root_without_a_name_of_ours_may_be_crossed() -> None:
    assert len(look(bridge(san=None))) == 1


NARROW = x509.NameConstraints([x509.UniformResourceIdentifier("example.org")], None)
SHALLOW = replace(OLD, changes={"constraints": constraints(path_length=1)})
STRANGER = Ca("stranger", 14)
OTHER_IDENTIFIER = x509.SubjectKeyIdentifier(b"another")
PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
REFUSED: dict[str, tuple[str, Ca, tuple[Ca, ...]]] = {
    "another's key": ("has the name of a root and another key", Ca("new", 15, by=OLD), ROOTS),
    "another's name": ("has the key of a root and another name", Ca("newer", 12, by=OLD), ROOTS),
    "a stranger signed it": (
        "is not signed by another trusted root",
        replace(BRIDGE, by=STRANGER),
        ROOTS,
    ),
    "one of the old root's name signed it": (
        "is not signed by another trusted root",
        replace(BRIDGE, by=Ca("old", 16)),
        ROOTS,
    ),
    "the old root is not trusted": ("is not signed by another trusted root", BRIDGE, (NEW,)),
    "not a CA": ("may not sign certificates", bridge(constraints=constraints(ca=False)), ROOTS),
    "without keyCertSign": (
        "may not sign certificates",
        bridge(usage=(key_usage(crl_sign=True), True)),
        ROOTS,
    ),
    "another trust domain": (
        "is for spiffe://example.com, not for",
        bridge(san=identity("spiffe://example.com")),
        ROOTS,
    ),
    "not valid yet": ("is valid from", replace(BRIDGE, begin=NOW + DAY), ROOTS),
    "ended": ("is valid from", replace(BRIDGE, end=NOW), ROOTS),
    "name constraints": (
        "an extension that a bridge may not have: 2.5.29.30",
        bridge(narrow=(NARROW, True)),
        ROOTS,
    ),
    "a purpose": (
        "an extension that a bridge may not have: 2.5.29.37",
        bridge(purpose=(PURPOSE, False)),
        ROOTS,
    ),
    "another key identifier": (
        "has another key identifier than its root",
        bridge(ski=(OTHER_IDENTIFIER, False)),
        ROOTS,
    ),
    "no room for an intermediate": (
        "'CN=new' has path length 0, which must be 1",
        bridge(constraints=constraints(path_length=0)),
        ROOTS,
    ),
    "no room below the old root": (
        "'CN=old' has path length 1, which must be 2",
        replace(BRIDGE, by=SHALLOW),
        (SHALLOW, NEW),
    ),
    "outliving the old root": (
        "ends after certificate 'CN=old', its issuer",
        replace(BRIDGE, end=OLD.end + timedelta(seconds=1)),
        ROOTS,
    ),
}


@pytest.mark.parametrize(("said", "candidate", "roots"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(said: str, candidate: Ca, roots: tuple[Ca, ...]) -> None:
    with pytest.raises(AuthorityUnavailable, match=said):
        check_bridge(
            candidate.certificate,
            [root.certificate for root in roots],
            trust_domain=TRUST_DOMAIN,
            now=NOW,
        )

    assert look(candidate, roots=roots) == ()


def test_what_is_left_out_is_said_once_for_as_long_as_it_is_there() -> None:
    bridges, bad = Bridges(), bridge(constraints=constraints(path_length=0))
    with structlog.testing.capture_logs() as logs:
        for shown in (bad, bad, BRIDGE, bad):
            look(shown, bridges=bridges)

    assert [entry["event"] for entry in logs] == ["bridge_left_out", "bridge_left_out"]


def test_issuers_that_are_no_roots_are_not_spoken_of() -> None:
    with structlog.testing.capture_logs() as logs:
        assert look(Ca("intermediate", 13, by=NEW), OLD, NEW) == ()

    assert logs == []


def test_one_that_has_ended_since_is_not_shown() -> None:
    bridges = Bridges()
    look(BRIDGE, bridges=bridges)

    assert bridges.valid(BRIDGE.end - timedelta(seconds=1)) == (BRIDGE.certificate,)
    assert bridges.valid(BRIDGE.end) == ()


class Odd(Ca):
    """A CA whose key is of a kind that we do not take."""

    @property
    def key(self) -> Any:
        """Return its private key."""
        return make_key("p521")


def test_a_key_of_a_kind_that_we_do_not_take_is_passed_over() -> None:
    assert look(Odd("odd", 17, by=OLD), BRIDGE) == (BRIDGE.certificate,)
