"""Ports to listen on are free, told apart, and none that the kernel gives to a connection."""

import contextlib
import itertools
import socket
from pathlib import Path

import pytest

from meshca.demo import ports


def test_no_port_is_given_twice_and_each_can_be_listened_on() -> None:
    given = [ports.free_port() for _ in range(100)]
    assert len(set(given)) == len(given)
    with contextlib.ExitStack() as stack:
        for port in given:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))


def test_no_outgoing_connection_can_take_a_port_that_was_given() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert all(ports.free_port() < int(first) for _ in range(100))


def test_a_port_that_is_listened_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ports.free_port()
    candidate = taken - ports._FIRST
    monkeypatch.setattr(ports, "_candidates", itertools.count(candidate))
    with socket.create_server(("127.0.0.1", taken)):
        assert ports.free_port() != taken


def test_a_range_with_no_port_left_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = ports.free_port()
    monkeypatch.setattr(ports, "_FIRST", taken)
    monkeypatch.setattr(ports, "_COUNT", 1)
    with (
        socket.create_server(("127.0.0.1", taken)),
        pytest.raises(RuntimeError, match=f"every port from {taken} to {taken} of 127.0.0.1"),
    ):
        ports.free_port()
