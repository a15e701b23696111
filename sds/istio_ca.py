"""Istio's CreateCertificate (protocols.md section 2): a CSR and a token in, a chain and roots out.

The answer lists the leaf and each intermediate, one certificate an element, each ending in a
newline, and last the whole root bundle as one element: older agents concatenate, newer ones split,
and all take the last as the roots. `ImpersonatedIdentity` is refused: nobody speaks for another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ca.authority import Authorities
from ca.issuance import Issuance
from ca.request import from_csr
from identity.caller import Caller
from meshca.errors import ProofRefused, RequestRefused
from sds.proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

METHOD: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
_MAXIMUM_SECONDS: Final = 10 * 365 * 86400


def _nobody_asks(_caller: Caller) -> None:
    """Take note of nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioCertificates:
    """Answers CreateCertificate for attested callers; `told` hears who was given the roots."""

    issuance: Issuance
    authorities: Authorities
    told: Callable[[Caller], None] = _nobody_asks

    async def create(
        self, caller: Caller, request: IstioCertificateRequest
    ) -> IstioCertificateResponse:
        """Return the chain for the key in the CSR, under the caller's identity.

        A longer life than the profile allows is cut to it: istio-agent always asks for 24 hours.
        Raises Refused for a bad CSR or lifetime and for impersonation.
        """
        impersonated = request.metadata.fields.get("ImpersonatedIdentity")
        if impersonated is not None and impersonated.string_value:
            raise ProofRefused(
                "impersonation",
                f"{caller.spiffe_id} asked for the identity of another",
                claimed={"impersonated": impersonated.string_value},
            )
        lifetime = _lifetime(request.validity_duration)
        maximum = self.issuance.profile.maximum_lifetime
        asked = min(lifetime, maximum) if lifetime is not None else None
        svid = await self.issuance.issue(
            caller, from_csr(request.csr.encode(), caller.spiffe_id, asked)
        )
        roots = self.authorities.bundle.pem().decode()
        self.told(caller)
        chain = [certificate.decode() for certificate in svid.chain_pem]
        return IstioCertificateResponse(cert_chain=[*chain, roots])


def _lifetime(seconds: int) -> timedelta | None:
    if seconds == 0:
        return None
    if not 0 < seconds <= _MAXIMUM_SECONDS:
        raise RequestRefused("lifetime", f"validity_duration is {seconds} seconds")
    return timedelta(seconds=seconds)
