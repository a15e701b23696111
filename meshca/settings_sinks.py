"""The configuration of sinks: collectors that the audit log is sent to as it grows."""

from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from meshca.settings_anchors import SyslogPlace
from meshca.settings_values import Url
from meshca.strict import File, Strict

MAXIMUM_SINKS: Final = 16
_HERE: Final = ("127.0.0.1", "::1", "localhost")


class OtlpPlace(Strict):
    """A collector of OpenTelemetry logs over HTTP: `url` with its path, mostly /v1/logs.

    `token_file` holds a bearer token. Plain http is for a collector on this machine.
    """

    url: Url
    ca_file: File | None = None
    token_file: File | None = None

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and parts.hostname not in _HERE:
            raise ValueError("url must be https: only a collector on this machine may do without")
        if parts.scheme == "http" and self.ca_file is not None:
            raise ValueError("`ca_file` belongs to https")
        return self


class SyslogSinkPlace(SyslogPlace):
    """A syslog collector, and whether entries come as JSON or as CEF."""

    format: Literal["json", "cef"] = "json"

    @model_validator(mode="after")
    def _not_over_udp(self) -> Self:
        if self.address is not None and self.transport == "udp":
            raise ValueError("transport udp loses entries and nobody hears of it: use tls or tcp")
        return self


class SinkConfig(Strict):
    """One collector; `name` is what its place in the log is remembered by.

    `begin`: what a sink that never delivered begins with, the first entry or those to come.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    otlp: OtlpPlace | None = None
    syslog: SyslogSinkPlace | None = None
    begin: Literal["first", "now"] = "first"

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.otlp is None) == (self.syslog is None):
            raise ValueError("give exactly one of `otlp` and `syslog`")
        return self
