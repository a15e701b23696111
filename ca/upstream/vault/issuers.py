"""The PKI mount as anybody may see it: its roots and their revocation lists, without a token.

An operator who adds a root to the mount wants it trusted before it signs, so every issuer is looked
at, unless one is pinned. What may not speak for our trust domain is left out and logged.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.upstream.chain import check_root, is_issued_by, is_self_signed
from ca.upstream.issuer_crl import IssuerCrl, read_issuer_crl
from ca.upstream.vault.client import Answer, Connection, not_vault
from ca.upstream.vault.errors import Asking
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger

DEFAULT_ISSUER: Final = "default"
MAXIMUM_ISSUERS: Final = 64
_ISSUER_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")

log = get_logger("vault")


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer of the mount: its own certificate first, then what stands above it."""

    reference: str
    chain: tuple[x509.Certificate, ...]


def fetch_issuers(
    connection: Connection, mount: str, pinned: str, *, deadline: float
) -> tuple[Issuer, ...]:
    """Return every issuer of the mount, or the one that is pinned; raises VaultFault."""
    if pinned != DEFAULT_ISSUER:
        return (_fetch_issuer(connection, mount, pinned, deadline),)
    answer = _see(connection, "list", f"{mount}/issuers", deadline)
    references = answer.data.get("keys")
    if not isinstance(references, list) or not references:
        raise not_vault(f"mount {mount} lists no issuers")
    if len(references) > MAXIMUM_ISSUERS:
        raise not_vault(f"mount {mount} lists more than {MAXIMUM_ISSUERS} issuers: pin one")
    for reference in references:
        if not isinstance(reference, str) or not _ISSUER_ID.fullmatch(reference):
            raise not_vault(f"mount {mount} lists an issuer of no possible name")
    return tuple(_fetch_issuer(connection, mount, r, deadline) for r in sorted(references))


def _see(connection: Connection, method: str, path: str, deadline: float) -> Answer:
    return connection.ask(method, path, deadline=deadline, asking=Asking.AS_ANYBODY)


def _fetch_issuer(connection: Connection, mount: str, reference: str, deadline: float) -> Issuer:
    answer = _see(connection, "get", f"{mount}/issuer/{reference}/json", deadline)
    above = answer.data.get("ca_chain")
    chain = [answer.text("certificate"), *(above if isinstance(above, list) else [])]
    return Issuer(reference, certificates_of(chain))


def certificates_of(texts: Sequence[object]) -> tuple[x509.Certificate, ...]:
    """Return the PEM certificates in `texts`, each once; raises VaultFault."""
    pem = "\n".join(str(text) for text in texts).encode()
    try:
        return tuple(dict.fromkeys(x509.load_pem_x509_certificates(pem)))
    except (ValueError, x509.InvalidVersion) as error:
        raise not_vault("a certificate in the answer cannot be read") from error


def trusted_roots(
    issuers: Sequence[Issuer], *, trust_domain: str, now: datetime
) -> tuple[x509.Certificate, ...]:
    """Return the roots above `issuers` that may speak for the trust domain, in a stable order."""
    found = dict.fromkeys(_roots(issuers))
    roots = [root for root in found if _may_be_trusted(root, trust_domain, now)]
    return tuple(
        sorted(roots, key=lambda r: (r.not_valid_before_utc, r.public_bytes(Encoding.DER)))
    )


def _roots(issuers: Sequence[Issuer]) -> Iterator[x509.Certificate]:
    """Yield what signed each issuer; a chain also holds what stands above bridges, and is longer.

    So whoever may import certificates into the mount cannot put a root of theirs above one that is
    pinned: each other root is an issuer of its own, and seen as that.
    """
    for issuer in issuers:
        own = issuer.chain[0]
        roots = [c for c in issuer.chain if is_self_signed(c)]
        yield from [c for c in roots if is_issued_by(own, c)] or roots


def _may_be_trusted(root: x509.Certificate, trust_domain: str, now: datetime) -> bool:
    try:
        check_root(root, trust_domain)
    except AuthorityUnavailable as error:
        log.error("vault_root_not_trusted", error=str(error))
        return False
    return now < root.not_valid_after_utc


def fetch_crl(connection: Connection, mount: str, issuer: Issuer, *, deadline: float) -> IssuerCrl:
    """Return the revocation list of `issuer`; raises VaultFault when it is not its own."""
    answer = _see(connection, "get", f"{mount}/issuer/{issuer.reference}/crl", deadline)
    try:
        crl = x509.load_pem_x509_crl(answer.text("crl").encode())
        return read_issuer_crl(crl, issuer.chain[0])
    except ValueError as error:
        raise not_vault("the revocation list cannot be read") from error
    except AuthorityUnavailable as error:
        raise not_vault(f"issuer {issuer.reference}: {error}") from error
