"""The configuration of administration: who may come to the admin doors, and as what.

A subject is `uid:N` (a user of this machine, at the unix socket), `spiffe://...` (who shows that
SVID), `oidc:NAME` or `oidc-group:NAME` (who shows a token of `admin.oidc`). For the role
`application` alone an SVID may end in `/*`: all below it.
"""

import re
from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from meshca.settings_values import Url
from meshca.spiffe_id import SpiffeId
from meshca.strict import Duration, File, Strict

ANY: Final = "*"
_BELOW: Final = "/*"
_UID: Final = re.compile(r"uid:(0|[1-9][0-9]{0,9})")
_OIDC: Final = re.compile(r"oidc(-group)?:\S(.{0,254}\S)?")
_LONGEST_LIFETIME: Final = timedelta(days=1)


def _subject(value: str) -> str:
    if _UID.fullmatch(value) or (_OIDC.fullmatch(value) and value.isprintable()):
        return value
    try:
        identity = SpiffeId.parse(value)
    except ValueError as error:
        raise ValueError(
            f"{value!r} is none of uid:N, spiffe://..., oidc:NAME, oidc-group:NAME"
        ) from error
    if not identity.is_leaf:
        raise ValueError(f"{value!r} is a trust domain, which nobody carries")
    return value


def _pattern(value: str) -> str:
    """Accept a subject, or every SVID below a path: for the role that may least."""
    if value.startswith("spiffe://") and value.endswith(_BELOW):
        SpiffeId.parse(value.removesuffix(_BELOW))
        return value
    return _subject(value)


Subject = Annotated[str, AfterValidator(_subject)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Claim = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_:./-]{0,127}$")]
Namespace = Annotated[str, Field(pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")]


class Jwks(Strict):
    """Where the keys of the issuer are: a file, or an https URL with the roots of its server."""

    file: File | None = None
    url: Url | None = None
    ca_file: File | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("give exactly one of `file` and `url`")
        if self.url is not None and not self.url.startswith("https://"):
            raise ValueError("`url` must be https: whoever answers it decides who administers")
        if self.ca_file is not None and self.url is None:
            raise ValueError("`ca_file` belongs to `url`")
        return self


class Oidc(Strict):
    """The one issuer whose tokens prove people, and for whom its tokens must be.

    `username_claim` is what a person is called in roles and in the audit log, `groups_claim` lists
    the groups; `maximum_lifetime` bounds how long a token may be good for, from `iat` to `exp`.
    """

    issuer: Annotated[str, Field(min_length=1, max_length=1024)]
    audience: Annotated[str, Field(min_length=1, max_length=1024)]
    jwks: Jwks
    username_claim: Claim = "sub"
    groups_claim: Claim = "groups"
    maximum_lifetime: Duration = _LONGEST_LIFETIME

    @model_validator(mode="after")
    def _short(self) -> Self:
        if self.maximum_lifetime > _LONGEST_LIFETIME:
            raise ValueError("maximum_lifetime is longer than 1d: a stolen token would be, too")
        return self


class RoleConfig(Strict):
    """Who has which role; whoever is in several may do what each may."""

    admin: list[Subject] = Field(default=[])
    operator: list[Subject] = Field(default=[])
    auditor: list[Subject] = Field(default=[])
    application: list[Pattern] = Field(default=[])

    def subjects(self) -> list[str]:
        """Return everybody who is named."""
        return [*self.admin, *self.operator, *self.auditor, *self.application]


class AdminConfig(Strict):
    """Who may come to the admin doors.

    `applications` widens what an application may ask decisions about: from its own workload to
    every workload of these namespaces, or of all (`*`).
    """

    oidc: Oidc | None = None
    roles: RoleConfig = RoleConfig()
    applications: dict[Pattern, Annotated[list[Namespace], Field(min_length=1)]] = Field(default={})

    @model_validator(mode="after")
    def _can_be_proven(self) -> Self:
        named = self.roles.subjects()
        if self.oidc is None and any(subject.startswith("oidc") for subject in named):
            raise ValueError("roles name people of OIDC, but there is no `oidc`")
        if unknown := sorted(set(self.applications) - set(self.roles.application)):
            raise ValueError(f"applications: not in roles.application: {', '.join(unknown)}")
        return self

    def check(self, trust_domain: str, *, is_remote: bool) -> None:
        """Raise ValueError for whoever nobody could ever prove to be; `is_remote`: over TCP."""
        for subject in self.roles.subjects():
            scheme, _, rest = subject.partition("://")
            if scheme == "spiffe" and rest.partition("/")[0] != trust_domain:
                raise ValueError(f"admin.roles: {subject} is of another trust domain")
        remote = [s for s in self.roles.subjects() if not s.startswith("uid:")]
        if is_remote and not remote:
            raise ValueError("listen.admin is set, but admin.roles names nobody who could use it")
        if remote and not is_remote:
            raise ValueError(f"admin.roles names {remote[0]}, but listen.admin is not set")
