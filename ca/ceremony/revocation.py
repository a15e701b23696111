"""The revocation list of a root: what the plan revokes, and nothing that was revoked forgotten."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from ca.ceremony import crl_lint
from ca.ceremony.crl_builder import list_builder
from ca.ceremony.draft import CrlDraft, Draft, validity_of
from ca.ceremony.plan import CrlPlan, LoadedPlan, Revoked
from ca.keys import check_public_key
from ca.upstream.chain import is_issued_by, read_certificates
from meshca.errors import AuthorityUnavailable, InvalidDocument, Problem


def crl_draft(
    loaded: LoadedPlan, plan: CrlPlan, issuer: x509.Certificate, now: datetime
) -> CrlDraft:
    """Return the revocation list of `issuer`; raises InvalidDocument with every problem."""
    this_update, next_update = validity_of(loaded, ("validity",), plan.validity, now)
    expected = crl_lint.Expectation(
        issuer=issuer,
        number=plan.number,
        this_update=this_update,
        next_update=next_update,
        revoked=_revocations(loaded, plan.revoked, issuer),
        previous=_previous(loaded, plan.previous, issuer),
    )
    return Draft((), plan.output, list_builder(expected).sign, expected, crl_lint.LINT)


def _revocations(
    loaded: LoadedPlan, planned: Sequence[Revoked], issuer: x509.Certificate
) -> dict[int, crl_lint.Revocation]:
    found: dict[int, crl_lint.Revocation] = {}
    problems: list[Problem] = []
    for index, revoked in enumerate(planned):
        try:
            serial = _serial(revoked, issuer)
        except AuthorityUnavailable as error:
            problems.append(loaded.problem(("revoked", index), str(error)))
            continue
        if serial in found:
            problems.append(loaded.problem(("revoked", index), f"serial {serial:x} again"))
        reason = None if revoked.reason is None else x509.ReasonFlags[revoked.reason]
        found[serial] = crl_lint.Revocation(revoked.time, reason)
    if problems:
        raise InvalidDocument(problems)
    return found


def _serial(revoked: Revoked, issuer: x509.Certificate) -> int:
    if revoked.certificate is None:
        assert revoked.serial is not None  # noqa: S101  # one of the two is given
        return int(revoked.serial, 16)
    certificate = read_certificates(revoked.certificate)[0]
    if not is_issued_by(certificate, issuer):
        raise AuthorityUnavailable(f"{revoked.certificate} was not signed by this issuer")
    return certificate.serial_number


def _previous(
    loaded: LoadedPlan, path: Path | None, issuer: x509.Certificate
) -> x509.CertificateRevocationList | None:
    if path is None:
        return None
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
        crl_lint.crl_number(crl)
        crl_lint.revocations(crl)
        signed = crl.is_signature_valid(check_public_key(issuer.public_key()))
    except (ValueError, x509.DuplicateExtension) as error:
        message = f"{path} is not a revocation list in PEM: {error}"
        raise InvalidDocument([loaded.problem(("previous",), message)]) from error
    if not signed:
        message = f"{path} was not signed by this issuer"
        raise InvalidDocument([loaded.problem(("previous",), message)])
    return crl
