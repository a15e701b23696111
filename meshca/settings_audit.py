"""The configuration of the audit log: its name, where it is anchored, sent and kept."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from meshca.strict import Duration, Strict


class AuditConfig(Strict):
    """The audit log.

    `origin` is its name in checkpoints, unique in the world; by default TRUST_DOMAIN/meshca/audit.
    After `rotate-key` the old key signs beside the new one for `key_overlap`.
    """

    origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,254}$")] | None = None
    key_overlap: Annotated[Duration, Field(ge=timedelta(minutes=1))] = timedelta(days=7)

    def name(self, trust_domain: str) -> str:
        """Return the log's name in checkpoints."""
        return self.origin or f"{trust_domain}/meshca/audit"
