"""`meshca init`: everything a first server needs, in one directory."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.output import note
from meshca.spiffe_id import parse_trust_domain

CONFIG = "meshca.yaml"
CLUSTER = "cluster"
POLICIES = "policies"

_CONFIG_TEXT = """\
# meshca's configuration. Check it with:  meshca config check --config {config}
# An unknown key or an impossible combination is an error, and nothing starts. Relative paths are
# relative to this file. Any scalar can come from the environment: MESHCA_LISTEN_MESH=0.0.0.0:9443

trust_domain: {trust_domain}

# The database (meshca.db), the admin socket (admin.sock) and the development root (pki/).
data_dir: .

listen:
  mesh: 0.0.0.0:8443         # gRPC with TLS: proxies come here with their token
  metrics: 127.0.0.1:9464    # /metrics, /healthz, /readyz
  # public: 0.0.0.0:8081     # the trust bundle and CA certificates, over plain HTTP

# DNS names in the server's own certificate: the names that proxies call it by.
server_names: [localhost]

# FOR DEVELOPMENT: a root whose key lies in plain text in pki/. Use `kind: disk` or better instead.
upstream: {{kind: self_signed}}

lifetimes:
  svid: 1h
  intermediate: 7d

clusters:
  # FOR DEVELOPMENT: not a Kubernetes cluster but keys in {cluster}/ that sign tokens of its shape
  # (meshca dev token). For a real one: issuer is the API server's --service-account-issuer, and
  # keys: {{api_server: {{kubeconfig: ...}}}} fetches its keys.
  - name: {name}
    issuer: {issuer}
    audiences: [{audience}]
    keys: {{file: {cluster}/jwks.json}}

policy:
  sources: [{{directory: {policies}}}]
  default: deny              # what holds where no policy speaks
"""

_POLICY_TEXT = """\
# Who may call whom. Every *.yaml file of this directory is read at start and when it changes.
# Nothing is allowed until a policy allows it. Take the marks away to let `frontend` read from
# `orders`, both in namespace `shop`; check it before it is in force:
#
#   meshca authz check --policies {directory} --trust-domain {trust_domain} \\
#     --source spiffe://{trust_domain}/ns/shop/sa/frontend --destination shop/orders \\
#     --method GET --path /items
#
# apiVersion: security.istio.io/v1
# kind: AuthorizationPolicy
# metadata:
#   name: orders-readers
#   namespace: shop
# spec:
#   selector:
#     matchLabels: {{app: orders}}
#   action: ALLOW
#   rules:
#     - from:
#         - source:
#             principals: ["{trust_domain}/ns/shop/sa/frontend"]
#       to:
#         - operation:
#             methods: [GET]
#             paths: ["/items*"]
"""

_NEXT = """\
Made a development server of trust domain {trust_domain} in {directory}. Next:

  meshca serve --config {config}

and, in a second terminal, a token for a workload and an Envoy that fetches its identity with it:

  meshca dev token --config {config} --namespace shop --service-account orders > orders.token
  meshca envoy bootstrap --server localhost:8443 --token-file orders.token \\
    --trust-bundle {root} --inbound 9001 --app 127.0.0.1:8000 --admin 9901 --write orders.json
  envoy -c orders.json

  meshca proxies --config {config}
  meshca svid list --config {config}

Its keys lie in plain text in {directory}: development only."""


def _trust_domain(text: str) -> str:
    try:
        return parse_trust_domain(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    trust_domain: Annotated[
        str,
        typer.Option("--trust-domain", parser=_trust_domain, metavar="TD", help="e.g. example.org"),
    ],
) -> None:
    """Write a configuration, a development root and a development cluster into DIR.

    Nothing is overwritten: DIR must be new or empty. What it makes is for development: the keys
    of the root and of the cluster lie in DIR in plain text.

    Example: meshca init d --trust-domain example.org
    """
    from meshca.clock import SystemClock

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CommandFailed(
            f"{directory} exists and is not an empty directory; init overwrites nothing"
        )
    try:
        _write(directory, trust_domain, SystemClock().now())
    except OSError as error:
        raise CommandFailed(f"cannot write {error.filename}: {error.strerror}") from error
    config = directory / CONFIG
    root = directory / "pki" / "root.pem"
    note(_NEXT.format(trust_domain=trust_domain, directory=directory, config=config, root=root))


def _write(directory: Path, trust_domain: str, now: datetime) -> None:
    from ca.upstream import self_signed
    from identity.development import UnsafeDevelopmentCluster

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster = UnsafeDevelopmentCluster.create(directory / CLUSTER)
    self_signed.create(directory, trust_domain=trust_domain, now=now)
    values = {
        "trust_domain": trust_domain,
        "directory": directory / POLICIES,
        "config": directory / CONFIG,
        "cluster": CLUSTER,
        "policies": POLICIES,
        "name": cluster.name,
        "issuer": cluster.issuer,
        "audience": "meshca",
    }
    (directory / POLICIES).mkdir()
    _new(directory / POLICIES / "example.yaml", _POLICY_TEXT.format(**values))
    _new(directory / CONFIG, _CONFIG_TEXT.format(**values))


def _new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
