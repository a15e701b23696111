"""What a ceremony will sign: certificates and lists, built from the plan and linted beforehand.

A draft is rehearsed with a stand-in key of the signing key's kind, which yields the very octets
that the real key will sign; those are linted, and what the real key signs must be those octets.
Everything that the plan, or a file it names, gets wrong becomes a problem at the plan's key, and
all of them are reported together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.ca_certificate import signing_hash
from ca.ceremony import ca_lint, crl_lint
from ca.ceremony.linting import Lint, Signed
from ca.ceremony.plan import Key, LoadedPlan, Validity
from ca.keys import PrivateKey, check_public_key
from meshca.errors import InvalidDocument, IssuanceFault, Problem

_S = TypeVar("_S", bound=Signed)
_W = TypeVar("_W")
Sign = Callable[[PrivateKey, hashes.SHA256 | hashes.SHA384], _S]


@dataclass(frozen=True, slots=True)
class Draft(Generic[_S, _W]):
    """Something to be signed: its place in the plan, the file it goes to, what it must say.

    `build` signs it with whichever key it is given.
    """

    key: Key
    output: Path
    build: Sign[_S] = field(repr=False)
    expected: _W
    lint: Lint[_S, _W] = field(repr=False)

    def rehearse(self, stand_in: PrivateKey) -> bytes:
        """Return the octets to be signed, linted; raises IssuanceFault."""
        made = self._sign(stand_in)
        self.lint.check(made, self.expected)
        return self.lint.octets(made)

    def sign(self, key: PrivateKey, rehearsed: bytes) -> _S:
        """Return what `key` signed, linted again, if it is what was rehearsed.

        Raises IssuanceFault.
        """
        made = self._sign(key)
        if self.lint.octets(made) != rehearsed:
            raise IssuanceFault(f"{self.output}: what was signed is not what was linted")
        self.lint.check_signed(made, self.expected)
        return made

    def _sign(self, key: PrivateKey) -> _S:
        return self.build(key, signing_hash(check_public_key(key.public_key())))


CertificateDraft = Draft[x509.Certificate, ca_lint.Expectation]
CrlDraft = Draft[x509.CertificateRevocationList, crl_lint.Expectation]
AnyDraft = CertificateDraft | CrlDraft


def rehearse_all(
    loaded: LoadedPlan, drafts: Iterable[AnyDraft], stand_in: PrivateKey
) -> list[bytes]:
    """Return what each draft will have signed; raises InvalidDocument with every broken rule."""
    rehearsed: list[bytes] = []
    problems: list[Problem] = []
    for draft in drafts:
        try:
            rehearsed.append(draft.rehearse(stand_in))
        except IssuanceFault as fault:
            problems.append(loaded.problem(draft.key, str(fault)))
    if problems:
        raise InvalidDocument(problems)
    return rehearsed


def validity_of(
    loaded: LoadedPlan, key: Key, validity: Validity, now: datetime
) -> tuple[datetime, datetime]:
    """Return from when to when; raises InvalidDocument when that is over already."""
    begin, end = validity.of(now)
    if end <= now:
        message = f"ends at {end.isoformat()}; it is {now.isoformat()}"
        raise InvalidDocument([loaded.problem(key, message)])
    return begin, end
