"""Whether a browser sends a request because a page of another site told it to.

A browser shows the client certificate that it holds to us with every request, whichever page makes
it. Browsers say where a request comes from, and pages cannot change that: `Sec-Fetch-Site` is
`same-origin` for our own pages and `none` for what a person typed or opened (Fetch Metadata), and
`Origin` is the origin of the page (RFC 6454 7). Programs send neither.

A link to the console in a ticket or a chat may be followed: that opens a page which holds no data
and changes nothing, in a tab of its own. The link chooses the view, which asks at once what it asks
of itself: who one is, the state, or the newest entries, a read in the name of whoever follows it.
What else the link would ask is in its fragment; the page shows it, and asks after a click.

Pure. What is there twice, or cannot be read, counts as another site's.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from meshca.errors import IdentityForbidden

PUBLIC_MESSAGE: Final = (
    "a page of another site asked the browser for this; if you followed a link, open the address "
    "yourself, from the address bar of a new tab"
)
_OURS: Final = ([b"same-origin"], [b"none"])
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(rb"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")

Headers = Iterable[tuple[bytes, bytes]]


class CrossSite(IdentityForbidden):
    """A page of another site makes the request."""

    public_message = PUBLIC_MESSAGE


def check_same_site(headers: Headers, scheme: str, *, opens_page: bool = False) -> None:
    """Raise CrossSite for a request that a page of another site makes.

    `headers` are those of an ASGI scope (names in lower case), `scheme` is what we are asked by.
    With `opens_page`, what is asked for may be opened by a link from anywhere.
    """
    given = list(headers)
    fetched, origins = values(given, b"sec-fetch-site"), values(given, b"origin")
    is_link = opens_page and _is_link(fetched, given)
    if fetched and fetched not in _OURS and not is_link:
        raise _refused("sec-fetch-site", fetched)
    if origins and not is_own(origins, values(given, b"host"), scheme):
        raise _refused("origin", origins)


def _is_link(fetched: list[bytes], given: Headers) -> bool:
    """Return whether a browser opens it as a page: in no frame, and for no other page to read."""
    return (
        fetched in ([b"cross-site"], [b"same-site"])
        and values(given, b"sec-fetch-mode") == [b"navigate"]
        and values(given, b"sec-fetch-dest") == [b"document"]
    )


def values(headers: Headers, wanted: bytes) -> list[bytes]:
    """Return the value of each header called `wanted`."""
    return [bytes(value) for name, value in headers if name == wanted]


def is_own(origins: list[bytes], hosts: list[bytes], scheme: str) -> bool:
    """Return whether the one origin is the one host, asked by `scheme`."""
    prefix = f"{scheme}://".encode("ascii")
    if len(origins) != 1 or len(hosts) != 1 or not origins[0].startswith(prefix):
        return False
    origin, host = _authority(origins[0][len(prefix) :], scheme), _authority(hosts[0], scheme)
    return origin is not None and origin == host


def _authority(text: bytes, scheme: str) -> tuple[bytes, int | None] | None:
    """Return host and port, None for anything that is not just these."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    return found[1], int(found[2]) if found[2] else _PORTS.get(scheme)


def _refused(name: str, found: list[bytes]) -> CrossSite:
    claimed = b", ".join(found).decode("latin-1")
    return CrossSite("cross_site", f"the browser says {name}", claimed={name: claimed})
