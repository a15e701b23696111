"""What was signed must be what was linted: our own faults do not reach a file."""

import pytest

from ca.ceremony.certificates import intermediate_drafts
from ca.ceremony.draft import AnyDraft
from ca.ceremony.plan import CrlPlan, IntermediatePlan, load_plan
from ca.ceremony.revocation import crl_draft
from ca.keys import load_private_key
from meshca.errors import IssuanceFault
from tests.builders import NOW, make_key
from tests.ca.ceremony.plans import CRL, INTERMEDIATE, PASSPHRASE, Table


def drafts(table: Table) -> list[AnyDraft]:
    """Return an intermediate and a list that are yet to be signed."""
    issuer = table.certificate("root.pem")
    certificates = load_plan(table.write(INTERMEDIATE))
    lists = load_plan(table.write(CRL))
    assert isinstance(certificates.plan, IntermediatePlan)
    assert isinstance(lists.plan, CrlPlan)
    return [
        *intermediate_drafts(certificates, certificates.plan, issuer, NOW),
        crl_draft(lists, lists.plan, issuer, NOW),
    ]


def test_the_key_signs_what_was_rehearsed(table: Table) -> None:
    key = load_private_key(table.directory / "root.key", PASSPHRASE)
    for draft in drafts(table):
        draft.sign(key, draft.rehearse(make_key("p384", 605)))


def test_other_octets_than_those_rehearsed_are_refused(table: Table) -> None:
    key = load_private_key(table.directory / "root.key", PASSPHRASE)
    for draft in drafts(table):
        octets = draft.rehearse(make_key("p384", 605))
        with pytest.raises(IssuanceFault, match="what was signed is not what was linted"):
            draft.sign(key, octets[:-1] + b"\x00")


def test_a_signature_of_another_key_is_refused(table: Table) -> None:
    other = make_key("p384", 605)
    for draft in drafts(table):
        with pytest.raises(IssuanceFault, match="signature_verifies: the signature does not"):
            draft.sign(other, draft.rehearse(other))


def test_a_stand_in_of_another_kind_is_noticed(table: Table) -> None:
    for draft in drafts(table):
        with pytest.raises(IssuanceFault, match="signature_algorithm_is_the"):
            draft.rehearse(make_key("p256", 606))
