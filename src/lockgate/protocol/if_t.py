"""IF-T/TLS framing: a 16-byte header and a body, many per connection.

The edge cuts the stream and numbers what it sends; the conversations see `Frame` only. Reader and
encoder here serve tests, tools and peers that hold the stream themselves.
Source: TNC IF-T binding to TLS 1.0; the header is that of RFC 6876, section 3.5.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from lockgate.protocol.errors import PeerError, UsageError

HEADER = 16
"""Bytes of the header: vendor, type, total length, sequence number; network order."""

MAX_FRAME = 16384
"""Largest whole frame in bytes: one TLS record. The client takes a record for a frame."""

VENDOR_TCG = 0x005597
"""Vendor number of the version and authentication frames."""

VENDOR_JUNIPER = 0x000A4C
"""Vendor number of configuration, data and control frames."""

_HEADER = struct.Struct("!IIII")


class TcgKind(IntEnum):
    """Frame types under VENDOR_TCG."""

    VERSION_REQUEST = 1
    VERSION_RESPONSE = 2
    CHALLENGE = 5
    RESPONSE = 6
    SUCCESS = 7


class JuniperKind(IntEnum):
    """Frame types under VENDOR_JUNIPER."""

    CONFIG = 0x01
    """Main configuration and ESP keys, told apart by a magic number in the body."""
    DATA = 0x04
    """One IP packet."""
    ESP_READY = 0x05
    CLIENT_INFO = 0x88
    LOGOUT = 0x89
    END_OF_CONFIG = 0x8F
    FATAL = 0x93
    LICENCE = 0x96
    REMAINING = 0x4C01
    """Ours, to a client that named `session-options`: seconds until the session ends now."""
    SPLIT_NETWORKS = 0x4C02
    """Ours, to a client that named `split-networks`: its split-tunnel networks now."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One IF-T message. `vendor` is the 24-bit number, `body` is without the header.

    The body may hold a password or key, so it is not part of the repr.
    """

    vendor: int
    kind: int
    body: bytes

    def __repr__(self) -> str:
        return f"Frame(vendor={self.vendor:#x}, kind={self.kind:#x}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Received:
    """A frame with the sequence number its sender gave it."""

    frame: Frame
    sequence: int


def encode_frame(frame: Frame, sequence: int) -> bytes:
    """Header and body. `sequence` counts the frames of the sender and wraps at 2**32."""
    length = HEADER + len(frame.body)
    if length > MAX_FRAME:
        raise UsageError(f"a frame of {length} bytes does not fit one TLS record")
    if not (0 <= frame.vendor <= 0xFFFFFF and 0 <= frame.kind <= 0xFFFFFFFF):
        raise UsageError("vendor or type of the frame is out of range")
    return _HEADER.pack(frame.vendor, frame.kind, length, sequence & 0xFFFFFFFF) + frame.body


class FrameReader:
    """Cuts one direction of a byte stream into frames."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        """`max_frame` limits what a peer can make us hold; bytes with the header."""
        self._max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Append bytes as they came from the stream."""
        self._buffer += data

    def next_frame(self) -> Received | None:
        """The next whole frame, or None: feed more bytes.

        Raises PeerError on a declared length outside 16 .. max_frame; the stream cannot be
        resynchronised after that.
        """
        if len(self._buffer) < HEADER:
            return None
        vendor, kind, length, sequence = _HEADER.unpack_from(self._buffer)
        # Judge the declared length before waiting for it, or the peer chooses how much we hold.
        if not HEADER <= length <= self._max_frame:
            raise PeerError(f"frame of type {kind:#x} declares {length} bytes")
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[HEADER:length])
        del self._buffer[:length]
        return Received(Frame(vendor & 0xFFFFFF, kind, body), sequence)  # top byte is reserved
