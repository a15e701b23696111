"""Keys at rest under a key of Vault's Transit: the store holds what only Vault can open.

A restart then needs Vault, and so does each fresh intermediate. What is wrapped begins with its
context, which is the associated data too: a Vault too old to know that parameter ignores it.
"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from ca.upstream.vault.client import Answer, not_vault
from ca.upstream.vault.errors import VaultFault
from ca.upstream.vault.session import Session
from meshca.errors import AuthorityUnavailable

SECONDS: Final = 4.0
_PREFIX: Final = "meshca-key-v1:vault_transit:"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitAtRest:
    """A `KeyAtRest` whose key never leaves Vault; each call is one request, of 4 s at most."""

    session: Session = field(repr=False)
    mount: str
    key_name: str

    def wrap(self, key_pem: bytes, *, context: str) -> bytes:
        """Return the key as Transit encrypts it; raises AuthorityUnavailable."""
        bound = context.encode() + b"\n" + key_pem
        answer = self._ask("encrypt", {"plaintext": _b64(bound)}, context)
        return (_PREFIX + answer.text("ciphertext")).encode()

    def unwrap(self, blob: bytes, *, context: str) -> bytes:
        """Return the key in PEM; raises AuthorityUnavailable, also for another context."""
        text = blob.decode("ascii", "replace")
        if not text.startswith(_PREFIX):
            raise AuthorityUnavailable(f"a stored key is not of format {_PREFIX}...")
        try:
            answer = self._ask("decrypt", {"ciphertext": text.removeprefix(_PREFIX)}, context)
        except VaultFault as fault:
            if fault.condition != "request_refused":
                raise
            raise _does_not_open(context) from fault
        try:
            bound = base64.b64decode(answer.text("plaintext"), validate=True)
        except binascii.Error as error:
            raise not_vault("what was decrypted is not base64") from error
        found, _, key_pem = bound.partition(b"\n")
        if found != context.encode():
            raise _does_not_open(context)
        return key_pem

    def _ask(self, verb: str, body: dict[str, str], context: str) -> Answer:
        path = f"{self.mount}/{verb}/{self.key_name}"
        whole = {**body, "associated_data": _b64(context.encode())}
        return self.session.patience.insist(
            verb,
            lambda deadline: self.session.ask("post", path, whole, deadline=deadline),
            seconds=SECONDS,
        )


def _does_not_open(context: str) -> AuthorityUnavailable:
    return AuthorityUnavailable(
        f"the stored key of authority {context} does not open: it was changed, cut off, or is "
        "another authority's"
    )


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
