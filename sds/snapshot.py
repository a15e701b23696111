"""What a proxy should see: a pure function of its identity, its names, and the state of the mesh.

Secret names (SPIRE's and Envoy's conventions): `default` and the caller's own SPIFFE ID are its
certificate; `ROOTCA`, `ALL` and `spiffe://<trust domain>` are the trust bundle. Extension names:
`authz` is the HTTP filter's policy, `tcp-authz` the network filter's. Any other name is nobody's:
it gets no answer, whoever asks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from authz.compile import http_rbac, network_rbac
from authz.engine import compile_workload
from authz.policy import PolicySet, Workload
from ca.bundle import TrustBundle
from meshca.spiffe_id import SpiffeId
from rotation.credential import Credential
from sds.resources import (
    EXTENSION_TYPE,
    SECRET_TYPE,
    Resource,
    certificate,
    extension,
    validation_context,
)

CERTIFICATE_NAME: Final = "default"
BUNDLE_NAMES: Final = ("ROOTCA", "ALL")
HTTP_POLICY_NAME: Final = "authz"
NETWORK_POLICY_NAME: Final = "tcp-authz"
MAXIMUM_CACHED_WORKLOADS: Final = 4096


class Subject(Enum):
    """What a resource name stands for."""

    CERTIFICATE = "certificate"
    BUNDLE = "bundle"
    HTTP_POLICY = "http policy"
    NETWORK_POLICY = "network policy"


def subject_of(type_url: str, name: str, caller: SpiffeId) -> Subject | None:
    """Return what `name` stands for when `caller` asks, or None when it is nobody's."""
    if type_url == SECRET_TYPE:
        if name in (CERTIFICATE_NAME, str(caller)):
            return Subject.CERTIFICATE
        if name in BUNDLE_NAMES or name == f"spiffe://{caller.trust_domain}":
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
    _set: PolicySet | None = None
    _compiled: dict[tuple[Subject, Workload], Resource] = field(default_factory=dict)
    _trusted: TrustBundle | None = None
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
        """Return the trust bundle under `name`, which `subject_of` has accepted."""
        current = self.bundle()
        if current is not self._trusted:
            self._trusted, self._contexts = current, {}
        if name not in self._contexts:
            self._contexts[name] = validation_context(name, current)
        return self._contexts[name]


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
    subject = subject_of(type_url, name, view.caller)
    if subject is None:
        return None
    if subject is Subject.CERTIFICATE:
        return None if view.credential is None else certificate(name, view.credential)
    if subject is Subject.BUNDLE:
        return view.shared.context(name)
    return view.shared.policy(subject, view.workload)
