"""Unit tests of policy: given these documents, this request is allowed or denied.

    trust_domain: example.org            root_namespace, default, trust_domain_aliases: as served
    policies: [policies/]                files and directories, beside the test file
    cases:
    - name: the frontend reads orders
      request: {...}                     as `meshca authz check --batch` takes it
      expect: allow                      or deny
      policy: shop/orders                optional: who has to have decided
      shadow: deny                       optional: the verdict with what is on trial in force
      answers: {opa: allow}              optional: what each CUSTOM provider says

Rules. Strict: what is unknown or missing is a problem with its line, and nothing runs. A file
without cases is a problem: it would prove nothing. Reading files is the caller's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree as ET

from authz.asked import parse_request
from authz.engine import decide
from authz.policy import Default, PolicySet
from authz.reader import StrictReader
from authz.request import Request
from meshca.errors import InvalidDocument, Problem, RequestRefused
from meshca.spiffe_id import parse_trust_domain
from meshca.yaml_source import Path, load_documents

MAXIMUM_CASES: Final = 10_000
_TOP: Final = (
    *("trust_domain", "trust_domain_aliases", "root_namespace", "default", "policies", "cases"),
)
_CASE: Final = ("name", "request", "expect", "policy", "shadow", "answers")
_VERDICTS: Final = ("allow", "deny")


@dataclass(frozen=True, slots=True)
class Case:
    """One expectation; `policy` and `shadow` are None where nothing is expected of them."""

    name: str
    line: int
    request: Request
    allowed: bool
    policy: str | None
    shadow: bool | None
    answers: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class TestFile:
    """One file of tests; `paths` are those of its policies, as it names them."""

    __test__ = False  # pytest: not a class of tests of ours

    source: str
    paths: tuple[str, ...]
    trust_domain: str
    aliases: tuple[str, ...]
    root_namespace: str
    default: Default
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """How a case went: `failure` says what was not as expected, empty when all was."""

    source: str
    case: Case
    failure: str

    @property
    def passed(self) -> bool:
        """Return whether everything was as expected."""
        return not self.failure


def load_tests(text: str, source: str) -> TestFile:
    """Return the tests in `text`. Raises InvalidDocument with every problem."""
    documents = load_documents(text, source)
    if len(documents) != 1:
        raise InvalidDocument([Problem("", "must hold one document", source)])
    strict = StrictReader(documents[0])
    tests = _tests(strict, source)
    if strict.problems or tests is None:
        raise InvalidDocument(sorted(strict.problems, key=lambda problem: problem.line))
    return tests


def run(tests: TestFile, policies: PolicySet) -> list[Result]:
    """Decide each case."""
    return [Result(tests.source, case, _failure(case, policies)) for case in tests.cases]


def _failure(case: Case, policies: PolicySet) -> str:
    decision = decide(policies, case.request, answers=case.answers)
    if decision.allowed is not case.allowed:
        return f"expected {_word(case.allowed)}, got {_word(decision.allowed)}: {decision.reason}"
    if case.policy is not None and decision.policy != case.policy:
        by = decision.policy or "no policy"
        return f"expected {case.policy} to decide, it was {by}: {decision.reason}"
    shadow = decision if decision.shadow is None else decision.shadow
    if case.shadow is not None and shadow.allowed is not case.shadow:
        return f"expected shadow {_word(case.shadow)}, got {_word(shadow.allowed)}: {shadow.reason}"
    return ""


def _word(allowed: bool) -> str:
    return "allow" if allowed else "deny"


def _tests(strict: StrictReader, source: str) -> TestFile | None:
    top = strict.mapping((), strict.document.value, _TOP)
    if top is None:
        return None
    default = _verdict(strict, ("default",), top.get("default", "deny"))
    domains: list[tuple[Path, Any]] = [(("trust_domain",), top.get("trust_domain", ""))]
    aliases = (
        strict.entries(("trust_domain_aliases",), top["trust_domain_aliases"])
        if ("trust_domain_aliases" in top)
        else []
    )
    domains += [(("trust_domain_aliases", n), each) for n, each in enumerate(aliases)]
    known = [_trust_domain(strict, path, value) for path, value in domains]
    paths = strict.entries(("policies",), top.get("policies"))
    cases = strict.entries(("cases",), top.get("cases"), at_most=MAXIMUM_CASES)
    return TestFile(
        source=source,
        paths=tuple(strict.text(("policies", n), path) or "" for n, path in enumerate(paths)),
        trust_domain=known[0],
        aliases=tuple(known[1:]),
        root_namespace=strict.text(("root_namespace",), top.get("root_namespace", "meshca")) or "",
        default="allow" if default else "deny",
        cases=tuple(
            case
            for n, value in enumerate(cases)
            if (case := _case(strict, ("cases", n), value)) is not None
        ),
    )


def _trust_domain(strict: StrictReader, path: Path, value: Any) -> str:
    text = strict.text(path, value) or ""
    try:
        return parse_trust_domain(text)
    except ValueError as error:
        strict.problem(path, str(error) if text else "missing: write the trust domain")
        return ""


def _verdict(strict: StrictReader, path: Path, value: Any) -> bool:
    if value not in _VERDICTS:
        strict.problem(path, "is allow or deny")
    return bool(value == "allow")


def _case(strict: StrictReader, path: Path, value: Any) -> Case | None:
    fields = strict.mapping(path, value, _CASE)
    if fields is None:
        return None
    for name in ("name", "request", "expect"):
        if name not in fields:
            strict.problem(path, f"{name} is missing")
    answers = fields.get("answers", {})
    request = _request(strict, (*path, "request"), fields.get("request"))
    allowed = _verdict(strict, (*path, "expect"), fields.get("expect", "allow"))
    shadow = fields.get("shadow")
    if request is None or strict.mapping((*path, "answers"), answers, answers) is None:
        return None
    return Case(
        name=strict.text((*path, "name"), fields.get("name", "")) or "",
        line=strict.document.line_of(path),
        request=request,
        allowed=allowed,
        policy=None if "policy" not in fields else _policy(strict, path, fields["policy"]),
        shadow=None if shadow is None else _verdict(strict, (*path, "shadow"), shadow),
        answers={
            name: _verdict(strict, (*path, "answers", name), said) for name, said in answers.items()
        },
    )


def _policy(strict: StrictReader, path: Path, value: Any) -> str:
    text = strict.text((*path, "policy"), value) or ""
    if text.count("/") != 1:
        strict.problem((*path, "policy"), f"{text!r} is not namespace/name")
    return text


def _request(strict: StrictReader, path: Path, value: Any) -> Request | None:
    if value is None:
        return None
    try:
        return parse_request(value)
    except RequestRefused as error:
        strict.problem(path, str(error))
        return None


def junit(results: Iterable[Result]) -> bytes:
    """Return `results` as JUnit XML, which pipelines show."""
    suites = ET.Element("testsuites")
    by_source: dict[str, list[Result]] = {}
    for result in results:
        by_source.setdefault(result.source, []).append(result)
    for source, group in by_source.items():
        failures = sum(not result.passed for result in group)
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=_xml_text(source),
            tests=str(len(group)),
            failures=str(failures),
            errors="0",
        )
        for result in group:
            _add_case(suite, result)
    ET.indent(suites)
    encoded: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return encoded + b"\n"


def _add_case(suite: ET.Element, result: Result) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=_xml_text(result.case.name),
        classname=_xml_text(result.source),
        file=_xml_text(result.source),
        line=str(result.case.line),
    )
    if not result.passed:
        failure = _xml_text(result.failure)
        ET.SubElement(case, "failure", message=failure).text = failure


def _xml_text(text: str) -> str:
    """Return `text` without what XML 1.0 cannot hold."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
