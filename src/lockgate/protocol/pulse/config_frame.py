"""The head shared by the configuration messages (frame type 1): zeros, magic number, length."""

import struct

from lockgate.protocol.errors import PeerError

_HEAD = struct.Struct("!16sIII")  # zeros, magic, zero, length of the whole body


def wrap(magic: int, rest: bytes) -> bytes:
    """The body of a frame: head and `rest`."""
    return _HEAD.pack(bytes(16), magic, 0, _HEAD.size + len(rest)) + rest


def unwrap(body: bytes, magic: int) -> bytes:
    """What follows the head; PeerError unless the head is exactly as it must be."""
    if len(body) < _HEAD.size or _HEAD.unpack_from(body) != (bytes(16), magic, 0, len(body)):
        raise PeerError(f"a configuration message without the head of {magic:#x}")
    return body[_HEAD.size :]


def magic_of(body: bytes) -> int:
    """The magic number of a body, 0 if it is too short to have one. The rest of the head is not judged."""
    return int(_HEAD.unpack_from(body)[1]) if len(body) >= _HEAD.size else 0
