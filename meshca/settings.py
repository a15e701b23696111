"""Configuration: one strict YAML file, every mistake reported at once with the path of its key.

An unknown key, a wrong type, an impossible combination: nothing starts. Any scalar can be given as
`MESHCA_<PATH>` in the environment (`MESHCA_LISTEN_MESH`, `MESHCA_LIFETIMES_SVID`), which wins over
the file. Relative paths are relative to the file. After `load` nothing is checked again.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from meshca.durations import format_duration
from meshca.settings_admin import AdminConfig
from meshca.settings_audit import AuditConfig
from meshca.settings_policy import PolicyConfig
from meshca.settings_revocation import RevocationConfig
from meshca.settings_values import Address, ApiServer, Name, Url
from meshca.settings_vault import KeysUnderTransit, Vault, VaultTransit
from meshca.spiffe_id import SpiffeId, parse_trust_domain
from meshca.strict import Duration, File, Strict, read_mapping, validate

SVIDS_PER_INTERMEDIATE = 6
IDENTITY_FIELDS = ("trust_domain", "cluster", "namespace", "service_account")
DEFAULT_IDENTITY = "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
_ENVIRONMENT = "MESHCA_"


class Listen(Strict):
    """Where each door listens. The other admin door is the socket `admin.sock` in `data_dir`."""

    mesh: Address = "0.0.0.0:8443"
    renew: Address | None = None
    public: Address | None = None
    admin: Address | None = None
    metrics: Address = "127.0.0.1:9464"


class SelfSigned(Strict):
    """A development root that lives beside the server; it warns at each start."""

    kind: Literal["self_signed"]


class Pkcs11(Strict):
    """A key on a token: the PKCS#11 module, the labels of token and key, the PIN's file."""

    module: File
    token_label: Annotated[str, Field(min_length=1, max_length=32)]
    key_label: Annotated[str, Field(min_length=1, max_length=255)]
    pin_file: File


class Disk(Strict):
    """A root certificate with an intermediate and its key, or with the (encrypted) root key."""

    kind: Literal["disk"]
    root: File
    chain: File | None = None
    key: File | None = None
    pkcs11: Pkcs11 | None = None
    root_key: File | None = None
    passphrase_file: File | None = None
    lists: list[File] = Field(default=[])

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        keys = [key for key in (self.key, self.pkcs11, self.root_key) if key is not None]
        if len(keys) != 1 or (self.chain is None) != (self.root_key is not None):
            raise ValueError("give `chain` with either `key` or `pkcs11`, or `root_key`")
        if self.pkcs11 is not None and self.passphrase_file is not None:
            raise ValueError("`passphrase_file` opens a key file; a token has its `pin_file`")
        if self.lists and self.root_key is not None:
            raise ValueError("with `root_key` the root's list is signed here: give no `lists`")
        return self


class KeysInMemory(Strict):
    """Keys of authorities live in memory only: a restart makes new ones."""

    kind: Literal["memory"]


class KeysUnderPassphrase(Strict):
    """Keys of authorities are stored as encrypted PKCS#8."""

    kind: Literal["passphrase"]
    passphrase_file: File


class KeysUnderKey(Strict):
    """Keys of authorities are stored under AES-256-GCM, with 32 bytes in base64 from a file."""

    kind: Literal["file"]
    key_file: File


KeysAtRest = KeysInMemory | KeysUnderPassphrase | KeysUnderKey | KeysUnderTransit


class Lifetimes(Strict):
    """How long certificates live; the leaf's maximum bounds what a caller may ask for."""

    svid: Duration = timedelta(hours=1)
    svid_maximum: Duration = timedelta(hours=24)
    intermediate: Duration = timedelta(days=7)
    backdate: Duration = timedelta(seconds=60)

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.svid < timedelta(seconds=10):
            raise ValueError("svid is shorter than 10s: rotation could not keep up")
        if self.svid > self.svid_maximum:
            raise ValueError("svid is longer than svid_maximum")
        if self.svid * SVIDS_PER_INTERMEDIATE > self.intermediate:
            shortest = format_duration(self.svid * SVIDS_PER_INTERMEDIATE)
            raise ValueError(
                f"intermediate must live at least six times as long as svid: at least {shortest}"
            )
        if self.backdate > timedelta(hours=1):
            raise ValueError("backdate is longer than 1h")
        return self


class Keys(Strict):
    """Where a cluster's token verification keys come from: exactly one of the three."""

    file: File | None = None
    url: Url | None = None
    ca_file: File | None = None
    api_server: ApiServer | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [x for x in (self.file, self.url, self.api_server) if x is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `file`, `url`, `api_server`")
        if self.ca_file is not None and self.url is None:
            raise ValueError("`ca_file` belongs to `url`")
        return self


class Allow(Strict):
    """What of a cluster gets identities.

    `namespaces`: names, `prefix*`, or `*`; none is an error. `unbound_tokens`: whether a token that
    is not bound to a pod counts, such as `kubectl create token` makes for use outside the cluster;
    nothing then ends such an identity before the token expires.
    """

    namespaces: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z0-9-]*\*?$", min_length=1)]], Field(min_length=1)
    ] = Field(default=["*"])
    unbound_tokens: bool = False


class Cluster(Strict):
    """One Kubernetes cluster whose service-account tokens are proof of identity."""

    name: Name
    issuer: Annotated[str, Field(min_length=1, max_length=1024)]
    audiences: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    validation: Literal["jwks", "token_review", "both"] = "jwks"
    keys: Keys | None = None
    review: ApiServer | None = None
    identity: str = DEFAULT_IDENTITY
    allow: Allow = Allow()

    @field_validator("identity")
    @classmethod
    def _template(cls, template: str) -> str:
        check_identity_template(template)
        return template

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if self.validation != "token_review" and self.keys is None:
            raise ValueError(f"validation {self.validation} needs `keys`")
        return self


class BundleEndpoint(Strict):
    """A SPIFFE bundle endpoint over TLS, for trust domains that federate with ours.

    `https_web` shows the certificate given, re-read when it changes; `https_spiffe` our own SVID.
    """

    listen: Address
    profile: Literal["https_web", "https_spiffe"]
    certificate: File | None = None
    key: File | None = None

    @model_validator(mode="after")
    def _certificate_for_the_web(self) -> Self:
        is_web = self.profile == "https_web"
        if (self.certificate is not None) != is_web or (self.key is not None) != is_web:
            raise ValueError(
                "https_web needs `certificate` and `key`"
                if is_web
                else "https_spiffe shows our own SVID: it takes no `certificate` and no `key`"
            )
        return self


class ConfigMapTarget(Strict):
    """A ConfigMap of our bundle in some namespaces: those named, or those with labels."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")] = "meshca-bundle"
    namespaces: list[Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]] = (
        Field(default=[])
    )
    selector: Annotated[str, Field(max_length=1024)] = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.namespaces) == bool(self.selector):
            raise ValueError("give either `namespaces` or `selector`")
        return self


class TrustBundleTarget(Strict):
    """A ClusterTrustBundle of our bundle, for pods that project it by `signer_name`."""

    signer_name: Annotated[
        str,
        Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"),
    ]
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,99}[a-z0-9])?$")] = "meshca"


class Publication(Strict):
    """Where in one cluster our bundle is kept: `cluster` is its name in logs and metrics."""

    cluster: Name
    api_server: ApiServer = ApiServer()
    config_map: ConfigMapTarget | None = None
    cluster_trust_bundle: TrustBundleTarget | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.config_map is None and self.cluster_trust_bundle is None:
            raise ValueError("give `config_map`, `cluster_trust_bundle`, or both")
        return self


class Settings(Strict):
    """The whole of `meshca.yaml`, validated."""

    trust_domain: Annotated[str, AfterValidator(parse_trust_domain)]
    data_dir: File
    database: str = ""
    replica: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")] = "main"
    listen: Listen = Listen()
    server_names: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z0-9*]([a-z0-9.-]*[a-z0-9])?$")]],
        Field(min_length=1),
    ] = Field(default=["localhost"])
    public_url: Url | None = None
    upstream: Annotated[SelfSigned | Disk | Vault | VaultTransit, Field(discriminator="kind")]
    key_at_rest: Annotated[KeysAtRest, Field(discriminator="kind")] = KeysInMemory(kind="memory")
    lifetimes: Lifetimes = Lifetimes()
    clusters: Annotated[list[Cluster], Field(min_length=1)]
    policy: PolicyConfig = PolicyConfig()
    bundle_endpoint: BundleEndpoint | None = None
    publish: list[Publication] = Field(default=[])
    revocation: RevocationConfig = RevocationConfig()
    audit: AuditConfig = AuditConfig()
    admin: AdminConfig = AdminConfig()

    @field_validator("database")
    @classmethod
    def _database(cls, url: str) -> str:
        if url and not re.match(r"sqlite:///|postgresql\+psycopg://", url):
            raise ValueError("write sqlite:///PATH or postgresql+psycopg://...")
        return url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for what in ("name", "issuer"):
            values = [getattr(cluster, what) for cluster in self.clusters]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"two clusters have the {what} {', '.join(sorted(twice))}")
        names = [publication.cluster for publication in self.publish]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"publish names {', '.join(sorted(twice))} twice")
        if isinstance(self.upstream, Vault) and self.upstream.ttl is not None:
            self._check_upstream_lifetime(self.upstream.ttl)
        if self.public_url is not None and self.listen.public is None:
            raise ValueError("public_url is set but listen.public is not: nothing would answer")
        if self.audit.witness is not None and self.listen.public is None:
            raise ValueError("audit.witness is set but listen.public is not: nobody could ask it")
        self.admin.check(self.trust_domain, is_remote=self.listen.admin is not None)
        return self

    def _check_upstream_lifetime(self, ttl: timedelta) -> None:
        if self.lifetimes.svid * SVIDS_PER_INTERMEDIATE > ttl:
            shortest = format_duration(self.lifetimes.svid * SVIDS_PER_INTERMEDIATE)
            raise ValueError(f"upstream.ttl must be six times lifetimes.svid: at least {shortest}")

    @property
    def database_url(self) -> str:
        """Return the database's URL; by default SQLite in `data_dir`."""
        return self.database or f"sqlite:///{self.data_dir / 'meshca.db'}"

    @property
    def admin_socket(self) -> Path:
        """Return the path of the admin door's unix socket."""
        return self.data_dir / "admin.sock"


def check_identity_template(template: str) -> None:
    """Raise ValueError unless `template` yields one ID of our trust domain for any caller."""
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    if unknown := set(names) - set(IDENTITY_FIELDS):
        raise ValueError(f"unknown field {sorted(unknown)}; known: {', '.join(IDENTITY_FIELDS)}")
    if not template.startswith("spiffe://{trust_domain}/"):
        raise ValueError("must begin with spiffe://{trust_domain}/")
    missing = {"namespace", "service_account"} - set(names)
    if missing:
        raise ValueError(f"{sorted(missing)} is not in the template: callers would share one ID")
    SpiffeId.parse(fill_identity_template(template, dict.fromkeys(IDENTITY_FIELDS, "x")))


def fill_identity_template(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with each `{field}` replaced; fields are plain names, never expressions."""
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)


def load(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `path`.

    Raises InvalidDocument with every problem, each with the file, the line and the key's path.
    """
    document = read_mapping(path)
    _override(document.value, os.environ if environment is None else environment)
    return validate(Settings, document, path)


def _override(values: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Apply `MESHCA_<PATH>` to the scalars that the schema names (not inside lists)."""
    for path in _scalar_paths(Settings):
        name = _ENVIRONMENT + "_".join(path).upper()
        if name not in environment:
            continue
        target = values
        for key in path[:-1]:
            child = target.setdefault(key, {})
            if not isinstance(child, dict):
                return
            target = child
        target[path[-1]] = environment[name]


def _scalar_paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        options = getattr(annotation, "__args__", (annotation,))
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if models and getattr(annotation, "__origin__", None) is not list:
            paths += [p for m in models for p in _scalar_paths(m, (*prefix, name))]
        elif getattr(annotation, "__origin__", None) is not list:
            paths.append((*prefix, name))
    return list(dict.fromkeys(paths))
