"""A certificate found in the wild: was it issued here, to whom, on what proof, what became of it.

Three things are told apart, whatever the serial says: a certificate that is on record byte for
byte; one that is on record and was never seen signed; and one that is not on record. If the last
was signed by a key of ours all the same, that key signs for somebody else. The inventory is a table
that can be changed; the log is not: what the log does not say was to be signed was put there.
"""

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from admin.questions.entries import entries_about, entry_at
from admin.revocation_timeline import read_timeline
from admin.revocation_views import decision_json, revocation_json
from admin.state import AdminState
from admin.views import Json, certificate_pem, svid_json, time_text
from audit.query import Query, find
from ca.revocation.store import Revocations
from ca.store import Filter, Record
from meshca.errors import NotFound, RequestRefused
from rotation.standings import Row, Standings

MAXIMUM_PEM: int = 64 * 1024
_UNLOGGED = (
    "the inventory has it, and the log does not say that it was to be signed: somebody has changed "
    "the inventory. Run meshca audit verify, and see docs/runbooks/audit-log.md"
)
LATER: int = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """What the asker has: a serial, or a certificate as it was found."""

    serial: str
    certificate: x509.Certificate | None = None

    @classmethod
    def parse(cls, pem: str) -> "Shown":
        """Return the first certificate of `pem`; raises RequestRefused."""
        if len(pem) > MAXIMUM_PEM:
            raise RequestRefused("certificate", f"longer than {MAXIMUM_PEM} bytes")
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            return cls(f"{certificate.serial_number:x}", certificate)
        except (ValueError, TypeError) as error:
            raise RequestRefused("certificate", f"not a certificate in PEM: {error}") from error


def certificate_json(state: AdminState, shown: Shown) -> Json:
    """Return all that is known of what was shown; raises StoreUnavailable. Reads the database."""
    record = _record(state, shown.serial)
    found = None if shown.certificate is None else _found_json(shown.certificate)
    signer = None if shown.certificate is None else _signer(state, shown.certificate)
    logged = None if record is None else _logged(state, record)
    verdict, words = _of_our_own(state, shown, signer) or _verdict(record, shown, signer)
    if logged is False:
        verdict, words = "unlogged", _UNLOGGED
    answer: Json = {
        "serial": shown.serial,
        "verdict": verdict,
        "statement": words,
        "found": found,
        "logged": logged,
        "signed_by": None if signer is None else signer.standing.authority_id,
        "certificate": None,
        "entry": None,
        "authority": None,
        "revocation": None,
        "later": [],
        "events": [],
        "next": None,
    }
    if record is not None:
        answer |= _on_record(state, record)
    return answer


def _record(state: AdminState, serial: str) -> Record | None:
    try:
        return state.inventory.get(serial)
    except NotFound:
        return None


def _logged(state: AdminState, record: Record) -> bool | None:
    """Return whether the log says that what is on record was to be signed, to the byte.

    None if that cannot be said: its signature is not on record, or its entry was redacted, or is of
    a version that did not say.
    """
    if record.certificate is None:
        return None
    if record.log_index is None:  # issued before certificates named their entries
        return None
    stored = state.log.get([record.log_index])
    if not stored:
        return False
    document = stored[0].document()
    if document is None or "tbs_sha256" not in document["details"]:
        return None
    kept = x509.load_der_x509_certificate(record.certificate)
    expected = hashlib.sha256(kept.tbs_certificate_bytes).hexdigest()
    said = (document["serial"], document["details"]["tbs_sha256"])
    return said == (record.intent.serial, expected)


def _found_json(certificate: x509.Certificate) -> Json:
    return {
        "fingerprint": certificate.fingerprint(SHA256()).hex(),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": time_text(certificate.not_valid_before_utc),
        "not_after": time_text(certificate.not_valid_after_utc),
    }


def _signer(state: AdminState, certificate: x509.Certificate) -> Row | None:
    """Return the authority of ours whose key signed `certificate`, whichever it says."""
    for row in Standings(state.engine).of():
        try:
            certificate.verify_directly_issued_by(row.chain[0])
        except (ValueError, TypeError, InvalidSignature):
            continue
        return row
    return None


def _verdict(record: Record | None, shown: Shown, signer: Row | None) -> tuple[str, str]:
    """Return what the certificate is, as one word and as a sentence that says what to do."""
    if shown.certificate is None:
        if record is None:
            return "unknown", f"no certificate with serial {shown.serial} was issued here"
        return "issued", f"serial {shown.serial} was issued here to {record.intent.spiffe_id}"
    der = shown.certificate.public_bytes(Encoding.DER)
    if record is not None and record.certificate == der:
        return "issued", f"issued here to {record.intent.spiffe_id}, byte for byte"
    if signer is None:
        return "foreign", "no authority of ours signed it, whatever its names say"
    if record is not None and record.certificate is None:
        return (
            "unrecorded",
            f"signed by our authority {signer.standing.authority_id} under a serial that was about "
            "to be used; its signature was not recorded before the process ended",
        )
    return (
        "forged",
        f"signed by the key of our authority {signer.standing.authority_id} and not on record: "
        "somebody else has that key. Taint and revoke the authority now: "
        f"meshca ca taint {signer.standing.authority_id}",
    )


def _of_our_own(state: AdminState, shown: Shown, signer: Row | None) -> tuple[str, str] | None:
    """Return the verdict on a certificate of an authority of ours, or of one of its OCSP signers.

    The latter is on record in the log, with its key, before it is signed.
    """
    if shown.certificate is None:
        return None
    der = shown.certificate.public_bytes(Encoding.DER)
    for row in Standings(state.engine).of():
        if row.chain[0].public_bytes(Encoding.DER) == der:
            name = row.standing.authority_id
            return "authority", f"the certificate of our authority {name}; see meshca ca show"
    if signer is None:
        return None
    key = shown.certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    said = {"what": "ocsp_signer", "authority": signer.standing.authority_id}
    said["key_sha256"] = hashlib.sha256(key).hexdigest()
    for found in find(state.engine, Query(kind="authority_change", serial=shown.serial)):
        if said.items() <= found.body["details"].items():
            name = signer.standing.authority_id
            return "ocsp_signer", f"an OCSP signer that our authority {name} has certified"
    return None


def _on_record(state: AdminState, record: Record) -> Json:
    serial = record.intent.serial
    page = entries_about(state, Query(serial=serial, oldest_first=True, limit=100))
    return {
        "certificate": {**svid_json(record), "pem": certificate_pem(record.certificate)},
        "entry": entry_at(state, record.log_index),
        "authority": _authority_json(state, record.intent.authority_id),
        "revocation": _revocation_json(state.engine, serial),
        "later": [svid_json(later) for later in _later(state, record)],
        **page,
    }


def _authority_json(state: AdminState, authority_id: str) -> Json | None:
    row = Standings(state.engine).find(authority_id)
    if row is None:
        return None
    return {
        "authority_id": authority_id,
        "replica": row.standing.replica,
        "stage": row.standing.stage.value,
        "not_after": time_text(row.standing.not_after),
        "root_sha256": row.root_sha256,
    }


def _revocation_json(engine: sa.Engine, serial: str) -> Json | None:
    kept = Revocations(engine)
    try:
        revocation = kept.get(serial)
    except NotFound:
        return None
    decided = kept.decision(revocation.decision)
    return {
        **revocation_json(revocation),
        "decided": decision_json(decided),
        "timeline": read_timeline(engine, revocation, decided),
    }


def _later(state: AdminState, record: Record) -> list[Record]:
    """Return the newest certificates that the same pod has had since."""
    evidence = record.intent.evidence
    if not evidence.pod_uid:
        return []
    wanted = Filter(spiffe_id=record.intent.spiffe_id, pod_uid=evidence.pod_uid)
    return [one for one in state.inventory.list(wanted, limit=LATER) if one.id > record.id]
