"""What of a read is written down: the parameters that its route declares, bounded.

Names that a route does not declare are left out: what somebody put there by mistake may be
anything. Of a body the same holds for its first level. Headers, claims and queries of a request
that is asked about may hold credentials, and documents are long: their hash stands for them. Of a
long list the first are shown, and the hash of all.
"""

import hashlib
from typing import Any, Final

import orjson
from fastapi import Request

from audit.entry import Json
from meshca.logs import clip

MAXIMUM_TEXT: Final = 256
_LEFT_OUT: Final = frozenset({"headers", "claims"})
_HASHED: Final = frozenset({"anchors", "certificate", "documents"})
_MAXIMUM_ITEMS: Final = 16
_DEEPEST: Final = 5


def parameters_of(request: Request, known: frozenset[str], body: Any) -> dict[str, Json]:
    """Return what to record of `request`, whose route declares `known`; `body` is its value."""
    said: dict[str, Any] = {**request.path_params, **_query(request)}
    if isinstance(body, dict):  # the route refuses anything else
        said.update(body)
    return {name: _shown(name, said[name], _DEEPEST) for name in sorted(known & said.keys())}


def _query(request: Request) -> dict[str, Any]:
    """Return each parameter of the query; all of those that were given several times."""
    found = {name: request.query_params.getlist(name) for name in request.query_params}
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _hash(value: Any) -> str:
    try:
        return "sha256:" + hashlib.sha256(orjson.dumps(value)).hexdigest()
    except TypeError:  # nested more deeply than any route takes
        return "(left out)"


def _shown(name: str, value: Any, depth: int) -> Json:
    if name in _HASHED:
        return _hash(value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, str):
        return clip(value.partition("?")[0] if name == "path" else value, MAXIMUM_TEXT)
    if depth == 0:
        return "(left out)"
    if isinstance(value, list):
        shown = [_shown("", each, depth - 1) for each in value[:_MAXIMUM_ITEMS]]
        rest = len(value) - len(shown)
        return [*shown, f"{rest} more; all: {_hash(value)}"] if rest else shown
    pairs = [(k, v) for k, v in value.items() if k not in _LEFT_OUT][:_MAXIMUM_ITEMS]
    return {clip(key, MAXIMUM_TEXT): _shown(key, each, depth - 1) for key, each in pairs}
