"""Signed notes: text with Ed25519 signatures, as in C2SP signed-note and tlog-cosignature.

    <text, ends in a newline>
    <empty line>
    — <key name> base64(key ID || signature)        one such line a signature

    key ID = SHA-256(key name || "\\n" || algorithm || public key)[:4]

A verifier key is written `name+hex(key ID)+base64(algorithm || public key)`. Two algorithms:
`ED25519` (0x01) signs the text; `COSIGNATURE` (0x04) is a witness's: 8 bytes of time, then a
signature over `cosignature/v1`, the time and the text.

Rules. Parsing is strict and bounded. Signatures of unknown keys are ignored, a wrong signature of
a known key refuses the whole note, and a note that no known key signed is refused. The text of a
note means nothing before `verify_note` returned.

Not here: what a text says (`audit.checkpoint`), and where keys are kept (`audit.log_keys`).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshca.errors import RequestRefused

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
MAXIMUM_NOTE_BYTES: Final = 128 * 1024
MAXIMUM_SIGNATURES: Final = 64
MAXIMUM_NAME: Final = 255
_DASH: Final = "\u2014 "
_KEY_ID_BYTES: Final = 4
_PUBLIC_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_TIME_BYTES: Final = 8
_ALGORITHMS: Final = (ED25519, COSIGNATURE)


class NoteRefused(RequestRefused):
    """A note, or a verifier key, that cannot be trusted.

    `reason` is `malformed`, `not_signed` (by no known key) or `bad_signature`.
    """


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name; `algorithm` is ED25519 or COSIGNATURE."""

    name: str
    public: bytes
    algorithm: int = ED25519

    def __post_init__(self) -> None:
        """Raise NoteRefused unless this is a key of a known algorithm with a legal name."""
        _check_name(self.name)
        if self.algorithm not in _ALGORITHMS or len(self.public) != _PUBLIC_BYTES:
            raise NoteRefused("malformed", "a verifier key holds 0x01 or 0x04 and 32 bytes")

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Return the key written in `text` as `name+keyid+base64`; raises NoteRefused."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise NoteRefused("malformed", "a verifier key is written name+keyid+base64")
        name, key_id, encoded = parts
        packed = _decoded(encoded)
        key = cls(name, packed[1:], packed[0] if packed else 0)
        if key.key_id.hex() != key_id:
            raise NoteRefused(
                "malformed", "a verifier key's ID does not belong to its name and key"
            )
        return key

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that name this key in signature lines."""
        packed = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public
        return hashlib.sha256(packed).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        packed = bytes([self.algorithm]) + self.public
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(packed).decode()}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: whose it claims to be, and the bytes after the key ID."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        encoded = base64.b64encode(self.key_id + self.signature).decode()
        return f"{_DASH}{self.name} {encoded}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures, not verified; `str()` is the note as it is stored and sent."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))

    def signed_also(self, signatures: Iterable[Signature]) -> "Note":
        """Return this note with `signatures` added; those that it has already stay once."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *signatures))))


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that holds: by which key, and for a cosignature when (seconds since 1970)."""

    key: VerifierKey
    time_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that signs notes under `name`."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)
    algorithm: int = ED25519

    @property
    def verifier(self) -> VerifierKey:
        """Return the key that verifies what this one signs."""
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw(), self.algorithm)

    def sign(self, text: str, *, time_seconds: int | None = None) -> Signature:
        """Return a signature of `text`; a COSIGNATURE key needs the time, an ED25519 key has none.

        Raises NoteRefused for a text that cannot be a note's.
        """
        _check_text(text)
        if (self.algorithm == COSIGNATURE) != (time_seconds is not None):
            raise NoteRefused("malformed", "a cosignature has a time, another signature has none")
        if time_seconds is None:
            return Signature(self.name, self.verifier.key_id, self.private.sign(text.encode()))
        signature = self.private.sign(_cosigned(text, time_seconds))
        packed = time_seconds.to_bytes(_TIME_BYTES, "big") + signature
        return Signature(self.name, self.verifier.key_id, packed)


def parse_note(data: bytes | str) -> Note:
    """Return the note in `data`, unverified; raises NoteRefused for anything but one whole note."""
    text = _as_text(data)
    end = text.rfind("\n\n")
    if end < 0 or not text.endswith("\n"):
        raise NoteRefused("malformed", "a note is a text, an empty line and signature lines")
    lines = text[end + 2 : -1].split("\n")
    if not 1 <= len(lines) <= MAXIMUM_SIGNATURES:
        raise NoteRefused("malformed", f"a note has from 1 to {MAXIMUM_SIGNATURES} signatures")
    return Note(text[: end + 1], tuple(parse_signature(line) for line in lines))


def parse_signature(line: str) -> Signature:
    """Return the signature in `line` (without its newline), unverified; raises NoteRefused."""
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteRefused("malformed", "a signature line is a dash, a key name and base64")
    _check_name(name)
    packed = _decoded(encoded)
    if len(packed) <= _KEY_ID_BYTES:
        raise NoteRefused("malformed", "a signature is longer than its key ID")
    return Signature(name, packed[:_KEY_ID_BYTES], packed[_KEY_ID_BYTES:])


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> tuple[Verified, ...]:
    """Return which of `keys` signed `note`, at least one.

    Raises NoteRefused when none did, or when a signature that says it is of a known key is not.
    """
    known = {(key.name, key.key_id): key for key in keys}
    held: dict[VerifierKey, Verified] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            held.setdefault(key, verify_signature(note.text, signature, key))
    if not held:
        raise NoteRefused("not_signed", "no known key signed this note")
    return tuple(held.values())


def verify_signature(text: str, signature: Signature, key: VerifierKey) -> Verified:
    """Return what `signature` says of `text`; raises NoteRefused unless it is by `key`."""
    packed, message, time_seconds = signature.signature, text.encode(), None
    if key.algorithm == COSIGNATURE:
        time_seconds = int.from_bytes(packed[:_TIME_BYTES], "big")
        packed, message = packed[_TIME_BYTES:], _cosigned(text, time_seconds)
    if len(packed) != _SIGNATURE_BYTES or (signature.name, signature.key_id) != (
        key.name,
        key.key_id,
    ):
        raise NoteRefused("bad_signature", f"a signature of {key.name} has not its form")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(packed, message)
    except (InvalidSignature, ValueError) as error:
        raise NoteRefused("bad_signature", f"a signature of {key.name} is wrong") from error
    return Verified(key, time_seconds)


def _cosigned(text: str, time_seconds: int) -> bytes:
    if not 0 <= time_seconds < 2**63:
        raise NoteRefused("malformed", "a cosignature's time is from 0 to 2^63-1 seconds")
    return f"cosignature/v1\ntime {time_seconds}\n{text}".encode()


def _as_text(data: bytes | str) -> str:
    if len(data) > MAXIMUM_NOTE_BYTES:
        raise NoteRefused("malformed", f"a note is at most {MAXIMUM_NOTE_BYTES} bytes long")
    try:
        text = data if isinstance(data, str) else data.decode()
        text.encode()
    except UnicodeError as error:
        raise NoteRefused("malformed", "a note is UTF-8") from error
    if any(character < " " and character != "\n" for character in text):
        raise NoteRefused("malformed", "a note has no control characters")
    return text


def _check_text(text: str) -> None:
    if not _as_text(text).endswith("\n"):
        raise NoteRefused("malformed", "a note's text ends in a newline")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= MAXIMUM_NAME or any(
        character.isspace() or character == "+" or character < " " for character in name
    ):
        raise NoteRefused(
            "malformed", f"a key name is 1 to {MAXIMUM_NAME} characters, none a space or a plus"
        )


def _decoded(text: str) -> bytes:
    """Return what `text` says in base64, in its one canonical spelling; raises NoteRefused."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteRefused("malformed", "a key or signature is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise NoteRefused("malformed", "a key or signature is not canonical base64")
    return data
