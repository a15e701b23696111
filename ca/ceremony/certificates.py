"""The certificates of a ceremony: a root, or intermediates for the requests that the plan names.

From a request the public key is taken, whose possession its signature proves; every word of the
certificate is the plan's.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509

from ca.ca_certificate import ca_builder
from ca.ceremony import ca_lint
from ca.ceremony.draft import CertificateDraft, Draft, validity_of
from ca.ceremony.plan import IntermediatePlan, Key, LoadedPlan, PlannedIntermediate, RootPlan
from ca.keys import LeafPublicKey, public_key_sha256
from ca.request import proven_key
from meshca.errors import InvalidDocument, Problem, RequestRefused


def root_draft(
    loaded: LoadedPlan, plan: RootPlan, public: LeafPublicKey, now: datetime
) -> CertificateDraft:
    """Return the root of `public`; raises InvalidDocument."""
    not_before, not_after = validity_of(loaded, ("validity",), plan.validity, now)
    expected = ca_lint.Expectation(
        trust_domain=plan.trust_domain,
        subject=plan.subject.name(),
        public_key=public,
        not_before=not_before,
        not_after=not_after,
        path_length=plan.path_length,
        constrained=plan.name_constraints,
        issuer=None,
    )
    return Draft((), plan.outputs.certificate, _builder(expected).sign, expected, ca_lint.LINT)


def intermediate_drafts(
    loaded: LoadedPlan, plan: IntermediatePlan, issuer: x509.Certificate, now: datetime
) -> Sequence[CertificateDraft]:
    """Return every intermediate under `issuer`; raises InvalidDocument with every problem."""
    drafts: list[CertificateDraft] = []
    problems: list[Problem] = []
    for index, planned in enumerate(plan.certificates):
        try:
            drafts.append(_intermediate(loaded, plan, index, issuer, now))
        except InvalidDocument as invalid:
            problems += invalid.problems
        except RequestRefused as refused:
            key = ("certificates", index, "csr")
            problems.append(loaded.problem(key, f"{planned.csr}: {refused}"))
    if problems:
        raise InvalidDocument(problems)
    return drafts


def _intermediate(
    loaded: LoadedPlan,
    plan: IntermediatePlan,
    index: int,
    issuer: x509.Certificate,
    now: datetime,
) -> CertificateDraft:
    planned, key = plan.certificates[index], ("certificates", index)
    not_before, not_after = validity_of(loaded, (*key, "validity"), planned.validity, now)
    expected = ca_lint.Expectation(
        trust_domain=plan.trust_domain,
        subject=planned.subject.name(),
        public_key=_requested_key(loaded, planned, key),
        not_before=not_before,
        not_after=not_after,
        path_length=planned.path_length,
        constrained=False,
        issuer=issuer,
    )
    return Draft(key, planned.output, _builder(expected).sign, expected, ca_lint.LINT)


def _requested_key(loaded: LoadedPlan, planned: PlannedIntermediate, key: Key) -> LeafPublicKey:
    """Return the key of the request, which must be the one that the plan names, if it does."""
    public = proven_key(planned.csr.read_bytes())
    found = public_key_sha256(public)
    if planned.public_key_sha256 not in (None, found):
        message = f"the key of {planned.csr} is another one: {found}"
        raise InvalidDocument([loaded.problem((*key, "public_key_sha256"), message)])
    return public


def _builder(expected: ca_lint.Expectation) -> x509.CertificateBuilder:
    builder = ca_builder(
        expected.public_key,
        subject=expected.subject,
        trust_domain=expected.trust_domain,
        not_before=expected.not_before,
        not_after=expected.not_after,
        path_length=expected.path_length,
        issuer=expected.issuer,
    )
    if not expected.constrained:
        return builder
    return builder.add_extension(ca_lint.name_constraints(expected.trust_domain), critical=True)
