"""Every error meshca raises on purpose, by whose fault it is.

    MeshcaError
    |-- Refused                    the caller's fault; it is recorded with its reason
    |   |-- ProofRefused           who you are was not proven            UNAUTHENTICATED
    |   |-- IdentityForbidden      proven, but not allowed               PERMISSION_DENIED
    |   `-- RequestRefused         the request itself is wrong           INVALID_ARGUMENT
    |-- Unavailable                something we depend on is down        UNAVAILABLE
    |   |-- KeysUnavailable        no verification keys for an issuer
    |   |-- ReviewUnavailable      the API server cannot review tokens
    |   |-- StoreUnavailable       the database cannot take the record
    |   `-- AuthorityUnavailable   no authority that may sign now
    |-- Overloaded                 a bound was reached; come back later  RESOURCE_EXHAUSTED
    |-- NotFound                   what was asked for does not exist     NOT_FOUND
    |-- Conflict                   it has changed meanwhile, or may not  ABORTED
    |-- InvalidDocument            configuration or policy that does not load, with every problem
    |-- EvidenceBroken             the audit log is not as it was written
    |-- CannotListen               an address to listen on is taken or not ours
    `-- IssuanceFault              our own fault: lint or comparison     INTERNAL

A `Refused` carries a short `reason` code for metrics and the audit log, and `claimed`, what the
caller said of itself. Neither is sent to the caller: adapters send `public_message`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class MeshcaError(Exception):
    """The root of every error raised on purpose."""

    public_message = "internal error"


class Refused(MeshcaError):
    """The caller asked for what it may not have; `reason` is a stable code such as `expired`."""

    public_message = "refused"

    def __init__(
        self, reason: str, message: str, *, claimed: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.claimed: dict[str, str] = dict(claimed or {})


class ProofRefused(Refused):
    """The proof of identity (token, certificate) was not accepted."""

    public_message = "authentication failed; the reason is in the server's audit log"


class IdentityForbidden(Refused):
    """The proof is good, but this identity is not allowed here."""

    public_message = "permission denied; the reason is in the server's audit log"


class RequestRefused(Refused):
    """The request is malformed or asks for what nobody gets; its message is safe to show."""

    @property
    def public_message(self) -> str:  # type: ignore[override]  # the one refusal whose text is the caller's own input's fault
        """Return the message itself: it speaks of the caller's own request only."""
        return str(self)


class Unavailable(MeshcaError):
    """Something we depend on does not answer; the caller should retry."""

    public_message = "temporarily unavailable; retry"


class KeysUnavailable(Unavailable):
    """No verification keys for a configured issuer could be had yet."""


class ReviewUnavailable(Unavailable):
    """The Kubernetes API server could not review a token."""


class StoreUnavailable(Unavailable):
    """The database did not take or give a record (down, read-only, full)."""


class AuthorityUnavailable(Unavailable):
    """No authority may sign now: none is loaded, or the active one has expired."""


class Overloaded(MeshcaError):
    """A bound was reached (pending writes, streams of one identity)."""

    public_message = "too many requests; retry later"


class NotFound(MeshcaError):
    """What was asked for does not exist; the message names it."""

    @property
    def public_message(self) -> str:  # type: ignore[override]  # names only what the caller asked for
        """Return the message itself."""
        return str(self)


class Conflict(MeshcaError):
    """What was to be changed is not (any more) in a state that allows it; nothing was changed."""

    @property
    def public_message(self) -> str:  # type: ignore[override]  # for administrators
        """Return the message itself."""
        return str(self)


class EvidenceBroken(MeshcaError):
    """The audit log does not verify; `index` is the first entry that was changed."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class CannotListen(MeshcaError):
    """A door cannot be opened; the message names its key in the configuration and the address."""


class IssuanceFault(MeshcaError):
    """A certificate we were about to issue broke a rule; nothing was issued."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a document: where (`path` of keys; file and line where known) and what.

    `others` are the files that `file` does not agree with; none when it is wrong by itself.
    """

    path: str
    message: str
    file: str = ""
    line: int = 0
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


@dataclass
class InvalidDocument(MeshcaError):
    """A document does not load; `problems` lists every mistake, never only the first."""

    problems: Sequence[Problem] = field(default_factory=tuple)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    @property
    def public_message(self) -> str:  # type: ignore[override]  # an administrator's own document
        """Return every problem, a line each."""
        return str(self)
