"""Having a PKI mount revoke one of our intermediates, and nothing that it did not issue.

The certificate itself is sent and not its serial number: Vault then checks that one of its issuers
signed it, as is done here first. The policy that allows this allows the revocation of anything in
the mount, so the set-up script grants it only when told to (`REVOKE=yes`).
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.upstream.chain import is_issued_by
from ca.upstream.vault.client import not_vault
from ca.upstream.vault.errors import Reaction, VaultFault
from ca.upstream.vault.issuers import DEFAULT_ISSUER, Issuer, fetch_issuers
from ca.upstream.vault.session import Session
from meshca.logs import get_logger

# Vault puts what has ended on no list, and says so in a warning.
_HAS_ENDED: Final = "already expired"

log = get_logger("vault")


def revoke_in(
    session: Session, mount: str, certificate: x509.Certificate, *, deadline: float
) -> bool:
    """Return True once `mount` has revoked `certificate`, False if no issuer of it signed it.

    Raises VaultFault. To ask again changes nothing.
    """
    issuers = fetch_issuers(session.connection, mount, DEFAULT_ISSUER, deadline=deadline)
    if not _issued(issuers, certificate):
        return False
    path = f"{mount}/revoke"
    body = {"certificate": certificate.public_bytes(Encoding.PEM).decode()}
    try:
        answer = session.ask("post", path, body, deadline=deadline)
    except VaultFault as fault:
        if fault.condition != "policy_denies":
            raise
        raise _denied(mount, certificate) from fault
    if answer.data.get("revocation_time"):
        log.info("vault_revoked", serial=colons(certificate))
    elif not any(_HAS_ENDED in warning for warning in answer.warnings):
        raise not_vault(f"the answer to {path} does not say that it is revoked")
    return True


def colons(certificate: x509.Certificate) -> str:
    """Return its serial number as Vault writes it: bytes in hex, with colons."""
    number = certificate.serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex(":")


def _issued(issuers: Sequence[Issuer], certificate: x509.Certificate) -> bool:
    """Return whether one of `issuers` signed `certificate`, which is none of them itself."""
    if any(certificate in issuer.chain for issuer in issuers):
        return False
    return any(is_issued_by(certificate, issuer.chain[0]) for issuer in issuers)


def _denied(mount: str, certificate: x509.Certificate) -> VaultFault:
    return VaultFault(
        "policy_denies",
        Reaction.CONFIGURE,
        f"the policy does not grant update on {mount}/revoke: run deploy/vault/setup.sh with "
        "REVOKE=yes, or do it by hand: "
        f"vault write {mount}/revoke serial_number={colons(certificate)}",
    )
