"""The two blocks of the main configuration: IPv4 routes, and attributes of any kind.

    2c20f000:  ROUTES  ATTRIBUTES
    2e20f000:  PRE [PRE …]  ROUTES  ATTRIBUTES        (newer gateways; read here, never written)

    ROUTES:      2e00, length (2), count (1), zeros (3), count * 16 bytes
    ATTRIBUTES:  length (4), 03000000, then type (2), length (2), data …
    PRE:         2e00 (one more follows) or 2c00 (the last), length (2), 03000000, attributes

Lengths count their whole block. What the attributes mean is `config`.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Network

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.config_frame import magic_of, unwrap, wrap

MAGIC = 0x2C20F000

MAGIC_WITH_PRE = 0x2E20F000

MAX_ROUTES = 255
"""IPv4 routes in one configuration: their count is one byte. IPv6 routes are limited by the frame."""

_ROUTE_BLOCK = struct.Struct("!HHB3x")
_ROUTE_BLOCK_TAG = 0x2E00
_ROUTE = struct.Struct("!B7sII")  # kind, fixed bytes, lowest address, highest address
_ROUTE_FIXED = bytes.fromhex("0000100000ffff")
_ATTRIBUTE_BLOCK = struct.Struct("!I4s")
_ATTRIBUTE_BLOCK_TAG = bytes.fromhex("03000000")
_ATTRIBUTE = struct.Struct("!HH")
_PRE_BLOCK = struct.Struct("!HH4s")
_PRE_MORE, _PRE_LAST = 0x2E00, 0x2C00


class Route(IntEnum):
    """What a route block says about a network."""

    INCLUDE = 0x07
    EXCLUDE = 0xF1


def encode_blocks(routes: list[tuple[Route, IPv4Network]], attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """Body of a configuration frame; UsageError for more than MAX_ROUTES routes."""
    if len(routes) > MAX_ROUTES:
        raise UsageError(
            f"{len(routes)} IPv4 split-tunnel networks, but a client can be told at most {MAX_ROUTES}: "
            "summarise them"
        )
    block = _ROUTE_BLOCK.pack(_ROUTE_BLOCK_TAG, _ROUTE_BLOCK.size + _ROUTE.size * len(routes), len(routes))
    block += b"".join(
        _ROUTE.pack(kind, _ROUTE_FIXED, int(network.network_address), int(network.broadcast_address))
        for kind, network in routes
    )
    content = b"".join(_ATTRIBUTE.pack(kind, len(data)) + data for kind, data in attributes)
    block += _ATTRIBUTE_BLOCK.pack(_ATTRIBUTE_BLOCK.size + len(content), _ATTRIBUTE_BLOCK_TAG) + content
    return wrap(MAGIC, block)


def decode_blocks(body: bytes) -> tuple[list[tuple[Route, IPv4Network]], list[tuple[int, bytes]]]:
    """Routes and attributes of a configuration frame; PeerError if it has another shape."""
    if magic_of(body) == MAGIC_WITH_PRE:
        rest = _skip_pre_blocks(unwrap(body, MAGIC_WITH_PRE))
    else:
        rest = unwrap(body, MAGIC)
    if len(rest) < _ROUTE_BLOCK.size:
        raise PeerError("the route block is cut short")
    tag, length, count = _ROUTE_BLOCK.unpack_from(rest)
    if tag != _ROUTE_BLOCK_TAG or length != _ROUTE_BLOCK.size + _ROUTE.size * count or length > len(rest):
        raise PeerError("the route block has a wrong tag or length")
    routes = []
    for kind, fixed, low, high in _ROUTE.iter_unpack(rest[_ROUTE_BLOCK.size : length]):
        if fixed != _ROUTE_FIXED or kind not in (Route.INCLUDE, Route.EXCLUDE):
            raise PeerError("a route of unknown kind")
        routes.append((Route(kind), _network4(low, high)))
    block = rest[length:]
    if len(block) < _ATTRIBUTE_BLOCK.size or _ATTRIBUTE_BLOCK.unpack_from(block) != (
        len(block),
        _ATTRIBUTE_BLOCK_TAG,
    ):
        raise PeerError("the attribute block has a wrong tag or length")
    return routes, _cut_attributes(block[_ATTRIBUTE_BLOCK.size :])


def _skip_pre_blocks(rest: bytes) -> bytes:
    """What follows the PRE blocks. Those seen hold one attribute that nobody knows the meaning of."""
    tag = _PRE_MORE
    while tag != _PRE_LAST:
        if len(rest) < _PRE_BLOCK.size:
            raise PeerError("a block before the routes is cut short")
        tag, length, fixed = _PRE_BLOCK.unpack_from(rest)
        if (
            tag not in (_PRE_MORE, _PRE_LAST)
            or fixed != _ATTRIBUTE_BLOCK_TAG
            or not _PRE_BLOCK.size <= length <= len(rest)
        ):
            raise PeerError("a block before the routes has a wrong tag or length")
        _cut_attributes(rest[_PRE_BLOCK.size : length])
        rest = rest[length:]
    return rest


def _network4(low: int, high: int) -> IPv4Network:
    size = high - low + 1
    if size <= 0 or size & (size - 1) or low & (size - 1):
        raise PeerError("a route that is not one network")
    return IPv4Network((low, 33 - size.bit_length()))


def _cut_attributes(data: bytes) -> list[tuple[int, bytes]]:
    attributes = []
    at = 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise PeerError("an attribute header is cut short")
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if length > len(data) - at:
            raise PeerError(f"attribute {kind:#x} declares {length} bytes, {len(data) - at} are left")
        attributes.append((kind, data[at : at + length]))
        at += length
    return attributes
