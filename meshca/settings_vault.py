"""Configuration of what stands on Vault: where it is, who we are to it, what we ask of it."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from meshca.strict import Duration, File, Strict

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _vault_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+/?", value):
        raise ValueError(f"{value!r} is not an address like https://vault:8200, without a path")
    url = urlsplit(value)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ValueError("write https: over http anybody on the way could take our token")
    return value.rstrip("/")


MountPath = Annotated[
    str,
    Field(max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"),
]
VaultName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class VaultToken(Strict):
    """A token that somebody else brings, such as Vault Agent; renewed here while Vault lets us."""

    method: Literal["token"]
    token_file: File


class VaultAppRole(Strict):
    """A role id and a secret id; with `wrapped` the file holds a wrapping token of one."""

    method: Literal["approle"]
    mount: MountPath = "approle"
    role_id: Annotated[str, Field(min_length=1, max_length=256)]
    secret_id_file: File
    wrapped: bool = False


class VaultKubernetes(Strict):
    """This pod's service account, which Vault reviews with the cluster's API server."""

    method: Literal["kubernetes"]
    mount: MountPath = "kubernetes"
    role: VaultName
    token_file: File


class VaultJwt(Strict):
    """A JWT, such as a projected service-account token, that Vault verifies by itself."""

    method: Literal["jwt"]
    mount: MountPath = "jwt"
    role: VaultName
    token_file: File


VaultAuth = VaultToken | VaultAppRole | VaultKubernetes | VaultJwt


class VaultServer(Strict):
    """Where Vault is, and how we log in there."""

    address: Annotated[str, AfterValidator(_vault_address)]
    ca_file: File | None = None
    namespace: MountPath | None = None
    auth: Annotated[VaultAuth, Field(discriminator="method")]


class Vault(VaultServer):
    """A PKI mount of HashiCorp Vault or OpenBao signs our intermediate; its key is made here.

    `ttl` is how long the intermediate lives; by default `lifetimes.intermediate`.
    """

    kind: Literal["vault"]
    mount: MountPath = "pki"
    issuer: VaultName = "default"
    ttl: Duration | None = None


class VaultTransit(Vault):
    """The same, but the intermediate's key is made in a Transit mount and never leaves Vault."""

    kind: Literal["vault_transit"]  # type: ignore[assignment]  # one model, two discriminators
    transit_mount: MountPath = "transit"
    key_name: VaultName


class KeysUnderTransit(VaultServer):
    """Keys of authorities are stored under a Transit key, which never leaves Vault."""

    kind: Literal["vault_transit"]
    transit_mount: MountPath = "transit"
    key_name: VaultName
