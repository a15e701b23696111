"""The web console: the files of `admin/web`, for whoever has any role here.

They hold no data. What the pages show they ask of the API below /v1, with the rights of whoever
looks, and each answer with evidence is recorded there. The files are read once, when the router is
made; one of a kind that is not in MEDIA_TYPES is not served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from meshca.errors import NotFound

INDEX: Final = "index.html"
PAGES: Final = ("/console", "/console/")
"""Where the console is opened, also by a link from elsewhere (admin/cross_site.py)."""
MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""What a browser must keep to: only our own files run, nothing frames us, nobody learns of it."""


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is served."""

    content: bytes
    media_type: str

    def response(self) -> Response:
        """Return it."""
        return Response(self.content, headers={**HEADERS, "content-type": self.media_type})


def read_files(directory: Traversable) -> Mapping[str, File]:
    """Return the files of `directory`, by name."""
    found = {}
    for each in directory.iterdir():
        media_type = MEDIA_TYPES.get(PurePosixPath(each.name).suffix)
        if media_type is not None and each.is_file():
            found[each.name] = File(each.read_bytes(), media_type)
    return found


def web() -> Traversable:
    """Return the directory of the console's files, wherever the package is installed."""
    return resources.files("admin") / "web"


def create_router() -> APIRouter:
    """Return the routes, with their whole paths."""
    router = APIRouter()
    files = read_files(web())

    @router.get("/console")
    async def console() -> Response:
        return Response(status_code=307, headers={**HEADERS, "location": "console/"})

    @router.get("/console/")
    async def index() -> Response:
        return _get(files, INDEX)

    @router.get("/console/{name}")
    async def file(name: str) -> Response:
        return _get(files, name)

    return router


def _get(files: Mapping[str, File], name: str) -> Response:
    """Return the answer with a file; raises NotFound."""
    if name not in files:
        raise NotFound("the console has no such file")
    return files[name].response()
