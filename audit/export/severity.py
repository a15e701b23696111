"""How much an entry matters, on the scales of those who receive exports. Pure.

Nothing here is an alarm: a refusal is this service doing its work. What stands out are steps that
take security away or say that something is missing.
"""

from enum import IntEnum
from typing import Final


class Severity(IntEnum):
    """From least to most; each format has its own numbers for these."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4


_BY_KIND: Final = {
    "break_glass": Severity.HIGH,
    "gap": Severity.HIGH,
    "clock": Severity.MEDIUM,
    "root_change": Severity.MEDIUM,
    "revocation": Severity.MEDIUM,
    "ban": Severity.MEDIUM,
    "redaction": Severity.LOW,
    "log_key": Severity.MEDIUM,
}
_BY_OUTCOME: Final = {"refused": Severity.LOW, "failed": Severity.MEDIUM}


def severity_of(kind: str, outcome: str) -> Severity:
    """Return how much an entry of `kind` with `outcome` matters."""
    return max(
        _BY_KIND.get(kind, Severity.INFORMATIONAL), _BY_OUTCOME.get(outcome, Severity.INFORMATIONAL)
    )


CEF: Final = {1: 2, 2: 4, 3: 6, 4: 8}
"""CEF's severity, 0 to 10."""

SYSLOG: Final = {1: 6, 2: 5, 3: 4, 4: 3}
"""Syslog's severity (RFC 5424 6.2.1): informational, notice, warning, error."""

OTLP: Final = {1: 9, 2: 10, 3: 13, 4: 17}
"""OpenTelemetry's severity number: INFO, INFO2, WARN, ERROR."""
