"""One audit entry: what happened, to whom, with which outcome, by whom and why."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from datetime import datetime
from types import MappingProxyType
from typing import Final

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
"""A value that canonical JSON can hold."""

KINDS: Final = (
    "issuance",
    "refusal",
    "renewal",
    "policy_change",
    "policy_stage",
    "break_glass",
    "server_start",
    "server_stop",
    "authority_change",
    "root_change",
    "federation_change",
    "revocation",
    "ban",
    "decision",
    "decision_count",
    "login",
    "read",
    "configuration",
    "clock",
    "log_key",
    "legal_hold",
    "redaction",
    "restore",
    "anchor",
    "witness",
    "gap",
)
"""What an entry can be about; queries name these, and an unknown one is an error."""

OUTCOMES: Final = ("done", "refused", "failed")

current_request: Final[ContextVar[str]] = ContextVar("current_request", default="")
"""What the request under way is called: whoever lets it in sets it, entries made for it have it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is recorded; empty text means "not applicable".

    `actor` is who did it: a SPIFFE ID, `uid:0`, or `meshca` itself. `fingerprint` is the SHA-256
    of a certificate's DER in hex. `destination` and `policy` are what a decision was about, and
    what decided. `request_id` is what the caller, or a proxy, calls the request. `reason` is a
    stable code for a refusal or an operator's words for a change. `details` holds the rest:
    evidence, what was claimed, counts; never a key, a token or a certificate request.
    """

    time: datetime
    kind: str
    outcome: str
    actor: str = ""
    spiffe_id: str = ""
    serial: str = ""
    fingerprint: str = ""
    cluster: str = ""
    namespace: str = ""
    service_account: str = ""
    pod: str = ""
    node: str = ""
    destination: str = ""
    policy: str = ""
    request_id: str = field(default_factory=current_request.get)
    reason: str = ""
    details: Mapping[str, Json] = field(default_factory=lambda: MappingProxyType({}))


TEXTS: Final = tuple(one.name for one in fields(Entry) if one.type is str)
"""The fields of an entry that are text, in their order: what is indexed, exported and sent."""
