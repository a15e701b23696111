"""Lint of a root's revocation list: every rule that a list signed in a ceremony must keep.

As `ca/ceremony/ca_lint.py`: one function a rule with its clause, run before the offline key is
touched and on what it signed. What has once been on a list stays on it: the list before, where the
plan names it, is compared, since a forgotten line would give a stolen intermediate its trust back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID

from ca.ca_certificate import authority_key_identifier
from ca.ceremony import linting
from ca.ceremony.ca_lint import algorithm_of
from ca.keys import check_public_key

_MOST_NUMBER_BITS: Final = 159


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry: since when, and why, if that is said."""

    time: datetime
    reason: x509.ReasonFlags | None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the list must say; `previous` is the list before it, if the plan names one."""

    issuer: x509.Certificate
    number: int
    this_update: datetime
    next_update: datetime
    revoked: Mapping[int, Revocation]
    previous: x509.CertificateRevocationList | None


Candidate = linting.Candidate[x509.CertificateRevocationList, Expectation]


def revocations(crl: x509.CertificateRevocationList) -> dict[int, Revocation]:
    """Return the entries of a list by serial; raises ValueError where one does not parse."""
    return {entry.serial_number: _revocation(entry) for entry in crl}


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Return the list's number; raises ValueError when it has none."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound as error:
        raise ValueError("the revocation list has no number") from error


def _revocation(entry: x509.RevokedCertificate) -> Revocation:
    others = [e.oid for e in entry.extensions if e.oid != CRLEntryExtensionOID.CRL_REASON]
    if others:
        raise ValueError(f"an entry with extension {others[0].dotted_string}")
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return Revocation(entry.revocation_date_utc, None)
    return Revocation(entry.revocation_date_utc, reason)


def signature_algorithm_is_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 5.1.1.2: the algorithm of the issuer's key."""
    wanted = algorithm_of(check_public_key(c.expected.issuer.public_key()))
    found = c.made.signature_algorithm_oid
    return None if found == wanted else f"signed with {found.dotted_string}"


def issuer_is_the_signer(c: Candidate) -> str | None:
    """RFC 5280 5.1.2.3: the issuer's subject, to the octet."""
    same = c.made.issuer.public_bytes() == c.expected.issuer.subject.public_bytes()
    return None if same else "another issuer"


def issuer_may_sign_lists(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.3: the issuer's key usage has cRLSign."""
    try:
        usage = c.expected.issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "the issuer has no key usage"
    return None if usage.crl_sign else "the issuer's key usage lacks cRLSign"


def updates_are_the_planned(c: Candidate) -> str | None:
    """RFC 5280 5.1.2.4, 5.1.2.5: both are there, in order, as planned."""
    begin, end = c.made.last_update_utc, c.made.next_update_utc
    same = (begin, end) == (c.expected.this_update, c.expected.next_update)
    return None if same and end is not None and begin < end else f"from {begin} to {end}"


def list_is_inside_its_issuers_life(c: Candidate) -> str | None:
    """RFC 5280 6.3.3 (f): a list is believed under a certificate that is valid, no longer."""
    issuer = c.expected.issuer
    if c.made.last_update_utc < issuer.not_valid_before_utc:
        return f"begins before its issuer ({issuer.not_valid_before_utc.isoformat()})"
    if c.expected.next_update > issuer.not_valid_after_utc:
        return f"outlives its issuer ({issuer.not_valid_after_utc.isoformat()})"
    return None


def number_is_the_planned(c: Candidate) -> str | None:
    """RFC 5280 5.2.3: present, positive, at most 20 octets."""
    number = crl_number(c.made)
    fits = number > 0 and number.bit_length() <= _MOST_NUMBER_BITS
    return None if fits and number == c.expected.number else f"number {number}"


def number_grows(c: Candidate) -> str | None:
    """RFC 5280 5.2.3: a later list has a greater number, and begins no earlier."""
    previous = c.expected.previous
    if previous is None:
        return None
    if c.expected.number <= crl_number(previous):
        return f"number {c.expected.number} after {crl_number(previous)}"
    same = c.made.last_update_utc >= previous.last_update_utc
    return None if same else f"begins before the list before ({previous.last_update_utc})"


def authority_key_identifier_is_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 5.2.1: the issuer's subject key identifier."""
    same = c.value(x509.AuthorityKeyIdentifier) == authority_key_identifier(c.expected.issuer)
    return None if same else "not the issuer's subject key identifier"


def entries_are_the_planned(c: Candidate) -> str | None:
    """Profile: what the plan revokes is revoked, with its time and reason, and nothing else."""
    found, planned = revocations(c.made), c.expected.revoked
    if len(list(c.made)) == len(planned) and found == dict(planned):
        return None
    return "the entries are not exactly those planned"


def entries_lie_in_the_past(c: Candidate) -> str | None:
    """RFC 5280 5.3.2: nothing is revoked in the future."""
    late = [s for s, entry in revocations(c.made).items() if entry.time > c.made.last_update_utc]
    return f"serial {late[0]:x} is revoked after the list begins" if late else None


def reasons_say_something(c: Candidate) -> str | None:
    """RFC 5280 5.3.1: no reason is written as none; removeFromCRL is for delta lists."""
    none = {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
    wrong = [s for s, entry in revocations(c.made).items() if entry.reason in none]
    return f"serial {wrong[0]:x} has a reason that says nothing" if wrong else None


def nothing_is_forgotten(c: Candidate) -> str | None:
    """RFC 5280 3.3, 5.3.1: what was revoked stays so, since the same time, for the same reason."""
    if c.expected.previous is None:
        return None
    now, before = revocations(c.made), revocations(c.expected.previous)
    lost = [f"{serial:x}" for serial, entry in before.items() if now.get(serial) != entry]
    return f"not as on the list before: serial {', '.join(lost)}" if lost else None


def no_other_extension(c: Candidate) -> str | None:
    """Profile; RFC 5280 5.2: a key identifier and a number, neither critical; no partial list."""
    known = {x509.AuthorityKeyIdentifier, x509.CRLNumber}
    wrong = [e.oid.dotted_string for k, e in c.extensions.items() if k not in known or e.critical]
    return f"unexpected, or critical: {', '.join(wrong)}" if wrong else None


def signature_verifies(c: Candidate) -> str | None:
    """RFC 5280 6.3.3 (g): with the issuer's key."""
    key = check_public_key(c.expected.issuer.public_key())
    return None if c.made.is_signature_valid(key) else "the signature does not verify"


RULES: Final[Sequence[Callable[[Candidate], str | None]]] = (
    signature_algorithm_is_the_issuers,
    issuer_is_the_signer,
    issuer_may_sign_lists,
    updates_are_the_planned,
    list_is_inside_its_issuers_life,
    number_is_the_planned,
    number_grows,
    authority_key_identifier_is_the_issuers,
    entries_are_the_planned,
    entries_lie_in_the_past,
    reasons_say_something,
    nothing_is_forgotten,
    no_other_extension,
)
LINT: Final = linting.Lint(
    what="the revocation list",
    octets=lambda crl: crl.tbs_certlist_bytes,
    rules=RULES,
    signature_verifies=signature_verifies,
)
