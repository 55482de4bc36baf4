"""Exchange of ESP keys: the server's message and the client's answer.

Each side makes the keys for what it receives. SPIs are little-endian here and big-endian in ESP packets.
"""

import struct
from dataclasses import dataclass

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.config_frame import unwrap, wrap
from lockgate.protocol.secret import Secret

SECRET = 64
"""Bytes of a secret: cipher key, directly the HMAC key, the rest is ignored."""

MAGIC = 0x21202400
_VERSION = bytes.fromhex("01000000")
_KEYS = struct.Struct(f"<I2s{SECRET}s")  # SPI, length of the secret, secret
_SECRET_LENGTH = struct.pack("!H", SECRET)
_LENGTH = struct.Struct("!I")  # of itself and what follows
_OFFER_TAIL = bytes(6)


@dataclass(frozen=True, slots=True)
class EspKeys:
    """One direction. The secret has at most 64 bytes and is zero-filled on the wire."""

    spi: int
    secret: Secret


def encode_offer(keys: EspKeys) -> bytes:
    """Body of the server's message: keys for packets from the client."""
    return _encode(_pack(keys) + _OFFER_TAIL)


def decode_offer(body: bytes) -> EspKeys:
    """Keys in the server's message; PeerError if it has another shape."""
    rest = _decode(body, _KEYS.size + len(_OFFER_TAIL))
    return _unpack(rest[: _KEYS.size])


def encode_answer(keys: EspKeys, offered: EspKeys) -> bytes:
    """Body of the client's answer: keys for packets to the client, and a copy of the offer."""
    return _encode(_pack(keys) + _pack(offered))


def decode_answer(body: bytes) -> EspKeys:
    """The client's keys; PeerError if the answer has another shape.

    The copy of the offer must be well-formed; its content is not compared, since it gives the
    client nothing that it could not have anyway.
    """
    rest = _decode(body, 2 * _KEYS.size)
    _unpack(rest[_KEYS.size :])
    return _unpack(rest[: _KEYS.size])


def _encode(keys: bytes) -> bytes:
    content = _VERSION + keys
    return wrap(MAGIC, _LENGTH.pack(_LENGTH.size + len(content)) + content)


def _decode(body: bytes, length: int) -> bytes:
    rest = unwrap(body, MAGIC)
    head = _LENGTH.pack(_LENGTH.size + len(_VERSION) + length) + _VERSION
    if len(rest) != len(head) + length or not rest.startswith(head):
        raise PeerError("an ESP keys message of the wrong length or version")
    return rest[len(head) :]


def _pack(keys: EspKeys) -> bytes:
    secret = keys.secret.reveal()
    if not 0 < keys.spi <= 0xFFFFFFFF:
        raise UsageError(f"SPI {keys.spi:#x} is out of range")
    if len(secret) > SECRET:
        raise UsageError(f"an ESP secret of {len(secret)} bytes")
    return _KEYS.pack(keys.spi, _SECRET_LENGTH, secret)


def _unpack(data: bytes) -> EspKeys:
    spi, length, secret = _KEYS.unpack(data)
    if length != _SECRET_LENGTH:
        raise PeerError("an ESP secret that is not declared with 64 bytes")
    if spi == 0:  # RFC 4303, section 2.1: never on the wire
        raise PeerError("ESP keys for SPI 0")
    return EspKeys(spi, Secret(secret))
