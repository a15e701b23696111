"""What the configuration says of anchors and witnessing, for those who show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class OutsidePlan:
    """Each anchor's name and how often it is visited; as a witness our key, and whom we watch.

    `witness_key` is empty when we are no witness.
    """

    anchors: Sequence[tuple[str, timedelta]] = ()
    witness_key: str = ""
    watched: Sequence[str] = ()
