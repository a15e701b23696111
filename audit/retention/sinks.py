"""The records of retention that a GroupWriter takes."""

from collections.abc import Mapping
from typing import Final

from audit.retention.holds import HoldChange, HoldSink
from audit.retention.redaction import Redact, RedactionSink
from meshca.database import Sink

RETENTION_SINKS: Final[Mapping[type, Sink]] = {HoldChange: HoldSink(), Redact: RedactionSink()}
