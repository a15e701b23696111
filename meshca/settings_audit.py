"""The configuration of the audit log: its name, where it is anchored, sent and kept."""

import re
from datetime import timedelta
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from meshca.durations import parse_duration
from meshca.settings_anchors import MAXIMUM_ANCHORS, AnchorConfig, WitnessConfig
from meshca.settings_sinks import MAXIMUM_SINKS, SinkConfig
from meshca.strict import Duration, Strict

_YEARS: Final = re.compile(r"([1-9][0-9]{0,2})y", re.ASCII)


def _keep(value: Any) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("write how long to keep as text: forever, 7y, 90d")
    if value == "forever":
        return None
    if years := _YEARS.fullmatch(value):
        return timedelta(days=365 * int(years[1]))
    return parse_duration(value)


Keep = Annotated[timedelta | None, BeforeValidator(_keep)]
"""How long to keep something: `forever` (None), years of 365 days (`7y`), or a duration."""


class RetentionConfig(Strict):
    """How long bodies of entries are kept, by kind; what is redacted keeps its leaf hash."""

    default: Keep = None
    kinds: dict[str, Keep] = Field(default={})


class AuditConfig(Strict):
    """The audit log.

    `origin` is its name in checkpoints, unique in the world; by default TRUST_DOMAIN/meshca/audit.
    After `rotate-key` the old key signs beside the new one for `key_overlap`.
    """

    origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,254}$")] | None = None
    key_overlap: Annotated[Duration, Field(ge=timedelta(minutes=1))] = timedelta(days=7)
    retention: RetentionConfig = RetentionConfig()
    anchors: Annotated[list[AnchorConfig], Field(max_length=MAXIMUM_ANCHORS)] = Field(default=[])
    witness: WitnessConfig | None = None
    sinks: Annotated[list[SinkConfig], Field(max_length=MAXIMUM_SINKS)] = Field(default=[])

    @model_validator(mode="after")
    def _each_sink_once(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two sinks have the name {', '.join(sorted(twice))}")
        return self

    def name(self, trust_domain: str) -> str:
        """Return the log's name in checkpoints."""
        return self.origin or f"{trust_domain}/meshca/audit"
