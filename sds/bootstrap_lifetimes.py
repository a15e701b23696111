"""How long connections may live: what bounds a revoked certificate where no filter can cut it off.

An open TCP connection, an open HTTP stream, and a client's open connections to a server survive a
revocation (docs/revocation.md). So every connection ends in time: HTTP connections are drained,
which costs no request; TCP connections and HTTP streams are cut. Envoy adds its jitter to what it
is given; what is given is so much shorter that the whole stays within the lifetime.
"""

from datetime import timedelta
from typing import Final

from sds.bootstrap_tls import Config

JITTER_PERCENT: Final = 10
"""So that connections that were opened together do not all end together."""
_SECOND: Final = timedelta(seconds=1)


def http_lifetime(lifetime: timedelta) -> Config:
    """Return the `common_http_protocol_options` of connections that live at most `lifetime`.

    A stream (a request with its answer) lives at most as long again.
    """
    return {
        "max_connection_duration": _without_jitter(lifetime),
        "max_connection_duration_jitter": {"value": JITTER_PERCENT},
        "max_stream_duration": _text(lifetime),
    }


def tcp_lifetime(lifetime: timedelta) -> Config:
    """Return the fields of a TCP proxy whose connections live at most `lifetime`."""
    return {
        "max_downstream_connection_duration": _without_jitter(lifetime),
        "max_downstream_connection_duration_jitter_percentage": {"value": JITTER_PERCENT},
    }


def _without_jitter(lifetime: timedelta) -> str:
    shorter = lifetime * 100 / (100 + JITTER_PERCENT)
    return _text(shorter - shorter % (_SECOND if shorter > 60 * _SECOND else _SECOND / 10))


def _text(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}s"
