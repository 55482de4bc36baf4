"""KMP messages beside the configuration: numbers, ESP keys, and what a client says about itself."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.ncp.tlv import MAX_SAID, Attribute, decode, encode_group, exactly, number_in
from lockgate.protocol.pulse.esp_keys import SECRET, EspKeys
from lockgate.protocol.pulse.text import shown_text
from lockgate.protocol.secret import Secret

MAX_HOST_NAME = 255  # bytes kept; RFC 1035, section 2.3.4


class KmpKind(IntEnum):
    """Types of KMP messages. A client ends its tunnel at any other."""

    ACCEPT = 0
    """Not KMP: makes the edge answer the client's HTTP request, and has no content."""
    HOST_NAME = 0
    """Nor is this: the client's first record, as the edge passes it on."""
    PACKETS = 300
    CONFIG = 301
    KEYS = 302
    OPTIONS = 303


class Group(IntEnum):
    """Groups of attributes."""

    ADDRESS = 1
    DNS = 2
    ROUTES = 3
    WINS = 4
    OPTIONS = 6
    KEYS = 7
    ESP = 8


_SPI, _SECRET = 1, 2
_ESP_USE, MTU = 1, 2


@dataclass(frozen=True, slots=True)
class Options:
    """What a client says in KMP 303; None for what it does not mention.

    uses_esp: it sends, and wants to receive, by ESP; or not any more.
    mtu: an echo of what it was told.
    """

    uses_esp: bool | None = None
    mtu: int | None = None


def keys_group(keys: EspKeys) -> bytes:
    """One direction of ESP. The SPI stands here as it does in ESP packets; the secret is zero-filled."""
    secret = keys.secret.reveal()
    if not 0 < keys.spi <= 0xFFFFFFFF:
        raise UsageError(f"SPI {keys.spi:#x} is out of range")
    if len(secret) > SECRET:
        raise UsageError(f"an ESP secret of {len(secret)} bytes")
    attributes = [(_SPI, struct.pack("!I", keys.spi)), (_SECRET, secret.ljust(SECRET, b"\0"))]
    return encode_group(Group.KEYS, attributes)


def keys_in(attributes: Iterable[Attribute]) -> EspKeys | None:
    """The keys among attributes, of which others are passed over; None where there are none. PeerError if
    there is half of them, more than one, or one of another size."""
    found: dict[int, Attribute] = {}
    for each in attributes:
        if each.group == Group.KEYS and each.number in (_SPI, _SECRET):
            if each.number in found:
                raise PeerError("ESP keys twice in one message")
            found[each.number] = each
    if not found:
        return None
    if len(found) < 2:
        raise PeerError("half an ESP key")
    spi = number_in(found[_SPI], 4)
    if spi == 0:  # RFC 4303, section 2.1: never on the wire
        raise PeerError("ESP keys for SPI 0")
    return EspKeys(spi, Secret(exactly(found[_SECRET], SECRET)))


def encode_keys(keys: EspKeys) -> bytes:
    """The payload of KMP 302."""
    return keys_group(keys)


def decode_keys(payload: bytes) -> EspKeys:
    """The keys in KMP 302."""
    keys = keys_in(decode(payload, MAX_SAID))
    if keys is None:
        raise PeerError("a KMP 302 without keys")
    return keys


def encode_options(options: Options) -> bytes:
    """The payload of KMP 303."""
    attributes = []
    if options.uses_esp is not None:
        attributes.append((_ESP_USE, bytes([options.uses_esp])))
    if options.mtu is not None:
        attributes.append((MTU, struct.pack("!I", options.mtu)))
    return encode_group(Group.OPTIONS, attributes)


def decode_options(payload: bytes) -> Options:
    """What KMP 303 says; attributes unknown here are passed over."""
    uses_esp: bool | None = None
    mtu: int | None = None
    for attribute in decode(payload, MAX_SAID):
        match attribute.group, attribute.number:
            case (Group.OPTIONS, 1):
                uses_esp = number_in(attribute, 1) != 0
            case (Group.OPTIONS, 2):
                mtu = number_in(attribute, 4)
    return Options(uses_esp, mtu)


def decode_host_name(body: bytes) -> str:
    """What a client calls its machine: printable, cut to MAX_HOST_NAME bytes."""
    return shown_text(body, MAX_HOST_NAME)
