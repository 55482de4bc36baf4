"""A session that is extended: its edge and its client hear of it at once, and nothing that is ending is held up."""

import asyncio
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lockgate.model.problem import ProblemError
from lockgate.model.session import EndCause
from lockgate.protocol.edge_link import (
    Attach,
    CloseSession,
    LinkFrame,
    OpenSession,
    SessionEnded,
    SetDeadline,
    SetRules,
)
from lockgate.protocol.edge_link import EndCause as Said
from lockgate.protocol.if_t import VENDOR_JUNIPER, JuniperKind
from lockgate.protocol.pulse.extensions import CAPABILITIES, SESSION_OPTIONS
from tests.unit.server.control_subject import OPEN, tree
from tests.unit.server.gateway_subject import NOTHING, state_of, subject
from tests.unit.server.scripted_edge import OwnClient, Visitor, eventually
from tests.unit.server.support import run

ALICE = "192.0.2.77"  # where she sits with her browser


def lasting(seconds, **parts):
    session = {"length_seconds": seconds, "idle_seconds": 0, "allow_extension": True}
    return tree(roles=[{"name": "Users", "session": session}], access_control=[OPEN], **parts)


HOUR = lasting(3600)


def deadlines(edge):
    return [(m.session, m.remaining) for m in edge.of(SetDeadline)]


def told(edge, conn):
    """What that client was told about its end, in seconds."""
    frames = [m for m in edge.of(LinkFrame) if m.conn == conn and m.kind == JuniperKind.REMAINING]
    assert {m.vendor for m in frames} <= {VENDOR_JUNIPER}
    return [struct.unpack("!I", m.body)[0] for m in frames]


async def enters(it, edge, client, **more):
    """A client with a running tunnel."""
    opened = await it.open(**more)
    await client.enter(opened.cookie)
    await edge.sees(Attach(conn=client.conn, session=opened.session.id))
    await it.settle(edge)
    return await it.sessions.find(opened.session.id)


CLIENTS = [
    (lambda edge: Visitor(edge, 1), []),
    (lambda edge: OwnClient(edge, 1), [3600]),
    (lambda edge: OwnClient(edge, 1, capabilities=CAPABILITIES - {SESSION_OPTIONS}), []),
]


@pytest.mark.parametrize(("make", "hears"), CLIENTS, ids=["openconnect", "ours", "ours-without-the-word"])
def test_the_edge_and_a_client_that_asked_for_it_hear_of_the_new_end(tmp_path, make, hears):
    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, make(edge))
            it.clock.now = session.started + 3000
            extended = await it.service.extend(session.id, source=ALICE)
            assert extended.expires == session.started + 6600
            await it.settle(edge)
            assert deadlines(edge) == [(session.id, 3600)]
            assert told(edge, 1) == hears
            assert edge.of(SetRules) == []
            assert (await it.sessions.find(session.id)).expires == session.started + 6600
            [live] = await it.live()
            assert live.session.expires == session.started + 6600

    run(work())


def test_while_time_goes_on_everybody_hears_once(tmp_path, monkeypatch):
    """The extension and the length that its session has by its roles are one and the same end."""

    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, OwnClient(edge, 1))
            it.clock.now = session.started + 600

            def ticking():
                it.clock.now += 0.001
                return it.clock.now

            monkeypatch.setattr(it.sessions, "_clock", ticking)
            extended = await it.service.extend(session.id, source=ALICE)
            assert extended.expires == extended.extended + 3600
            await it.settle(edge)
            assert len(deadlines(edge)) == len(told(edge, 1)) == 1
            assert await it.sessions.find(session.id) == extended
            assert "session-change" not in [each.event for each in await it.store.audit.newest(9)]

    run(work())


def test_a_client_of_ours_hears_of_another_length_too(tmp_path):
    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, OwnClient(edge, 1))
            it.clock.now = session.started + 600
            await it.adopt(lasting(7200))
            await it.settle(edge)
            assert deadlines(edge) == [(session.id, 6600)]
            assert told(edge, 1) == [6600]

    run(work())


@pytest.mark.parametrize("bound", [True, False])
def test_after_a_restart_of_the_control_plane(tmp_path, bound):
    """What its client announced is not known any more, but one with a key is ours."""

    async def work():
        async with subject(tmp_path, configuration=HOUR) as it:
            key = Ed25519PrivateKey.generate().public_key().public_bytes_raw() if bound else b""
            session = (await it.open(public_key=key)).session
            it.clock.now = session.started + 600
            async with it.serving(state_of(session, conn=5)) as edge:
                await it.service.extend(session.id, source=ALICE)
                await it.settle(edge)
                assert deadlines(edge) == [(session.id, 3000), (session.id, 3600)]
                assert told(edge, 5) == ([3000, 3600] if bound else [])

    run(work())


def test_a_session_whose_client_is_away(tmp_path):
    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            opened = await it.open()
            it.clock.now = opened.session.started + 3599
            assert (await it.service.extend(opened.session.id, source=ALICE)).remaining(it.clock.now) == 3600
            it.clock.now += 60
            await Visitor(edge, 1).enter(opened.cookie)
            [message] = await eventually(lambda: edge.of(OpenSession))
            assert message.remaining == 3540

    run(work())


def test_what_is_extended_while_its_client_acknowledges(tmp_path):
    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            opened = await it.open()
            client = OwnClient(edge, 1)
            await client.show_cookie(opened.cookie)
            await client.next_request()
            it.clock.now = opened.session.started + 600
            await it.service.extend(opened.session.id, source=ALICE)
            assert deadlines(edge) == []
            client.send(client.answer())
            await edge.sees(SetDeadline(session=opened.session.id, remaining=3600, idle=0))
            await it.settle(edge)
            assert [m.remaining for m in edge.of(OpenSession)] == [3000]
            assert told(edge, 1) == [3600]

    run(work())


@pytest.mark.parametrize("stage", ["decided", "written"])
def test_a_revision_that_comes_at_the_same_time_counts(tmp_path, monkeypatch, stage):
    """Its length holds, from the extension on, whichever of the two is written first."""

    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, Visitor(edge, 1))
            it.clock.now = session.started + 600
            extend = it.sessions._records.extend

            async def beside(*args):
                if stage == "decided":
                    await it.adopt(lasting(1800))
                result = await extend(*args)
                if stage == "written":
                    await it.adopt(lasting(1800))
                return result

            monkeypatch.setattr(it.sessions._records, "extend", beside)
            await it.service.extend(session.id, source=ALICE)
            await it.settle(edge)
            assert deadlines(edge)[-1] == (session.id, 1800)
            stored = await it.sessions.find(session.id)
            assert (stored.expires, stored.extended) == (session.started + 2400, session.started + 600)

    run(work())


# -- closing is monotonic --------------------------------------------------------------------------


def test_a_session_that_is_ending_is_neither_extended_nor_given_anything(tmp_path, monkeypatch):
    """The store is slow: the user clicks, and a revision comes, while the end is being written."""

    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, OwnClient(edge, 1))
            ended, end_many = asyncio.Event(), it.sessions._records.end_many

            async def slow(*args):
                await ended.wait()
                return await end_many(*args)

            monkeypatch.setattr(it.sessions._records, "end_many", slow)
            ending = asyncio.create_task(it.service.end(session.id, EndCause.DISCONNECTED))
            await eventually(lambda: edge.of(SetRules))
            for actor in ("", "root (local)"):
                answer = await it.service.extend(session.id, source=ALICE, actor=actor)
                assert answer.code == "session-over"
            await it.adopt(lasting(7200))
            await edge.probe()
            ended.set()
            assert await ending
            await it.settle(edge)
            [rules] = edge.of(SetRules)
            assert rules.rules == ()
            assert deadlines(edge) == []
            assert told(edge, 1) == []
            assert len(edge.of(CloseSession)) == 1
            stored = await it.sessions.find(session.id)
            assert (stored.cause, stored.extended) == (EndCause.DISCONNECTED, None)

    run(work())


def test_an_end_that_the_store_has_not_heard_of_counts(tmp_path):
    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, Visitor(edge, 1))
            it.sessions.failing = {"end"}
            with pytest.raises(ProblemError):
                await it.service.end(session.id, EndCause.DISCONNECTED)
            assert (await it.service.extend(session.id, source=ALICE)).code == "session-over"

    run(work())


def test_the_edge_has_the_last_word_about_an_end(tmp_path):
    """Its own timer was faster than the click."""

    async def work():
        async with subject(tmp_path, configuration=HOUR) as it, it.serving() as edge:
            session = await enters(it, edge, Visitor(edge, 1))
            it.clock.now = session.started + 3599.9
            assert (await it.service.extend(session.id, source=ALICE)).extended == it.clock.now
            edge.say(SessionEnded(session.id, session.generation, Said.EXPIRED, NOTHING))
            assert await it.ends(session) is EndCause.EXPIRED
            assert (await it.service.extend(session.id, source=ALICE)).code == "session-over"

    run(work())
