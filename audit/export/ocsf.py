"""OCSF 1.8.0, the Open Cybersecurity Schema Framework: one JSON event a line. Pure.

Each kind of entry has the event class that says most of it; what has none is a Base Event.
`raw_data` is the entry's body, byte for byte, and `metadata.uid` the hash of its leaf, so that an
event can be held against the log. What the class has no attribute for is in `unmapped`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson

from audit.export.severity import Severity, severity_of
from audit.log import Stored

SCHEMA: Final = "1.8.0"
_OTHER: Final = 99
_API_ACTIVITY: Final = 6003
_IAM: Final = "Identity & Access Management"
_UNMAPPED: Final = (
    "cluster",
    "namespace",
    "service_account",
    "pod",
    "node",
    "destination",
    "policy",
    "details",
)
_TEXTS: Final = (
    "actor",
    "spiffe_id",
    "serial",
    "fingerprint",
    "reason",
    "outcome",
    *_UNMAPPED[:-1],
)
_NOTHING: Final = {**dict.fromkeys(_TEXTS, ""), "details": {}}
_STATUS: Final = {"done": (1, "Success"), "refused": (2, "Failure"), "failed": (2, "Failure")}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventClass:
    """A class of the schema, with the activity that one kind of entry is."""

    uid: int
    name: str
    category: str
    activity_id: int
    activity: str
    more: Callable[[Json], Json] = lambda _: {}


def event(stored: Stored, *, origin: str, version: str) -> bytes:
    """Return the line of one entry of the log `origin`, recorded by this `version` of meshca."""
    document = _whole(stored.document())
    known = REDACTED if document is None else BY_KIND.get(stored.kind, OTHER)
    if document is None:
        made = _common(stored, {}, known, origin, version)
        return _line({**made, "message": f"{stored.kind}: redacted by retention"})
    unmapped = {name: document[name] for name in _UNMAPPED if document.get(name)}
    made = {
        **_common(stored, document, known, origin, version),
        **known.more(document),
        "raw_data": (stored.body or b"").decode(),
    }
    if actor := document["actor"]:
        if known.category == _IAM or known.uid == _API_ACTIVITY:
            made["actor"] = {"user": _user(actor)}
        else:
            unmapped["actor"] = actor
    return _line({**made, "unmapped": unmapped} if unmapped else made)


def _whole(document: Json | None) -> Json | None:
    """Return `document` with what entries of older schemas do not have."""
    return None if document is None else {**_NOTHING, **document}


def index_of(line: bytes) -> int | None:
    """Return the index of the entry in `line`; None if it is no entry's."""
    try:
        index = orjson.loads(line)["metadata"]["sequence"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return index if type(index) is int else None


def _line(made: Json) -> bytes:
    return orjson.dumps(made, option=orjson.OPT_SORT_KEYS) + b"\n"


def _common(stored: Stored, document: Json, known: EventClass, origin: str, version: str) -> Json:
    severity = severity_of(stored.kind, document.get("outcome", ""))
    status_id, status = _STATUS.get(document.get("outcome", ""), (0, "Unknown"))
    made: Json = {
        "class_uid": known.uid,
        "class_name": known.name,
        "category_uid": known.uid // 1000,
        "category_name": known.category,
        "activity_id": known.activity_id,
        "activity_name": known.activity,
        "type_uid": known.uid * 100 + known.activity_id,
        "type_name": f"{known.name}: {known.activity}",
        "time": stored.time_us // 1000,
        "severity_id": int(severity),
        "severity": _SEVERITY[severity],
        "status_id": status_id,
        "status": status,
        "message": _message(stored.kind, document),
        "metadata": {
            "version": SCHEMA,
            "product": {"name": "meshca", "vendor_name": "meshca", "version": version},
            "log_name": "audit",
            "log_provider": origin,
            "event_code": stored.kind,
            "sequence": stored.index,
            "uid": stored.leaf_hash.hex(),
        },
    }
    if request := document.get("request_id"):
        made["metadata"]["correlation_uid"] = request
    if time := document.get("time"):
        made["metadata"]["original_time"] = time
    if reason := document.get("reason"):
        made["status_detail"] = reason
    return made


_SEVERITY: Final = {
    Severity.INFORMATIONAL: "Informational",
    Severity.LOW: "Low",
    Severity.MEDIUM: "Medium",
    Severity.HIGH: "High",
}


def _message(kind: str, document: Json) -> str:
    about = document.get("spiffe_id") or document.get("serial") or document.get("destination")
    said = " ".join(text for text in (kind, document.get("outcome"), about) if text)
    reason = document.get("reason")
    return f"{said}: {reason}" if reason else said


def _user(name: str) -> Json:
    """Return whoever `name` is: a workload (4, Service), ourselves (3, System), a person (1)."""
    type_id = 4 if name.startswith("spiffe://") else 3 if name == "meshca" else 1
    return {"name": name, "uid": name, "type_id": type_id}


def _subject(document: Json) -> Json:
    """Return whom a login, a refusal or a ban is about."""
    name = document["spiffe_id"] or document["actor"] or "unknown"
    return {"user": _user(name)}


def _login(document: Json) -> Json:
    return {**_subject(document), "service": {"name": "meshca"}}


def _ban(document: Json) -> Json:
    return {"user": _user(document["spiffe_id"] or _selector(document) or "unknown")}


def _selector(document: Json) -> str:
    names = ("cluster", "namespace", "service_account", "node")
    return "/".join(document[name] for name in names if document[name])


def _entity(type_id: int, type_name: str) -> Callable[[Json], Json]:
    def more(document: Json) -> Json:
        name = document["spiffe_id"] or document["policy"] or document["serial"] or type_name
        entity = {"name": name, "type_id": type_id, "type": type_name}
        if uid := document["serial"] or document["fingerprint"]:
            entity["uid"] = uid
        made: Json = {"entity": entity}
        if reason := document["reason"]:
            made["comment"] = reason
        return made

    return more


def _decision(document: Json) -> Json:
    made: Json = {"src_endpoint": {"svc_name": document["spiffe_id"] or "unknown"}}
    if destination := document["destination"]:
        made["dst_endpoint"] = {"svc_name": destination}
    count = document["details"].get("count")
    return {**made, "count": count} if type(count) is int and count > 0 else made


def _read(document: Json) -> Json:
    details = document["details"]
    operation = details.get("path") or details.get("what") or document["reason"] or "read"
    peer = str(details.get("peer") or "unknown")
    actor = document["actor"] or "unknown"
    return {
        "api": {"operation": str(operation)},
        "src_endpoint": {"name": peer},
        "actor": {"user": _user(actor)},
    }


def _lifecycle(document: Json) -> Json:
    version = document["details"].get("version")
    app = {"name": "meshca", "vendor_name": "meshca"}
    return {"app": {**app, "version": version} if isinstance(version, str) else app}


def _managed(activity_id: int, activity: str, type_id: int, type_name: str) -> EventClass:
    more = _entity(type_id, type_name)
    return EventClass(3004, "Entity Management", _IAM, activity_id, activity, more)


_APPLICATION: Final = "Application Activity"
_NETWORK: Final = "Network Activity"
_POLICY: Final = 5
_ERROR: Final = EventClass(6008, "Application Error", _APPLICATION, 1, "General Error")

OTHER: Final = EventClass(0, "Base Event", "Uncategorized", _OTHER, "Other")
REDACTED: Final = OTHER
BY_KIND: Final[Mapping[str, EventClass]] = MappingProxyType(
    {
        "issuance": _managed(1, "Create", _OTHER, "X.509-SVID"),
        "renewal": _managed(3, "Update", _OTHER, "X.509-SVID"),
        "revocation": _managed(11, "Deactivate", _OTHER, "X.509-SVID"),
        "refusal": EventClass(3002, "Authentication", _IAM, 1, "Logon", _login),
        "login": EventClass(3002, "Authentication", _IAM, 1, "Logon", _login),
        "ban": EventClass(3001, "Account Change", _IAM, 9, "Lock", _ban),
        "policy_change": _managed(3, "Update", _POLICY, "Policy"),
        "policy_stage": _managed(3, "Update", _POLICY, "Policy"),
        "break_glass": _managed(10, "Activate", _POLICY, "Policy"),
        "authority_change": _managed(3, "Update", _OTHER, "Certificate authority"),
        "root_change": _managed(3, "Update", _OTHER, "Root"),
        "federation_change": _managed(3, "Update", _OTHER, "Trust domain"),
        "configuration": _managed(3, "Update", _OTHER, "Configuration"),
        "log_key": _managed(1, "Create", _OTHER, "Log key"),
        "legal_hold": _managed(3, "Update", _OTHER, "Legal hold"),
        "redaction": _managed(4, "Delete", _OTHER, "Audit entries"),
        "decision": EventClass(4001, "Network Activity", _NETWORK, 5, "Refuse", _decision),
        "decision_count": EventClass(4001, "Network Activity", _NETWORK, 6, "Traffic", _decision),
        "read": EventClass(_API_ACTIVITY, "API Activity", _APPLICATION, 2, "Read", _read),
        "server_start": EventClass(
            6002, "Application Lifecycle", _APPLICATION, 3, "Start", _lifecycle
        ),
        "server_stop": EventClass(
            6002, "Application Lifecycle", _APPLICATION, 4, "Stop", _lifecycle
        ),
        "clock": _ERROR,
        "gap": _ERROR,
    }
)
