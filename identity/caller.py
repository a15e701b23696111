"""The attested caller: what every proof of identity becomes, and all that later steps may trust."""

from dataclasses import dataclass
from datetime import datetime

from meshca.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a caller's identity was derived from; it is recorded with each certificate.

    Empty text means that this proof does not speak of it. `token_id` is the token's `jti`, or
    `sha256:` and the first 32 hex digits of the token's hash; never the token.
    """

    method: str
    cluster: str = ""
    issuer: str = ""
    namespace: str = ""
    service_account: str = ""
    service_account_uid: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    node: str = ""
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """A proven identity, what proved it, and until when that proof is good.

    `certificate_serial` (hex) is that of the certificate that is the proof, if one is.
    """

    spiffe_id: SpiffeId
    evidence: Evidence
    expires_at: datetime
    certificate_serial: str = ""

    @property
    def holder(self) -> str:
        """Return the key of the one workload instance behind this proof.

        The pod, where there is one: a pod that comes back with a fresh token is the same holder.
        """
        e = self.evidence
        return f"{self.spiffe_id}|{e.cluster}|{e.pod_uid or e.token_id}"
