"""Loading policy: texts in, one checked set out, or every mistake at once.

Rules. Strict and whole: an unknown field, an empty list, a null, a value that cannot be read, what
Istio knows and we do not, two documents of one kind and name: each is a problem with file, line
and field, and one problem refuses the whole set. What loads means what Istio means by it, except
where docs/authorization.md says how it differs. After loading nothing is checked again.

Documents of all three kinds may stand in any file. This file reads no files and remembers nothing;
`authz.sources` does.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from authz import peer_documents, policy_documents, request_documents
from authz.findings import find_warnings
from authz.load_memory import Known, LoadMemory, parts
from authz.metadata import read_metadata
from authz.peer_authentication import PeerAuthentication
from authz.policy import Default, Policy, PolicySet
from authz.policy_documents import Names
from authz.reader import StrictReader, hint
from authz.request_authentication import RequestAuthentication
from meshca.errors import InvalidDocument, Problem
from meshca.yaml_source import MAXIMUM_BYTES, Document, load_documents

API_VERSIONS: Final = ("security.istio.io/v1", "security.istio.io/v1beta1")
SPEC_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    policy_documents.KIND: (
        *("selector", "targetRef", "targetRefs", "action", "provider", "rules"),
    ),
    peer_documents.KIND: ("selector", "mtls", "portLevelMtls"),
    request_documents.KIND: ("selector", "targetRef", "targetRefs", "jwtRules"),
}
"""The kinds that are read, each with the fields of its spec."""

_ADVICE: Final = {
    policy_documents.KIND: "write `spec: {}` for a policy that allows nothing",
    peer_documents.KIND: "write `spec: {mtls: {mode: STRICT}}`",
    request_documents.KIND: "write `spec: {jwtRules: [...]}`",
}


def load_policies(
    texts: Iterable[tuple[str, str]],
    *,
    trust_domain: str,
    root_namespace: str,
    default: Default,
    aliases: Iterable[str] = (),
    providers: Collection[str] | None = None,
    memory: LoadMemory | None = None,
) -> PolicySet:
    """Return the set of all documents in `texts`, pairs of a source's name and its YAML.

    `aliases` are further names of our trust domain. `providers` are the names that CUSTOM policies
    may ask; None checks none. `memory` is what earlier loads have read, and is kept up to date: the
    result is the same with it, and sooner there. Raises InvalidDocument with every problem.
    """
    others = sorted(set(aliases) - {trust_domain})
    names = Names((trust_domain, *others), providers)
    loading = _Loading(names, root_namespace)
    texts = tuple(texts)
    if memory is None or not loading.recall(texts, memory):
        loading = _Loading(names, root_namespace)
        for source, text in texts:
            loading.read(source, text)
    settled, older = peer_documents.settle_scopes(loading.peers)
    forgeable = request_documents.forgeable_headers(loading.requests, root_namespace)
    problems = [*loading.problems, *loading.duplicates(), *settled, *forgeable]
    if problems:
        raise InvalidDocument(problems)
    loaded = PolicySet.of(
        loading.policies,
        trust_domain=trust_domain,
        root_namespace=root_namespace,
        default=default,
        aliases=others,
        peer_authentications=loading.peers,
        request_authentications=loading.requests,
        warnings=(*loading.warnings, *older),
    )
    return replace(loaded, warnings=(*loaded.warnings, *find_warnings(loaded)))


@dataclass(slots=True)
class _Loading:
    """What has been read so far; good only while there are no problems."""

    names: Names
    root_namespace: str
    policies: list[Policy] = field(default_factory=list)
    peers: list[PeerAuthentication] = field(default_factory=list)
    requests: list[RequestAuthentication] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def read(self, source: str, text: str) -> None:
        """Read every document of `text`."""
        try:
            documents = load_documents(text, source)
        except InvalidDocument as error:
            self.problems += error.problems
            return
        for document in documents:
            strict = StrictReader(document)
            self._document(strict, document)
            self.problems += sorted(strict.problems, key=lambda problem: problem.line)
            self.warnings += strict.warnings

    def recall(self, texts: Iterable[tuple[str, str]], memory: LoadMemory) -> bool:
        """Read `texts` with what `memory` knows of them; return False at the first mistake.

        Mistakes are told by a reading of whole texts: of these we say where they are.
        """
        memory.begin((self.names, self.root_namespace))
        for source, text in texts:
            if len(text) > MAXIMUM_BYTES // 4 and len(text.encode()) > MAXIMUM_BYTES:
                return False
            for part, line in parts(text):
                known = memory.find(part, source, line) or self._new(part, source, line, memory)
                if known is None:
                    return False
                self.policies += known.policies
                self.peers += known.peers
                self.requests += known.requests
                self.warnings += known.warnings
        memory.finish()
        return True

    def _new(self, part: str, source: str, line: int, memory: LoadMemory) -> Known | None:
        """Read a part that is not known; return None when there is a mistake in it."""
        alone = _Loading(self.names, self.root_namespace)
        alone.read(source, part)
        if alone.problems:
            return None
        documents = (alone.policies, alone.peers, alone.requests, alone.warnings)
        policies, peers, requests, warnings = documents
        read = Known(source, 0, tuple(policies), tuple(peers), tuple(requests), tuple(warnings))
        return memory.keep(part, read.at(source, line))

    def _document(self, strict: StrictReader, document: Document) -> None:
        known = ("apiVersion", "kind", "metadata", "spec")
        top = strict.mapping((), document.value, known, ignored=("status",))
        kind = None if top is None else _kind(strict, top)
        if top is None or kind is None:
            return
        metadata = read_metadata(strict, top.get("metadata"))
        spec = _spec(strict, top, kind)
        if spec is None:
            return
        match kind:
            case policy_documents.KIND:
                self.policies.append(
                    policy_documents.read_policy(strict, metadata, spec, self.names)
                )
            case peer_documents.KIND:
                self.peers.append(
                    peer_documents.read_peer_authentication(
                        strict, metadata, spec, self.root_namespace
                    )
                )
            case _:
                self.requests.append(
                    request_documents.read_request_authentication(strict, metadata, spec)
                )

    def duplicates(self) -> list[Problem]:
        """Return a problem for each document whose kind, namespace and name are already there."""
        problems: list[Problem] = []
        for documents in (self.policies, self.peers, self.requests):
            problems += _duplicates(documents)
        return problems


def _kind(strict: StrictReader, top: Mapping[str, Any]) -> str | None:
    if top.get("apiVersion") not in API_VERSIONS:
        strict.problem(("apiVersion",), f"must be {' or '.join(API_VERSIONS)}")
        return None
    kind = top.get("kind")
    if not isinstance(kind, str) or kind not in SPEC_FIELDS:
        known = ", ".join(SPEC_FIELDS)
        strict.problem(("kind",), f"{kind!r} is none of {known}{hint(str(kind), SPEC_FIELDS)}")
        return None
    return kind


def _spec(strict: StrictReader, top: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    if "spec" not in top:
        strict.problem((), f"spec is missing; {_ADVICE[kind]}")
        return None
    return strict.mapping(("spec",), top["spec"], SPEC_FIELDS[kind])


def _duplicates(
    documents: Iterable[Policy | PeerAuthentication | RequestAuthentication],
) -> Iterable[Problem]:
    first: dict[tuple[str, str], Any] = {}
    for document in documents:
        other = first.setdefault((document.namespace, document.name), document)
        if other is not document:
            where = f"{other.source}:{other.line}"
            message = f"{document.namespace}/{document.name} is already defined in {where}"
            place = (document.source, document.line)
            yield Problem("metadata.name", message, *place, others=(other.source,))
