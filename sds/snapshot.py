"""What a proxy should see: a pure function of its identity, its names, and the state of the mesh.

Secret names (SPIRE's and Envoy's conventions): `default` and the caller's own SPIFFE ID are its
certificate; `ROOTCA` and `spiffe://<trust domain>` are the trust bundle, `ALL` is every trust
domain's side by side, `spiffe://<other trust domain>` that one's, once it is federated. Extension
names: `authz` is the HTTP filter's policy, `tcp-authz` the network filter's. Any other name is
nobody's: it gets no answer, whoever asks.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from authz.compile import http_rbac, network_rbac
from authz.engine import compile_workload
from authz.policy import PolicySet, Workload
from ca.bundle import NO_FEDERATION, Federated, TrustBundle
from meshca.spiffe_id import SpiffeId
from rotation.credential import Credential
from sds.resources import (
    EXTENSION_TYPE,
    NOBODY,
    SECRET_TYPE,
    Resource,
    certificate,
    extension,
    spiffe_validation_context,
    validation_context,
)

CERTIFICATE_NAME: Final = "default"
OWN_BUNDLE_NAME: Final = "ROOTCA"
EVERY_BUNDLE_NAME: Final = "ALL"
BUNDLE_NAMES: Final = (OWN_BUNDLE_NAME, EVERY_BUNDLE_NAME)
HTTP_POLICY_NAME: Final = "authz"
NETWORK_POLICY_NAME: Final = "tcp-authz"
MAXIMUM_CACHED_WORKLOADS: Final = 4096
_SCHEME: Final = "spiffe://"


class Subject(Enum):
    """What a resource name stands for."""

    CERTIFICATE = "certificate"
    BUNDLE = "bundle"
    HTTP_POLICY = "http policy"
    NETWORK_POLICY = "network policy"


def subject_of(
    type_url: str, name: str, caller: SpiffeId, federated: Container[str] = NO_FEDERATION
) -> Subject | None:
    """Return what `name` stands for when `caller` asks, or None when it is nobody's.

    `federated` are the trust domains beside the caller's own whose names mean something.
    """
    if type_url == SECRET_TYPE:
        if name in (CERTIFICATE_NAME, str(caller)):
            return Subject.CERTIFICATE
        if name in BUNDLE_NAMES or name == f"spiffe://{caller.trust_domain}":
            return Subject.BUNDLE
        if name.startswith(_SCHEME) and name.removeprefix(_SCHEME) in federated:
            return Subject.BUNDLE
    elif type_url == EXTENSION_TYPE:
        if name == HTTP_POLICY_NAME:
            return Subject.HTTP_POLICY
        if name == NETWORK_POLICY_NAME:
            return Subject.NETWORK_POLICY
    return None


def everything(type_url: str) -> tuple[str, ...]:
    """Return the names that an empty list asks for: all the caller is entitled to."""
    if type_url == SECRET_TYPE:
        return (CERTIFICATE_NAME, "ROOTCA")
    return (HTTP_POLICY_NAME, NETWORK_POLICY_NAME) if type_url == EXTENSION_TYPE else ()


@dataclass(slots=True)
class Shared:
    """The resources that many proxies share, made once for each bundle and each policy set."""

    policies: Callable[[], PolicySet]
    bundle: Callable[[], TrustBundle]
    federated: Callable[[], Federated] = lambda: NO_FEDERATION
    _set: PolicySet | None = None
    _compiled: dict[tuple[Subject, Workload], Resource] = field(default_factory=dict)
    _trusted: tuple[TrustBundle, Federated] | None = None
    _contexts: dict[str, Resource] = field(default_factory=dict)

    def policy(self, subject: Subject, workload: Workload) -> Resource:
        """Return the policy resource of `workload`; compiled once a set."""
        current = self.policies()
        if current is not self._set or len(self._compiled) >= MAXIMUM_CACHED_WORKLOADS:
            self._set, self._compiled = current, {}
        key = (subject, workload)
        if key not in self._compiled:
            self._compiled[key] = _compile(current, subject, workload)
        return self._compiled[key]

    def context(self, name: str) -> Resource:
        """Return the trust bundles under `name`, which `subject_of` has accepted."""
        own, federated = self.bundle(), self.federated()
        known = self._trusted
        if known is None or own is not known[0] or federated is not known[1]:
            self._trusted, self._contexts = (own, federated), {}
        if name not in self._contexts:
            self._contexts[name] = _context(name, own, federated)
        return self._contexts[name]


def _context(name: str, own: TrustBundle, federated: Federated) -> Resource:
    """Return the validation context `name`; a name of a domain without roots trusts nobody."""
    domain = name.removeprefix(_SCHEME)
    if domain in federated.without_roots:
        return spiffe_validation_context(name, {NOBODY: own})
    if not federated.bundles:
        return validation_context(name, own)
    if name == EVERY_BUNDLE_NAME:
        return spiffe_validation_context(name, {**federated.bundles, own.trust_domain: own})
    bundle = federated.bundles.get(domain, own)
    return spiffe_validation_context(name, {bundle.trust_domain: bundle})


def _compile(policies: PolicySet, subject: Subject, workload: Workload) -> Resource:
    compiled = compile_workload(policies, workload)
    if subject is Subject.HTTP_POLICY:
        return extension(HTTP_POLICY_NAME, http_rbac(compiled))
    return extension(NETWORK_POLICY_NAME, network_rbac(compiled))


@dataclass(frozen=True, slots=True)
class View:
    """The state of the mesh as one proxy may see it."""

    caller: SpiffeId
    workload: Workload
    credential: Credential | None
    shared: Shared


def resolve(view: View, type_url: str, name: str) -> Resource | None:
    """Return the resource `name` as `view`'s caller should see it.

    None when the name is nobody's, or when the certificate is not there yet.
    """
    subject = subject_of(type_url, name, view.caller, view.shared.federated())
    if subject is None:
        return None
    if subject is Subject.CERTIFICATE:
        return None if view.credential is None else certificate(name, view.credential)
    if subject is Subject.BUNDLE:
        return view.shared.context(name)
    return view.shared.policy(subject, view.workload)
