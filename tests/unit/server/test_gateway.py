"""The gateway between a real store and an edge that a test plays: who gets a tunnel, and when it ends."""

import asyncio
from dataclasses import replace

import pytest

from lockgate.model.problem import ProblemError
from lockgate.model.session import EndCause
from lockgate.protocol import edge_link
from lockgate.protocol.edge_link import (
    Attach,
    CloseConn,
    CloseSession,
    Fatal,
    InstallEspIn,
    InstallEspOut,
    LinkFrame,
    OpenSession,
    RekeyWanted,
    SessionEnded,
    SetRules,
    Transport,
    TransportChanged,
)
from lockgate.protocol.if_t import TcgKind
from lockgate.protocol.pulse.esp_keys import decode_offer
from lockgate.server.gateway import edge_client, entrance, service
from tests.unit.protocol.openconnect_frames import KEYS, KEYS_ANSWER, LOGOUT
from tests.unit.server.control_subject import limits, realm, tree
from tests.unit.server.gateway_subject import (
    CONFIG,
    END_OF_CONFIG,
    ENDED_BY_ADMINISTRATOR,
    LICENCE,
    NOTHING,
    opened_generations,
    sees_end,
    state_of,
    subject,
)
from tests.unit.server.scripted_edge import ScriptedEdge, Visitor, eventually
from tests.unit.server.support import CLIENT, NO_PROOF, PASSWORD, run, same_store

# -- opening a tunnel ------------------------------------------------------------------------------


def test_a_tunnel_is_opened_in_the_order_that_loses_nothing(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            client = Visitor(edge, 1)
            await client.show_cookie(opened.cookie)
            await client.next_request()
            edge.got.clear()
            client.send(client.answer())
            await eventually(lambda: any(m.kind == END_OF_CONFIG for m in client.frames()))
            success, open_session, attach, config, keys, end = edge.got
            assert (type(success), success.kind) == (LinkFrame, TcgKind.SUCCESS)
            assert isinstance(open_session, OpenSession)
            assert (open_session.session, open_session.generation) == (opened.session.id, 2)
            assert open_session.address4 == opened.session.address4.packed
            assert open_session.address6 == opened.session.address6.packed
            assert attach == Attach(conn=1, session=opened.session.id)
            assert [m.kind for m in (config, keys, end)] == [CONFIG, CONFIG, END_OF_CONFIG]
            offered = decode_offer(keys.body)
            assert (offered.spi, offered.secret.reveal()) == (
                open_session.esp_in.spi,
                open_session.esp_in.secret.reveal(),
            )
            assert {m.conn for m in (success, attach, config, keys, end)} == {1}

    run(work())


def test_without_esp_no_keys_are_sent(tmp_path):
    configuration = tree(esp={"enabled": False})

    async def work():
        async with subject(tmp_path, configuration=configuration) as it, it.serving() as edge:
            client = Visitor(edge, 1)
            await client.enter((await it.open()).cookie)
            await eventually(lambda: any(m.kind == END_OF_CONFIG for m in client.frames()))
            [open_session] = edge.of(OpenSession)
            assert open_session.esp_in is None
            assert [m.kind for m in client.frames()[-3:]] == [TcgKind.SUCCESS, CONFIG, END_OF_CONFIG]

    run(work())


def test_the_clients_own_keys_reach_the_edge_and_it_is_asked_for_a_probe(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            client = Visitor(edge, 1)
            await client.enter((await it.open()).cookie)
            await eventually(lambda: any(m.kind == END_OF_CONFIG for m in client.frames()))
            client.send(KEYS_ANSWER)
            await eventually(lambda: client.frames()[-1].kind == LICENCE)
            [installed] = edge.of(InstallEspOut)
            assert (installed.sa.spi, installed.generation) == (KEYS.spi, 2)
            assert edge.got.index(installed) < edge.got.index(client.frames()[-1])

    run(work())


def test_a_person_who_signs_in_gets_a_tunnel(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            client = Visitor(edge, 1)
            await client.sign_in(b"alice", PASSWORD.encode())
            cookie = await client.accept()
            [message] = await eventually(lambda: edge.of(OpenSession))
            [opened] = it.sessions.made
            assert (message.session, message.generation) == (opened.session.id, 1)
            assert opened.cookie == cookie

    run(work())


# -- clients that come, go and come again ----------------------------------------------------------


@pytest.mark.parametrize("way", ["cookie", "password", "acknowledgement"])
def test_after_an_edge_restart_an_old_sign_in_is_silent_and_a_new_connection_works(tmp_path, way):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened, bobs = await it.open(), await it.open("bob")
            it.sessions.made.clear()
            old = Visitor(edge, 1)
            if way == "acknowledgement":
                await old.show_cookie(opened.cookie)
                await old.next_request()
            else:
                it.sessions.may_resume.clear()
                it.sessions.may_open.clear()
                if way == "cookie":
                    await old.show_cookie(opened.cookie)
                else:
                    await old.sign_in(b"alice", PASSWORD.encode())
                await eventually(lambda: it.sessions.made)
            await edge.die()
            async with ScriptedEdge(it.socket, number=2) as second:
                await second.up()
                other = Visitor(second, 1)
                other.connect()
                await second.probe()
                it.sessions.may_resume.set()
                it.sessions.may_open.set()
                # The old sign-in is over when only the new connection's is left.
                await eventually(lambda: len(it._unfinished(second, it._permanent | edge.tasks)) == 1)
                await second.probe()
                assert second.for_connection(1) == []
                await other.enter(bobs.cookie)
                [message] = await eventually(lambda: second.of(OpenSession))
                assert message.session == bobs.session.id
                await second.sees(Attach(conn=1, session=bobs.session.id))
                if way == "password":
                    assert await it.ends(it.sessions.made[0].session) is EndCause.ABANDONED
                assert await it.cause(opened.session) is None

    run(work())


def test_a_resume_that_is_acknowledged_late_does_not_replace_a_newer_one(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            early, late = Visitor(edge, 1), Visitor(edge, 2)
            for client in (early, late):
                await client.show_cookie(opened.cookie)
                await client.next_request()
            late.send(late.answer())
            await edge.sees(Attach(conn=2, session=opened.session.id))
            early.send(early.answer())
            await edge.sees(CloseConn(conn=1))
            await it.settle(edge)
            assert opened_generations(edge, opened.session) == [3]
            assert edge.of(Attach) == [Attach(conn=2, session=opened.session.id)]
            assert edge.of(CloseSession) == []
            assert await it.cause(opened.session) is None

    run(work())


def test_a_later_resume_takes_the_place_of_an_earlier_one(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            for conn in (1, 2):
                await Visitor(edge, conn).enter(opened.cookie)
                await edge.sees(Attach(conn=conn, session=opened.session.id))
            assert opened_generations(edge, opened.session) == [2, 3]
            # The edge closes the connection that was replaced; that must not touch the new one.
            Visitor(edge, 1).leave(opened.session.id)
            await it.settle(edge)
            edge.say(RekeyWanted(opened.session.id))
            await eventually(lambda: edge.of(InstallEspIn))
            assert edge.of(InstallEspIn)[0].generation == 3

    run(work())


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_logout_before_the_tunnel_ends_the_session_and_opens_none(tmp_path, acknowledged):
    """Right behind the acknowledgement, or in its place."""

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            client = Visitor(edge, 1)
            await client.show_cookie(opened.cookie)
            await client.next_request()
            client.send(*[client.answer()] * acknowledged, LOGOUT)
            await edge.sees(CloseConn(conn=1))
            await it.settle(edge)
            assert await it.cause(opened.session) is EndCause.LOGOUT
            assert edge.of(OpenSession, Attach) == []
            assert await it.live() == []

    run(work())


@pytest.mark.parametrize("fresh", [True, False])
def test_a_logout_while_the_gateway_decides_ends_the_session(tmp_path, fresh):
    """The client gives up while the store is busy with its session."""

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = None if fresh else await it.open()
            it.sessions.made.clear()
            it.sessions.may_open.clear()
            it.sessions.may_resume.clear()
            client = Visitor(edge, 1)
            if opened is None:
                await client.sign_in(b"alice", PASSWORD.encode())
            else:
                await client.show_cookie(opened.cookie)
            [made] = await eventually(lambda: it.sessions.made)
            client.send(LOGOUT)
            await edge.probe()
            it.sessions.may_open.set()
            it.sessions.may_resume.set()
            await edge.sees(CloseConn(conn=1))
            await it.settle(edge)
            assert edge.of(OpenSession) == []
            assert await it.cause(made.session) is not None

    run(work())


def test_a_logout_in_the_tunnel_ends_the_session(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            client = Visitor(edge, 1)
            await client.enter(opened.cookie)
            await edge.sees(Attach(conn=1, session=opened.session.id))
            client.send(LOGOUT)
            await edge.sees(CloseSession(session=opened.session.id, fatal=None))
            assert await it.cause(opened.session) is EndCause.LOGOUT

    run(work())


def test_a_fresh_session_ends_with_a_client_that_leaves_before_it_has_the_session(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            client = Visitor(edge, 1)
            await client.sign_in(b"alice", PASSWORD.encode())
            await client.next_request()
            client.leave()
            [opened] = it.sessions.made
            assert await it.ends(opened.session) is EndCause.ABANDONED
            assert await it.sessions.live() == []
            assert edge.of(OpenSession) == []

    run(work())


def test_a_fresh_session_ends_when_its_client_breaks_the_protocol_instead_of_acknowledging(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            client = Visitor(edge, 1)
            await client.sign_in(b"alice", PASSWORD.encode())
            await client.next_request()
            client.send(KEYS_ANSWER)
            await edge.sees(CloseConn(conn=1))
            [opened] = it.sessions.made
            assert await it.ends(opened.session) is EndCause.ABANDONED

    run(work())


def test_a_fresh_session_ends_when_its_client_never_acknowledges(tmp_path, monkeypatch):
    monkeypatch.setattr(entrance, "SIGN_IN_PATIENCE", 20.0)

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            client = Visitor(edge, 1)
            await client.sign_in(b"alice", PASSWORD.encode())
            await client.next_request()
            [opened] = it.sessions.made
            # The event loop's clock jumps over the sign-in's limit, but not over the link's.
            await edge.probe()
            loop = asyncio.get_running_loop()
            real = loop.time
            monkeypatch.setattr(loop, "time", lambda: real() + 22.0)
            await edge.sees(CloseConn(conn=1))
            await it.settle(edge)
            assert await it.cause(opened.session) is EndCause.ABANDONED

    run(work())


def test_a_resumed_session_stays_when_its_client_leaves_before_the_acknowledgement(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            client = Visitor(edge, 1)
            await client.show_cookie(opened.cookie)
            await client.next_request()
            client.leave()
            await it.settle(edge)
            assert await it.cause(opened.session) is None
            await Visitor(edge, 2).enter(opened.cookie)
            await edge.sees(Attach(conn=2, session=opened.session.id))

    run(work())


def test_a_session_that_another_process_ends_during_the_sign_in_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "HOUSEKEEPING_INTERVAL", 0.01)

    async def work():
        async with subject(tmp_path) as it, same_store(tmp_path) as command, it.serving() as edge:
            opened = await it.open()
            client = Visitor(edge, 1)
            await client.show_cookie(opened.cookie)
            await client.next_request()
            await command.sessions.end(opened.session.id, EndCause.DISCONNECTED, it.clock.now, it.clock.now)
            # Housekeeping sees the change, and at that moment knows nothing of the session.
            seen = it.sessions.looks
            await eventually(lambda: it.sessions.looks >= seen + 3)
            client.send(client.answer())
            dropped, code = await sees_end(edge, opened.session, ENDED_BY_ADMINISTRATOR)
            await it.settle(edge)
            assert (await it.decisions.find(code)).session == opened.session.id
            assert not [
                m for m in edge.got[edge.got.index(dropped) :] if isinstance(m, (OpenSession, Attach))
            ]
            assert await it.live() == []

    run(work())


# -- keys ------------------------------------------------------------------------------------------


def test_an_adopted_session_is_rekeyed_when_the_edge_wants_it(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5, transport=Transport.TLS, spis=(999,))) as edge:
                edge.say(TransportChanged(session.id, Transport.ESP, "192.0.2.9:4500"))
                edge.say(RekeyWanted(session.id))
                [frame] = await eventually(Visitor(edge, 5).frames)
                [installed] = edge.of(InstallEspIn)
                assert (installed.session, installed.generation) == (session.id, 1)
                assert (frame.kind, decode_offer(frame.body).spi) == (CONFIG, installed.sa.spi)
                assert installed.sa.spi != 999
                assert edge.got.index(installed) < edge.got.index(frame)

    run(work())


def test_age_rekeys_only_where_the_client_takes_part_in_esp(tmp_path):
    async def work():
        async with subject(tmp_path, rekey=0.01) as it:
            without, with_esp = (await it.open()).session, (await it.open()).session
            states = (
                state_of(without, conn=5, transport=Transport.TLS),
                state_of(with_esp, conn=6, transport=Transport.ESP),
            )
            async with it.serving(*states) as edge:

                def rekeyed(session):
                    return [m for m in edge.of(InstallEspIn) if m.session == session.id]

                # The timer of the first runs out before that of the second, every time.
                await eventually(lambda: len(rekeyed(with_esp)) >= 4)
                assert rekeyed(without) == Visitor(edge, 5).frames() == []
                edge.say(TransportChanged(without.id, Transport.ESP, "192.0.2.9:4500"))
                await eventually(lambda: rekeyed(without))

    run(work())


# -- both sides brought together -------------------------------------------------------------------


def test_what_the_edge_has_and_the_store_has_not_is_closed(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            kept, over = (await it.open()).session, (await it.open()).session
            await it.sessions.end_many([over.id], EndCause.LOGOUT)
            unknown = replace(kept, id=4711)
            async with it.serving(state_of(unknown), state_of(over), state_of(kept, conn=5)) as edge:
                await it.settle(edge)
                assert edge.of(CloseSession) == [
                    CloseSession(session=4711, fatal=ENDED_BY_ADMINISTRATOR),
                    CloseSession(session=over.id, fatal=ENDED_BY_ADMINISTRATOR),
                ]
                assert await it.cause(kept) is None

    run(work())


def test_an_older_generation_in_the_edge_is_closed_without_a_farewell(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            await it.sessions.resume(opened.cookie, CLIENT, NO_PROOF, connected=it.clock.now)
            async with it.serving(state_of(opened.session, conn=5)) as edge:
                await edge.sees(CloseSession(session=opened.session.id, fatal=None))
                await it.settle(edge)
                assert await it.cause(opened.session) is None
                await Visitor(edge, 6).enter(opened.cookie)
                await edge.sees(Attach(conn=6, session=opened.session.id))
                assert opened_generations(edge, opened.session) == [3]

    run(work())


ENDS = [
    (edge_link.EndCause.LOGOUT, EndCause.LOGOUT),
    (edge_link.EndCause.IDLE, EndCause.IDLE),
    (edge_link.EndCause.EXPIRED, EndCause.EXPIRED),
]


@pytest.mark.parametrize(("said", "stored"), ENDS)
def test_an_end_told_after_a_restart_reaches_the_store(tmp_path, said, stored):
    """The session ended while there was no link, so it is not in the hello."""

    async def work():
        async with subject(tmp_path) as it:
            session = (await it.open()).session
            async with it.serving() as edge:
                edge.say(SessionEnded(session.id, session.generation, said, NOTHING))
                assert await it.ends(session) is stored

    run(work())


@pytest.mark.parametrize("said", [cause for cause, _ in ENDS])
def test_the_end_of_an_older_generation_is_not_the_sessions_end(tmp_path, said):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            await it.sessions.resume(opened.cookie, CLIENT, NO_PROOF, connected=it.clock.now)
            async with it.serving() as edge:
                edge.say(SessionEnded(opened.session.id, 1, said, NOTHING))
                await it.settle(edge)
                assert await it.cause(opened.session) is None
                assert edge.of(CloseSession) == []

    run(work())


def test_an_orphaned_session_keeps_its_cookie(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            async with it.serving(state_of(opened.session, conn=5)) as edge:
                edge.say(SessionEnded(opened.session.id, 1, edge_link.EndCause.ORPHANED, NOTHING))
                await it.settle(edge)
                assert await it.cause(opened.session) is None
                await Visitor(edge, 6).enter(opened.cookie)
                await edge.sees(Attach(conn=6, session=opened.session.id))

    run(work())


# -- what goes on by itself, and what administrators do --------------------------------------------


@pytest.mark.parametrize("broken", ["due", "ended_elsewhere", "end"])
def test_an_error_of_the_store_does_not_end_the_service(tmp_path, monkeypatch, broken):
    monkeypatch.setattr(service, "HOUSEKEEPING_INTERVAL", 0.01)

    async def work():
        async with subject(tmp_path) as it:
            away, other = (await it.open()).session, await it.open("bob")
            it.sessions.failing = {broken}
            async with it.serving() as edge:
                it.clock.now = away.last_seen + away.idle_seconds
                await eventually(lambda: not it.sessions.failing)
                assert await it.ends(away) is EndCause.IDLE
                it.clock.now = other.session.started
                await Visitor(edge, 1).enter(other.cookie)
                await edge.sees(Attach(conn=1, session=other.session.id))

    run(work())


def test_the_end_with_an_account_has_a_code_as_well(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5)) as edge:
                await it.store.users.set_enabled("System Local", "alice", False, it.clock.now, it.clock.now)
                await it.service.end_stale()
                _, code = await sees_end(edge, session, Fatal(7, "The account was disabled."))
                found = await it.decisions.find(code)
                assert (found.kind, found.session) == ("end", session.id)
                assert found.reasons[-1]["text"] == "the account was disabled"
                [entry] = [e for e in await it.store.audit.newest(9) if e.event == "session-end"]
                assert (entry.reason, entry.text) == ("user-disabled", f"code {code}")

    run(work())


def test_a_session_is_cut_off_even_when_the_store_fails(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5)) as edge:
                it.sessions.failing = {"end"}
                with pytest.raises(ProblemError):
                    await it.service.end(session.id, EndCause.DISCONNECTED)
                _, code = await sees_end(edge, session, ENDED_BY_ADMINISTRATOR)
                # Told again, the store has the code that the client was told.
                assert await it.ends(session) is EndCause.DISCONNECTED
                assert (await it.decisions.find(code)).session == session.id

    run(work())


def test_many_rules_for_many_sessions_are_sent_no_faster_than_the_edge_takes_them(tmp_path, monkeypatch):
    """An edge that comes back with thousands of sessions is told all their rules anew."""
    monkeypatch.setattr(service, "TURN", 0.0)
    monkeypatch.setattr(edge_client, "MAX_QUEUED", 1 << 20)
    monkeypatch.setattr(edge_client, "CROWDED", 1 << 17)
    ports = {"name": "open", "action": "allow", "to": [f"10.77.{net}.0/24" for net in range(200)]}
    ports["ports"] = ["443", "8443"]
    configuration = tree(
        network={"pools": ["10.88.0.0/24", "fd00:88::/64"]},
        realms=[realm(policy=limits(1000))],
        access_control=[{**ports, "protocol": "tcp"}],
    )

    async def work():
        async with subject(tmp_path, configuration=configuration) as it:
            sessions = [(await it.open()).session for _ in range(60)]  # 1.7 MiB
            async with it.serving(
                *(state_of(each, conn=number) for number, each in enumerate(sessions, 1))
            ) as edge:
                await it.settle(edge)
                assert [m.session for m in edge.of(SetRules)] == [each.id for each in sessions]
                assert {len(m.rules) for m in edge.of(SetRules)} == {400}

    run(work())
