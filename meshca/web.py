"""Asking a server of the web: by the web's rules, and never for more than was meant to be read."""

import ssl
from typing import Final

import httpx

IDENTITY: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""What to ask with: nothing is unpacked, so what is read is what was sent."""


class TooLarge(ValueError):
    """There is more than was allowed."""


def web_context(roots: str = "") -> ssl.SSLContext:
    """Return what verifies a server by its name (RFC 6125): by `roots` (PEM), or the system's.

    Raises ssl.SSLError for roots that are none. It reads files: call it in a thread.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name, demands a certificate
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if roots:
        context.load_verify_locations(cadata=roots)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Return the body of a streamed response; the caller sets the time.

    Raises TooLarge for more than `limit` bytes, ValueError for an encoding that nobody asked for.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ValueError("answers with an encoding we did not ask for")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > limit:
            raise TooLarge(f"answers with over {limit} bytes: larger than anything we expect")
    return bytes(body)
