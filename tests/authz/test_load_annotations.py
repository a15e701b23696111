"""Loading our annotations: stages, ends and emergencies."""

from typing import Any

import pytest

from authz.policy import Policy, Stage
from meshca.errors import InvalidDocument
from tests.authz.builders import document, load

EXPIRES = {"meshca.io/expires": "2026-12-31T00:00:00Z"}
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"meshca.io/stag": "draft"}, "unknown annotation; did you mean meshca.io/stage?"),
    "unknown": ({"meshca.io/owner": "me"}, "meshca.io/owner: unknown annotation"),
    "misspelt dry run": ({"istio.io/dryrun": "true"}, "did you mean istio.io/dry-run?"),
    "number": ({"meshca.io/stage": 1}, 'write it as text: "1"'),
    "boolean dry run": ({"istio.io/dry-run": True}, 'write it as text: "true"'),
    "no truth": ({"istio.io/dry-run": "ja"}, '\'ja\' is neither "true" nor "false"'),
    "stage in capitals": ({"meshca.io/stage": "Draft"}, "did you mean draft?"),
    "two stages": (
        {"istio.io/dry-run": "true", "meshca.io/stage": "enforce"},
        "enforce contradicts istio.io/dry-run",
    ),
    "canary without namespaces": (
        {"meshca.io/stage": "canary"},
        'write meshca.io/canary-namespaces: "a,b"',
    ),
    "empty namespaces": (
        {"meshca.io/stage": "canary", "meshca.io/canary-namespaces": ""},
        "'' is not a namespace",
    ),
    "trailing comma": (
        {"meshca.io/stage": "canary", "meshca.io/canary-namespaces": "shop,"},
        "'' is not a namespace",
    ),
    "namespaces of another stage": (
        {"meshca.io/canary-namespaces": "shop"},
        "says nothing beside the stage enforce",
    ),
    "no time": ({"meshca.io/expires": "tomorrow"}, "'tomorrow' is no time"),
    "a day": ({"meshca.io/expires": "2026-12-31"}, "'2026-12-31' is no time"),
    "time without an offset": ({"meshca.io/expires": "2026-12-31T00:00:00"}, "is no time"),
    "emergency without an end": (
        {"meshca.io/break-glass": "fire"},
        "an emergency ends: write meshca.io/expires",
    ),
    "emergency without a reason": ({"meshca.io/break-glass": " ", **EXPIRES}, "write the reason"),
}


def annotated(annotations: dict[str, Any], **spec: Any) -> dict[str, Any]:
    policy = document("web", rules=[{}], **spec)
    policy["metadata"]["annotations"] = annotations
    return policy


def loaded(annotations: dict[str, Any]) -> Policy:
    return load(annotated(annotations)).policies[0]


@pytest.mark.parametrize(("annotations", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refuses_an_annotation(annotations: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load(annotated(annotations))
    (problem,) = caught.value.problems
    assert problem.path.startswith("metadata.annotations.")
    assert message in str(problem)


def test_only_allow_can_be_an_emergency() -> None:
    policy = annotated({"meshca.io/break-glass": "fire", **EXPIRES}, action="DENY")
    with pytest.raises(InvalidDocument, match="only an ALLOW policy can be one, this is DENY"):
        load(policy)


@pytest.mark.parametrize(
    ("annotations", "stage"),
    [
        ({}, Stage.ENFORCE),
        ({"istio.io/dry-run": "true"}, Stage.SHADOW),
        ({"istio.io/dry-run": "T"}, Stage.SHADOW),
        ({"istio.io/dry-run": "0"}, Stage.ENFORCE),
        ({"istio.io/dry-run": "true", "meshca.io/stage": "shadow"}, Stage.SHADOW),
        ({"meshca.io/stage": "draft"}, Stage.DRAFT),
        ({"meshca.io/stage": "enforce"}, Stage.ENFORCE),
    ],
)
def test_reads_the_stage(annotations: dict[str, Any], stage: Stage) -> None:
    assert loaded(annotations).stage is stage


def test_reads_where_a_canary_is_in_force() -> None:
    policy = loaded({"meshca.io/stage": "canary", "meshca.io/canary-namespaces": "shop, web"})
    assert (policy.stage, policy.canary) == (Stage.CANARY, frozenset({"shop", "web"}))


def test_reads_the_end_with_its_offset() -> None:
    policy = loaded({"meshca.io/expires": "2026-06-01T12:00:00+02:00"})
    assert policy.expires == policy.rules[0].expires == 1780308000.0


def test_an_emergency_keeps_its_reason_and_changes_what_is_approved() -> None:
    policy = loaded({"meshca.io/break-glass": "fire", **EXPIRES})
    other = loaded({"meshca.io/break-glass": "water", **EXPIRES})
    assert policy.break_glass == "fire"
    assert policy.digest != other.digest


def test_every_annotation_is_part_of_the_meaning() -> None:
    texts = [{}, EXPIRES, {"meshca.io/stage": "draft"}, {"istio.io/dry-run": "true"}]
    assert len({load(annotated(annotations)).version for annotations in texts}) == len(texts)
