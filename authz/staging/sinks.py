"""The records of staging that a GroupWriter takes."""

from collections.abc import Mapping
from typing import Final

from authz.staging.denials import CanaryDenial, CanaryDenialSink
from authz.staging.events import Event, EventSink
from meshca.database import Sink

STAGING_SINKS: Final[Mapping[type, Sink]] = {
    Event: EventSink(),
    CanaryDenial: CanaryDenialSink(),
}
