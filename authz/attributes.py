"""What a term of the policy language can look at, and a request's values of it.

Three kinds of absence are told apart, since they mean different things:

    None        not known, or not there for this protocol: a path on TCP, a port that was not said
    ()          known to be none: a header that was not sent, a request without a valid token
    a value     text, or several texts of which any may match

`Facts` holds one entry an attribute, at the attribute's number. HEADER and CLAIM are mappings that
a term looks into with its key.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

Facts = tuple[Any, ...]
"""One request's value of each attribute: None, text, a tuple of texts, or a mapping (keyed)."""


class Attribute(IntEnum):
    """What a term looks at; the number is the attribute's place in `Facts`."""

    PRINCIPAL = 0
    NAMESPACE = 1
    PORT = 2
    METHOD = 3
    PATH = 4
    SERVICE_ACCOUNT = 5
    TRUST_DOMAIN = 6
    ANY_NAMESPACE = 7
    ANY_SERVICE_ACCOUNT = 8
    SOURCE_IP = 9
    REMOTE_IP = 10
    DESTINATION_IP = 11
    SNI = 12
    HOST = 13
    HEADER = 14
    REQUEST_PRINCIPAL = 15
    AUDIENCES = 16
    PRESENTER = 17
    CLAIM = 18


IDENTITY = frozenset(
    {
        Attribute.PRINCIPAL,
        Attribute.NAMESPACE,
        Attribute.SERVICE_ACCOUNT,
        Attribute.TRUST_DOMAIN,
        Attribute.ANY_NAMESPACE,
        Attribute.ANY_SERVICE_ACCOUNT,
    }
)
"""Read from the peer's certificate. NAMESPACE and SERVICE_ACCOUNT are those of peers of our own
trust domain (or an alias); the ANY_ ones of any, and only stand beside TRUST_DOMAIN."""

TOKEN = frozenset(
    {
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCES,
        Attribute.PRESENTER,
        Attribute.CLAIM,
    }
)
"""Read from the token of the request, once a RequestAuthentication has validated it."""

HTTP_ONLY = TOKEN | {Attribute.METHOD, Attribute.PATH, Attribute.HOST, Attribute.HEADER}
ADDRESSES = frozenset({Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP})


def texts_of(value: Any, key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts that a keyed or multiple fact holds; anything but text is left out.

    `key` leads into nested mappings, as `request.auth.claims[a][b]` does.
    """
    for name in key:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(item for item in value if isinstance(item, str))
    return ()
