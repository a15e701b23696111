"""Ports to listen on are free, told apart, and none that the kernel gives to a connection."""

import contextlib
import socket
from pathlib import Path

import pytest

from meshca.demo.ports import first_free, free_port


def test_no_port_is_given_twice_and_each_can_be_listened_on() -> None:
    given = [free_port() for _ in range(100)]
    assert len(set(given)) == len(given)
    with contextlib.ExitStack() as stack:
        for port in given:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))


def test_no_outgoing_connection_can_take_a_port_that_was_given() -> None:
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert all(free_port() < int(first) for _ in range(100))


def test_a_port_that_is_listened_on_is_passed_over() -> None:
    taken, other = free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert first_free((taken, other)) == other
    assert first_free((taken, other)) == taken


def test_when_no_port_is_left_it_says_so() -> None:
    taken = free_port()
    with (
        socket.create_server(("127.0.0.1", taken)),
        pytest.raises(RuntimeError, match=r"all of the 1 ports of 127\.0\.0\.1 that were tried"),
    ):
        first_free((taken,))
