"""The configuration of authorization policy: where it comes from, and what proxies tell of it."""

from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from meshca.settings_values import Address, ApiServer, Name
from meshca.strict import Duration, File, Strict

LONGEST_TIMEOUT: Final = timedelta(seconds=10)


class PolicySource(Strict):
    """One place that policies come from: a directory, or a cluster's custom resources."""

    directory: File | None = None
    kubernetes: ApiServer | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.directory is None) == (self.kubernetes is None):
            raise ValueError("give exactly one of `directory` and `kubernetes`")
        return self


class Pods(ApiServer):
    """A cluster whose pods are watched for their labels; `cluster` is its name in `clusters`."""

    cluster: Name


class Provider(Strict):
    """An external authorizer that CUSTOM policies name: it speaks Envoy's ext_authz over gRPC.

    It is reached over TLS, verified by `ca_file`; without one in plaintext, which is for
    authorizers on the same machine. What it does not answer within `timeout` is denied.
    """

    address: Address
    ca_file: File | None = None
    server_name: str | None = None
    timeout: Duration = timedelta(seconds=1)

    @field_validator("timeout")
    @classmethod
    def _is_less_than_proxies_wait(cls, timeout: timedelta) -> timedelta:
        if timeout > LONGEST_TIMEOUT:
            raise ValueError("is longer than 10s, which is what proxies wait for providers")
        return timeout


class Canary(Strict):
    """When a staged change is taken back by itself: denials of what was allowed before it.

    `denials` of different pairs of peer and destination, within `window`.
    """

    denials: Annotated[int, Field(ge=1, le=100_000)] = 5
    window: Duration = timedelta(minutes=5)


class Records(Strict):
    """Decision records: for how long they are kept."""

    keep: Duration = timedelta(days=30)


class PolicyConfig(Strict):
    """Authorization policy: its sources and what holds where no policy speaks.

    `token_keys_ca_file` are the roots of the servers that token issuers' keys are fetched from, in
    place of the system's.
    """

    sources: list[PolicySource] = Field(default=[])
    default: Literal["allow", "deny"] = "deny"
    root_namespace: Name = "meshca"
    trust_domain_aliases: list[Name] = Field(default=[])
    providers: dict[Name, Provider] = Field(default={})
    pods: list[Pods] = Field(default=[])
    token_keys_ca_file: File | None = None
    canary: Canary = Canary()
    records: Records = Records()
