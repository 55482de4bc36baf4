"""The client service: all connections, what callers may do with them, and what the machine tells."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from lockgate import __version__
from lockgate.client import debug_log, machine
from lockgate.client.event_log import EventLog
from lockgate.client.machine import Progress
from lockgate.client.service import report
from lockgate.client.service.api import Caller, CallerFront, LocalApi, Operation
from lockgate.client.service.clock import Clock
from lockgate.client.service.connection import Connection, Services
from lockgate.client.service.dialer import Dialer
from lockgate.client.service.front import Nobody
from lockgate.client.service.hub import EdgeHub
from lockgate.client.service.network import NetworkNews, TunnelNetwork
from lockgate.client.service.saved_session import SessionStore
from lockgate.client.settings import parse_launch_handle, parse_settings
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError

log = structlog.get_logger("service")

OVER = (Progress.DISCONNECTED, Progress.FAILED)
WATCH_PAUSE = 1.0  # seconds before the network is watched again after a mistake of ours
KEPT_FAILURES = 16  # connections that failed in the background, kept so that `status` can say why


@dataclass(slots=True)
class Parts:
    """What the service is put together from."""

    hub: EdgeHub
    dialer: Dialer
    network: TunnelNetwork
    store: SessionStore
    events: EventLog
    clock: Clock


class ClientService:
    """One per machine."""

    def __init__(self, parts: Parts, stop: Callable[[], None]) -> None:
        self._parts = parts
        self._stop = stop
        self.keep_tunnels = True
        self._connections: dict[str, Connection] = {}
        self._fronts: dict[Caller, set[str]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._api: LocalApi | None = None
        self._services = Services(
            hub=parts.hub,
            dialer=parts.dialer,
            network=parts.network,
            store=parts.store,
            events=parts.events,
            changed=self._on_changed,
            spawn=self._spawn,
            clock=parts.clock,
        )

    def operations(self) -> dict[str, Operation]:
        """The local API, by name of the operation."""
        return {
            "hello": self._hello,
            "connect": self._connect,
            "answer": self._answer,
            "attach": self._attach,
            "status": self._status,
            "details": self._details,
            "disconnect": self._disconnect,
            "suspend": self._suspend,
            "resume": self._resume,
            "watch": self._watch,
            "annotate": self._annotate,
            "log-level": self._log_level,
            "sleep": self._sleep,
            "wake": self._wake,
            "stop": self._stop_service,
        }

    # -- running -----------------------------------------------------------------------------------

    def attach_to(self, tasks: asyncio.TaskGroup, api: LocalApi) -> None:
        """Everything runs inside `tasks`; `api` shows what happens."""
        self._tasks, self._api = tasks, api
        api.on_leave(self._on_leave)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        assert self._tasks is not None
        return self._tasks.create_task(self._guarded(work, name), name=name)

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None], name: str) -> None:
        """One connection's mistake must not end the others."""
        try:
            await work
        except ProblemError as error:
            log.error("not-done", task=name, **error.problem.as_dict())
        except Exception:
            log.exception("internal-error", task=name)

    async def take_up(self, live: Mapping[int, Any]) -> None:
        """Continues what an earlier service left: tunnels that live in the edge, sessions on disk."""
        for saved in self._parts.store.load_all():
            connection = Connection(saved.connection, saved.uid, saved.settings, self._services)
            self._connections[connection.id] = connection
            state = live.get(saved.session)
            try:
                config = None
                if state is not None:
                    config = await self._parts.network.take_up(connection.id, saved)
                connection.take_up(saved, state, config)
            except (ProblemError, PeerError, ValueError) as error:
                # What cannot be continued is made anew: the cookie is still good.
                log.error("session-not-taken-up", connection=connection.id, reason=str(error))
                connection.take_up(saved)
            log.info("session-taken-up", connection=connection.id, live=state is not None)
        known = {connection.saved.session for connection in self._connections.values() if connection.saved}
        for session in live.keys() - known:
            # Nobody could steer, see or end it.
            log.warning("tunnel-without-session")
            self._parts.hub.send(edge_link.CloseSession(session=session, fatal=None))

    async def watch_machine(self) -> None:
        """Tells connections about the network, until cancelled."""
        while True:
            try:
                async for news in self._parts.network.news():
                    for connection in list(self._connections.values()):
                        self._tell(connection, news)
            except Exception:
                # Not seeing a change must not end the tunnels; looking again may go better.
                log.exception("internal-error", task="network")
                await asyncio.sleep(WATCH_PAUSE)

    @staticmethod
    def _tell(connection: Connection, news: NetworkNews) -> None:
        for event in news.events_for(connection.id):
            connection.happen(event)

    def machine_sleeps(self) -> None:
        for connection in list(self._connections.values()):
            connection.happen(machine.MachineSleeps())

    def machine_wakes(self) -> None:
        for connection in list(self._connections.values()):
            connection.happen(machine.MachineWakes())

    async def end_all(self) -> None:
        """Disconnects everything, for a service that ends without keeping tunnels."""
        for connection in list(self._connections.values()):
            connection.happen(machine.UserDisconnects())
            await connection.settled(*OVER)

    # -- news to callers ---------------------------------------------------------------------------

    def _on_changed(self, connection: Connection) -> None:
        assert self._api is not None
        line = report.state_line(connection)
        for caller in list(self._api.callers):
            interested = caller.watches or connection.id in self._fronts.get(caller, ())
            if interested and caller.may_see(connection.uid):
                caller.say(line)
        if machine.progress(connection.state) in OVER:
            for fronted in self._fronts.values():
                fronted.discard(connection.id)
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """A connection that is over is shown no more, but for failures nobody was there to see."""
        if machine.progress(connection.state) is Progress.FAILED and isinstance(connection.front, Nobody):
            failed = [c for c in self._connections.values() if machine.progress(c.state) is Progress.FAILED]
            for old in failed[:-KEPT_FAILURES]:
                self._connections.pop(old.id, None)
        else:
            self._connections.pop(connection.id, None)

    def _on_leave(self, caller: Caller) -> None:
        """A front that goes ends its connections, unless they were meant to stay."""
        for identity in self._fronts.pop(caller, set()):
            connection = self._connections.get(identity)
            if connection is None:
                continue
            progress = machine.progress(connection.state)
            settled = progress in (Progress.CONNECTED, Progress.RECONNECTING, Progress.SUSPENDED)
            connection.front = Nobody()
            if not (connection.settings.background and settled):
                connection.happen(machine.UserDisconnects())

    # -- operations --------------------------------------------------------------------------------

    async def _hello(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": __version__, "pid": os.getpid()}

    async def _connect(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        settings = parse_settings(dict(request))
        self._make_room(caller)
        identity = secrets.token_hex(4)
        connection = Connection(
            identity, caller.uid, settings, self._services, handle=parse_launch_handle(dict(request))
        )
        connection.front = CallerFront(caller, identity)
        self._connections[identity] = connection
        self._fronts.setdefault(caller, set()).add(identity)
        # The answer first, so that the caller knows the number that its events carry.
        asyncio.get_running_loop().call_soon(connection.happen, machine.UserConnects())
        return {"connection": identity}

    def _make_room(self, caller: Caller) -> None:
        """One tunnel at a time (CON-10): a second would take the first one's routes."""
        for connection in list(self._connections.values()):
            if machine.progress(connection.state) is Progress.FAILED:
                if connection.uid == caller.uid:
                    self._connections.pop(connection.id, None)
                continue
            if not caller.may_see(connection.uid):
                raise ProblemError(_TAKEN)
            raise ProblemError(
                Problem(
                    "already-connected",
                    f"There is a connection to {connection.settings.server.host} already"
                    f" ({machine.progress(connection.state).value}).",
                    f"End it first: lockgate disconnect {connection.id}",
                )
            )

    async def _answer(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        caller.answer(request)
        return {}

    async def _attach(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Makes the caller the front of a connection whose front is gone."""
        connection = self._find(caller, request)
        if not isinstance(connection.front, Nobody):
            raise ProblemError(
                Problem("has-a-front", "Another program shows this connection.", "Use `lockgate details`.")
            )
        connection.front = CallerFront(caller, connection.id)
        self._fronts.setdefault(caller, set()).add(connection.id)
        return {"connection": connection.id, "status": report.status(connection)}

    def _visible(self, caller: Caller) -> list[Connection]:
        return [c for c in self._connections.values() if caller.may_see(c.uid)]

    def _find(self, caller: Caller, request: Mapping[str, Any]) -> Connection:
        """The connection that is meant: by number or name, or the only one."""
        wanted = request.get("connection")
        found = [
            connection
            for connection in self._visible(caller)
            if wanted is None or wanted in (connection.id, connection.settings.name)
        ]
        if wanted is None and len(found) > 1:
            found = [c for c in found if machine.progress(c.state) not in OVER] or found
        if not found:
            raise ProblemError(
                Problem(
                    "no-such-connection",
                    "There is no such connection." if wanted else "There is no connection.",
                    "See `lockgate status`.",
                )
            )
        if len(found) > 1:
            raise ProblemError(
                Problem("several-connections", "There are several connections.", "Name one of them.")
            )
        return found[0]

    async def _status(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"connections": [report.status(connection) for connection in self._visible(caller)]}

    async def _details(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._find(caller, request)
        await asyncio.gather(self._parts.hub.refresh(), self._parts.network.ask_name_servers())
        return report.details(connection, self._parts.network)

    async def _disconnect(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._find(caller, request)
        over = isinstance(connection.state, machine.Disconnected | machine.Closing)
        connection.happen(machine.UserDisconnects())
        await connection.settled(*OVER)
        self._connections.pop(connection.id, None)
        problem = machine.problem_of(connection.state)
        if problem is not None and not over:  # the machine is not as it was before
            raise ProblemError(problem)
        return {"connection": connection.id}

    async def _suspend(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._find(caller, request)
        connection.happen(machine.UserSuspends())
        if machine.progress(connection.state) is not Progress.SUSPENDED:
            raise _wrong_state(connection, "suspended")
        await self._parts.network.idle()
        return {"connection": connection.id}

    async def _resume(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._find(caller, request)
        if machine.progress(connection.state) is not Progress.SUSPENDED:
            raise _wrong_state(connection, "resumed")
        connection.happen(machine.UserResumes())
        await connection.settled(Progress.CONNECTED, *OVER)
        problem = machine.problem_of(connection.state)
        if problem is not None:
            raise ProblemError(problem)
        return {"connection": connection.id}

    async def _watch(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        caller.watches = True
        return {}

    async def _annotate(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """A remark into the debug log. Everybody's who may connect: it helps whoever reads the log later."""
        text = request.get("text")
        if not isinstance(text, str) or not text.strip():
            raise ProblemError(Problem("bad-request", "The remark is empty.", "Give a text to write down."))
        debug_log.annotate(text, caller.uid)
        return {}

    async def _log_level(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        _only_root(caller)
        level = request.get("level")
        if not isinstance(level, int) or level not in debug_log.LEVELS:
            known = " and ".join(map(str, debug_log.LEVELS))
            raise ProblemError(Problem("bad-request", "There is no such level.", f"The levels are {known}."))
        debug_log.set_level(level)
        log.info("log-level", level=level, uid=caller.uid)
        return {}

    async def _sleep(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        _only_root(caller)
        self.machine_sleeps()
        return {}

    async def _wake(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        _only_root(caller)
        self.machine_wakes()
        return {}

    async def _stop_service(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        _only_root(caller)
        self.keep_tunnels = request.get("keep") is True
        asyncio.get_running_loop().call_later(0.05, self._stop)  # after the answer is on its way
        return {}


_TAKEN = Problem(
    "already-connected",
    "Another user of this machine has a connection, and there can be one at a time.",
    "Connect when it has ended; the administrator of this machine can see and end it.",
)


def _only_root(caller: Caller) -> None:
    if caller.uid not in (0, os.getuid()):
        raise ProblemError(
            Problem("not-allowed", "Only the administrator of this machine may do that.", "Run it as root.")
        )


def _wrong_state(connection: Connection, what: str) -> ProblemError:
    state = machine.progress(connection.state).value
    return ProblemError(
        Problem("wrong-state", f"A connection that is {state} cannot be {what}.", "See `lockgate status`.")
    )
