"""What the gateway does while its store is slow or away: a right that is over ends all the same."""

import asyncio

import pytest

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.session import EndCause
from lockgate.protocol.edge_link import Attach, CloseSession, OpenSession, SessionEnded, SetRules
from lockgate.protocol.edge_link import EndCause as Said
from lockgate.server.gateway import service
from lockgate.server.sessions import By
from lockgate.server.store.interface import WebSessionRecord
from tests.unit.server.control_subject import OPEN, tree
from tests.unit.server.gateway_subject import NOTHING, state_of, subject
from tests.unit.server.scripted_edge import Visitor, eventually
from tests.unit.server.support import facts, run

OPENED = tree(access_control=[OPEN])


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(service, "HOUSEKEEPING_INTERVAL", 0.01)


def fails(monkeypatch, what, method, times=1):
    """The method of `what` fails that often; the list is empty once it has."""
    real, left = getattr(what, method), [None] * times

    async def failing(*args, **kwargs):
        if left:
            left.pop()
            raise ProblemError(Problem("store-busy", "The database is busy.", "Try again."))
        return await real(*args, **kwargs)

    monkeypatch.setattr(what, method, failing)
    return left


def test_packets_stop_before_the_store_has_answered(tmp_path, monkeypatch):
    async def work():
        async with subject(tmp_path, configuration=OPENED) as it:
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5)) as edge:
                answer, real = asyncio.Event(), it.sessions.end_many

                async def slow(*args):
                    await answer.wait()
                    return await real(*args)

                monkeypatch.setattr(it.sessions, "end_many", slow)
                ending = asyncio.create_task(it.service.end(session.id, EndCause.DISCONNECTED))
                await edge.sees(SetRules(session=session.id, revision=1, rules=()))
                assert not edge.of(CloseSession)
                answer.set()
                assert await ending
                await eventually(lambda: edge.of(CloseSession))

    run(work())


def test_an_end_that_the_store_did_not_take_is_told_again(tmp_path, quick):
    """Its cookie must not be good for ever."""

    async def work():
        async with subject(tmp_path) as it:
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5)):
                it.sessions.failing = {"end"}
                with pytest.raises(ProblemError):
                    await it.service.end_many([session.id], EndCause.DISCONNECTED, By("root", "local"))
                assert await it.ends(session) is EndCause.DISCONNECTED
                [act] = [each for each in await it.store.audit.newest(9) if each.log == "admin"]
                assert (act.event, act.actor, act.user) == ("session-disconnect", "root", "alice")

    run(work())


def test_what_the_edge_ended_is_told_again_too(tmp_path, quick, monkeypatch):
    async def work():
        async with subject(tmp_path) as it:
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5)) as edge:
                failing = fails(monkeypatch, it.sessions, "end_generation", times=2)
                edge.say(SessionEnded(session.id, session.generation, Said.LOGOUT, NOTHING))
                await eventually(lambda: not failing)
                assert await it.ends(session) is EndCause.LOGOUT

    run(work())


def test_a_client_that_is_away_too_long_ends_although_the_store_failed_once(tmp_path, quick):
    roles = [{"name": "Users", "session": {"heartbeat_timeout_seconds": 60}}]

    async def work():
        async with subject(tmp_path, configuration=tree(roles=roles)) as it, it.serving() as edge:
            gone = await it.open()
            await Visitor(edge, 1).enter(gone.cookie)
            await edge.sees(Attach(conn=1, session=gone.session.id))
            Visitor(edge, 1).leave(gone.session.id)
            await it.settle(edge)
            it.sessions.failing = {"end"}
            it.clock.now += 60
            assert await it.ends(gone.session) is EndCause.AWAY

    run(work())


def test_a_tunnel_that_nobody_can_look_up_does_not_stay(tmp_path, monkeypatch):
    """Its session may have ended while its client acknowledged: who cannot find out says no."""

    async def work():
        async with subject(tmp_path, configuration=OPENED) as it, it.serving() as edge:
            opened = await it.open()
            fails(monkeypatch, it.sessions, "find")
            await Visitor(edge, 1).enter(opened.cookie)
            await edge.sees(CloseSession(session=opened.session.id, fatal=None))
            await it.settle(edge)
            assert it.service.tunnels.get(opened.session.id) is None
            # The session is there for the next try.
            await Visitor(edge, 2).enter(opened.cookie)
            await edge.sees(Attach(conn=2, session=opened.session.id))
            assert len(edge.of(OpenSession)) == 2

    run(work())


def test_a_tunnel_does_not_outlive_the_browser_that_started_it_whatever_came_between(tmp_path, quick):
    """The process may have died, or the store failed, when the browser had ended and its tunnels had not."""

    async def work():
        async with subject(tmp_path, configuration=OPENED) as it:
            browser = WebSessionRecord(
                id="w1",
                cookie_hash=bytes(32),
                csrf=bytes(32),
                audience="portal",
                user="alice",
                server="System Local",
                realm="Users",
                roles=("Users",),
                serial=7,
                facts=facts(),
                source="192.0.2.9",
                user_agent="browser",
                started=it.clock.now,
                expires=it.clock.now + 1000,
                idle_seconds=0,
                last_seen=it.clock.now,
            )
            assert await it.store.web_sessions.add(browser)
            child, other = (await it.open(parent="w1")).session, (await it.open()).session
            async with it.serving(state_of(child, conn=5), state_of(other, conn=6)) as edge:
                looks = it.sessions.looks
                await eventually(lambda: it.sessions.looks > looks + 2)
                assert await it.cause(child) is None
                assert await it.store.web_sessions.end("w1", "logout", it.clock.now)
                assert await it.ends(child) is EndCause.PORTAL_ENDED
                await eventually(lambda: [m.session for m in edge.of(CloseSession)] == [child.id])
                assert await it.cause(other) is None

    run(work())
