"""The one edge and everybody who waits for its messages.

A *wire* is one TLS connection in the edge, from its dial to its end; a *session* is a tunnel. Messages go
to whoever registered their number. When the edge dies a new one is started, and everybody is told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

import structlog

from lockgate.client.service.edge_link import EdgeLink
from lockgate.client.service.edge_process import EdgeProcess
from lockgate.model.problem import ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError

log = structlog.get_logger("edge")

# Messages that may wait for the reader of one wire: the edge bounds what a server says before sign-in.
MAX_WAITING = 256
RESTART_PAUSE = 1.0  # seconds between edges that die
STATS_PATIENCE = 0.5  # seconds somebody who looks at figures waits for the edge


class EdgeGone(Exception):
    """The edge died, and with it every wire."""


class SessionListener(Protocol):
    """Hears what the edge says about a session and about the connection attached to it."""

    def on_edge(self, message: edge_link.FromEdge) -> None:
        """A message about the session, or a frame or the end of its connection."""

    def on_edge_lost(self) -> None:
        """The edge died; a new one is there already."""


class Wire:
    """The messages about one connection before its session owns it."""

    def __init__(self, conn: int) -> None:
        self.conn = conn
        self._queue: asyncio.Queue[edge_link.FromEdge | None] = asyncio.Queue(MAX_WAITING)
        self._flooded = False

    def put(self, message: edge_link.FromEdge | None) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            if not self._flooded:
                log.warning("wire-flooded", conn=self.conn)
            self._flooded = True

    async def next(self) -> edge_link.FromEdge:
        """Raises EdgeGone; PeerError when something had to be dropped: what is left makes no sense."""
        return self._checked(await self._queue.get())

    def take(self) -> list[edge_link.FromEdge]:
        """What waits at this moment; raises as `next`."""
        taken = []
        while not self._queue.empty():
            taken.append(self._checked(self._queue.get_nowait()))
        return taken

    def _checked(self, message: edge_link.FromEdge | None) -> edge_link.FromEdge:
        if message is None:
            raise EdgeGone
        if self._flooded:
            raise PeerError("it says more than anybody reads")
        return message


class EdgeHub:
    """Sends to the edge, and hands out what it says."""

    def __init__(self, process: EdgeProcess) -> None:
        self._process = process
        self._link: EdgeLink | None = None
        self._wires: dict[int, Wire] = {}
        self._sessions: dict[int, SessionListener] = {}
        self._owners: dict[int, int] = {}  # connection → session, once attached
        self._last_conn = random.getrandbits(51) | 1
        self._fresh = asyncio.Event()
        self.counters: dict[str, int] = {}

    async def start(self) -> edge_link.EdgeHello:
        """Takes up the living edge, or starts one. Raises ProblemError."""
        found = await self._process.find(self._on_message)
        self._link, hello = found or await self._process.start(self._on_message)
        log.info("edge-up", sessions=len(hello.sessions), found=found is not None)
        return hello

    async def run(self) -> None:
        """Keeps an edge running until cancelled."""
        while True:
            assert self._link is not None
            await self._link.run()
            self._process.reap()
            # A living edge whose link broke still has the tunnels; hello lists them, but what was said
            # in between is lost: a new edge with resumed sessions is the simple truth.
            await self._process.stop()
            for wire in list(self._wires.values()):
                wire.put(None)
            self._wires.clear()
            self._owners.clear()
            while True:
                try:
                    self._link, _ = await self._process.start(self._on_message)
                    break
                except ProblemError as error:
                    log.error("edge-failed", **error.problem.as_dict())
                    await asyncio.sleep(RESTART_PAUSE)
            for listener in list(self._sessions.values()):
                listener.on_edge_lost()

    def leave(self) -> None:
        """Closes the link; the edge lives on."""
        if self._link is not None:
            self._link.close()

    async def end(self) -> None:
        """Ends the edge."""
        self.leave()
        await self._process.stop()

    def send(self, message: edge_link.ToEdge, descriptors: Sequence[int] = ()) -> None:
        if self._link is not None:
            self._link.send(message, descriptors)

    # -- wires and sessions ------------------------------------------------------------------------

    def new_wire(self) -> Wire:
        self._last_conn += 1
        wire = Wire(self._last_conn)
        self._wires[wire.conn] = wire
        return wire

    def drop_wire(self, wire: Wire) -> None:
        """Closes the connection unless a session has it."""
        if self._wires.pop(wire.conn, None) is not None:
            self.send(edge_link.CloseConn(conn=wire.conn))

    def give_wire(self, wire: Wire, session: int) -> None:
        """From now on messages about the connection are the session's."""
        self._wires.pop(wire.conn, None)
        self._owners[wire.conn] = session

    def adopt_conn(self, conn: int, session: int) -> None:
        """A connection that an earlier service attached."""
        self._owners[conn] = session

    def register(self, session: int, listener: SessionListener) -> None:
        self._sessions[session] = listener

    def unregister(self, session: int) -> None:
        self._sessions.pop(session, None)
        self._owners = {conn: owner for conn, owner in self._owners.items() if owner != session}

    # -- messages ----------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Brings traffic figures up to date, if the edge answers in time."""
        self._fresh.clear()
        self.send(edge_link.ReportStats())
        try:
            async with asyncio.timeout(STATS_PATIENCE):
                await self._fresh.wait()
        except TimeoutError:
            pass

    def _on_message(self, message: edge_link.FromEdge) -> None:
        match message:
            case edge_link.Stats(sessions, counters):
                self.counters = dict(counters)
                for state in sessions:
                    self._tell(self._sessions.get(state.session), edge_link.Stats((state,), ()))
                self._fresh.set()
            case edge_link.Dialed(conn) | edge_link.DialFailed(conn) | edge_link.LinkFrame(conn):
                self._about_conn(conn, message)
            case edge_link.ConnClosed(conn):
                self._about_conn(conn, message)
                self._owners.pop(conn, None)
            case (
                edge_link.SessionEnded(session)
                | edge_link.TransportChanged(session)
                | edge_link.RekeyWanted(session)
                | edge_link.PathMtu(session)
            ):
                self._tell(self._sessions.get(session), message)
            case _:
                log.warning("edge-said-something-else", message=type(message).__name__)

    def _about_conn(self, conn: int, message: edge_link.FromEdge) -> None:
        if (wire := self._wires.get(conn)) is not None:
            wire.put(message)
        elif (owner := self._owners.get(conn)) is not None:
            self._tell(self._sessions.get(owner), message)

    @staticmethod
    def _tell(listener: SessionListener | None, message: edge_link.FromEdge) -> None:
        if listener is None:
            return
        try:
            listener.on_edge(message)
        except Exception:
            log.exception("internal-error", message=type(message).__name__)
