"""What of a read is written down: the parameters that its route declares, bounded.

Names that a route does not declare are left out: what somebody put there by mistake may be
anything. Of a body the same holds for its first level. Headers, claims and queries of a request
that is asked about may hold credentials, and documents are long: their hash stands for them.
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
_DEEPEST: Final = 4


async def parameters_of(request: Request, known: frozenset[str]) -> dict[str, Json]:
    """Return what to record of `request`, whose route declares `known`."""
    said: dict[str, Any] = {**request.path_params, **request.query_params}
    if request.method == "POST":
        said.update(await _body(request))
    return {name: _shown(name, said[name], _DEEPEST) for name in sorted(known & said.keys())}


async def _body(request: Request) -> dict[str, Any]:
    """Return the body's first level; nothing of what is no JSON object (the route refuses it)."""
    try:
        value = orjson.loads(await request.body())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _shown(name: str, value: Any, depth: int) -> Json:
    if name in _HASHED:
        return "sha256:" + hashlib.sha256(orjson.dumps(value)).hexdigest()
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, str):
        return clip(value.partition("?")[0] if name == "path" else value, MAXIMUM_TEXT)
    if depth == 0:
        return "(left out)"
    if isinstance(value, list):
        return [_shown("", each, depth - 1) for each in value[:_MAXIMUM_ITEMS]]
    pairs = [(k, v) for k, v in value.items() if k not in _LEFT_OUT][:_MAXIMUM_ITEMS]
    return {clip(key, MAXIMUM_TEXT): _shown(key, each, depth - 1) for key, each in pairs}
