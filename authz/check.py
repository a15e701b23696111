"""`meshca authz check`: one request as JSON in (`authz.asked`), one JSON answer out.

    {"id", "verdict": "allow" | "deny", "policy", "rule", "reason",
     "shadow": [{"set", "verdict", "policy", "rule", "reason"}]}

Rules. `policy` is `namespace/name` and `rule` its number from 0; both are null where no rule
decided. `shadow` has an entry where something is on trial for the destination: the verdict as if it
were in force, `set` its version. `providers`, where CUSTOM rules hold, names those whose answer the
verdict waits for: they are not asked here, and what nobody has allowed is denied. A line that is no
request is answered deny, with the mistake as reason. What does not say its time is of now.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from authz.asked import normal_path, parse_request
from authz.decision import Decision
from authz.engine import compile_workload, decide, providers_for
from authz.policy import PolicySet
from authz.request import Request
from meshca.errors import RequestRefused
from meshca.logs import clip

MAXIMUM_LINE: Final = 1024 * 1024
_SHOWN_PATH: Final = 120


def check(policies: PolicySet, request: Any, *, now: float | None = None) -> dict[str, Any]:
    """Return the answer to `request`, a parsed JSON value; it never raises for a bad one.

    `now` (seconds since the epoch) is the time of a request that does not say one.
    """
    return checked(policies, request, now=now)[0]


def checked(
    policies: PolicySet, request: Any, *, now: float | None = None
) -> tuple[dict[str, Any], tuple[Request, Decision] | None]:
    """Return the answer, and what was decided about which request; None about one that is none."""
    identifier = request.get("id") if isinstance(request, dict) else None
    try:
        parsed = parse_request(request)
    except RequestRefused as error:
        return _invalid(identifier, str(error)), None
    if parsed.time is None and now is not None:
        parsed = replace(parsed, time=now)
    decision = decide(policies, parsed)
    return _answer(policies, parsed, decision, identifier), (parsed, decision)


def check_lines(
    policies: PolicySet, lines: Iterable[str], *, now: float | None = None
) -> Iterator[str]:
    """Yield one line of JSON for each line of JSON that is not blank."""
    for line in lines:
        if line.strip():
            yield orjson.dumps(_check_line(policies, line, now)).decode()


def _check_line(policies: PolicySet, line: str, now: float | None) -> dict[str, Any]:
    if len(line) > MAXIMUM_LINE:
        return _invalid(None, f"a line is at most {MAXIMUM_LINE} characters, this has {len(line)}")
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _invalid(None, f"not JSON: {error}")
    return check(policies, request, now=now)


def _answer(
    policies: PolicySet, request: Request, decision: Decision, identifier: Any
) -> dict[str, Any]:
    answer = {"id": identifier, **_said(decision), "shadow": _shadow(policies, request, decision)}
    answer["reason"] += _on_path(request)
    if providers := providers_for(policies, request):
        answer["providers"] = list(providers)
    return answer


def _invalid(identifier: Any, mistake: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "verdict": "deny",
        "policy": None,
        "rule": None,
        "reason": f"invalid request: {mistake}",
        "shadow": [],
    }


def _said(decision: Decision) -> dict[str, Any]:
    rule = decision.rule
    return {
        "verdict": "allow" if decision.allowed else "deny",
        "policy": None if rule is None else rule.policy,
        "rule": None if rule is None else rule.index,
        "reason": decision.reason,
    }


def _shadow(policies: PolicySet, request: Request, decision: Decision) -> list[dict[str, Any]]:
    trial = compile_workload(policies, request.destination).shadow
    if decision.shadow is None or trial is None:
        return []
    return [{"set": trial.version, **_said(decision.shadow)}]


def _on_path(request: Request) -> str:
    """Return what to add to the reason where no proxy would show policy this path."""
    path = None if request.http is None else request.http.path
    if path is None or not path.startswith("/") or (normal := normal_path(path)) == path:
        return ""
    shown = clip(normal, _SHOWN_PATH)
    return f" (the path was taken as it is; proxies of this mesh make it {shown})"
