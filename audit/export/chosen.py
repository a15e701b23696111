"""Which entries of a stretch of the log an export shows. Pure.

What is left out stays provable (audit/range_proof.py); that what is left out does not match is the
exporter's word. Whoever wants no word exports the whole stretch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from audit.entry import KINDS, OUTCOMES
from audit.filters import one_of
from meshca.errors import RequestRefused


@dataclass(frozen=True, slots=True)
class Chosen:
    """Entries that have all of these; None means "any".

    Raises RequestRefused for an unknown kind or outcome.
    """

    kind: str | None = None
    outcome: str | None = None
    actor: str | None = None
    spiffe_id: str | None = None
    cluster: str | None = None
    namespace: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None:
            one_of("kind", self.kind, KINDS)
        if self.outcome is not None:
            one_of("outcome", self.outcome, OUTCOMES)

    @classmethod
    def parse(cls, document: object) -> "Chosen":
        """Return what `given` wrote; raises RequestRefused for anything else."""
        known = set(cls.__dataclass_fields__)
        is_given = isinstance(document, Mapping) and document.keys() <= known
        if not is_given or not all(isinstance(value, str) for value in _values(document)):
            raise RequestRefused("filter", f"a filter has texts for {', '.join(sorted(known))}")
        return cls(**dict(document))  # type: ignore[call-overload]  # looked at above

    def given(self) -> dict[str, str]:
        """Return what is asked for, by field."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Return whether the entry with this body is one of these."""
        return all(document.get(name) == value for name, value in self.given().items())


def _values(document: object) -> list[object]:
    return list(document.values()) if isinstance(document, Mapping) else []


EVERYTHING: Final = Chosen()
