"""An anchor at a syslog collector: a line of JSON a checkpoint, with the whole signed note.

    {"note": "...", "origin": "...", "root": "<hex>", "size": 42}

Message ID `checkpoint`, facility 13 (log audit). It cannot be read back: it is for whoever keeps
the collector's archive, and takes `note` out of it. Syslog acknowledges little (audit/syslog.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from audit.anchors.anchor import Published
from audit.note import Signature
from audit.syslog import SyslogTarget, send, syslog_message
from meshca.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogAnchor:
    """The collector `target`; `host` is what we call ourselves there."""

    target: SyslogTarget
    host: str
    clock: Clock

    @property
    def name(self) -> str:
        """Return the anchor's name."""
        return f"syslog:{self.target}"

    @property
    def is_readable(self) -> bool:
        """Return False: a collector takes, and gives nothing back."""
        return False

    async def newest(self) -> Published | None:
        """Return None: it cannot be read back."""
        return None

    async def publish(self, published: Published) -> Sequence[Signature]:
        """Send one message; raises Unavailable."""
        checkpoint = published.checkpoint
        said = {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "note": str(published.note),
        }
        text = json.dumps(said, sort_keys=True)  # ASCII: no collector can misread it
        now = self.clock.now()
        message = syslog_message(text, time=now, host=self.host, message_id="checkpoint")
        await send(self.target, [message])
        return ()
