"""Admission for calls that come by the thousand: who was attested a moment ago is, still.

Tokens are remembered by who verifies them. A client certificate costs a chain and a look into the
database, so here its caller is remembered by the leaf's bytes, which TLS has just proved again, for
`REMEMBERED_SECONDS`. Bans and revocations are looked at on each call all the same; whoever does
not pass goes through the whole admission, which says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cachetools import LRUCache

from authz.records.observed import Place
from identity.caller import Caller
from meshca.errors import Refused
from sds.admission import Admission, Peer

REMEMBERED_SECONDS: Final = 60.0
MAXIMUM_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Proof:
    """What a call shows: metadata, the leaf's PEM where TLS asked for one, and all of it parsed."""

    metadata: Mapping[str, str]
    leaf: bytes
    peer: Callable[[], Peer]


def place_of(caller: Caller) -> Place:
    """Return where the proxy that `caller` is decides."""
    e = caller.evidence
    return Place(e.cluster, e.service_account, e.pod_name, e.node)


@dataclass(slots=True)
class KnownCallers:
    """Attests callers by way of `admission`, and remembers those with a certificate."""

    admission: Admission
    _known: LRUCache[bytes, tuple[Caller, float]] = field(
        default_factory=lambda: LRUCache(MAXIMUM_REMEMBERED), repr=False
    )

    async def admit(self, door: str, proof: Proof) -> Caller:
        """Return the attested caller of `door`; raises Refused (recorded) or Unavailable."""
        clock = self.admission.clock
        if not proof.leaf:
            return await self.admission.admit(door, proof.metadata, proof.peer())
        known = self._known.get(proof.leaf)
        if known is not None and clock.monotonic() < known[1] and self.still_passes(known[0]):
            return known[0]
        caller = await self.admission.admit(door, proof.metadata, proof.peer())
        self._known[proof.leaf] = caller, clock.monotonic() + REMEMBERED_SECONDS
        return caller

    def still_passes(self, caller: Caller) -> bool:
        """Return whether a caller that was attested before is neither refused nor expired now."""
        try:
            self.admission.check_serial(caller.certificate_serial)
            self.admission.check_caller(caller)
        except Refused:
            return False
        return self.admission.clock.now() < caller.expires_at
