"""Groups of attributes, the form of every KMP payload but packets.

A group is a 16-bit number and a 32-bit length, an attribute in it as well; network order, no padding.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lockgate.protocol.errors import PeerError

MAX_PAYLOAD = 65533
"""Bytes of a payload that openconnect still reads."""

MAX_SAID = 256
"""Bytes of a payload of a client's: what clients say has 13, 16 or 86."""

HEADER = struct.Struct("!HI")
"""Of a group and of an attribute: number, bytes that follow."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One value. It may be a key, so it is not part of the repr."""

    group: int
    number: int
    data: bytes

    def __repr__(self) -> str:
        return f"Attribute({self.group}.{self.number}, {len(self.data)} bytes)"


def encode_group(number: int, attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """One group with its header."""
    content = b"".join(HEADER.pack(kind, len(data)) + data for kind, data in attributes)
    return HEADER.pack(number, len(content)) + content


def decode(payload: bytes, most: int = MAX_PAYLOAD) -> list[Attribute]:
    """All attributes of a payload of at most so many bytes, in order; PeerError unless the lengths agree exactly."""
    if len(payload) > most:
        raise PeerError(f"a KMP payload of {len(payload)} bytes")
    return [
        Attribute(group, number, data)
        for group, content in _cut(payload, "group")
        for number, data in _cut(content, f"attribute of group {group}")
    ]


def _cut(data: bytes, what: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + HEADER.size > len(data):
            raise PeerError(f"a {what} that is cut off")
        number, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        if at + length > len(data):
            raise PeerError(f"{what}: number {number} declares {length} bytes")
        yield number, data[at : at + length]
        at += length


def exactly(attribute: Attribute, length: int) -> bytes:
    """The data of an attribute that has one length only."""
    if len(attribute.data) != length:
        raise PeerError(f"{attribute!r} instead of {length} bytes")
    return attribute.data


def number_in(attribute: Attribute, length: int) -> int:
    """The unsigned number in an attribute of that many bytes."""
    return int.from_bytes(exactly(attribute, length))
