"""EAP packets: RFC 3748, section 4, and the expanded types of section 5.7."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from lockgate.protocol.errors import PeerError, UsageError


class EapCode(IntEnum):
    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(IntEnum):
    """Types met here; a peer may name others, so packets carry a plain int."""

    IDENTITY = 1
    GTC = 6
    TTLS = 21
    EXPANDED = 254


_HEADER = struct.Struct("!BBH")
_EXPANDED = struct.Struct("!II")  # type and 24-bit vendor in the first word, vendor type in the second
_WITHOUT_TYPE = (EapCode.SUCCESS, EapCode.FAILURE)


@dataclass(frozen=True, slots=True)
class EapPacket:
    """One packet. `kind` is 0 in Success and Failure, which carry no type and no data; `vendor` and
    `vendor_kind` are 0 unless `kind` is EXPANDED.

    The data may be a password, so it is not part of the repr.
    """

    code: EapCode
    identifier: int
    kind: int = 0
    data: bytes = b""
    vendor: int = 0
    vendor_kind: int = 0

    def __repr__(self) -> str:
        return (
            f"EapPacket({self.code.name}, identifier={self.identifier}, kind={self.kind},"
            f" vendor={self.vendor:#x}/{self.vendor_kind}, {len(self.data)} bytes)"
        )


def encode_eap(packet: EapPacket) -> bytes:
    """The packet with its length; UsageError when it does not fit the 16-bit length."""
    if packet.code in _WITHOUT_TYPE:
        content = b""
    elif packet.kind == EapType.EXPANDED:
        content = _EXPANDED.pack(EapType.EXPANDED << 24 | packet.vendor, packet.vendor_kind) + packet.data
    else:
        content = bytes([packet.kind]) + packet.data
    length = _HEADER.size + len(content)
    if length > 0xFFFF:
        raise UsageError(f"an EAP packet of {length} bytes")
    return _HEADER.pack(packet.code, packet.identifier, length) + content


def decode_eap(data: bytes) -> EapPacket:
    """The packet that `data` is, to the last byte; PeerError otherwise.

    RFC 3748 allows link padding behind the packet. There is none here: the length word equals what
    the frame or AVP around it says, and a difference is an attempt to have it read in two ways.
    """
    if len(data) < _HEADER.size:
        raise PeerError("an EAP header is cut short")
    code, identifier, length = _HEADER.unpack_from(data)
    if length != len(data):
        raise PeerError(f"an EAP packet declares {length} bytes and has {len(data)}")
    if not EapCode.REQUEST <= code <= EapCode.FAILURE:
        raise PeerError(f"EAP code {code}")
    if code in _WITHOUT_TYPE:
        if length != _HEADER.size:
            raise PeerError("EAP success or failure with data")
        return EapPacket(EapCode(code), identifier)
    if length == _HEADER.size:
        raise PeerError("EAP request or response without a type")
    kind = data[_HEADER.size]
    if kind != EapType.EXPANDED:
        return EapPacket(EapCode(code), identifier, kind, data[_HEADER.size + 1 :])
    start = _HEADER.size + _EXPANDED.size
    if length < start:
        raise PeerError("an expanded EAP type is cut short")
    vendor, vendor_kind = _EXPANDED.unpack_from(data, _HEADER.size)
    return EapPacket(EapCode(code), identifier, kind, data[start:], vendor & 0xFFFFFF, vendor_kind)
