"""Reading our own annotations of an AuthorizationPolicy: its stage, its end, its emergency.

    istio.io/dry-run: "true"            as in Istio; the same as the stage shadow
    meshca.io/stage                     draft, shadow, canary or enforce
    meshca.io/canary-namespaces: a,b    destinations for which the stage canary is in force
    meshca.io/expires                   RFC 3339; from then on no rule of the policy holds
    meshca.io/break-glass: "reason"     ALLOW that a second person must approve, and that ends

Unlike in Istio, a value that cannot be read is an error, never "in force".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.metadata import parse_time
from authz.policy import Action, Stage
from authz.reader import StrictReader
from meshca.yaml_source import Path

DRY_RUN: Final = "istio.io/dry-run"
STAGE: Final = "meshca.io/stage"
CANARY_NAMESPACES: Final = "meshca.io/canary-namespaces"
EXPIRES: Final = "meshca.io/expires"
BREAK_GLASS: Final = "meshca.io/break-glass"
OWN: Final = (STAGE, CANARY_NAMESPACES, EXPIRES, BREAK_GLASS)

_PATH: Path = ("metadata", "annotations")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the annotations of one policy say."""

    stage: Stage = Stage.ENFORCE
    canary: frozenset[str] = frozenset()
    expires: float | None = None
    break_glass: str = ""


NO_ANNOTATIONS: Final = Annotations()


def read_annotations(
    strict: StrictReader, annotations: Mapping[str, Any], action: Action
) -> Annotations:
    """Return what `annotations` say of a policy with `action`."""
    texts = _texts(strict, annotations)
    if not texts:
        return NO_ANNOTATIONS
    for key in texts:
        if key not in OWN and key != DRY_RUN:
            strict.unknown((*_PATH, key), "unknown annotation", key, (*OWN, DRY_RUN))
    stage = _stage(strict, texts)
    return Annotations(
        stage=stage,
        canary=_canary(strict, texts, stage),
        expires=_expires(strict, texts),
        break_glass=_break_glass(strict, texts, action),
    )


def refuse_annotations(strict: StrictReader, annotations: Mapping[str, Any], kind: str) -> None:
    """Note each of our annotations on a document of `kind`, which has none."""
    for key, value in annotations.items():
        if key.startswith("meshca.io/") or (key == DRY_RUN and value not in _FALSE):
            strict.problem((*_PATH, key), f"{kind} has no stages; it would be in force at once")


def _texts(strict: StrictReader, annotations: Mapping[str, Any]) -> dict[str, str]:
    """Return those annotations that are ours to read, as text."""
    ours = [k for k in annotations if k.startswith(("meshca.io/", "istio.io/dry"))]
    read = {key: strict.text((*_PATH, key), annotations[key]) for key in ours}
    return {key: text for key, text in read.items() if text is not None}


def _stage(strict: StrictReader, texts: Mapping[str, str]) -> Stage:
    dry_run = texts.get(DRY_RUN, "false")
    if dry_run not in _TRUE + _FALSE:
        strict.problem((*_PATH, DRY_RUN), f'{dry_run!r} is neither "true" nor "false"')
    is_dry_run = dry_run in _TRUE
    if STAGE not in texts:
        return Stage.SHADOW if is_dry_run else Stage.ENFORCE
    stage = texts[STAGE]
    if stage not in list(Stage):
        message = f"{stage!r} is none of {', '.join(Stage)}"
        strict.unknown((*_PATH, STAGE), message, stage, list(Stage))
        return Stage.DRAFT
    if is_dry_run and stage != Stage.SHADOW:
        strict.problem((*_PATH, STAGE), f"{stage} contradicts {DRY_RUN}, which is shadow")
    return Stage(stage)


def _canary(strict: StrictReader, texts: Mapping[str, str], stage: Stage) -> frozenset[str]:
    path = (*_PATH, CANARY_NAMESPACES)
    if CANARY_NAMESPACES not in texts:
        if stage is Stage.CANARY:
            advice = f'write {CANARY_NAMESPACES}: "a,b"'
            strict.problem((*_PATH, STAGE), f"canary needs namespaces to begin with; {advice}")
        return frozenset()
    if stage is not Stage.CANARY:
        strict.problem(path, f"says nothing beside the stage {stage}; leave it out")
    names = [name.strip() for name in texts[CANARY_NAMESPACES].split(",")]
    for name in names:
        if not _NAMESPACE.fullmatch(name):
            strict.problem(path, f"{name!r} is not a namespace; write names between commas")
    return frozenset(names)


def _expires(strict: StrictReader, texts: Mapping[str, str]) -> float | None:
    if EXPIRES not in texts:
        return None
    time = parse_time(texts[EXPIRES])
    if time is None:
        example = "2026-12-31T23:59:59Z"
        strict.problem((*_PATH, EXPIRES), f"{texts[EXPIRES]!r} is no time: write {example}")
        return 0.0
    return time.timestamp()


def _break_glass(strict: StrictReader, texts: Mapping[str, str], action: Action) -> str:
    if BREAK_GLASS not in texts:
        return ""
    path = (*_PATH, BREAK_GLASS)
    reason = texts[BREAK_GLASS].strip()
    if not reason or len(reason) > _LONGEST_REASON:
        strict.problem(path, f"write the reason, in at most {_LONGEST_REASON} characters")
    if EXPIRES not in texts:
        strict.problem(path, f"an emergency ends: write {EXPIRES}")
    if action is not Action.ALLOW:
        strict.problem(path, f"only an ALLOW policy can be one, this is {action}")
    return reason
