"""One connection: performs what the state machine decides, and tells it what happened.

The machine (`client.machine`) alone decides; this shell runs the attempt, the pause and the end as tasks,
keeps the facts that go with the states (cookie, configuration, figures), and answers what callers ask.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from lockgate.client import machine, problems, reminder
from lockgate.client.event_log import EventLog
from lockgate.client.machine import Progress, Via
from lockgate.client.service import farewell
from lockgate.client.service.clock import Clock
from lockgate.client.service.dialer import Dialer, Expectation, Transport
from lockgate.client.service.figures import NO_TRAFFIC, Figures
from lockgate.client.service.front import Front, Nobody
from lockgate.client.service.hub import EdgeHub
from lockgate.client.service.network import TunnelNetwork
from lockgate.client.service.resume_key import ResumeKey, introduction
from lockgate.client.service.saved_session import SavedSession, SessionStore
from lockgate.client.service.sign_in import AttemptError, Conversed, Conversing, Wishes, said_meanwhile
from lockgate.client.service.split_networks import SplitFollower
from lockgate.client.service.tunnel import Esp, Tunnel
from lockgate.client.settings import ConnectionSettings
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse import client_events as says
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.config import TunnelConfig
from lockgate.protocol.pulse.split_networks import encode_split_networks
from lockgate.protocol.secret import Secret

log = structlog.get_logger("connection")

PAUSE_SPREAD = (0.75, 1.25)  # of a pause between attempts, so that many clients do not come back at once
ATTEMPT_PATIENCE = 600.0  # seconds for a person to answer everything; the gateway has its own limit
LOOK_AT_CLOCK = 600.0  # seconds


@dataclass(slots=True)
class Services:
    """What all connections share."""

    hub: EdgeHub
    dialer: Dialer
    network: TunnelNetwork
    store: SessionStore
    events: EventLog
    changed: Callable[[Connection], None]  # the state is another one: tell whoever watches
    spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
    clock: Clock


@dataclass(slots=True)
class Connection:
    """Created by the service; lives until it is disconnected and forgotten."""

    id: str
    uid: int
    settings: ConnectionSettings
    services: Services
    front: Front = field(default_factory=Nobody)
    state: machine.State = field(default_factory=machine.Disconnected)
    saved: SavedSession | None = None
    tunnel: Tunnel | None = None
    figures: Figures = field(default_factory=Figures)
    handle: Secret | None = None  # of a portal's Start: good for one attempt
    _attempt: asyncio.Task[None] | None = None
    _pause: asyncio.Task[None] | None = None
    _expiry: asyncio.TimerHandle | None = None
    _reminded: bool = False
    _up_since: float = 0.0  # time of the loop when the tunnel was opened last
    _settled: asyncio.Event = field(default_factory=asyncio.Event)
    _split: SplitFollower = field(init=False)

    def __post_init__(self) -> None:
        self._split = SplitFollower(self.id, self.services)

    # -- the machine -------------------------------------------------------------------------------

    def happen(self, event: machine.Event) -> None:
        """Feeds one event; performs what comes of it."""
        before = self.state
        self.state, actions = machine.step(before, event)
        if self.state != before and not isinstance(event, machine.EndComesNear):
            log.info(
                "state",
                connection=self.id,
                cause=type(event).__name__,
                before=type(before).__name__,
                after=type(self.state).__name__,
            )
        for action in actions:
            self._perform(action)
        if self.state != before:
            self._note_change(before)
            self.services.changed(self)
            self._settled.set()

    def _note_change(self, before: machine.State) -> None:
        if isinstance(self.state, machine.Connected) and not isinstance(before, machine.Connected):
            self._watch_deadline()  # the gateway has said when to remind
            if self.figures.connected_since is None:
                self.figures.connected_since = self.services.clock.now()
            if isinstance(before, machine.Configuring) and before.session:
                self.figures.reconnects += 1

    def _perform(self, action: machine.Action) -> None:
        services = self.services
        match action:
            case machine.OpenTransport():
                self._cancel(self._attempt)
                self._attempt = services.spawn(self._open(), f"attempt of {self.id}")
            case machine.Pause(seconds):
                self._cancel(self._pause)
                self._pause = services.spawn(self._wait(seconds), f"pause of {self.id}")
            case machine.GiveUp():
                self._cancel(self._attempt)
                self._cancel(self._pause)
            case machine.CloseTunnel(restore):
                self._close_tunnel()
                if restore:
                    services.spawn(self._restore_network(), f"network of {self.id}")
            case machine.RepairNetwork():
                services.spawn(self._repair(), f"repair of {self.id}")
            case machine.Close(log_out):
                services.spawn(self._close(log_out), f"end of {self.id}")
            case machine.Log(event, facts):
                services.events.write(event, connection=self.settings.name, **facts)

    @staticmethod
    def _cancel(task: asyncio.Task[None] | None) -> None:
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def settled(self, *progress: Progress) -> None:
        """Waits until the state is one of these."""
        while machine.progress(self.state) not in progress:
            self._settled.clear()
            await self._settled.wait()

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds * random.uniform(*PAUSE_SPREAD))  # noqa: S311  # spread, not secrecy
        self.happen(machine.PauseOver())

    # -- an attempt --------------------------------------------------------------------------------

    async def _open(self) -> None:
        """From nothing, or from a session, to a running tunnel."""
        try:
            async with asyncio.timeout(ATTEMPT_PATIENCE):
                await self._try()
        except AttemptError as error:
            self.happen(machine.AttemptFailed(error.problem, error.final, error.system))
        except ProblemError as error:
            self.happen(machine.AttemptFailed(error.problem, final=False, system=True))
        except TimeoutError:
            self.happen(machine.AttemptFailed(problems.SERVER_SILENT, final=False))
        except Exception as error:
            log.exception("internal-error", connection=self.id)
            problem = Problem(
                "internal-error", f"The client made a mistake ({type(error).__name__}).", "See its log."
            )
            self.happen(machine.AttemptFailed(problem, final=False, system=True))

    async def _try(self) -> None:
        services, resumed = self.services, self.saved
        if resumed is not None and resumed.deadline and resumed.deadline <= services.clock.now():
            raise AttemptError(problems.SESSION_EXPIRED, final=True)
        expected = resumed.expected() if resumed is not None else Expectation()
        transport = await services.dialer.open(self.settings, expected, self.front, self.uid)
        try:
            self.figures.tls = transport.tls
            self.happen(machine.TransportOpened(transport.peer, transport.proxy))
            key = ResumeKey(resumed.key) if resumed is not None else ResumeKey.generate()
            handle, self.handle = self.handle, None
            conversation = ClientConversation(
                introduction(key, transport, resumed.cookie if resumed is not None else None, handle)
            )

            async def on_signed_in(result: Conversed) -> None:
                try:
                    self._remember(transport, key, result)
                except ProblemError:
                    farewell.leave(
                        services.hub, transport, conversation
                    )  # the gateway's session must not be left behind
                    raise
                self.happen(machine.SignedIn())

            wishes = Wishes(self.settings.user, self.settings.realm, by_link=handle is not None)
            talk = Conversing(services.hub, transport.wire, conversation, self.front, wishes, on_signed_in)
            result = await talk.run()
            await self._enter(transport, conversation, result)
        finally:
            services.hub.drop_wire(transport.wire)  # unless the session has it

    def _remember(self, transport: Transport, key: ResumeKey, result: Conversed) -> None:
        """Keeps the session on disk before the gateway hears that we have it. ProblemError when the disk does
        not take a new one."""
        now = self.services.clock.now()
        if self.saved is not None:
            saved = replace(self.saved, cookie=result.cookie, generation=self.saved.generation + 1)
        else:
            saved = SavedSession(
                connection=self.id,
                uid=self.uid,
                settings=self.settings,
                session=random.getrandbits(62) | 1,  # a number between us and our edge
                generation=1,
                cookie=result.cookie,
                key=key.secret,
                server_pin=transport.pin,
                verified=transport.verified,
                started=now,
                deadline=0.0,
                idle=result.idle,
                user=result.user,
                realm=result.realm,
            )
        saved.deadline = now + result.remaining if result.remaining else 0.0
        saved.peer, saved.proxy = transport.peer, transport.proxy
        saved.local, saved.tls = transport.local, transport.tls
        saved.addresses |= transport.addresses
        saved.suspended = False
        # A cookie that is not on disk is not used: after a crash the former one must still be the last. The
        # gateway takes that one too until the new one was used, so the tunnel need not wait for the disk.
        if self.saved is None:
            self.services.store.save(saved)
        elif not self._save(saved):
            saved.cookie = self.saved.cookie
        self.saved = saved
        self._watch_deadline()

    def _save(self, saved: SavedSession) -> bool:
        """Brings what is on disk up to date. What is there already is enough to come back with."""
        try:
            self.services.store.save(saved)
        except ProblemError as error:
            log.error("session-not-saved", connection=self.id, **error.problem.as_dict())
            return False
        return True

    async def _enter(self, transport: Transport, conversation: ClientConversation, result: Conversed) -> None:
        """Network first, then the tunnel: no packet leaves before the way is safe."""
        services, saved, config = self.services, self.saved, result.config
        assert saved is not None
        assert config is not None
        former = self.tunnel.config if self.tunnel is not None else None
        if former is not None and (former.address4, former.address6) != (config.address4, config.address6):
            log.warning("other-addresses", connection=self.id)
        await services.network.apply(self.id, config, transport, saved)
        said = said_meanwhile(transport.wire, conversation)
        saved.configuration, saved.extended = result.configuration, config.extended
        saved.split = b""
        saved.interface = services.network.interface
        saved.conn = transport.wire.conn
        self._save(saved)
        tunnel = Tunnel(
            services.hub, saved.session, saved.generation, transport.wire.conn, conversation, config
        )
        esp, udp = None, None
        try:
            if self.settings.esp and result.offer is not None and tunnel.suite is not None:
                assert config.esp is not None
                udp = services.network.udp_socket(transport, config.esp.port)
                if udp is not None:
                    esp = Esp(result.offer, udp.fileno())
            services.hub.register(saved.session, self)
            self.tunnel = tunnel
            self.figures.peer, self.figures.proxy = transport.peer, transport.proxy
            remaining = int(saved.deadline - services.clock.now()) if saved.deadline else 0
            tunnel.open(transport.wire, max(remaining, 1) if saved.deadline else 0, esp)
        finally:
            if udp is not None:
                udp.close()
        self._up_since = asyncio.get_running_loop().time()
        self.happen(machine.TunnelUp())
        for message in said:
            self.on_edge(message)

    # -- what the edge says ------------------------------------------------------------------------

    def on_edge(self, message: edge_link.FromEdge) -> None:
        """A message about our session or its connection."""
        tunnel = self.tunnel
        if tunnel is None:
            return
        match message:
            case edge_link.LinkFrame(conn, vendor, kind, body) if conn == tunnel.conn:
                self._on_frame(tunnel, Frame(vendor, kind, body))
            case edge_link.TransportChanged(_, transport, peer):
                if transport is not edge_link.Transport.NONE:
                    via = Via.ESP if transport is edge_link.Transport.ESP else Via.TLS
                    self.figures.peer = peer or self.figures.peer
                    self.happen(machine.ViaChanged(via))
            case edge_link.ConnClosed(conn, _, cause) if conn == tunnel.conn:
                tunnel.conn = 0
                self._lost(cause)
            case edge_link.SessionEnded(_, generation) if generation == tunnel.generation:
                self._on_session_ended(message)
            case edge_link.PathMtu(_, mtu):
                self.figures.path_mtu = mtu
                self.services.spawn(self.services.network.set_mtu(mtu), f"MTU of {self.id}")
            case edge_link.Stats(sessions, _):
                for state in sessions:
                    self.figures.traffic = state.traffic

    def _on_frame(self, tunnel: Tunnel, frame: Frame) -> None:
        try:
            for event in tunnel.conversation.receive(frame):
                match event:
                    case says.EspOffered(keys):
                        tunnel.rekey(keys)
                    case says.EndMoved(remaining) if isinstance(self.state, machine.Connected):
                        self._move_end(tunnel, remaining)
                    case says.SplitNetworksMoved() as moved if isinstance(self.state, machine.Connected):
                        self._split.hear(tunnel, moved, lambda: self._keep_split(tunnel))
                    case says.Fatal(code, text):
                        problem = problems.server_ended(code, text)
                        self.happen(machine.SessionOver(problem, f"{code} {text}".strip(), self.figures.peer))
            tunnel.flush()
        except PeerError as error:
            log.warning("server-broke-protocol", connection=self.id, reason=str(error))
            self.services.hub.send(edge_link.CloseConn(conn=tunnel.conn))

    def _keep_split(self, tunnel: Tunnel) -> None:
        """For a service that takes the tunnel up after this one."""
        if self.saved is not None and self.tunnel is tunnel:
            self.saved.split = encode_split_networks(tunnel.config.include, tunnel.config.exclude)
            self._save(self.saved)

    def _on_session_ended(self, message: edge_link.SessionEnded) -> None:
        if message.cause is edge_link.EndCause.EXPIRED:
            over = machine.SessionOver(problems.SESSION_EXPIRED, "expired", self.figures.peer)
            self.happen(over)
        else:
            self._lost(message.cause.value)

    def _lost(self, reason: str) -> None:
        lived = asyncio.get_running_loop().time() - self._up_since
        self.happen(machine.TransportLost(reason, self.figures.peer, lived))

    def on_edge_lost(self) -> None:
        """A new edge is there: it has no tunnel yet, and needs the TUN."""
        self.figures.before, self.figures.traffic = self.figures.total(), NO_TRAFFIC
        if self.tunnel is not None:
            self.tunnel.conn = 0
        self.services.network.on_new_edge()
        self._lost("the packet process ended")

    # -- time --------------------------------------------------------------------------------------

    def _watch_deadline(self) -> None:
        """The session ends by its own timer too, also while there is no edge to end it."""
        if self._expiry is not None:
            self._expiry.cancel()
        if self.saved is None or not self.saved.deadline:
            return
        left = max(self.saved.deadline - self.services.clock.now(), 0.0)
        wait = left
        if isinstance(self.state, machine.Connected):
            now = reminder.minutes_to_tell(left, self._reminder)
            wait = reminder.next_change(left, self._reminder) if now == self.state.minutes else 0.0
        # Looked at again now and then: the loop's clock stands still while the machine sleeps.
        self._expiry = asyncio.get_running_loop().call_later(min(wait, LOOK_AT_CLOCK), self._on_deadline)

    def _move_end(self, tunnel: Tunnel, remaining: int) -> None:
        """The gateway has extended the session, or its length is another one now."""
        assert self.saved is not None
        log.info("session-end-moved", connection=self.id, remaining=remaining)
        self.saved.deadline = self.services.clock.now() + remaining
        self._save(self.saved)
        tunnel.set_end(remaining)
        self._reminded = self._reminded and reminder.minutes_to_tell(remaining, self._reminder) > 0
        self._watch_deadline()

    def _on_deadline(self) -> None:
        if self.saved is None or not self.saved.deadline:
            return
        left = self.saved.deadline - self.services.clock.now()
        if left <= 0:
            self.happen(machine.SessionOver(problems.SESSION_EXPIRED, "expired", self.figures.peer))
            return
        minutes = reminder.minutes_to_tell(left, self._reminder)
        if minutes and not self._reminded and isinstance(self.state, machine.Connected):
            self._reminded = True
            log.info("session-ends-soon", connection=self.id, minutes=minutes)
        self.happen(machine.EndComesNear(minutes))
        self._watch_deadline()

    @property
    def _reminder(self) -> int:
        """Seconds before the end."""
        return self.config.reminder if self.config is not None else 0

    # -- ending ------------------------------------------------------------------------------------

    def _close_tunnel(self) -> None:
        if self.tunnel is not None:
            self.tunnel.close()
            self.tunnel.conn = 0
        if self.saved is not None and isinstance(self.state, machine.Suspended):
            self.saved.suspended = True
            self._save(self.saved)

    async def _restore_network(self) -> None:
        await self.services.network.restore(self.id)

    async def _repair(self) -> None:
        try:
            await self.services.network.repair()
        except ProblemError as error:
            log.error("network-not-repaired", connection=self.id, **error.problem.as_dict())

    async def _close(self, log_out: bool) -> None:
        """Everything is given back, also when a step fails."""
        told, left = False, None
        try:
            if log_out and self.tunnel is not None:
                told = self.tunnel.log_out()
            if self.tunnel is not None:
                self.tunnel.close()
            self.tunnel = None
            try:
                await self.services.network.restore(self.id)
            except ProblemError as error:
                log.error("network-not-restored", connection=self.id, **error.problem.as_dict())
                left = error.problem
            if log_out and not told and self.saved is not None:
                await farewell.log_out(self.services.hub, self.services.dialer, self.saved)
        except Exception:
            log.exception("internal-error", connection=self.id)
        finally:
            if self._expiry is not None:
                self._expiry.cancel()
            try:
                self.services.store.remove(self.id)
            except OSError as error:
                log.error("session-not-forgotten", connection=self.id, reason=error.strerror)
            self.saved = None
            self.happen(machine.Closed(left))

    # -- taking up what an earlier service left ----------------------------------------------------

    def take_up(
        self,
        saved: SavedSession,
        live: edge_link.SessionState | None = None,
        config: TunnelConfig | None = None,
    ) -> None:
        """Continues a session of an earlier service; `live` is its tunnel in the edge, if it has one, and `config`
        what the network was put in place for."""
        self.saved = saved
        self.figures.peer, self.figures.proxy = saved.peer, saved.proxy
        self.figures.connected_since, self.figures.tls = saved.started, saved.tls
        self._watch_deadline()
        if saved.suspended:
            self.state = machine.Suspended()
            return
        if live is None or config is None:
            self.happen(machine.SessionFound(None))
            return
        self.tunnel = Tunnel(
            self.services.hub,
            saved.session,
            live.generation,
            live.conn,
            ClientConversation.in_tunnel(),
            config,
        )
        self.tunnel.esp_started = bool(live.spis)
        self.figures.traffic = live.traffic
        self.services.hub.register(saved.session, self)
        if live.conn:
            self.services.hub.adopt_conn(live.conn, saved.session)
        via = Via.ESP if live.transport is edge_link.Transport.ESP else Via.TLS
        self.happen(machine.SessionFound(via))
        if not live.conn:
            self.happen(machine.TransportLost("it was lost while no service ran", saved.peer))

    # -- what callers see --------------------------------------------------------------------------

    @property
    def config(self) -> TunnelConfig | None:
        return self.tunnel.config if self.tunnel is not None else None

    @property
    def background(self) -> bool:
        """Nobody sits in front of it, or whoever does may leave."""
        return self.settings.background or isinstance(self.front, Nobody)
