"""The configuration of anchors: where checkpoints are kept outside, and whose we witness."""

import base64
import binascii
import hashlib
import re
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from meshca.settings_values import Address, Url
from meshca.strict import Duration, File, Strict

MAXIMUM_ANCHORS: Final = 16
MAXIMUM_LOGS: Final = 256
LONGEST_BETWEEN: Final = timedelta(days=1)
_SIGNATURE: Final = 1
_COSIGNATURE: Final = 4
_KEY: Final = re.compile(r"([^\s+]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{44})")


def _key_of(algorithm: int, what: str) -> AfterValidator:
    def check(text: str) -> str:
        """A verifier key of C2SP signed-note: name+keyid+base64(algorithm || 32 bytes)."""
        found = _KEY.fullmatch(text)
        try:
            packed = base64.b64decode(found[3], validate=True) if found else b""
        except binascii.Error:
            packed = b""
        if found is None or len(packed) != 33:
            raise ValueError("is no verifier key: write name+keyid+base64, as it was given to you")
        if packed[0] != algorithm:
            raise ValueError(f"is not the key of a {what}")
        if hashlib.sha256(f"{found[1]}\n".encode() + packed).hexdigest()[:8] != found[2]:
            raise ValueError("is damaged: its ID is not that of its name and key")
        return text

    return AfterValidator(check)


LogKey = Annotated[str, _key_of(_SIGNATURE, "log")]
WitnessKey = Annotated[str, _key_of(_COSIGNATURE, "witness")]
Origin = Annotated[str, Field(pattern=r"^[^\s\x00-\x20]{1,255}$")]


class S3Place(Strict):
    """A prefix of a bucket. Credentials: a file as AWS tools have it, or the environment."""

    endpoint: Url
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(pattern=r"^([^/\x00-\x1f]+/)+$", max_length=512)]
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "us-east-1"
    virtual_host: bool = False
    credentials_file: File | None = None
    profile: Annotated[str, Field(min_length=1, max_length=128)] = "default"
    ca_file: File | None = None

    @model_validator(mode="after")
    def _only_a_host(self) -> Self:
        if self.endpoint.count("/") > 2:
            raise ValueError("endpoint is scheme and host only: bucket and prefix have their keys")
        return self


class SyslogPlace(Strict):
    """A collector: `address`, or a local datagram `socket`."""

    transport: Literal["tls", "tcp", "udp"] = "tls"
    address: Address | None = None
    socket: File | None = None
    ca_file: File | None = None
    server_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.address is None) == (self.socket is None):
            raise ValueError("give exactly one of `address` and `socket`")
        is_tls = self.address is not None and self.transport == "tls"
        if not is_tls and (self.ca_file is not None or self.server_name is not None):
            raise ValueError("`ca_file` and `server_name` belong to transport tls")
        return self


class WitnessPlace(Strict):
    """A witness (C2SP tlog-witness): where it is asked, and the key that it cosigns with."""

    url: Url
    key: WitnessKey
    ca_file: File | None = None


class AnchorConfig(Strict):
    """One place that checkpoints are taken to, not more often than `every`."""

    file: File | None = None
    s3: S3Place | None = None
    syslog: SyslogPlace | None = None
    witness: WitnessPlace | None = None
    every: Duration = timedelta(minutes=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [p for p in (self.file, self.s3, self.syslog, self.witness) if p is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `file`, `s3`, `syslog`, `witness`")
        if not timedelta(seconds=1) <= self.every <= LONGEST_BETWEEN:
            raise ValueError("every is from 1s to 1d")
        return self


class WitnessedLog(Strict):
    """A log whose checkpoints we cosign: its origin, and every key that may sign for it."""

    origin: Origin
    keys: Annotated[list[LogKey], Field(min_length=1, max_length=64)]


class WitnessConfig(Strict):
    """Being a witness, at the public door.

    `name` is ours in cosignatures, by default TRUST_DOMAIN/meshca/witness. Replicas must share
    `key_file`, by default `witness.key` in `data_dir`.
    """

    name: Annotated[str, Field(pattern=r"^[^\s+]{1,255}$")] | None = None
    key_file: File | None = None
    logs: Annotated[list[WitnessedLog], Field(min_length=1, max_length=MAXIMUM_LOGS)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        origins = [log.origin for log in self.logs]
        if len(set(origins)) != len(origins):
            raise ValueError("logs: an origin is named twice; give all its keys in one place")
        return self
