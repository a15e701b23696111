"""What a proxy should see: a pure function of its identity, its names, and the state of the mesh.

Secret names (SPIRE's and Envoy's conventions): `default` and the caller's own SPIFFE ID are its
certificate; `ROOTCA` and `spiffe://<trust domain>` are the trust bundle, `ALL` is every trust
domain's side by side, `spiffe://<other trust domain>` that one's, once it is federated; a bundle's
name may end in the validator it is for, `@spiffe` or `@default` (sds/contexts.py). Extension names
are those of the bootstrap's filters (sds/bootstrap_filters.py): what policy decides
(sds/policy_resources.py), and `revoked` and `tcp-revoked`, which refuse who is revoked
(sds/revoked.py). Any other name is nobody's: it gets no answer, whoever asks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from authz.jwt_filter import Keys
from authz.policy import PolicySet
from authz.workload import Workload
from ca.bundle import NO_FEDERATION, Federated, TrustBundle
from ca.revocation.view import NOTHING_REVOKED, RevocationView
from identity.caller import Caller
from meshca.clock import Clock, SystemClock
from meshca.spiffe_id import SpiffeId
from rotation.credential import Credential
from sds.bootstrap_filters import CHECK, HTTP_REVOKED, TCP_REVOKED
from sds.carried import CarriedVersions
from sds.contexts import (
    OWN_BUNDLE_NAME,
    Validator,
    complain_of_lists,
    is_bundle_name,
    make_context,
    validator_of,
)
from sds.policy_resources import POLICY_NAMES, PolicyResources, no_keys
from sds.resources import EXTENSION_TYPE, SECRET_TYPE, Resource, certificate, extension
from sds.revoked import http_revoked, network_revoked
from sds.turns import Turns

CERTIFICATE_NAME: Final = "default"


class Subject(Enum):
    """What a resource name stands for."""

    CERTIFICATE = "certificate"
    BUNDLE = "bundle"
    POLICY = "policy"
    HTTP_REVOKED = "revoked, http"
    NETWORK_REVOKED = "revoked, network"


_EXTENSIONS: Final = {
    **dict.fromkeys(POLICY_NAMES, Subject.POLICY),
    HTTP_REVOKED: Subject.HTTP_REVOKED,
    TCP_REVOKED: Subject.NETWORK_REVOKED,
}


def subject_of(
    type_url: str, name: str, caller: SpiffeId, federated: Federated = NO_FEDERATION
) -> Subject | None:
    """Return what `name` stands for when `caller` asks, or None when it is nobody's.

    `federated` are the trust domains beside the caller's own whose names mean something.
    """
    if type_url == EXTENSION_TYPE:
        return _EXTENSIONS.get(name)
    if type_url == SECRET_TYPE:
        if name in (CERTIFICATE_NAME, str(caller)):
            return Subject.CERTIFICATE
        if is_bundle_name(name, caller.trust_domain, federated):
            return Subject.BUNDLE
    return None


def everything(type_url: str) -> tuple[str, ...]:
    """Return the names that an empty list asks for: all the caller is entitled to."""
    if type_url == SECRET_TYPE:
        return (CERTIFICATE_NAME, OWN_BUNDLE_NAME)
    return tuple(_EXTENSIONS) if type_url == EXTENSION_TYPE else ()


def _no_labels(_caller: Caller) -> Mapping[str, str] | None:
    return None


@dataclass(slots=True)
class Shared:
    """The resources that many proxies share, made once for each state that they are made of.

    `keys` are those of the issuers of tokens. `labels` are those of a caller's pod; None where they
    are not known, and then the proxy's own word counts.
    """

    policies: Callable[[], PolicySet]
    bundle: Callable[[], TrustBundle]
    federated: Callable[[], Federated] = lambda: NO_FEDERATION
    revocation: Callable[[], RevocationView] = lambda: NOTHING_REVOKED
    clock: Clock = field(default_factory=SystemClock)
    turns: Turns = field(default_factory=Turns)
    carried: CarriedVersions = field(default_factory=CarriedVersions)
    keys: Callable[[], Keys] = lambda: no_keys
    labels: Callable[[Caller], Mapping[str, str] | None] = _no_labels
    filters: PolicyResources = field(init=False)
    _trusted: tuple[TrustBundle, Federated, RevocationView] | None = None
    _contexts: dict[tuple[str, Validator], Resource] = field(default_factory=dict)
    _cut_off: RevocationView | None = None
    _revoked: dict[Subject, Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.filters = PolicyResources(self.policies, self.keys)

    def context(self, name: str, chosen: Validator | None = None) -> Resource:
        """Return the trust bundles under `name`, which `subject_of` has accepted.

        `chosen` is the flavour of names that do not say one.
        """
        own, federated, view = self.bundle(), self.federated(), self.revocation()
        known, now = self._trusted, (own, federated, view)
        if known is None or any(a is not b for a, b in zip(known, now, strict=True)):
            self._trusted, self._contexts = now, {}
            complain_of_lists(view, self.clock.now())
        key = (name, validator_of(name, chosen, own, federated))
        if key not in self._contexts:
            made = self._contexts[key] = make_context(*key, own, federated, view)
            has_lists = key[1] is Validator.DEFAULT or view.upper is not None
            self.carried.note(made.version, view, has_lists=has_lists)
        return self._contexts[key]

    def revoked(self, subject: Subject) -> Resource:
        """Return the filter that refuses who is revoked, the same for every proxy."""
        view = self.revocation()
        if view is not self._cut_off:
            self._cut_off, self._revoked = view, {}
        if subject not in self._revoked:
            made = self._revoked[subject] = (
                extension(HTTP_REVOKED, http_revoked(view))
                if subject is Subject.HTTP_REVOKED
                else extension(TCP_REVOKED, network_revoked(view))
            )
            self.carried.note(made.version, view, has_lists=False)
        return self._revoked[subject]


def current_bundle_versions(shared: Shared, name: str) -> frozenset[str]:
    """Return each version that holds the trust bundle and the lists of now under `name`.

    There are several, as a proxy may have chosen a validator; none when `name` is not our own
    bundle's.
    """
    own = shared.bundle().trust_domain
    if not is_bundle_name(name, own, NO_FEDERATION):
        return frozenset()
    return frozenset(shared.context(name, chosen).version for chosen in (None, *Validator))


def current_revoked_version(shared: Shared, name: str) -> str | None:
    """Return the version that refuses everybody revoked now; None if `name` is another's."""
    subject = _EXTENSIONS.get(name)
    if subject not in (Subject.HTTP_REVOKED, Subject.NETWORK_REVOKED):
        return None
    return shared.revoked(subject).version


@dataclass(frozen=True, slots=True)
class View:
    """The state of the mesh as one proxy may see it; `filters` are the names of those it has."""

    caller: SpiffeId
    workload: Workload
    credential: Credential | None
    shared: Shared
    validator: Validator | None = None
    filters: frozenset[str] = frozenset()


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
        return view.shared.context(name, view.validator)
    if subject in (Subject.HTTP_REVOKED, Subject.NETWORK_REVOKED):
        return view.shared.revoked(subject)
    return view.shared.filters.get(name, view.workload, with_check=CHECK in view.filters)
