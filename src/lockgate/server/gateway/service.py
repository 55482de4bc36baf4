"""The gateway: which sessions and connections live in the edge, and what happens to them.

Everything that ends a session goes through `end`: first nothing passes any more, then the store hears of it,
so that its cookie is worth nothing from then on, then the edge forgets it. A store that does not answer is
told again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Refused
from lockgate.model.session import EndCause, Session
from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.ncp import server as ncp
from lockgate.protocol.pulse import server as pulse
from lockgate.server.audit import Audit
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.service import SignIns
from lockgate.server.follow import TURN, Follow
from lockgate.server.gateway.away import Away
from lockgate.server.gateway.connection import Connection
from lockgate.server.gateway.edge_client import EdgeClient
from lockgate.server.gateway.enforcement import Enforcement
from lockgate.server.gateway.entrance import Entrance
from lockgate.server.gateway.farewells import cause_of, farewell
from lockgate.server.gateway.flow_log import FlowLog
from lockgate.server.gateway.live_session import LiveSession, live_session
from lockgate.server.gateway.tunnels import Tunnels
from lockgate.server.in_force import InForce
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.sessions import OVER, By, Sessions

log = structlog.get_logger("gateway")

T = TypeVar("T")
N = TypeVar("N", int, float)

REPORT_PATIENCE = 1.0  # seconds somebody who looks at the sessions waits for the edge
HOUSEKEEPING_INTERVAL = 1.0  # seconds between looks at deadlines


class GatewayService:
    """Answers the edge. One per control plane."""

    def __init__(
        self,
        *,
        edge_socket: Path,
        in_force: InForce,
        sessions: Sessions,
        sign_ins: SignIns,
        launches: LaunchHandles,
        authorities: Authorities,
        audit: Audit,
        flows: FlowLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.flows = flows
        self._in_force, self._sessions, self._clock = in_force, sessions, clock
        self._link = EdgeClient(
            edge_socket, on_hello=self._adopt, on_message=self._on_message, on_lost=self._on_link_lost
        )
        self._connections: dict[int, Connection[Any]] = {}
        self._tunnels = Tunnels(in_force, self._link.send, clock)
        self._away = Away()
        self.enforcement = Enforcement(
            audit,
            self._link.send,
            lambda entry: self._spawn(audit.write(entry), "record of an enforcement"),
            clock,
        )
        self.follow = Follow(
            in_force=in_force,
            sessions=sessions,
            tunnels=self._tunnels,
            end_many=self._end_counted,
            ordered=self._ordered,
            pause=self._pause,
            clock=clock,
        )
        self._entrance = Entrance(
            in_force=in_force,
            sessions=sessions,
            sign_ins=sign_ins,
            launches=launches,
            tunnels=self._tunnels,
            authorities=authorities,
            end=self.end,
            drop=self._drop,
            started=self._on_started,
            applied=self.enforcement.applied,
            clock=clock,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._fresh = asyncio.Event()  # a report came since it was asked for
        # Ends that the store could not be told of yet.
        self._unheard: dict[int, tuple[EndCause, By | None]] = {}
        self._unheard_generations: dict[tuple[int, int], EndCause] = {}
        self.counters: dict[str, int] = {}

    # -- running -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            group.create_task(self._link.run(), name="edge link")
            group.create_task(self._housekeeping(), name="housekeeping")
            group.create_task(self.flows.run(), name="flows")

    @property
    def edge_is_up(self) -> bool:
        return self._link.is_up

    def _spawn(self, work: Awaitable[object], name: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(guarded(work, name), name=name)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
            # A store that is busy, locked or full must not take the tunnels with it: tried again.
            await guarded(self._end_stale(look=False), "housekeeping: stale sessions")
            await guarded(self._end_unheard(), "housekeeping: ends to be told again")
            await guarded(self._end_due(), "housekeeping: deadlines")
            self._tunnels.tidy()
            self.enforcement.tidy()

    async def _end_unheard(self) -> None:
        again, self._unheard = self._unheard, {}
        generations, self._unheard_generations = self._unheard_generations, {}
        for (cause, by), numbers in _grouped(again.items()).items():
            await guarded(self._end_counted(numbers, cause, by), f"ends told again: {cause}")
        for (number, generation), cause in generations.items():
            await guarded(self._end_generation(number, generation, cause), f"end of session {number}")

    async def _end_due(self) -> None:
        # The edge ends attached sessions by itself; this is for those whose client is away.
        due: list[tuple[int, EndCause]] = []
        for session, cause in await self._sessions.due():
            tunnel = self._tunnels.get(session.id)
            if cause is EndCause.IDLE and tunnel is not None and tunnel.conn:
                continue  # the edge sees its packets, the store does not
            due.append((session.id, cause))
        due += [(number, EndCause.PORTAL_ENDED) for number in await self._sessions.orphans()]
        due += self._away.due(self._clock())
        for cause, numbers in _grouped(due).items():
            await guarded(self.end_many(numbers, cause), f"end of {len(numbers)} sessions: {cause}")

    # -- what administrators see and do ------------------------------------------------------------

    async def refresh(self) -> None:
        """Brings traffic, transports and counters up to date, if the edge answers in time."""
        self._fresh.clear()
        self._link.send(edge_link.ReportStats())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_PATIENCE if self._link.is_up else 0):
                await self._fresh.wait()

    def with_traffic(self, sessions: Iterable[Session]) -> list[LiveSession]:
        """Sessions with what the edge reported about them last."""
        return [live_session(session, self._tunnels.get(session.id)) for session in sessions]

    @property
    def tunnels(self) -> Tunnels:
        """Those that the edge holds, to be looked at."""
        return self._tunnels

    def transports(self) -> dict[str, int]:
        """How many tunnels use which transport at this moment: "esp", "tls", "none" for clients that are away."""
        counts = {transport.value: 0 for transport in edge_link.Transport}
        for tunnel in self._tunnels:
            counts[tunnel.transport.value if tunnel.conn else edge_link.Transport.NONE.value] += 1
        return counts

    async def end_stale(self) -> list[int]:
        """Cuts off sessions that have ended in the store alone, by another process or with an account."""
        return await self._end_stale(look=True)

    async def _end_stale(self, look: bool) -> list[int]:
        stale = await self._sessions.ended_elsewhere(self._tunnels.numbers(), look=look)
        for session in stale:
            log.info("ended-elsewhere", session=session.id, user=session.user, cause=session.cause)
            self._drop(session.id, session.cause)
        now = self._clock()
        for cause, times in _grouped((each.ended or now, each.cause) for each in stale).items():
            self._ordered((cause or EndCause.DISCONNECTED).value, len(times), min(times))
        await self._sessions.note_ended_elsewhere(stale)
        return [session.id for session in stale]

    def expect(self, session: Session) -> None:
        """Its client has signed in over HTTP and will ask for its tunnel; the session ends if it never does."""
        self._away.expected(session.id, self._clock())

    async def end(self, session_id: int, cause: EndCause) -> bool:
        """Ends a session everywhere; False when there is none to end."""
        return bool(await self.end_many([session_id], cause))

    async def end_many(
        self, session_ids: Iterable[int], cause: EndCause, by: By | None = None
    ) -> list[Session]:
        """Ends sessions everywhere; those that there were. A store that fails now is told again later.

        by: as `Sessions.end_many` takes it.
        """
        return await self._end(list(session_ids), cause, by, self._clock())

    async def _end_counted(
        self, session_ids: Iterable[int], cause: EndCause, by: By | None = None
    ) -> list[Session]:
        """`end_many` of sessions whose cause is measured already."""
        return await self._end(list(session_ids), cause, by, None)

    async def _end(
        self, numbers: list[int], cause: EndCause, by: By | None, since: float | None
    ) -> list[Session]:
        held = sum(self._tunnels.get(number) is not None for number in numbers)
        async for number in self._in_turns(numbers):
            self._tunnels.cut_off(number)  # however long the store takes
        if since is not None:
            # An edge that is away may have any of them.
            self._ordered(cause.value, held if self.enforcement.edge_is_here else len(numbers), since)
        try:
            return await self._sessions.end_many(numbers, cause, by)
        except BaseException:
            self._unheard.update(dict.fromkeys(numbers, (cause, by)))
            raise
        finally:
            async for number in self._in_turns(numbers):
                self._drop(number, cause)

    def _ordered(self, cause: str, sessions: int, since: float) -> None:
        self.enforcement.ordered(cause, sessions, since, self._in_force.revision)

    async def extend(self, session_id: int, *, source: str, actor: str = "") -> Session | Refused:
        """`Sessions.extend`, with the edge and the client. What is ending stays so."""
        tunnel = self._tunnels.get(session_id)
        if tunnel is not None and tunnel.closing:
            return OVER
        if session_id in self._unheard or any(
            number == session_id for number, _ in self._unheard_generations
        ):
            return OVER
        result = await self._sessions.extend(session_id, source=source, actor=actor)
        if isinstance(result, Session):
            self._tunnels.extended(result)
            await self.follow.look_at(session_id)
        return result

    async def _in_turns(self, items: Sequence[T]) -> AsyncIterator[T]:
        """The items, with the event loop's other tasks in between, and no faster than the edge listens."""
        loop = asyncio.get_running_loop()
        turn = loop.time()
        for item in items:
            if loop.time() - turn > TURN:
                await self._pause()
                turn = loop.time()
            yield item

    async def _pause(self) -> None:
        await asyncio.sleep(0)
        with contextlib.suppress(OSError):  # the link's own reader sees that it is broken
            await self._link.room()

    def _drop(self, session_id: int, cause: EndCause | None) -> None:
        code = "" if cause is None else self._sessions.end_code(session_id, cause)
        self._link.send(edge_link.CloseSession(session=session_id, fatal=farewell(cause, code)))
        self._tunnels.forget(session_id)
        self._away.back(session_id)

    # -- what the edge says ------------------------------------------------------------------------

    async def _adopt(self, hello: edge_link.EdgeHello) -> None:
        """Brings edge and store together: the store says who may stay, the edge who is there."""
        await self.flows.greet(hello.edge)
        stored = {session.id: session for session in await self._sessions.live()}
        now = self._clock()
        self._tunnels.adopt_all(spi for state in hello.sessions for spi in state.spis)
        async for state in self._in_turns(hello.sessions):
            session = stored.get(state.session)
            if session is not None and session.generation == state.generation and session.remaining(now):
                if state.conn:
                    stored.pop(session.id)
                self._tunnels.adopt(session, state)
                continue
            # A newer generation in the store: its client was about to come back, and may.
            over = session is None or not session.remaining(now)
            fatal = farewell(None) if over else None
            self._link.send(edge_link.CloseSession(session=state.session, fatal=fatal))
        for session in stored.values():
            self._away.left(session, now)
        self.enforcement.back(len(hello.sessions))
        self._spawn(self._catch_up(), "follow after an adoption")

    async def _catch_up(self) -> None:
        # Roles may have changed while nobody followed, and sessions ended while they were adopted.
        await self.follow.catch_up()
        await self.end_stale()

    def _on_link_lost(self) -> None:
        self.enforcement.lost()
        # The edge closes connections that have no session yet; their clients try again. The sessions it
        # has come with its next hello. Until then no number of before means anything.
        for connection in self._connections.values():
            connection.lost()
        self._connections.clear()
        for tunnel in self._tunnels:
            self._away.left(tunnel.session, self._clock())
        self._tunnels.forget_all()

    def _on_message(self, message: edge_link.FromEdge) -> None:
        try:
            self._dispatch(message)
        except PeerError:
            raise  # the edge itself broke the link's rules
        except Exception:
            log.exception("internal-error", message=type(message).__name__)

    def _dispatch(self, message: edge_link.FromEdge) -> None:
        match message:
            case edge_link.LinkFrame():
                self._on_frame(message)
            case edge_link.ConnOpened():
                self._on_conn_opened(message)
            case edge_link.ConnClosed(conn, _, cause):
                self._on_conn_closed(conn, cause)
            case edge_link.SessionEnded(session, generation, cause):
                self._on_session_ended(session, generation, cause)
            case edge_link.TransportChanged(session, transport, peer):
                if (tunnel := self._tunnels.get(session)) is not None:
                    tunnel.transport, tunnel.peer = transport, peer
                    tunnel.esp_answered |= transport is edge_link.Transport.ESP
                    log.info("transport", session=session, transport=transport.value, peer=peer)
            case edge_link.RekeyWanted(session):
                self._tunnels.rekey(session, wanted=True)
            case edge_link.BarrierPassed(number):
                self.enforcement.passed(number)
            case edge_link.Flows():
                self.flows.heard(message, self._tunnels.get)
            case edge_link.Stats(states, counters):
                self._on_stats(states, counters)
            case edge_link.EdgeHello():
                raise PeerError("the edge says hello twice")

    def _on_conn_opened(self, opened: edge_link.ConnOpened) -> None:
        now, send = self._clock(), self._link.send
        connection: Connection[Any]
        if opened.framing is edge_link.Framing.NCP:
            connection = Connection(opened, now, send, ncp.ServerConversation())
            work = self._entrance.serve_network_connect(connection)
        else:
            connection = Connection(opened, now, send, pulse.ServerConversation())
            work = self._entrance.serve(connection)
        self._connections[opened.conn] = connection
        self._spawn(self._serve(connection, work), f"sign-in of connection {opened.conn}")

    async def _serve(self, connection: Connection[Any], work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            if self._connections.get(connection.id) is connection:
                del self._connections[connection.id]

    async def _on_started(self, session: int) -> None:
        self._away.back(session)
        await self.follow.look_at(session)

    def _on_frame(self, message: edge_link.LinkFrame) -> None:
        frame = Frame(message.vendor, message.kind, message.body)
        if (tunnel := self._tunnels.of_connection(message.conn)) is not None:
            try:
                if tunnel.receive(frame):
                    self._spawn(self._log_out(tunnel.session), f"log-out of session {tunnel.session.id}")
            except PeerError as error:
                log.warning("client-broke-protocol", session=tunnel.session.id, reason=str(error))
                self._link.send(edge_link.CloseConn(conn=message.conn))
        elif (connection := self._connections.get(message.conn)) is not None:
            connection.receive(frame)

    async def _log_out(self, session: Session) -> None:
        log.info("log-out", session=session.id, user=session.user)
        await self.end(session.id, EndCause.LOGOUT)

    def _on_conn_closed(self, conn: int, cause: str) -> None:
        if (connection := self._connections.get(conn)) is not None:
            connection.lost()
        if (tunnel := self._tunnels.disconnected(conn)) is not None:
            self._away.left(tunnel.session, self._clock())
            log.info("client-away", session=tunnel.session.id, user=tunnel.session.user, cause=cause)

    def _on_session_ended(self, session_id: int, generation: int, cause: edge_link.EndCause) -> None:
        if cause is edge_link.EndCause.ORPHANED:  # the cookie stays good
            tunnel = self._tunnels.get(session_id)
            if tunnel is not None and tunnel.session.generation == generation:
                self._tunnels.forget(session_id)
                self._away.left(tunnel.session, self._clock())
            return
        tunnel = self._tunnels.get(session_id)
        if tunnel is not None and tunnel.session.generation == generation:
            # Idle times and log-outs are known to the edge first.
            since = tunnel.session.expires if cause is edge_link.EndCause.EXPIRED else self._clock()
            self.enforcement.ended_by_edge(cause_of(cause).value, since, self._in_force.revision)
        # It may have ended while there was no link: then only the store knows of it.
        work = self._end_generation(session_id, generation, cause_of(cause))
        self._spawn(work, f"end of session {session_id}")

    async def _end_generation(self, session_id: int, generation: int, cause: EndCause) -> None:
        try:
            session = await self._sessions.end_generation(session_id, generation, cause)
        except ProblemError:
            self._unheard_generations[session_id, generation] = cause
            raise
        if session is not None:
            log.info("session-over", session=session_id, user=session.user, cause=cause.value)
            self._drop(session_id, cause)

    def _on_stats(
        self, states: tuple[edge_link.SessionState, ...], counters: tuple[tuple[str, int], ...]
    ) -> None:
        now = self._clock()
        seen: dict[int, float] = {}
        for state in states:
            tunnel = self._tunnels.get(state.session)
            if tunnel is None or tunnel.session.generation != state.generation:
                continue
            tunnel.traffic, tunnel.transport, tunnel.peer = state.traffic, state.transport, state.peer
            tunnel.esp_answered |= state.transport is edge_link.Transport.ESP
            tunnel.quiet_since = now - state.quiet
            seen[state.session] = tunnel.quiet_since
        self.counters = dict(counters)
        self._fresh.set()
        if seen:
            self._spawn(self._sessions.note_activity(seen), "activity")


def _grouped(ends: Iterable[tuple[N, T]]) -> dict[T, list[N]]:
    """Numbers by what they have in common."""
    found: dict[T, list[N]] = {}
    for number, why in ends:
        found.setdefault(why, []).append(number)
    return found


async def guarded(work: Awaitable[object], name: str) -> None:
    """One connection's mistake must not end the others."""
    try:
        await work
    except ProblemError as error:
        log.error("not-done", task=name, **error.problem.as_dict())
    except Exception:
        log.exception("internal-error", task=name)
