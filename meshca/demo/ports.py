"""TCP ports to listen on, for the demo, the benchmarks and the tests.

A port that the kernel hands out for `bind(0)` is one of those it also gives to outgoing
connections, so that whoever listens on it a second later may find it taken. These are below
that range (Linux: from 32768, others: from 49152) and below the node ports of Kubernetes.
"""

import contextlib
import itertools
import os
import socket

_FIRST = 20_000
_COUNT = 10_000
_candidates = itertools.count(int.from_bytes(os.urandom(2)))


def free_port() -> int:
    """Return a TCP port that nothing listens on, another one at each call of a process.

    Raises:
        RuntimeError: Every port of the range is in use.
    """
    for candidate in itertools.islice(_candidates, _COUNT):
        port = _FIRST + candidate % _COUNT
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    message = f"every port from {_FIRST} to {_FIRST + _COUNT - 1} of 127.0.0.1 is in use"
    raise RuntimeError(message)
