"""Authorities: certificates that may sign leaves, and the holder that knows which one is active.

An `Authority` is a value: the intermediate's certificate, the chain above it, and the signer that
holds its key. `Authorities` is the one place where "which authority signs now, and which roots do
proxies trust" lives; rotation replaces its content, doors and issuance read it. Subscribers hear
of each change of the bundle.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.bundle import TrustBundle
from meshca.errors import AuthorityUnavailable, NotFound


class Signer(Protocol):
    """Whoever holds an authority's private key: a file, later Vault Transit or PKCS#11."""

    @property
    def signature_algorithm(self) -> bytes:
        """Return the DER AlgorithmIdentifier of its signatures (RFC 5280 4.1.1.2)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, as it stands in a certificate's BIT STRING."""
        ...


@dataclass(frozen=True, slots=True)
class Authority:
    """One signing certificate with its chain; `chain` begins with it and ends below the root.

    `bridges` are cross-signed roots: they carry the root's name and key, and are issued by another
    root. Proxies show them after the chain, for those who only have that other root.
    `not_before` and `not_after` are those of the whole chain: nothing signed here lies outside.
    """

    chain: tuple[x509.Certificate, ...]
    root: x509.Certificate
    signer: Signer
    bridges: tuple[x509.Certificate, ...] = ()
    authority_id: str = field(init=False)
    subject_key_id: bytes = field(init=False)
    subject_der: bytes = field(init=False)
    signature_algorithm: bytes = field(init=False)
    chain_pem: tuple[bytes, ...] = field(init=False)
    bridges_pem: tuple[bytes, ...] = field(init=False)
    not_before: datetime = field(init=False)
    not_after: datetime = field(init=False)

    def __post_init__(self) -> None:
        ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        set_field = object.__setattr__
        set_field(self, "subject_key_id", ski.value.digest)
        set_field(self, "authority_id", ski.value.digest.hex())
        set_field(self, "subject_der", self.certificate.subject.public_bytes())
        set_field(self, "signature_algorithm", self.signer.signature_algorithm)
        set_field(self, "chain_pem", tuple(c.public_bytes(Encoding.PEM) for c in self.chain))
        set_field(self, "bridges_pem", tuple(c.public_bytes(Encoding.PEM) for c in self.bridges))
        above = (*self.chain, self.root)
        set_field(self, "not_before", max(c.not_valid_before_utc for c in above))
        set_field(self, "not_after", min(c.not_valid_after_utc for c in above))

    @property
    def certificate(self) -> x509.Certificate:
        """Return the signing certificate itself."""
        return self.chain[0]


@dataclass(slots=True)
class Authorities:
    """The active authority, the bundle that goes with it, and those that were active before."""

    trust_domain: str
    _active: Authority | None = None
    _known: dict[str, Authority] = field(default_factory=dict)
    _barred: set[str] = field(default_factory=set)
    _bundle: TrustBundle | None = None
    _subscribers: list[Callable[[], None]] = field(default_factory=list)

    def active(self, now: datetime) -> Authority:
        """Return the authority that signs now.

        Raises AuthorityUnavailable when none is loaded, or its chain has expired or, since the
        clock was set back, is not valid yet.
        """
        active = self._active
        if active is None:
            raise AuthorityUnavailable("no authority is loaded that may sign; see `meshca ca show`")
        if not active.not_before <= now < active.not_after:
            what = (
                f"expired at {active.not_after.isoformat()}"
                if now >= active.not_after
                else f"is valid from {active.not_before.isoformat()} on"
            )
            raise AuthorityUnavailable(
                f"authority {active.authority_id} {what}; it is {now.isoformat()}"
            )
        return active

    def signing(self, now: datetime) -> str:
        """Return the id of the authority that signs now; empty when none does."""
        try:
            return self.active(now).authority_id
        except AuthorityUnavailable:
            return ""

    @property
    def bundle(self) -> TrustBundle:
        """Return the trust bundle; raises AuthorityUnavailable before one is loaded."""
        if self._bundle is None:
            raise AuthorityUnavailable("no trust bundle is loaded yet")
        return self._bundle

    def activate(
        self, authority: Authority, roots: tuple[x509.Certificate, ...], *, sequence: int = 1
    ) -> None:
        """Let `authority` sign from now on, trusted through `roots`; tell subscribers.

        A changed bundle takes `sequence`, or the next number if that is not greater: whoever
        gives seconds since the epoch gets numbers that grow over restarts too.
        """
        if authority.root not in roots:
            raise ValueError("the bundle must hold the root of the active authority")
        self._replace_bundle(roots, sequence)
        self._active = authority
        self.remember(authority)
        self._tell()

    def show_bridges(self, bridges: tuple[x509.Certificate, ...]) -> None:
        """Let what the active authority signs from now on show `bridges`, and no others."""
        if self._active is not None and self._active.bridges != bridges:
            self._active = replace(self._active, bridges=bridges)
            self.remember(self._active)

    def trust(self, roots: tuple[x509.Certificate, ...], *, sequence: int = 1) -> None:
        """Let the bundle hold `roots` from now on; tell subscribers if it did not.

        An active authority whose root is not among them signs no more: nobody could verify it.
        """
        if self._active is not None and self._active.root not in roots:
            self._active = None
        if self._replace_bundle(roots, sequence):
            self._tell()

    def remember(self, authority: Authority) -> None:
        """Let `find` know an authority that does not sign (yet, or any more)."""
        self._known[authority.authority_id] = authority

    def forget(self, authority_id: str) -> None:
        """Let go of an authority that will not sign again, and so of its key."""
        self.stop(authority_id)
        self._known.pop(authority_id, None)

    def find(self, authority_id: str) -> Authority:
        """Return an authority that signs, or has signed, certificates; raises NotFound."""
        if authority_id not in self._known:
            raise NotFound("no such authority")
        return self._known[authority_id]

    def stop(self, authority_id: str) -> None:
        """Let `authority_id` sign no more; until another is active, nothing is issued."""
        if self._active is not None and self._active.authority_id == authority_id:
            self._active = None

    def bar(self, authority_id: str) -> None:
        """Let `authority_id` sign nothing ever again, not even what is being issued now."""
        self._barred.add(authority_id)
        self.stop(authority_id)

    @property
    def barred(self) -> frozenset[str]:
        """Return the authorities that may sign nothing any more."""
        return frozenset(self._barred)

    def held(self) -> list[Authority]:
        """Return the authorities whose key is here: they sign leaves, or only lists."""
        return list(self._known.values())

    def is_barred(self, authority_id: str) -> bool:
        """Return whether `authority_id` may sign nothing any more."""
        return authority_id in self._barred

    def check_signing(self, authority: Authority) -> None:
        """Raise AuthorityUnavailable when `authority` was barred since it was taken."""
        if self.is_barred(authority.authority_id):
            raise AuthorityUnavailable(f"authority {authority.authority_id} was tainted meanwhile")

    def _replace_bundle(self, roots: tuple[x509.Certificate, ...], sequence: int) -> bool:
        previous = self._bundle
        if previous is not None and previous.roots == roots:
            return False
        if previous is not None:
            sequence = max(sequence, previous.sequence + 1)
        self._bundle = TrustBundle(self.trust_domain, roots, sequence)
        return True

    def _tell(self) -> None:
        for callback in tuple(self._subscribers):
            callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change, on the event loop."""
        self._subscribers.append(callback)
