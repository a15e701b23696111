"""The audit entry of each step of a staged change and of an emergency."""

from typing import Final

from audit.entry import Entry
from authz.staging.events import STAGE_SUBJECT, Event, Step

_KINDS: Final = {Step.ENFORCED: "policy_change"}
"""A candidate that is enforced is an applied set like any other."""


def staging_entry(event: Event, outcome: str) -> Entry:
    """Return what is recorded of `event`: who, why, and what it did to whom."""
    subject, _, name = event.subject.partition("/")
    is_stage = event.subject == STAGE_SUBJECT
    kind = _KINDS.get(event.step, "policy_stage") if is_stage else "break_glass"
    return Entry(
        time=event.at,
        kind=kind,
        outcome=outcome,
        actor=event.actor,
        namespace=str(event.details.get("namespace", "")),
        policy=str(event.details.get("policy", "")),
        reason=event.reason,
        details={
            "step": str(event.step),
            "subject": subject,
            **({"digest" if subject == "policy" else "bypass": name} if name else {}),
            **{key: value for key, value in event.details.items() if key != "namespace"},
        },
    )
