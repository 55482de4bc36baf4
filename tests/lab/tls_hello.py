"""`python -m tests.lab.tls_hello ADDRESS PORT`: which key exchange a TLS 1.3 server chooses.

The system's OpenSSL and GnuTLS do not know the hybrid groups, so the client hello is made here: it offers
X25519MLKEM768 first and X25519 second, as clients that know both do, with a key share for each. Prints the number of the group in the server hello.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

X25519, X25519MLKEM768 = 0x001D, 0x11EC
"""RFC 8446, section 4.2.7, and the registry of TLS supported groups."""


def client_hello() -> bytes:
    """The least that a TLS 1.3 server accepts (RFC 8446, section 4.1.2)."""
    point = b"\x09" + bytes(31)  # the base point: a valid share of a key nobody needs
    # An ML-KEM-768 key with all coefficients zero is well-formed (FIPS 203, section 7.2).
    shares = b"".join(
        struct.pack("!H", group) + _sized(key)
        for group, key in ((X25519MLKEM768, bytes(1184) + point), (X25519, point))
    )
    extensions = (
        _extension(43, _sized(struct.pack("!H", 0x0304), "!B"))
        + _extension(10, _sized(struct.pack("!HH", X25519MLKEM768, X25519)))
        + _extension(13, _sized(struct.pack("!HHH", 0x0403, 0x0804, 0x0807)))
        + _extension(51, _sized(shares))
    )
    body = b"\x03\x03" + os.urandom(32) + _sized(os.urandom(32), "!B")
    body += _sized(struct.pack("!HH", 0x1301, 0x1302)) + b"\x01\x00" + _sized(extensions)
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + _sized(handshake)


def chosen_group(address: str, port: int) -> int:
    with socket.create_connection((address, port), timeout=10) as server, server.makefile("rwb") as stream:
        stream.write(client_hello())
        stream.flush()
        record = stream.read(5)
        hello = stream.read(int.from_bytes(record[3:5], "big"))
    if record[:1] != b"\x16" or hello[:1] != b"\x02":
        sys.exit(f"no server hello: {(record + hello).hex()}")
    # Type and length 4, version 2, random 32, session 1 + 32, suite 2, compression 1, extensions' length 2.
    at = 76
    while at + 4 <= len(hello):
        kind, length = struct.unpack_from("!HH", hello, at)
        if kind == 51:
            return int(struct.unpack_from("!H", hello, at + 4)[0])
        at += 4 + length
    sys.exit("the server hello has no key share")


def _sized(body: bytes, width: str = "!H") -> bytes:
    return struct.pack(width, len(body)) + body


def _extension(kind: int, body: bytes) -> bytes:
    return struct.pack("!H", kind) + _sized(body)


if __name__ == "__main__":
    print(chosen_group(sys.argv[1], int(sys.argv[2])))
