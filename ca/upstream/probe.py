"""A probe: an SVID that is signed, verified up to the root, and thrown away.

Whatever an upstream gave us, an authority that cannot make this one certificate must not sign any
other. Nothing is recorded, since the probe never leaves this function.
"""

from datetime import datetime, timedelta
from typing import Final

from ca.authority import Authority
from ca.issuer import compare, prepare, sign
from ca.profile import Profile
from ca.request import generate
from identity.caller import Caller, Evidence
from identity.peer import verify_peer
from meshca.errors import AuthorityUnavailable, MeshcaError
from meshca.spiffe_id import SpiffeId

PROBE_PATH: Final = "/meshca/probe"
_LIFETIME: Final = timedelta(minutes=1)


def check_by_probe(authority: Authority, *, trust_domain: str, now: datetime) -> None:
    """Raise AuthorityUnavailable unless a leaf signed by `authority` verifies up to its root."""
    profile = Profile(trust_domain, _LIFETIME, _LIFETIME, timedelta(0))
    caller = Caller(SpiffeId(trust_domain, PROBE_PATH), Evidence(method="self"), now + _LIFETIME)
    try:
        prepared = prepare(
            caller, generate().request, authority=authority, profile=profile, now=now
        )
        leaf = compare(prepared, sign(prepared))
        verify_peer(
            [leaf, *authority.chain], roots=[authority.root], trust_domain=trust_domain, now=now
        )
    except MeshcaError as error:
        raise AuthorityUnavailable(
            f"authority {authority.authority_id} may not sign: a probe that it signed does not "
            f"verify: {error}"
        ) from error
