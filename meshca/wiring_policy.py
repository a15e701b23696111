"""Building the parts of authorization policy from the configuration."""

import sqlalchemy as sa

from audit.entry import Entry
from authz.change import Change
from authz.load import load_policies
from authz.sources import PolicyLoader, PolicyOptions
from authz.state import PolicyState
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.settings import Settings

log = get_logger("meshca")


def build_policies(
    settings: Settings,
    *,
    engine: sa.Engine,
    writer: GroupWriter,
    clock: Clock,
    metrics: Metrics,
) -> PolicyLoader:
    """Return the loader; until it has loaded, nothing is allowed."""
    options = PolicyOptions(
        trust_domain=settings.trust_domain,
        root_namespace=settings.policy.root_namespace,
        default=settings.policy.default,
        directories=tuple(
            source.directory for source in settings.policy.sources if source.directory is not None
        ),
    )
    nothing = load_policies(
        (),
        trust_domain=options.trust_domain,
        root_namespace=options.root_namespace,
        default="deny",
    )
    return PolicyLoader(
        state=PolicyState(nothing),
        options=options,
        engine=engine,
        clock=clock,
        metrics=metrics,
        on_directory_change=lambda change: _note_directory_change(change, writer, clock),
    )


def _note_directory_change(change: Change, writer: GroupWriter, clock: Clock) -> None:
    """Record a change of policy that nobody applied through a door of ours."""
    try:
        writer.enqueue(
            Entry(
                time=clock.now(),
                kind="policy_change",
                outcome="done",
                actor="directory",
                reason=str(change),
                details={
                    "before": change.before,
                    "after": change.after,
                    "added": list(change.added),
                    "removed": list(change.removed),
                    "changed": list(change.changed),
                },
            )
        )
    except MeshcaError as error:
        log.error("not_recorded", what="policy change", error=str(error))
