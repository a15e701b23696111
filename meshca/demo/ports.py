"""TCP ports to listen on, for the demo, the benchmarks and the tests.

A port that the kernel hands out for `bind(0)` is one of those it also gives to outgoing
connections, so that whoever listens on it a second later may find it taken. These are below
that range (Linux: from 32768, others: from 49152) and below the node ports of Kubernetes.
"""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterable

_RANGE = range(20_000, 30_000)
_candidates = itertools.count(int.from_bytes(os.urandom(2)))


def free_port() -> int:
    """Return a TCP port that nothing listens on, another one at each call of a process.

    Raises RuntimeError when every port of the range is in use.
    """
    numbers = itertools.islice(_candidates, len(_RANGE))
    return first_free(_RANGE[number % len(_RANGE)] for number in numbers)


def first_free(ports: Iterable[int]) -> int:
    """Return the first of `ports` of 127.0.0.1 that nothing listens on; raises RuntimeError."""
    tried = 0
    for port in ports:
        tried += 1
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"all of the {tried} ports of 127.0.0.1 that were tried are in use")
