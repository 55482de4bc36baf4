"""The split-tunnel networks of a running tunnel: the body of a frame a4c/0x4c02.

    includes (2)  excludes (2)  NETWORK …

    NETWORK:  IP version, 4 or 6 (1)  prefix length (1)  address (4 or 16)

Includes stand before excludes. All of what is in force is told each time, so that one message is worth as much
as any number of them. They mean what they mean in the main configuration (`config`): without includes everything
belongs in the tunnel.
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.config import Network
from lockgate.protocol.pulse.config_blocks import MAX_ROUTES

MAX_NETWORKS = 2 * MAX_ROUTES
"""Includes and excludes together: as many of each IP version as the main configuration takes of IPv4."""

_HEAD = struct.Struct("!HH")
_ADDRESS = {4: 4, 6: 16}  # bytes


def encode_split_networks(include: Sequence[Network], exclude: Sequence[Network]) -> bytes:
    """UsageError for more than MAX_NETWORKS."""
    if len(include) + len(exclude) > MAX_NETWORKS:
        raise UsageError(f"{len(include) + len(exclude)} split-tunnel networks of at most {MAX_NETWORKS}")
    return _HEAD.pack(len(include), len(exclude)) + b"".join(
        bytes([network.version, network.prefixlen]) + network.network_address.packed
        for network in (*include, *exclude)
    )


def decode_split_networks(body: bytes) -> tuple[tuple[Network, ...], tuple[Network, ...]]:
    """Includes and excludes; PeerError if it has another shape, or an address has bits beyond its prefix."""
    if len(body) < _HEAD.size:
        raise PeerError("split-tunnel networks without their numbers")
    included, excluded = _HEAD.unpack_from(body)
    if included + excluded > MAX_NETWORKS:
        raise PeerError(f"{included + excluded} split-tunnel networks")
    found: list[Network] = []
    at = _HEAD.size
    for _ in range(included + excluded):
        version, prefix = body[at : at + 1], body[at + 1 : at + 2]
        length = _ADDRESS.get(version[0] if version else 0)
        if length is None or len(body) < at + 2 + length:
            raise PeerError("a split-tunnel network that is cut short or of no IP version")
        found.append(_network(body[at + 2 : at + 2 + length], prefix[0]))
        at += 2 + length
    if at != len(body):
        raise PeerError(f"{len(body) - at} bytes behind the split-tunnel networks")
    return tuple(found[:included]), tuple(found[included:])


def _network(address: bytes, prefix: int) -> Network:
    try:
        return IPv4Network((address, prefix)) if len(address) == 4 else IPv6Network((address, prefix))
    except ValueError:
        raise PeerError(f"a split-tunnel network with a prefix of {prefix} bits") from None
