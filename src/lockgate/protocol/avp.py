"""Attribute-value pairs in the layout of RFC 5281, section 10.1 (Diameter).

    code (4) | flags (1) | length (3) | vendor (4, if flagged) | data | zeros up to 4

`length` counts header and data, not the zeros.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from lockgate.protocol.errors import PeerError, UsageError

MAX_AVPS = 64
"""Most AVPs in one packet or group; the largest known client packet holds about a dozen."""

_VENDOR = 0x80
_MANDATORY = 0x40
_HEADER = struct.Struct("!II")
_VENDOR_WORD = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Avp:
    """One pair. `vendor` 0 means that the vendor word is absent.

    The data may be a password, so it is not part of the repr.
    """

    code: int
    data: bytes
    vendor: int = 0
    mandatory: bool = False

    def __repr__(self) -> str:
        return f"Avp(code={self.code:#x}, vendor={self.vendor:#x}, {len(self.data)} bytes)"


def encode_avps(avps: Iterable[Avp]) -> bytes:
    """The pairs one after the other, each padded to a multiple of 4 bytes."""
    parts = []
    for avp in avps:
        length = _HEADER.size + (_VENDOR_WORD.size if avp.vendor else 0) + len(avp.data)
        if length > 0xFFFFFF:
            raise UsageError(f"AVP {avp.code:#x} is too long")
        flags = (_VENDOR if avp.vendor else 0) | (_MANDATORY if avp.mandatory else 0)
        parts.append(_HEADER.pack(avp.code, flags << 24 | length))
        if avp.vendor:
            parts.append(_VENDOR_WORD.pack(avp.vendor))
        parts.append(avp.data + bytes(-length % 4))
    return b"".join(parts)


def decode_avps(data: bytes) -> list[Avp]:
    """The pairs that fill `data`; PeerError if they do not, or are more than MAX_AVPS.

    The padding of the last pair may be missing (clients in the field differ); padding bytes and the
    reserved flags are not looked at.
    """
    avps: list[Avp] = []
    at = 0
    while at < len(data):
        if len(avps) == MAX_AVPS:
            raise PeerError(f"more than {MAX_AVPS} AVPs")
        if len(data) - at < _HEADER.size:
            raise PeerError("an AVP header is cut short")
        code, word = _HEADER.unpack_from(data, at)
        flags, length = word >> 24, word & 0xFFFFFF
        start, vendor = _HEADER.size, 0
        if flags & _VENDOR:
            start += _VENDOR_WORD.size
        if not start <= length <= len(data) - at:
            raise PeerError(f"AVP {code:#x} declares {length} bytes, {len(data) - at} are left")
        if flags & _VENDOR:
            (vendor,) = _VENDOR_WORD.unpack_from(data, at + _HEADER.size)
        avps.append(Avp(code, data[at + start : at + length], vendor, bool(flags & _MANDATORY)))
        at += length + (-length % 4)
    return avps
