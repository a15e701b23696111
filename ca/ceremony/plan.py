"""The plan of a ceremony: the one reviewed file that says what an offline key signs.

    ceremony: root          make a root: its key, encrypted, and its certificate
    ceremony: intermediate  sign certificate requests: intermediates under a root
    ceremony: crl           sign the root's revocation list

Rules. The plan says everything; at the ceremony only the passphrase is asked for. It is strict
YAML, and every problem is reported at once with file, line and key: first what the file says, then
what it points to (an input that cannot be read, an output that exists already). Relative paths are
relative to the plan. This module reads nothing but the plan.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meshca.errors import InvalidDocument, Problem
from meshca.spiffe_id import parse_trust_domain
from meshca.strict import Duration, File, Strict, read_mapping, validate
from meshca.yaml_source import Document

MOST_CERTIFICATES: Final = 100
MOST_REVOKED: Final = 10_000
_HEX: Final = set("0123456789abcdef")
KeyType = Literal["p256", "p384", "rsa3072", "rsa4096"]  # a root lives long: no RSA of 2048 bits
Reason = Literal[
    "key_compromise",
    "ca_compromise",
    "affiliation_changed",
    "superseded",
    "cessation_of_operation",
]


def _time(value: Any) -> datetime:
    if isinstance(value, str) and value.endswith("Z"):
        try:
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            pass
    raise ValueError("write a time in UTC, like 2027-01-31T00:00:00Z")


def _text(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("characters that cannot be printed, or spaces around the text")
    return value


def _serial(value: str) -> str:
    digits = value.replace(":", "").lower()
    if not 0 < len(digits) <= 40 or set(digits) - _HEX or not int(digits, 16):
        raise ValueError("not a serial number in hex")
    return digits


def _digest(value: str) -> str:
    digits = value.replace(":", "").lower()
    if len(digits) != 64 or set(digits) - _HEX:
        raise ValueError("not a SHA-256 in hex")
    return digits


Time = Annotated[datetime, BeforeValidator(_time)]
Text = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_text)]
TrustDomain = Annotated[str, AfterValidator(parse_trust_domain)]
Serial = Annotated[str, AfterValidator(_serial)]
Digest = Annotated[str, AfterValidator(_digest)]


class Subject(Strict):
    """The name of a CA (X.520 upper bounds)."""

    common_name: Text
    organization: Text | None = None
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None

    def name(self) -> x509.Name:
        """Return it as a distinguished name: country, organization, common name."""
        parts = (
            (NameOID.COUNTRY_NAME, self.country),
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.COMMON_NAME, self.common_name),
        )
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts if text is not None])


class Validity(Strict):
    """From when, by default the ceremony, to when: a time, or a lifetime counted from `not_before`.

    For a revocation list these are thisUpdate and nextUpdate.
    """

    not_before: Time | None = None
    not_after: Time | None = None
    lifetime: Duration | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.not_after is None) == (self.lifetime is None):
            raise ValueError("give either `not_after` or `lifetime`")
        if self.not_before and self.not_after and self.not_before >= self.not_after:
            raise ValueError("not_after is not after not_before")
        return self

    def of(self, now: datetime) -> tuple[datetime, datetime]:
        """Return both times for a ceremony held at `now`, in whole seconds."""
        begin = self.not_before or now.replace(microsecond=0)
        if self.lifetime is not None:
            return begin, begin + self.lifetime
        assert self.not_after is not None  # noqa: S101  # one of the two is given
        return begin, self.not_after


class RootOutputs(Strict):
    """The two files that a root ceremony makes."""

    key: File
    certificate: File


class RootPlan(Strict):
    """Make a root. `path_length` is how many CAs may stand below it, one under another."""

    ceremony: Literal["root"]
    trust_domain: TrustDomain
    subject: Subject
    validity: Validity
    key_type: KeyType = "p384"
    path_length: Annotated[int, Field(ge=1, le=4)] = 1
    name_constraints: bool = False
    outputs: RootOutputs


class Issuer(Strict):
    """The root that signs: its certificate, and its encrypted key."""

    certificate: File
    key: File


class PlannedIntermediate(Strict):
    """One request to sign. From it the public key is taken, and nothing else."""

    csr: File
    public_key_sha256: Digest | None = None
    subject: Subject
    validity: Validity
    path_length: Annotated[int, Field(ge=0, le=3)] = 0
    output: File


class IntermediatePlan(Strict):
    """Sign requests as intermediates of the trust domain."""

    ceremony: Literal["intermediate"]
    trust_domain: TrustDomain
    issuer: Issuer
    certificates: Annotated[
        list[PlannedIntermediate], Field(min_length=1, max_length=MOST_CERTIFICATES)
    ]


class Revoked(Strict):
    """One certificate that is not trusted any more: by its file, or by its serial in hex."""

    certificate: File | None = None
    serial: Serial | None = None
    time: Time
    reason: Reason | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.certificate is None) == (self.serial is None):
            raise ValueError("give either `certificate` or `serial`")
        return self


class CrlPlan(Strict):
    """Sign the root's revocation list; `previous` is the one before, which nothing may leave."""

    ceremony: Literal["crl"]
    issuer: Issuer
    number: Annotated[int, Field(ge=1)]
    validity: Validity
    previous: File | None = None
    revoked: Annotated[list[Revoked], Field(max_length=MOST_REVOKED)]
    output: File


Plan = RootPlan | IntermediatePlan | CrlPlan
Key = tuple[str | int, ...]
_MODELS: Final[dict[str, type[RootPlan] | type[IntermediatePlan] | type[CrlPlan]]] = {
    "root": RootPlan,
    "intermediate": IntermediatePlan,
    "crl": CrlPlan,
}


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan, the file it came from, and that file's SHA-256, which the witnesses compare."""

    plan: Plan
    path: Path
    sha256: str
    _document: Document = field(repr=False)

    def problem(self, key: Key, message: str) -> Problem:
        """Return a problem at `key` of the plan, with its line."""
        return self._document.problem(key, message)


def load_plan(path: Path) -> LoadedPlan:
    """Return the plan in `path`; raises InvalidDocument with every problem."""
    document = read_mapping(path)
    kind = document.value.get("ceremony")
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join(_MODELS)
        raise InvalidDocument([document.problem(("ceremony",), f"must be one of {known}")])
    plan = validate(model, document, path)
    loaded = LoadedPlan(plan, path, sha256(path.read_bytes()).hexdigest(), document)
    if problems := [*_unreadable(loaded), *_taken(loaded)]:
        raise InvalidDocument(problems)
    return loaded


def _unreadable(loaded: LoadedPlan) -> Iterator[Problem]:
    for key, path in _inputs(loaded.plan):
        if not path.is_file() or not os.access(path, os.R_OK):
            yield loaded.problem(key, f"cannot be read: {path}")


def _taken(loaded: LoadedPlan) -> Iterator[Problem]:
    seen: set[Path] = set()
    for key, path in _outputs(loaded.plan):
        if os.path.lexists(path):
            yield loaded.problem(key, f"{path} exists; a ceremony overwrites nothing")
        elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            yield loaded.problem(key, f"cannot be written: no directory {path.parent} of ours")
        if path in seen:
            yield loaded.problem(key, f"{path} is written twice")
        seen.add(path)


def _inputs(plan: Plan) -> Iterator[tuple[Key, Path]]:
    if isinstance(plan, RootPlan):
        return
    yield ("issuer", "certificate"), plan.issuer.certificate
    yield ("issuer", "key"), plan.issuer.key
    if isinstance(plan, IntermediatePlan):
        for index, planned in enumerate(plan.certificates):
            yield ("certificates", index, "csr"), planned.csr
        return
    if plan.previous is not None:
        yield ("previous",), plan.previous
    for index, revoked in enumerate(plan.revoked):
        if revoked.certificate is not None:
            yield ("revoked", index, "certificate"), revoked.certificate


def _outputs(plan: Plan) -> Iterator[tuple[Key, Path]]:
    if isinstance(plan, RootPlan):
        yield ("outputs", "key"), plan.outputs.key
        yield ("outputs", "certificate"), plan.outputs.certificate
    elif isinstance(plan, IntermediatePlan):
        for index, planned in enumerate(plan.certificates):
            yield ("certificates", index, "output"), planned.output
    else:
        yield ("output",), plan.output
