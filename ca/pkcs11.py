"""A key on a token (an HSM, a smart card, SoftHSM): it signs there and never leaves.

Rules. The PIN comes from a file that only its owner can read. python-pkcs11 is an optional
dependency and is loaded when a token is first used. Messages are hashed here, since not every token
has ECDSA with a hash, and what it answers, r and s side by side, becomes the DER of X.509. There is
one session, used by one thread at a time: one that is gone is opened again by one of them, once for
each signature, and a PIN that is wrong is tried by one of them, and not again until its file
changes: a token locks itself after a few. Everything that fails is an
AuthorityUnavailable that says which of token, PIN and key it is.

A signer proves that its two halves belong together before it is handed out. Whether its key is
that of a certificate is for `ca/upstream/chain.py`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca.keys import LeafPublicKey, algorithm_and_hash, check_public_key, read_secret_file
from meshca.errors import AuthorityUnavailable, RequestRefused
from meshca.settings import Pkcs11

if TYPE_CHECKING:
    from pkcs11 import Session

_PROBE: Final = b"meshca: is this private key that public key's?"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """Where a key is: the PKCS#11 module (a shared library), labels, and the PIN's file."""

    module: Path
    token_label: str
    key_label: str
    pin_file: Path

    def __str__(self) -> str:
        return f"key {self.key_label!r} of token {self.token_label!r}"


def token_key(chosen: Pkcs11) -> TokenKey:
    """Return where the configuration says that the key is."""
    return TokenKey(
        module=chosen.module,
        token_label=chosen.token_label,
        key_label=chosen.key_label,
        pin_file=chosen.pin_file,
    )


@dataclass(slots=True, eq=False)
class TokenSigner:
    """A Signer whose key is on a token; safe to use from several threads. May block."""

    location: TokenKey
    public_key: LeafPublicKey
    _session: Any = field(repr=False)
    _private: Any = field(repr=False)
    _refused_pin: str | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def signature_algorithm(self) -> bytes:
        """Return the DER AlgorithmIdentifier of its signatures."""
        return algorithm_and_hash(self.public_key)[0]

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, in DER; raises AuthorityUnavailable."""
        import pkcs11

        with self._lock, explained(self.location):
            try:
                return self._sign(message)
            except pkcs11.PKCS11Error:
                self._open_again()
                return self._sign(message)

    def close(self) -> None:
        """Log out of the token, for every session of this process on it."""
        import pkcs11

        with self._lock, explained(self.location):
            try:
                self._session.close()
            except pkcs11.PKCS11Error:
                return

    def _sign(self, message: bytes) -> bytes:
        return _sign(self._private, self.public_key, message)

    def _open_again(self) -> None:
        import pkcs11

        pin = _read_pin(self.location)
        if pin == self._refused_pin:
            raise AuthorityUnavailable(
                f"{self.location}: the PIN was refused and has not changed since; it is not tried "
                "again, since the token would lock itself"
            )
        try:
            self._session = _open_session(self.location, pin)
        except (pkcs11.PinIncorrect, pkcs11.PinLocked):
            self._refused_pin = pin
            raise
        self._refused_pin = None
        self._private = _private_key(self._session, self.location)


def open_signer(location: TokenKey) -> TokenSigner:
    """Return a signer for the key at `location`.

    Raises AuthorityUnavailable when python-pkcs11, the module, the token or the key is missing, the
    PIN is wrong, or the private key does not sign for the public key of its label.
    """
    with explained(location):
        session = _open_session(location, _read_pin(location))
        try:
            private = _private_key(session, location)
            signer = TokenSigner(location, _public_key(session, location), session, private)
            _check_pair(signer)
        except BaseException:
            session.close()
            raise
    return signer


def generate_on_token(location: TokenKey, kind: str) -> None:
    """Make a key on the token that can sign and not be read: `p256`, `p384`, or `rsa` and bits.

    Raises AuthorityUnavailable as `open_signer` does, and when the token has a key of that label.
    """
    with explained(location):
        import pkcs11

        with _open_session(location, _read_pin(location), writes=True) as session:
            if list(session.get_objects({pkcs11.Attribute.LABEL: location.key_label})):
                raise AuthorityUnavailable(f"{location} exists already; its label is taken")
            _generate(session, location, kind)


def _generate(session: "Session", location: TokenKey, kind: str) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    may = pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY
    secret = {pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True}
    options: dict[str, Any] = {
        "store": True,
        "label": location.key_label,
        "id": location.key_label.encode(),
        "capabilities": may,
        "private_template": secret,
    }
    if kind.startswith("rsa"):
        session.generate_keypair(pkcs11.KeyType.RSA, int(kind.removeprefix("rsa")), **options)
        return
    curve = encode_named_curve_parameters({"p256": "secp256r1", "p384": "secp384r1"}[kind])
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
    )
    parameters.generate_keypair(**options)


def _open_session(location: TokenKey, pin: str, *, writes: bool = False) -> Any:
    import pkcs11

    token = pkcs11.lib(str(location.module)).get_token(token_label=location.token_label)
    try:
        return token.open(rw=writes, user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=writes)  # a login counts for every session of the process


def _read_pin(location: TokenKey) -> str:
    pin = read_secret_file(location.pin_file).rstrip(b"\r\n")
    try:
        text = pin.decode()
    except UnicodeDecodeError as error:
        raise AuthorityUnavailable(f"{location.pin_file} is not text") from error
    if not text:
        raise AuthorityUnavailable(f"{location.pin_file} is empty")
    return text


def _private_key(session: "Session", location: TokenKey) -> Any:
    return _the_one(session, location, "PRIVATE_KEY")


def _the_one(session: "Session", location: TokenKey, kind: str) -> Any:
    """Return the one key of `kind` and label; raises AuthorityUnavailable."""
    from pkcs11 import Attribute, ObjectClass

    wanted = {Attribute.CLASS: ObjectClass[kind], Attribute.LABEL: location.key_label}
    found = list(session.get_objects(wanted))
    if len(found) == 1:
        return found[0]
    what, token = kind.replace("_", " ").lower(), location.token_label
    how_many = "several keys" if found else "no key"
    raise AuthorityUnavailable(
        f"token {token!r} has {how_many} labelled {location.key_label!r} ({what})"
    )


def _public_key(session: "Session", location: TokenKey) -> LeafPublicKey:
    import pkcs11
    from pkcs11.util.ec import encode_ec_public_key

    found = _the_one(session, location, "PUBLIC_KEY")
    if found.key_type is pkcs11.KeyType.RSA:
        modulus = int.from_bytes(found[pkcs11.Attribute.MODULUS], "big")
        exponent = int.from_bytes(found[pkcs11.Attribute.PUBLIC_EXPONENT], "big")
        return check_public_key(rsa.RSAPublicNumbers(exponent, modulus).public_key())
    if found.key_type is pkcs11.KeyType.EC:
        return check_public_key(load_der_public_key(encode_ec_public_key(found)))
    raise AuthorityUnavailable(f"{location} is not ECDSA or RSA")


def _sign(private: Any, public: LeafPublicKey, message: bytes) -> bytes:
    from pkcs11 import Mechanism

    if isinstance(public, rsa.RSAPublicKey):
        return bytes(private.sign(message, mechanism=Mechanism.SHA256_RSA_PKCS))
    digest = hashes.Hash(algorithm_and_hash(public)[1])
    digest.update(message)
    pair = private.sign(digest.finalize(), mechanism=Mechanism.ECDSA)
    half = len(pair) // 2
    return encode_dss_signature(
        int.from_bytes(pair[:half], "big"), int.from_bytes(pair[half:], "big")
    )


def _check_pair(signer: TokenSigner) -> None:
    """Verify one signature: labels are only words, and two keys can have the same."""
    signature, public = signer.sign(_PROBE), signer.public_key
    digest = algorithm_and_hash(public)[1]
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, _PROBE, padding.PKCS1v15(), digest)
        else:
            public.verify(signature, _PROBE, ec.ECDSA(digest))
    except InvalidSignature as error:
        raise AuthorityUnavailable(
            f"{signer.location}: the private key is not that of the public key of this label"
        ) from error


@contextmanager
def explained(location: TokenKey) -> Iterator[None]:
    """Turn what python-pkcs11 raises into AuthorityUnavailable, in words."""
    try:
        import pkcs11
    except ImportError as error:
        raise AuthorityUnavailable(
            "python-pkcs11 is not installed; get it with: pip install 'meshca[pkcs11]'"
        ) from error
    try:
        yield
    except pkcs11.PKCS11Error as error:
        raise AuthorityUnavailable(_words(error, location)) from error
    except RequestRefused as error:
        raise AuthorityUnavailable(f"{location}: {error}") from error


def _words(error: Exception, location: TokenKey) -> str:
    token = f"token {location.token_label!r}"
    known = {
        "NoSuchToken": f"there is no {token} in {location.module}",
        "MultipleTokensReturned": f"there are several tokens called {location.token_label!r}",
        "PinIncorrect": f"the PIN in {location.pin_file} is not that of {token}",
        "PinLocked": f"the PIN of {token} is locked after wrong tries",
    }
    name = type(error).__name__
    return known.get(name) or f"{token} in {location.module}: {name} {error}".rstrip()
