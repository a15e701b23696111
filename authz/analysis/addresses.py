"""Addresses that blocks can tell apart: for each kind one address.

Blocks nest or are disjoint, so the lines between kinds are the ends of blocks, in IPv4 and in IPv6.
An IPv4 address written as IPv6 is IPv4; those of IPv6 that would be are left out.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

from authz.values import Network

_FIRST = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # no address to listen on
_MAPPED = ip_network("::ffff:0:0/96")


def representative_addresses(networks: Iterable[Network]) -> list[str]:
    """Return an address of each kind that `networks` tell apart, those inside of them first."""
    blocks = {4: set[Network](), 6: set[Network]([_MAPPED])}
    for network in networks:
        blocks[network.version].add(network)
    kinds: dict[tuple[int, frozenset[Network]], str] = {}
    for version, found in blocks.items():
        for start in _starts(version, found):
            address = IPv4Address(start) if version == 4 else IPv6Address(start)
            inside = frozenset(network for network in found if address in network)
            if _MAPPED not in inside:
                kinds.setdefault((version, inside), str(address))
    ordered = sorted(kinds.items(), key=lambda kind: (not kind[0][1], kind[0][0]))
    return [address for _, address in ordered]


def _starts(version: int, networks: set[Network]) -> list[int]:
    """Return the first address of each stretch between the ends of blocks.

    Of each block its second address comes before the first one, which reads like the block.
    """
    last = 2**32 - 1 if version == 4 else 2**128 - 1
    starts = {0}
    for network in networks:
        begin, end = int(network.network_address), int(network.broadcast_address)
        starts |= {begin, min(begin + 1, end), end + 1}
    inner = {int(network.network_address) + 1 for network in networks}
    return sorted((s for s in starts if s <= last), key=lambda s: (s not in inner, s))
