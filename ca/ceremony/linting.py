"""How a ceremony lints: every rule over one candidate, before and after the offline key signs.

A rule is one function that returns what is wrong or None; which rules there are is for
`ca/ceremony/ca_lint.py` and `ca/ceremony/crl_lint.py`. What a rule cannot read is a fault, as what
it finds wrong is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cryptography import x509

from meshca.errors import IssuanceFault

Signed = x509.Certificate | x509.CertificateRevocationList

_UNREADABLE: Final = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_S = TypeVar("_S", bound=Signed)
_W = TypeVar("_W")
_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[_S, _W]):
    """What was signed, its extensions by type, and what is expected of it."""

    made: _S
    extensions: Mapping[type[x509.ExtensionType], x509.Extension[x509.ExtensionType]]
    expected: _W

    def value(self, kind: type[_E]) -> _E | None:
        """Return the value of an extension, None where it is not there."""
        found = self.extensions.get(kind)
        return found.value if found is not None and isinstance(found.value, kind) else None


@dataclass(frozen=True, slots=True)
class Lint(Generic[_S, _W]):
    """The rules of one kind of thing, `what`; `octets` are those that a signature is over."""

    what: str
    octets: Callable[[_S], bytes]
    rules: Sequence[Callable[[Candidate[_S, _W]], str | None]]
    signature_verifies: Callable[[Candidate[_S, _W]], str | None]

    def check(self, made: _S, expected: _W) -> None:
        """Apply every rule of `rules`; the signature may be a stand-in's.

        Raises IssuanceFault naming each rule that is broken.
        """
        self._apply(self.rules, made, expected)

    def check_signed(self, made: _S, expected: _W) -> None:
        """Apply every rule, and verify the signature; raises IssuanceFault."""
        self._apply((*self.rules, self.signature_verifies), made, expected)

    def _apply(
        self,
        rules: Sequence[Callable[[Candidate[_S, _W]], str | None]],
        made: _S,
        expected: _W,
    ) -> None:
        try:
            candidate = Candidate(made, {type(e.value): e for e in made.extensions}, expected)
            found = [(rule.__name__, rule(candidate)) for rule in rules]
        except _UNREADABLE as error:
            raise IssuanceFault(f"{self.what} does not parse: {error}") from error
        broken = [f"{name}: {wrong}" for name, wrong in found if wrong is not None]
        if broken:
            raise IssuanceFault(f"lint refused {self.what}: " + "; ".join(broken))
