"""An Envoy bootstrap, ready to run: a workload's whole share of the mesh in three small files.

    envoy.json               listeners, clusters, and where secrets and policy come from
    envoy-token.json         names the token's file; Envoy re-reads both when the token rotates
    envoy-trust-bundle.json  names the file of the roots that the server's certificate chains to

The two companions exist because Envoy re-reads a secret from a file only when the secret is itself
a file-based resource (a static secret is read once). A file is noticed when its directory sees a
rename into it: that is how Kubernetes replaces projected tokens, and how `mv` replaces a file.

Everything is JSON: in Envoy's YAML a bare `no` or `y` would be a boolean. The functions are pure;
`sds/bootstrap_options.py` reads the command line's texts, and the command line writes the files.
"""

import json

from cryptography import x509

from meshca.spiffe_id import SpiffeId
from sds.bootstrap_clusters import clusters
from sds.bootstrap_filters import names_of_filters
from sds.bootstrap_listeners import listeners
from sds.bootstrap_tls import BUNDLE_SECRET, SECRET_TYPE, TOKEN_SECRET, Config
from sds.bootstrap_values import Bootstrap

NODE_CLUSTER = "meshca"


def bootstrap_config(bootstrap: Bootstrap) -> Config:
    """Return the bootstrap as the plain values of Envoy's `config.bootstrap.v3.Bootstrap`."""
    node: Config = {"id": bootstrap.node_id, "cluster": NODE_CLUSTER}
    metadata: Config = {"labels": dict(bootstrap.labels)} if bootstrap.labels else {}
    if bootstrap.validator is not None:
        metadata["validator"] = bootstrap.validator
    filters = names_of_filters(
        http=bootstrap.inbound is not None,
        tcp=bool(bootstrap.inbound_tcp),
        permissive=bootstrap.permissive,
    )
    if filters:
        metadata["filters"] = filters
    if metadata:
        node["metadata"] = metadata
    config: Config = {"node": node}
    if bootstrap.admin_port is not None:
        admin = {"address": "127.0.0.1", "port_value": bootstrap.admin_port}
        config["admin"] = {"address": {"socket_address": admin}}
    config["static_resources"] = {
        "listeners": listeners(bootstrap),
        "clusters": clusters(bootstrap),
    }
    return config


def render(bootstrap: Bootstrap) -> str:
    """Return the text of the bootstrap file."""
    return _json(bootstrap_config(bootstrap))


def render_token_secret(bootstrap: Bootstrap) -> str:
    """Return the text of the file that Envoy expects at `bootstrap.token_secret_path`."""
    token = {"secret": {"filename": str(bootstrap.token_file)}}
    return _secret(TOKEN_SECRET, {"generic_secret": token})


def render_bundle_secret(bootstrap: Bootstrap) -> str:
    """Return the text of the file that Envoy expects at `bootstrap.bundle_secret_path`."""
    bundle: Config = {
        "validation_context": {"trusted_ca": {"filename": str(bootstrap.trust_bundle)}}
    }
    return _secret(BUNDLE_SECRET, bundle)


def render_files(bootstrap: Bootstrap) -> dict[str, str]:
    """Return every file Envoy needs beside the token and the bundle: text by file name.

    They belong into one directory; the first is the bootstrap.
    """
    return {
        bootstrap.path.name: render(bootstrap),
        bootstrap.token_secret_path.name: render_token_secret(bootstrap),
        bootstrap.bundle_secret_path.name: render_bundle_secret(bootstrap),
    }


def get_trust_domain(bundle: bytes) -> str:
    """Return the trust domain that the roots in `bundle` (PEM) name as their own SPIFFE ID.

    Raises ValueError when it is not PEM, holds no certificate, or names none or several
    (X509-SVID.md 4.1: an authority's certificate should carry its trust domain's ID).
    """
    try:
        certificates = x509.load_pem_x509_certificates(bundle)
    except ValueError as error:
        raise ValueError("the trust bundle is not PEM with certificates") from error
    names = {name for certificate in certificates for name in _trust_domains(certificate)}
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "none"
        raise ValueError(f"the trust bundle does not name one trust domain (found: {found})")
    return names.pop()


def _trust_domains(certificate: x509.Certificate) -> set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    return {SpiffeId.parse(uri).trust_domain for uri in uris if uri.startswith("spiffe://")}


def _secret(name: str, content: Config) -> str:
    return _json({"resources": [{"@type": SECRET_TYPE, "name": name, **content}]})


def _json(value: Config) -> str:
    return json.dumps(value, indent=2) + "\n"
