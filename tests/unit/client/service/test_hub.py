"""What waits for the reader of one connection in the edge."""

from __future__ import annotations

import asyncio

import pytest

from lockgate.client.service import hub
from lockgate.client.service.hub import EdgeGone, Wire
from lockgate.protocol.edge_link import ConnClosed, FromEdge, LinkFrame
from lockgate.protocol.errors import PeerError

pytestmark = pytest.mark.anyio

CLOSED = ConnClosed(7, 0, "closed by the gateway")


def frame(kind: int) -> LinkFrame:
    return LinkFrame(7, 0xA4C, kind, b"")


async def test_messages_come_in_their_order() -> None:
    wire = Wire(7)
    for message in (frame(1), frame(2), CLOSED):
        wire.put(message)
    assert await wire.next() == frame(1)
    assert wire.take() == [frame(2), CLOSED]
    assert wire.take() == []


async def test_a_reader_hears_that_the_edge_died() -> None:
    wire = Wire(7)
    waiting = asyncio.ensure_future(wire.next())
    await asyncio.sleep(0)
    wire.put(None)
    with pytest.raises(EdgeGone):
        await waiting
    wire.put(frame(1))
    wire.put(None)
    with pytest.raises(EdgeGone):
        wire.take()


async def test_a_server_that_says_too_much_is_not_read_with_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_WAITING", 3)
    wire = Wire(7)
    said: list[FromEdge] = [frame(kind) for kind in range(5)]
    for message in said:
        wire.put(message)
    with pytest.raises(PeerError):
        await wire.next()
    with pytest.raises(PeerError):
        wire.take()
