"""One connection before it has its tunnel: frames in, events out, one at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.ncp import server as ncp
from lockgate.protocol.pulse import events as pulse_events
from lockgate.protocol.pulse import server as pulse

Wire: TypeAlias = pulse.ServerConversation | ncp.ServerConversation
"""What is spoken with a client; from the configuration on both are used alike."""

Event: TypeAlias = pulse_events.Event | ncp.Event

W = TypeVar("W", pulse.ServerConversation, ncp.ServerConversation)

# Events a client may be ahead of us; the edge limits frames before sign-in as well.
MAX_WAITING = 64


class ConnectionLost(Exception):
    """The client, or the edge, closed the connection."""


class Connection(Generic[W]):
    """Pairs a server conversation with the connection in the edge that carries it."""

    def __init__(
        self,
        opened: edge_link.ConnOpened,
        since: float,
        send: Callable[[edge_link.ToEdge], None],
        conversation: W,
    ) -> None:
        """since: when it was opened, seconds since 1970."""
        self.opened, self.since = opened, since
        self.conversation: W = conversation
        self._send = send
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._gone = False
        self.logged_out = False  # the client has said, perhaps ahead of its turn, that it wants no session

    @property
    def id(self) -> int:
        return self.opened.conn

    @property
    def source(self) -> str:
        """The client's address without its port."""
        return address_of(self.opened.peer)

    def receive(self, frame: Frame) -> None:
        """Feeds a frame from the edge; what it means comes out of `next_event`."""
        if self._failure is not None:
            return
        try:
            events = self.conversation.receive(frame)
            self._events.extend(events)
            self.logged_out |= any(isinstance(event, pulse_events.LoggedOut) for event in events)
            if len(self._events) > MAX_WAITING:
                raise PeerError("the client does not wait for answers")
        except PeerError as error:
            self._failure = error
        self.flush()
        self._changed.set()

    def lost(self) -> None:
        """The connection is gone, or the edge with it. Nothing is sent to its number any more: a later
        connection may have it."""
        self._gone = True
        self._failure = self._failure or ConnectionLost()
        self._changed.set()

    async def next_event(self) -> Event:
        """Raises PeerError or ConnectionLost when there will be none."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    def flush(self) -> None:
        """Hands to the edge what the conversation wants to say."""
        for frame in self.conversation.take_frames():
            if not self._gone:
                self._send(
                    edge_link.LinkFrame(
                        conn=self.id, vendor=frame.vendor, kind=int(frame.kind), body=frame.body
                    )
                )

    def close(self) -> None:
        """Closes the connection once everything said has been written."""
        self.flush()
        if not self._gone:
            self._send(edge_link.CloseConn(conn=self.id))


def address_of(endpoint: str) -> str:
    """The address of "address:port"; IPv6 stands in brackets."""
    host, _, _ = endpoint.rpartition(":")
    return host.removeprefix("[").removesuffix("]")
