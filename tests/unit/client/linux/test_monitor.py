from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.linux.monitor import kinds_of


def message(kind: int, body: bytes = b"") -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body + bytes(-length % 4)


def test_kinds() -> None:
    data = message(16, b"x" * 5) + message(24) + message(99) + message(33) + message(20)
    assert list(kinds_of(data)) == ["link", "route", "rule", "address"]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    list(kinds_of(data))
    list(kinds_of(message(24) + data))
