"""Resources as Envoy wants them: secrets and extension configurations, versioned by their content.

A version is a function of the bytes, equal on every replica, so that a proxy that reconnects with
`initial_resource_versions` is sent only what changed. Validation contexts carry trust anchors and
CRLs only, never SAN matchers: Envoy OR-s pushed matchers with the static ones (invariant 5).
Which of Envoy's validators a context is for, and with which lists: sds/contexts.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import (
    SPIFFECertValidatorConfig,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from ca.bundle import TrustBundle
from meshca.errors import IssuanceFault
from rotation.credential import Credential

SECRET_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # a type URL
SPIFFE_VALIDATOR: Final = "envoy.tls.cert_validator.spiffe"
NOBODY: Final = "nobody.invalid"
"""A trust domain that is nobody's: of a context that trusts nobody, and yet is not empty."""
EXTENSION_TYPE: Final = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True, slots=True)
class Resource:
    """One named resource; `pack` makes its body, or gives the one that all streams share.

    `size` is that of a body which may be large, in bytes; 0 for one that is not.
    """

    name: str
    version: str
    pack: Callable[[], AnyMessage] = field(repr=False)
    size: int = 0


def certificate(name: str, credential: Credential) -> Resource:
    """Return the TLS certificate secret of `credential` under `name` (envoy tls.v3.Secret).

    Packed when it is sent, to one stream: whoever looks whether it is due compares versions.
    """
    return Resource(name, credential.version, partial(_pack_certificate, name, credential))


def _pack_certificate(name: str, credential: Credential) -> AnyMessage:
    secret = Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = b"".join(credential.svid.chain_pem)
    secret.tls_certificate.private_key.inline_bytes = credential.private_key_pem
    return AnyMessage(type_url=SECRET_TYPE, value=secret.SerializeToString())


def validation_context(name: str, bundle: TrustBundle, lists: bytes = b"") -> Resource:
    """Return the context of `bundle` under `name` for Envoy's default validator.

    `lists` are the revocation lists (PEM) of every leaf issuer; only leaves are looked up in them.
    Raises IssuanceFault rather than return an empty one, which would turn mutual TLS off.
    """
    anchors = bundle.pem()
    if not anchors:
        raise IssuanceFault("an empty validation context was about to be pushed")
    secret = Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = anchors
    if lists:
        secret.validation_context.crl.inline_bytes = lists
        secret.validation_context.only_verify_leaf_cert_crl = True
    return _shared(name, SECRET_TYPE, secret)


def spiffe_validation_context(
    name: str,
    bundles: Mapping[str, TrustBundle],
    lists: Mapping[str, bytes] = MappingProxyType({}),
) -> Resource:
    """Return the validation context under `name` that trusts each domain's roots for itself only.

    `bundles` are keyed by trust domain, and so are `lists`: revocation lists (PEM), of every CA in
    every chain of that domain. Raises IssuanceFault rather than return an empty one.
    """
    if not bundles:
        raise IssuanceFault("an empty validation context was about to be pushed")
    config = SPIFFECertValidatorConfig()
    for trust_domain in sorted(bundles):
        domain = config.trust_domains.add(name=trust_domain)
        anchors = bundles[trust_domain].pem()
        domain.trust_bundle.inline_bytes = anchors + lists.get(trust_domain, b"")
    secret = Secret(name=name)
    validator = secret.validation_context.custom_validator_config
    validator.name = SPIFFE_VALIDATOR
    validator.typed_config.Pack(config, deterministic=True)
    return _shared(name, SECRET_TYPE, secret)


def extension(name: str, config: Message) -> Resource:
    """Return the extension configuration `config` under `name` (envoy core.v3)."""
    typed = TypedExtensionConfig(name=name)
    typed.typed_config.type_url = f"type.googleapis.com/{config.DESCRIPTOR.full_name}"
    typed.typed_config.value = config.SerializeToString(deterministic=True)
    return _shared(name, EXTENSION_TYPE, typed)


def _shared(name: str, type_url: str, message: Message) -> Resource:
    value = message.SerializeToString(deterministic=True)
    version = sha256(value).hexdigest()[:32]
    body = AnyMessage(type_url=type_url, value=value)
    return Resource(name, version, lambda: body, len(value))
