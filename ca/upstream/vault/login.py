"""How we prove ourselves to Vault: each method gives a lease of a token, read anew at each login.

Files are read at each login, so that whoever renews them need not tell us. Tokens and secrets are
in objects whose repr hides them. Keeping a lease alive is the business of session.py.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from ca.keys import read_secret_file
from ca.upstream.vault.client import Answer, Connection, not_vault
from ca.upstream.vault.errors import Asking, Reaction, VaultFault
from meshca.errors import AuthorityUnavailable

RENEW_AFTER: Final = 2 / 3
_TOKEN_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and how long it is good for, on the monotonic clock."""

    token: str = field(repr=False)
    since: float
    seconds: float  # math.inf for one that never ends
    renewable: bool

    @property
    def renew_at(self) -> float:
        """Return when two thirds of its life have passed."""
        return self.since + self.seconds * RENEW_AFTER

    @property
    def ends_at(self) -> float:
        """Return when Vault stops accepting it."""
        return self.since + self.seconds


class Login(Protocol):
    """A way to get a token."""

    @property
    def can_repeat(self) -> bool:
        """Whether a login gives a fresh token; False for a token that somebody gave us."""
        ...

    def log_in(self, connection: Connection, *, deadline: float) -> Lease:
        """Return a lease; raises VaultFault, or AuthorityUnavailable for a file."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A token in a file that only its owner reads, put there by somebody else."""

    token_file: Path

    @property
    def can_repeat(self) -> bool:
        """Return False: when this token ends, somebody must bring another."""
        return False

    def log_in(self, connection: Connection, *, deadline: float) -> Lease:
        """Return the token with what is left of its life."""
        since = connection.clock.monotonic()
        token = _secret(self.token_file)
        answer = connection.ask("get", "auth/token/lookup-self", token=token, deadline=deadline)
        seconds, renewable = answer.data.get("ttl"), answer.data.get("renewable")
        return _lease(token, since, seconds, renewable)


@dataclass(slots=True, kw_only=True)
class AppRole:
    """A role id, and a secret id from a file, which may hold a wrapping token instead.

    What was wrapped is unwrapped once and kept in memory; after a restart somebody must bring
    another. A wrapping token that somebody else has used, or that wraps something else than a
    secret id, is refused: the file was intercepted.
    """

    role_id: str
    secret_id_file: Path
    wrapped: bool
    mount: str
    _wrapper: str = field(default="", repr=False)
    _secret_id: str = field(default="", repr=False)

    @property
    def can_repeat(self) -> bool:
        """Return True."""
        return True

    def log_in(self, connection: Connection, *, deadline: float) -> Lease:
        """Return a fresh token."""
        since = connection.clock.monotonic()
        secret_id = _secret(self.secret_id_file)
        if self.wrapped:
            secret_id = self._unwrap(connection, secret_id, deadline)
        answer = connection.ask(
            "post",
            f"auth/{self.mount}/login",
            {"role_id": self.role_id, "secret_id": secret_id},
            deadline=deadline,
            asking=Asking.LOGGING_IN,
        )
        return _lease_of(answer, since)

    def _unwrap(self, connection: Connection, wrapper: str, deadline: float) -> str:
        if wrapper == self._wrapper:
            return self._secret_id
        looked_up = connection.ask(
            "post",
            "sys/wrapping/lookup",
            {"token": wrapper},
            deadline=deadline,
            asking=Asking.AS_ANYBODY,
        )
        path = looked_up.text("creation_path")
        if not (path.startswith(f"auth/{self.mount}/role/") and path.endswith("/secret-id")):
            raise VaultFault(
                "wrapping_token_foreign",
                Reaction.CONFIGURE,
                f"{self.secret_id_file} wraps something from {path}, not a secret id: "
                "it may have been replaced",
            )
        answer = connection.ask("post", "sys/wrapping/unwrap", token=wrapper, deadline=deadline)
        self._wrapper, self._secret_id = wrapper, answer.text("secret_id")
        return self._secret_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A Kubernetes service-account token, or any JWT, for a role: kubernetes and jwt auth."""

    role: str
    token_file: Path
    mount: str

    @property
    def can_repeat(self) -> bool:
        """Return True: the kubelet keeps the file fresh."""
        return True

    def log_in(self, connection: Connection, *, deadline: float) -> Lease:
        """Return a fresh token."""
        since = connection.clock.monotonic()
        answer = connection.ask(
            "post",
            f"auth/{self.mount}/login",
            {"role": self.role, "jwt": _projected_token(self.token_file)},
            deadline=deadline,
            asking=Asking.LOGGING_IN,
        )
        return _lease_of(answer, since)


def _lease_of(answer: Answer, since: float) -> Lease:
    auth = answer.auth
    token = auth.get("client_token")
    if not isinstance(token, str) or not token:
        raise not_vault("a login that succeeded gave no token")
    return _lease(token, since, auth.get("lease_duration"), auth.get("renewable"))


def _lease(token: str, since: float, seconds: object, renewable: object) -> Lease:
    if not isinstance(seconds, int) or seconds < 0:
        raise not_vault("a token without a lifetime")
    return Lease(token, since, float(seconds) if seconds else math.inf, renewable is True)


def _secret(path: Path) -> str:
    return _one_line(path, read_secret_file(path))


def _projected_token(path: Path) -> str:
    """Return a token whose file's mode the kubelet chooses."""
    try:
        with path.open("rb") as file:
            return _one_line(path, file.read(_TOKEN_BYTES))
    except OSError as error:
        raise AuthorityUnavailable(f"{path} cannot be read: {error.strerror}") from error


def _one_line(path: Path, content: bytes) -> str:
    text = content.decode("ascii", "replace").strip()
    if not text or not text.isprintable() or "\ufffd" in text:
        raise AuthorityUnavailable(f"{path} does not hold one line of text")
    return text
