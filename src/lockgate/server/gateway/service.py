"""The gateway: which sessions and connections live in the edge, and what happens to them.

Everything that ends a session goes through `end`: the store first, so that its cookie is worth nothing
from then on, then the edge, so that its packets stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Conversation, Refused
from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse.events import ClientReady, SignInAcknowledged
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.server.gateway.connection import Connection, ConnectionLost
from lockgate.server.gateway.edge_client import EdgeClient
from lockgate.server.gateway.settings import GatewaySettings, Terms
from lockgate.server.gateway.sign_in import facts_of, sign_in
from lockgate.server.gateway.tunnel import Tunnel, new_sa
from lockgate.server.sessions import Opened, Proof, Sessions

log = structlog.get_logger("gateway")

# Cookies looked up at a time. Anybody may send one; the store must stay free for those who are signed in.
MAX_RESUMES = 64
SIGN_IN_PATIENCE = 180.0  # seconds for a person to answer everything; the edge has the same limit
MOST_SPIS = 2  # of one session: in use, and just replaced
REPORT_PATIENCE = 1.0  # seconds somebody who looks at the sessions waits for the edge
HOUSEKEEPING_INTERVAL = 1.0  # seconds between looks at deadlines

# if-t-tls.md, section 8.8; any code but 0x0d and 0x0e is shown as a number.
FAILURE_COOKIE = 0x10
# if-t-tls.md, section 11: errorType of a fatal frame.
FATAL_REPLACED, FATAL_TERMINATED, FATAL_TIMED_OUT = 6, 7, 8

_FAREWELLS = {
    EndCause.IDLE: edge_link.Fatal(FATAL_TIMED_OUT, "The session ended because it was not used."),
    EndCause.EXPIRED: edge_link.Fatal(FATAL_TIMED_OUT, "The session has reached its maximum length."),
    EndCause.REPLACED: edge_link.Fatal(
        FATAL_REPLACED, "The session was ended by another sign-in of its user."
    ),
    EndCause.DISCONNECTED: edge_link.Fatal(FATAL_TERMINATED, "An administrator ended the session."),
    EndCause.USER_DISABLED: edge_link.Fatal(FATAL_TERMINATED, "The account was disabled."),
    EndCause.USER_DELETED: edge_link.Fatal(FATAL_TERMINATED, "The account was removed."),
    EndCause.PASSWORD_CHANGED: edge_link.Fatal(FATAL_TERMINATED, "The password was changed: sign in again."),
    EndCause.COOKIE_REPLAYED: edge_link.Fatal(
        FATAL_TERMINATED, "The session was ended because somebody else tried to take it over: sign in again."
    ),
}

_EDGE_CAUSES = {
    edge_link.EndCause.IDLE: EndCause.IDLE,
    edge_link.EndCause.EXPIRED: EndCause.EXPIRED,
    edge_link.EndCause.LOGOUT: EndCause.LOGOUT,
}


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session with what the edge knows about it."""

    session: Session
    transport: edge_link.Transport
    peer: str
    traffic: edge_link.Traffic
    last_used: float  # seconds since 1970


class GatewayService:
    """Answers the edge. One per control plane."""

    def __init__(
        self,
        *,
        edge_socket: Path,
        settings: GatewaySettings,
        sessions: Sessions,
        new_conversation: Callable[[ClientFacts], Conversation],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._new_conversation = new_conversation
        self._clock = clock
        self._link = EdgeClient(
            edge_socket, on_hello=self._adopt, on_message=self._on_message, on_lost=self._on_link_lost
        )
        self._connections: dict[int, Connection] = {}
        self._tunnels: dict[int, Tunnel] = {}
        self._tunnel_of_conn: dict[int, Tunnel] = {}
        self._spis: set[int] = set()  # in use, and some that were until lately
        self._resumes = asyncio.Semaphore(MAX_RESUMES)
        self._rekeys: dict[int, asyncio.TimerHandle] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._fresh = asyncio.Event()  # a report came since it was asked for
        self.counters: dict[str, int] = {}

    # -- running -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            group.create_task(self._link.run(), name="edge link")
            group.create_task(self._housekeeping(), name="housekeeping")

    @property
    def edge_is_up(self) -> bool:
        return self._link.is_up

    def _spawn(self, work: Awaitable[object], name: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(self._guarded(work, name), name=name)

    @staticmethod
    async def _guarded(work: Awaitable[object], name: str) -> None:
        """One connection's mistake must not end the others."""
        try:
            await work
        except ProblemError as error:
            log.error("not-done", task=name, **error.problem.as_dict())
        except Exception:
            log.exception("internal-error", task=name)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
            # A store that is busy, locked or full must not take the tunnels with it: tried again.
            await self._guarded(self.end_stale(), "housekeeping: stale sessions")
            await self._guarded(self._end_due(), "housekeeping: deadlines")
            if len(self._spis) > 2 * MOST_SPIS * (len(self._tunnels) + 1000):
                self._spis = {spi for tunnel in self._tunnels.values() for spi in tunnel.spis}

    async def _end_due(self) -> None:
        # The edge ends attached sessions by itself; this is for those whose client is away.
        for session, cause in await self._sessions.due():
            tunnel = self._tunnels.get(session.id)
            if cause is EndCause.IDLE and tunnel is not None and tunnel.conn:
                continue  # the edge sees its packets, the store does not
            await self._guarded(self.end(session.id, cause), f"end of session {session.id}")

    # -- what administrators see and do ------------------------------------------------------------

    async def refresh(self) -> None:
        """Brings traffic, transports and counters up to date, if the edge answers in time."""
        self._fresh.clear()
        self._link.send(edge_link.ReportStats())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_PATIENCE if self._link.is_up else 0):
                await self._fresh.wait()

    async def live(self) -> list[LiveSession]:
        """Every session that is not over, oldest first."""
        result = []
        for session in await self._sessions.live():
            tunnel = self._tunnels.get(session.id)
            if tunnel is None:
                nothing = edge_link.Traffic(0, 0, 0, 0, 0)
                result.append(LiveSession(session, edge_link.Transport.NONE, "", nothing, session.last_seen))
            else:
                # Without its connection the client is away, whatever its last ESP packet was.
                transport = tunnel.transport if tunnel.conn else edge_link.Transport.NONE
                result.append(
                    LiveSession(session, transport, tunnel.peer, tunnel.traffic, tunnel.quiet_since)
                )
        return result

    async def end_stale(self) -> list[int]:
        """Cuts off sessions that another process (a command of the administrator) has ended."""
        stale = await self._sessions.ended_elsewhere(self._tunnels)
        for session in stale:
            log.info("ended-elsewhere", session=session.id, user=session.user, cause=session.cause)
            self._drop(session.id, _FAREWELLS.get(session.cause or EndCause.DISCONNECTED))
        return [session.id for session in stale]

    async def end(self, session_id: int, cause: EndCause) -> bool:
        """Ends a session everywhere; False when there is none to end."""
        try:
            ended = await self._sessions.end(session_id, cause)
        finally:
            # Even when the store fails, the packets stop.
            self._drop(session_id, _FAREWELLS.get(cause))
        return ended is not None

    def _drop(self, session_id: int, fatal: edge_link.Fatal | None) -> None:
        self._link.send(edge_link.CloseSession(session=session_id, fatal=fatal))
        self._forget(session_id)

    def _forget(self, session_id: int) -> None:
        tunnel = self._tunnels.pop(session_id, None)
        if tunnel is not None:
            self._tunnel_of_conn.pop(tunnel.conn, None)
        if (timer := self._rekeys.pop(session_id, None)) is not None:
            timer.cancel()

    # -- what the edge says ------------------------------------------------------------------------

    async def _adopt(self, hello: edge_link.EdgeHello) -> None:
        """Brings edge and store together: the store says who may stay, the edge who is there."""
        stored = {session.id: session for session in await self._sessions.live()}
        now = self._clock()
        self._spis = {spi for state in hello.sessions for spi in state.spis}
        for state in hello.sessions:
            session = stored.get(state.session)
            if session is not None and session.generation == state.generation and session.remaining(now):
                self._adopt_session(session, state, now)
                continue
            # A newer generation in the store: its client was about to come back, and may.
            over = session is None or not session.remaining(now)
            fatal = _FAREWELLS[EndCause.DISCONNECTED] if over else None
            self._link.send(edge_link.CloseSession(session=state.session, fatal=fatal))

    def _adopt_session(self, session: Session, state: edge_link.SessionState, now: float) -> None:
        conversation = ServerConversation.in_tunnel() if state.conn else None
        suite = self._settings.adopted_suite(session)
        tunnel = Tunnel(session, conversation, state.conn, suite, self._link.send)
        tunnel.transport, tunnel.peer, tunnel.traffic = state.transport, state.peer, state.traffic
        tunnel.quiet_since = now - state.quiet
        tunnel.spis = state.spis
        tunnel.esp_answered = state.transport is edge_link.Transport.ESP
        self._tunnels[session.id] = tunnel
        if state.conn:
            self._tunnel_of_conn[state.conn] = tunnel
        self._link.send(
            edge_link.SetRules(
                session=session.id, revision=self._settings.revision, rules=self._settings.rules
            )
        )
        self._link.send(
            edge_link.SetDeadline(
                session=session.id, remaining=session.remaining(now), idle=session.idle_seconds
            )
        )
        self._schedule_rekey(tunnel)

    def _on_link_lost(self) -> None:
        # The edge closes connections that have no session yet; their clients try again. The sessions it
        # has come with its next hello. Until then no number of before means anything.
        for connection in self._connections.values():
            connection.lost()
        self._connections.clear()
        for session_id in list(self._tunnels):
            self._forget(session_id)

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
                connection = Connection(message, self._clock(), self._link.send)
                self._connections[message.conn] = connection
                self._spawn(self._serve(connection), f"sign-in of connection {message.conn}")
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
                self._rekey(session, wanted=True)
            case edge_link.Stats(states, counters):
                self._on_stats(states, counters)
            case edge_link.EdgeHello():
                raise PeerError("the edge says hello twice")

    def _on_frame(self, message: edge_link.LinkFrame) -> None:
        frame = Frame(message.vendor, message.kind, message.body)
        if (tunnel := self._tunnel_of_conn.get(message.conn)) is not None:
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
        if (tunnel := self._tunnel_of_conn.pop(conn, None)) is not None:
            tunnel.disconnected()
            log.info("client-away", session=tunnel.session.id, user=tunnel.session.user, cause=cause)

    def _on_session_ended(self, session_id: int, generation: int, cause: edge_link.EndCause) -> None:
        if cause is edge_link.EndCause.ORPHANED:  # the cookie stays good
            tunnel = self._tunnels.get(session_id)
            if tunnel is not None and tunnel.session.generation == generation:
                self._forget(session_id)
            return
        # It may have ended while there was no link: then only the store knows of it.
        work = self._end_generation(session_id, generation, _EDGE_CAUSES[cause])
        self._spawn(work, f"end of session {session_id}")

    async def _end_generation(self, session_id: int, generation: int, cause: EndCause) -> None:
        session = await self._sessions.find(session_id)
        if session is not None and session.ended is None and session.generation == generation:
            log.info("session-over", session=session_id, user=session.user, cause=cause.value)
            await self.end(session_id, cause)

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

    # -- from the first frame to the tunnel --------------------------------------------------------

    async def _serve(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(SIGN_IN_PATIENCE):
                await self._sign_in_and_open(connection)
        except ConnectionLost:
            log.info("client-left-during-sign-in", source=connection.source)
        except PeerError as error:
            log.warning("client-broke-protocol", source=connection.source, reason=str(error))
            connection.close()
        except TimeoutError:
            log.info("sign-in-timed-out", source=connection.source)
            connection.close()
        except UsageError:
            connection.close()
            if not connection.logged_out:
                raise
            # It was our turn to speak when the client left: there was nobody to speak to.
            log.info("client-left-during-sign-in", source=connection.source)
        except Exception:
            connection.close()
            raise
        finally:
            if self._connections.get(connection.id) is connection:
                del self._connections[connection.id]

    async def _sign_in_and_open(self, connection: Connection) -> None:
        ready = await connection.next_event()
        if not isinstance(ready, ClientReady):
            raise PeerError(f"{type(ready).__name__} before the client introduced itself")
        facts, terms = facts_of(connection, ready), self._settings.terms(ready.capabilities)
        if ready.cookie is not None:
            opened = await self._resume(connection, ready, facts, terms)
        else:
            opened = await self._open(connection, ready, facts, terms)
        if opened is None:
            connection.close()
            return
        entered = False
        try:
            entered = await self._enter(connection, opened, terms)
        finally:
            if connection.logged_out:
                await self.end(opened.session.id, EndCause.LOGOUT)
            elif ready.cookie is None and not entered:
                # Nobody has the cookie of this session: it would only hold an address.
                await self.end(opened.session.id, EndCause.ABANDONED)

    async def _enter(self, connection: Connection, opened: Opened, terms: Terms) -> bool:
        """Tells the client its cookie and, once it has acknowledged that, starts the tunnel.

        False when it comes to no tunnel; the connection is closed then. Raises as `next_event` does.
        """
        session = opened.session
        if connection.logged_out:  # while the store was busy with the session
            connection.close()
            return False
        remaining = session.remaining(self._clock())
        connection.conversation.signed_in(opened.cookie, remaining, session.idle_seconds)
        connection.flush()
        acknowledged = isinstance(await connection.next_event(), SignInAcknowledged)
        current = self._tunnels.get(session.id)
        # A client that came back a second time, and was faster then, keeps that connection.
        overtaken = current is not None and current.session.generation > session.generation
        if connection.logged_out or not acknowledged or overtaken:
            connection.close()
            return False
        self._start_tunnel(connection, session, terms)
        # A command may have ended the session while its client was acknowledging. From here on
        # `end_stale` knows of it; what happened before is seen now.
        stored = await self._sessions.find(session.id)
        if stored is None or stored.ended is not None:
            self._drop(session.id, _FAREWELLS[EndCause.DISCONNECTED])
        return True

    async def _open(
        self, connection: Connection, ready: ClientReady, facts: ClientFacts, terms: Terms
    ) -> Opened | None:
        """A new session after a complete sign-in; None when the client was refused and told so."""
        identity = await sign_in(connection, self._new_conversation(facts))
        if identity is None:
            return None
        opened = await self._sessions.open(identity, facts, public_key=ready.public_key, suite=terms.suite)
        if isinstance(opened, Refused):
            connection.conversation.refuse(opened.text)
            return None
        return opened

    async def _resume(
        self, connection: Connection, ready: ClientReady, facts: ClientFacts, terms: Terms
    ) -> Opened | None:
        """The session of a cookie; None when the client was refused and told so."""
        assert ready.cookie is not None
        proof = Proof(connection.opened.exporter, ready.proof)
        async with self._resumes:
            outcome = await self._sessions.resume(
                ready.cookie, facts, proof, connected=connection.since, suite=terms.suite
            )
        if not isinstance(outcome, Refusal):
            return outcome
        if outcome.reason is RefusalReason.COOKIE_REPLAYED and outcome.session is not None:
            log.error("cookie-replayed", session=outcome.session.id, source=facts.source)
            await self.end(outcome.session.id, EndCause.COOKIE_REPLAYED)
            await self._sessions.note_replay(outcome, facts)
        # Anything but a cookie back is a no; this failure is one the client reports as such. Why it is
        # one is for the audit: a stranger learns nothing about a cookie.
        connection.conversation.fail(FAILURE_COOKIE)
        return None

    def _start_tunnel(self, connection: Connection, session: Session, terms: Terms) -> None:
        """Opens the session in the edge and configures its client, in the order that loses nothing:
        keys before the client hears of them, the connection handed over before the first data."""
        self._forget(session.id)
        settings, wire = self._settings, connection.conversation
        tunnel = Tunnel(session, wire, connection.id, terms.suite, self._link.send)
        self._tunnels[session.id] = tunnel
        self._tunnel_of_conn[connection.id] = tunnel
        sa = self._new_sa(terms.suite) if terms.suite is not None else None
        self._link.send(
            edge_link.OpenSession(
                session=session.id,
                generation=session.generation,
                address4=session.address4.packed if session.address4 else b"",
                address6=session.address6.packed if session.address6 else b"",
                mtu=settings.configuration.network.mtu,
                remaining=session.remaining(self._clock()),
                idle=session.idle_seconds,
                fallback=settings.esp.fallback if settings.esp else 0,
                revision=settings.revision,
                rules=settings.rules,
                esp_in=sa,
                cross_family=terms.cross_family,
            )
        )
        self._link.send(edge_link.Attach(conn=connection.id, session=session.id))
        wire.configure(settings.tunnel_config(session, terms))
        if sa is not None:
            tunnel.offer_esp(sa)
        wire.end_configuration()
        tunnel.flush()
        self._schedule_rekey(tunnel)
        log.info(
            "tunnel-open",
            session=session.id,
            user=session.user,
            source=connection.source,
            address4=str(session.address4 or ""),
            address6=str(session.address6 or ""),
            generation=session.generation,
            suite=str(terms.suite or ""),
        )

    # -- keys --------------------------------------------------------------------------------------

    def _schedule_rekey(self, tunnel: Tunnel) -> None:
        if self._settings.esp is None:
            return
        if (timer := self._rekeys.pop(tunnel.session.id, None)) is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._rekeys[tunnel.session.id] = loop.call_later(
            self._settings.esp.rekey, self._rekey, tunnel.session.id
        )

    def _new_sa(self, suite: edge_link.Suite) -> edge_link.Sa:
        sa = new_sa(suite, self._spis)
        self._spis.add(sa.spi)
        return sa

    def _rekey(self, session_id: int, wanted: bool = False) -> None:
        """New keys, unless the client has ESP switched off. wanted: the edge asked for them."""
        tunnel = self._tunnels.get(session_id)
        if tunnel is None or tunnel.suite is None:
            return
        if tunnel.conn and (tunnel.esp_answered or wanted):
            tunnel.rekey(self._new_sa(tunnel.suite))
            log.info("rekey", session=session_id, user=tunnel.session.user)
        self._schedule_rekey(tunnel)
