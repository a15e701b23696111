"""AWS Signature Version 4 for requests to an object store, in the Authorization header.

    key       = HMAC(HMAC(HMAC(HMAC("AWS4" || secret, date), region), service), "aws4_request")
    signature = HMAC(key, "AWS4-HMAC-SHA256" \\n time \\n scope \\n SHA-256(canonical request))

Pure. The path is given encoded, as it is sent: for S3 it is not encoded a second time. Every
header that is given is signed. Not here: chunked uploads, query signatures, where credentials are.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-._~"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs; `session_token` is that of temporary credentials, or empty."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def encoded_path(*segments: str) -> str:
    """Return a path of `segments`, each of which may hold slashes that stay."""
    return "/" + "/".join(quote(segment, safe=_UNRESERVED + "/") for segment in segments)


def encoded_query(parameters: Mapping[str, str]) -> str:
    """Return `parameters` in the canonical order and spelling."""
    pairs = [
        (quote(k, safe=_UNRESERVED), quote(v, safe=_UNRESERVED)) for k, v in parameters.items()
    ]
    return "&".join(f"{key}={value}" for key, value in sorted(pairs))


def signed_headers(
    method: str,
    path: str,
    query: str,
    body: bytes,
    *,
    host: str,
    headers: Mapping[str, str],
    credentials: Credentials,
    region: str,
    now: datetime,
    service: str = "s3",
) -> dict[str, str]:
    """Return every header to send: `headers` and those that make and carry the signature.

    `path` and `query` are encoded as `encoded_path` and `encoded_query` do; `now` is in UTC.
    """
    time = now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    sent = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    sent |= {"host": host, "x-amz-date": time, "x-amz-content-sha256": digest}
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(sent))
    canonical = [method, path, query, *(f"{n}:{sent[n]}" for n in sorted(sent)), "", names, digest]
    scope = (time[:8], region, service, "aws4_request")
    request = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    text = "\n".join((_ALGORITHM, time, "/".join(scope), request))
    signature = _hmac(_key(credentials.secret_access_key, scope), text).hex()
    who = f"Credential={credentials.access_key_id}/{'/'.join(scope)}"
    authorization = f"{_ALGORITHM} {who}, SignedHeaders={names}, Signature={signature}"
    return {**sent, "authorization": authorization}


def _key(secret: str, scope: Sequence[str]) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
