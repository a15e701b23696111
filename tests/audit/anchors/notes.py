"""A log of our own for anchors to keep: its tree, its key, and its checkpoints."""

from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle
from audit.anchors.anchor import Published
from audit.checkpoint import Checkpoint
from audit.note import Note, SigningKey

ORIGIN = "example.org/meshca/audit"


@dataclass
class SmallLog:
    """`size` leaves, whose content is `view` and their index: another view is another log."""

    view: str = "true"
    origin: str = ORIGIN
    key: SigningKey = field(
        default_factory=lambda: SigningKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"1" * 32))
    )

    def hash_at(self, level: int, position: int) -> bytes:
        """Return the root of a complete subtree."""
        start, count = position << level, 1 << level
        leaves = (f"{self.view} {n}".encode() for n in range(start, start + count))
        return merkle.complete_root([merkle.leaf_hash(leaf) for leaf in leaves])

    def root_at(self, size: int) -> bytes:
        """Return the root of the first `size` leaves."""
        return merkle.root_at(size, self.hash_at)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the first `old` leaves begin the first `new`."""
        return merkle.consistency_proof(old, new, partial(self.hash_at))

    def at(self, size: int) -> Published:
        """Return the signed checkpoint of the first `size` leaves."""
        return self.signs(size, self.root_at(size))

    def signs(self, size: int, root: bytes) -> Published:
        """Return a checkpoint of anything, signed."""
        checkpoint = Checkpoint(self.origin, size, root)
        text = str(checkpoint)
        return Published(checkpoint, Note(text, (self.key.sign(text),)))
