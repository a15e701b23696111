"""The authorities whose keys this process holds: made just now, or unwrapped from the table.

Keys live in memory, unless there is a `KeyAtRest` to wrap them for the table. Then a restart needs
no upstream; without one, each start asks for a fresh intermediate. Keys that are somewhere else
(Transit, PKCS#11) are the upstream's business.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca.at_rest import KeyAtRest
from ca.authority import Authorities, Authority
from ca.keys import PrivateKeySigner, private_key_pem
from ca.upstream.chain import make_authority
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable
from meshca.logs import get_logger
from rotation.stages import ENDED
from rotation.standings import Row

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Custody:
    """What this process can sign with; `authorities` is told of each, for its URLs."""

    authorities: Authorities
    clock: Clock
    at_rest: KeyAtRest | None = None
    held: dict[str, Authority] = field(default_factory=dict)

    def take(self, authority: Authority) -> None:
        """Hold `authority`."""
        self.held[authority.authority_id] = authority
        self.authorities.remember(authority)

    def keep_only(self, may_sign: Set[str]) -> None:
        """Let go of every other authority, its key too: what may not sign again needs none."""
        for name in self.held.keys() - may_sign:
            del self.held[name]
            self.authorities.forget(name)

    def wrap(self, authority: Authority) -> bytes | None:
        """Return the key of `authority` for the table; None when it is not to be kept there."""
        if self.at_rest is None or not isinstance(authority.signer, PrivateKeySigner):
            return None
        key = private_key_pem(authority.signer.key)
        return self.at_rest.wrap(key, context=authority.authority_id)

    def recover(self, rows: Sequence[Row], roots: Mapping[str, x509.Certificate]) -> None:
        """Hold every authority of `rows` whose key was kept; what does not open is left out."""
        if self.at_rest is None:
            return
        for row in rows:
            root = roots.get(row.root_sha256)
            if row.key is None or row.standing.stage in ENDED or root is None:
                continue
            try:
                self.take(self._restore(self.at_rest, row, row.key, root))
            except AuthorityUnavailable as error:
                name = row.standing.authority_id
                log.error("authority_not_restored", authority=name, error=str(error))

    def _restore(
        self, at_rest: KeyAtRest, row: Row, blob: bytes, root: x509.Certificate
    ) -> Authority:
        pem = at_rest.unwrap(blob, context=row.standing.authority_id)
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise AuthorityUnavailable("its stored key does not load") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise AuthorityUnavailable("its stored key is not ECDSA or RSA")
        return make_authority(
            row.chain,
            [root],
            key,
            trust_domain=self.authorities.trust_domain,
            now=self.clock.now(),
        )
