"""A gateway service between a real store and a scripted edge, for tests of what it does."""

from __future__ import annotations

import asyncio
import contextlib

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.support_code import said_in
from lockgate.protocol.edge_link import (
    CloseSession,
    Fatal,
    OpenSession,
    SessionState,
    Traffic,
    Transport,
)
from lockgate.protocol.if_t import JuniperKind
from lockgate.server.auth.certificates import Authorities
from lockgate.server.gateway.flow_log import FlowLog
from lockgate.server.gateway.service import GatewayService
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.sessions import Opened, Sessions
from tests.unit.server.control_subject import Rig, tree
from tests.unit.server.scripted_edge import ScriptedEdge, eventually
from tests.unit.server.support import CLIENT, HASH, identity, new_store, user

NOTHING = Traffic(0, 0, 0, 0, 0)
CONFIGURATION = tree()
ENDED_BY_ADMINISTRATOR = Fatal(7, "An administrator ended the session.")
# The main configuration, ESP keys and the end: how the frames of the tunnel phase begin.
CONFIG, END_OF_CONFIG, LICENCE = JuniperKind.CONFIG, JuniperKind.END_OF_CONFIG, JuniperKind.LICENCE


class SteeredSessions(Sessions):
    """The real sessions, with a brake on resuming and errors of the store where a test wants them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.may_resume = asyncio.Event()
        self.may_resume.set()
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.failing = set()  # names of methods that fail once
        self.made = []  # what the store has opened and resumed, also before the caller knows
        self.looks = 0

    def _fail(self, name):
        if name in self.failing:
            self.failing.remove(name)
            raise ProblemError(Problem("store-busy", "The database is busy.", "Try again."))

    async def open(self, *args, **kwargs):
        opened = await super().open(*args, **kwargs)
        self.made.append(opened)
        await self.may_open.wait()
        return opened

    async def resume(self, *args, **kwargs):
        self._fail("resume")
        resumed = await super().resume(*args, **kwargs)
        self.made.append(resumed)
        await self.may_resume.wait()
        return resumed

    async def due(self):
        self._fail("due")
        return await super().due()

    async def end_many(self, *args):
        self._fail("end")
        return await super().end_many(*args)

    async def ended_elsewhere(self, known, **kwargs):
        self.looks += 1
        self._fail("ended_elsewhere")
        return await super().ended_elsewhere(known, **kwargs)


class Subject(Rig):
    """A gateway service with everything a control plane gives it."""

    def __init__(self, store, folder, configuration=CONFIGURATION, rekey=None):
        if rekey is not None:
            esp = configuration.esp.model_copy(update={"rekey_seconds": rekey})
            configuration = configuration.model_copy(update={"esp": esp})
        super().__init__(store, configuration)
        self.socket = folder / "edge.sock"
        self.launches = LaunchHandles(store.handles, store.web_sessions, self.audit, self.clock)
        self.service = GatewayService(
            edge_socket=self.socket,
            in_force=self.in_force,
            sessions=self.sessions,
            sign_ins=self.sign_ins,
            launches=self.launches,
            authorities=Authorities(self.in_force, self.audit, self.clock),
            audit=self.audit,
            flows=FlowLog(store, self.audit, self.in_force.rule_names, self.clock),
            clock=self.clock,
        )
        self.running = None
        self._permanent = set()

    def _sessions(self):
        return SteeredSessions(self.store, self.in_force, self.audit, self.decisions, self.clock)

    async def end_session(self, session, cause):
        return await self.service.end(session, cause)

    async def cut_off(self):
        return await self.service.end_stale()

    async def adopt(self, configuration):
        """The next revision, which live sessions follow."""
        await super().adopt(configuration)
        await self.service.follow.catch_up()

    @contextlib.asynccontextmanager
    async def serving(self, *states):
        """Runs the service, connected to a new edge that has these sessions."""
        async with ScriptedEdge(self.socket, states) as edge:
            before = asyncio.all_tasks()
            self.running = asyncio.create_task(self.service.run())
            try:
                await edge.up()
                await eventually(lambda: not self._unfinished(edge, before | self._own_tasks()))
                self._permanent = asyncio.all_tasks()
                yield edge
                assert not self.running.done(), "the service has ended"
            finally:
                self.running.cancel()
                await asyncio.wait([self.running])

    def _own_tasks(self):
        names = {"edge link", "housekeeping", "edge-link keepalive", "edge-link reader", "flows"}
        return {self.running} | {task for task in asyncio.all_tasks() if task.get_name() in names}

    @staticmethod
    def _unfinished(edge, others):
        return asyncio.all_tasks() - others - edge.tasks

    async def settle(self, edge):
        """Returns when the service has finished everything it was told; for tests without open sign-ins."""
        await edge.probe()
        await eventually(lambda: not self._unfinished(edge, self._permanent))
        await edge.probe()

    async def open(self, name="alice", **kwargs):
        self.clock.now += 0.001  # lists are ordered by time
        opened = await self.sessions.open(identity(name), CLIENT, **kwargs)
        assert isinstance(opened, Opened)
        return opened

    async def live(self):
        """What administrators see."""
        return self.service.with_traffic(await self.sessions.live())

    async def cause(self, session):
        """Why the session has ended, according to the store; None when it has not."""
        return (await self.sessions.find(session.id)).cause

    async def ends(self, session):
        async with asyncio.timeout(20):
            while (cause := await self.cause(session)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            return cause


@contextlib.asynccontextmanager
async def subject(folder, **kwargs):
    async with new_store(folder) as store:
        for name in ("alice", "bob"):
            await store.users.add(user(name, password_hash=HASH))
        it = Subject(store, folder, **kwargs)
        try:
            await it.sign_ins.start()
            yield it
        finally:
            it.sign_ins.close()


def state_of(session, *, conn=0, transport=Transport.NONE, spis=()):
    """The session as an edge would list it."""
    return SessionState(
        session=session.id,
        generation=session.generation,
        conn=conn,
        address4=session.address4.packed,
        address6=session.address6.packed,
        remaining=1000,
        quiet=0,
        transport=transport,
        peer="192.0.2.9:50000" if conn else "",
        spis=spis,
        traffic=NOTHING,
    )


async def sees_end(edge, session, fatal):
    """Waits for the end of a session with this farewell; the message, and the support code that it says."""

    def found():
        return [
            (message, said_in(message.fatal.text))
            for message in edge.of(CloseSession)
            if message.session == session.id
            and message.fatal is not None
            and message.fatal.text.partition(" Support code: ")[0] == fatal.text
            and message.fatal.code == fatal.code
        ]

    await eventually(found)
    [(message, code)] = found()
    assert code, message
    return message, code


def opened_generations(edge, session):
    return [message.generation for message in edge.of(OpenSession) if message.session == session.id]
