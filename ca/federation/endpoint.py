"""Asking a bundle endpoint of another trust domain (SPIFFE Federation 5), in both profiles.

`https_web`: the web's rules, RFC 6125 by the URL's host, the system's roots or those given; at most
three redirects, each to a URL that would itself be accepted. `https_spiffe`: the server must show
an X509-SVID that chains to the given roots and carries exactly the SPIFFE ID that was agreed on;
no redirects. Either way the answer is bounded in size and in time, from name to last byte, and the
body is not looked at before the server has been verified. No proxy of the environment is used.

Not here: what the body means (`ca.federation.document`), and when to ask (`polling`).
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.federation.document import MAXIMUM_BYTES
from ca.federation.store import Relation
from identity.peer import read_spiffe_id
from meshca.errors import ProofRefused, RequestRefused, Unavailable
from meshca.web import IDENTITY, TooLarge, read_bounded, web_context

TOTAL_SECONDS: Final = 10.0
MAXIMUM_REDIRECTS: Final = 3
_MAXIMUM_URL: Final = 2048
_URL: Final = re.compile(r"https://[A-Za-z0-9.\-_\[\]:]+(/[!-~]*)?")
_OK: Final = 200
_REDIRECTS: Final = (301, 302, 303, 307, 308)


def check_url(url: str) -> str:
    """Return `url` if it may be a bundle endpoint's: `https`, without user (Federation 5.2.1.1).

    Raises ValueError.
    """
    if len(url) > _MAXIMUM_URL or not _URL.fullmatch(url) or "#" in url:
        raise ValueError(f"{url[:200]!r} is not an https URL without user and fragment")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url[:200]!r} is not a URL") from error
    if not parsed.host or parsed.userinfo:
        raise ValueError(f"{url[:200]!r} is not an https URL without user and fragment")
    return url


@dataclass(frozen=True, slots=True)
class BundleEndpoints:
    """Fetches bundle documents; keeps nothing from one to the next."""

    total_seconds: float = TOTAL_SECONDS

    async def fetch(self, relation: Relation, roots: Sequence[x509.Certificate]) -> bytes:
        """Return the document at `relation.url`; `roots` verify an `https_spiffe` endpoint.

        Raises Unavailable when it cannot be had, ProofRefused when the server is not who it
        should be, RequestRefused when the answer is not one.
        """
        context = _context(relation, roots)
        try:
            async with (
                asyncio.timeout(self.total_seconds),
                httpx.AsyncClient(
                    verify=context, trust_env=False, timeout=self.total_seconds
                ) as client,
            ):
                return await _follow(client, relation)
        except TimeoutError as error:
            raise Unavailable(
                f"{relation.url}: no answer within {self.total_seconds:g} s"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ProofRefused("untrusted_endpoint", f"{relation.url}: {error}") from error
            raise Unavailable(f"{relation.url}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _follow(client: httpx.AsyncClient, relation: Relation) -> bytes:
    url = relation.url
    for _ in range(MAXIMUM_REDIRECTS + 1):
        answer = await _ask(client, url, relation)
        if isinstance(answer, bytes):
            return answer
        try:
            url = check_url(urljoin(url, answer.location))  # F-21, F-25
        except ValueError as error:
            raise RequestRefused("bad_redirect", f"{relation.url} leads on to {error}") from error
    raise RequestRefused("bad_redirect", f"{relation.url}: more than {MAXIMUM_REDIRECTS} redirects")


class _Redirect:
    """The server says to ask elsewhere."""

    def __init__(self, location: str) -> None:
        self.location = location


async def _ask(client: httpx.AsyncClient, url: str, relation: Relation) -> "bytes | _Redirect":
    async with client.stream("GET", url, headers=IDENTITY) as response:
        if relation.profile == "https_spiffe":
            _check_server(response, relation)
        elif response.status_code in _REDIRECTS:
            return _Redirect(response.headers.get("location", ""))
        if response.status_code != _OK:
            raise Unavailable(f"{url} answers with status {response.status_code}")
        try:
            return await read_bounded(response, MAXIMUM_BYTES)
        except TooLarge as error:
            raise RequestRefused("too_large", f"{url} {error}") from error
        except ValueError as error:
            raise RequestRefused("malformed", f"{url} {error}") from error


def _check_server(response: httpx.Response, relation: Relation) -> None:
    """Federation 5.2.2.4: the server's SVID carries the ID that was agreed on, and no other."""
    stream: Any = response.extensions["network_stream"]  # httpcore declares no type for it
    connection = stream.get_extra_info("ssl_object")
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    if not der:
        raise ProofRefused("no_certificate", f"{relation.url} showed no certificate")
    shown = str(read_spiffe_id(x509.load_der_x509_certificate(der)))
    if shown != relation.endpoint_id:
        raise ProofRefused(
            "wrong_endpoint", f"{relation.url} is {shown}, not {relation.endpoint_id}"
        )


def _context(relation: Relation, roots: Sequence[x509.Certificate]) -> ssl.SSLContext:
    if relation.profile == "https_web":
        return web_context(relation.web_roots)
    if not roots:
        raise Unavailable(f"{relation.url}: there is no bundle to verify {relation.endpoint_id} by")
    return _spiffe_context(roots)


def _spiffe_context(roots: Sequence[x509.Certificate]) -> ssl.SSLContext:
    """Return a context that trusts `roots` only; the name is checked by `_check_server`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    pem = b"".join(root.public_bytes(Encoding.PEM) for root in roots)
    context.load_verify_locations(cadata=pem.decode())
    return context
