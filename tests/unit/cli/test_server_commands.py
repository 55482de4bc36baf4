"""`lockgate server sessions | extend | disconnect` against a server's own REST interface and real sessions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket

import pytest
from click.testing import CliRunner

from lockgate.cli import server
from lockgate.cli.main import lockgate
from lockgate.model.session import EndCause
from lockgate.server.config.edits import SetValue
from lockgate.server.local_api import LocalApi
from lockgate.server.operations import operations
from tests.unit.server.support import place_of, run
from tests.unit.server.web_subject import configuration, web

NO_TUNNELS = [SetValue("roles/Users/vpn_tunneling", False)]


@contextlib.asynccontextmanager
async def running(folder):
    """A server without an edge that answers commands; and what runs one of them: exit status, both outputs."""
    async with web(
        folder, configuration(roles=[{"name": "Users", "session": {"length_seconds": 3600}}])
    ) as subject:
        directory = subject.parts.directory
        directory.config.write_text("")  # nobody reads it after the first start
        listener = socket.socket(socket.AF_UNIX)
        place = os.open(directory.run, os.O_PATH)
        listener.bind(f"/proc/self/fd/{place}/{directory.control_socket.name}")
        os.close(place)
        listener.listen()
        serving = asyncio.create_task(LocalApi(listener, operations(subject.parts, subject.app)).run())

        async def command(*words):
            line = ["server", *words, "--dir", str(directory.path)]
            done = await asyncio.to_thread(CliRunner().invoke, lockgate, [str(word) for word in line])
            assert "Traceback" not in done.output
            return done.exit_code, done.stdout, done.stderr

        try:
            yield subject, command
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            listener.close()


def test_a_session_is_extended_and_errors_say_what_to_do(tmp_path):
    async def work():
        async with running(tmp_path) as (subject, command):
            session = await subject.tunnel()
            subject.clock.now += 600
            status, told, _ = await command("extend", session.id)
            assert (status, told) == (0, "the session of alice ends in 01:00:00\n")
            extended = await subject.store.sessions.find(session.id)
            assert extended.expires == subject.clock.now + 3600
            subject.clock.now += 60
            status, told, _ = await command("extend", session.id, "--json")
            assert (json.loads(told)["id"], json.loads(told)["remaining"]) == (str(session.id), 3600)
            entries = [e for e in await subject.store.audit.newest(9) if e.event == "session-extend"]
            assert [(each.user, each.source, bool(each.actor)) for each in entries] == [
                ("alice", "local", True)
            ] * 2
            for number in (5, (1 << 63) - 1):
                status, told, said = await command("extend", number)
                assert (status, told) == (1, "")
                assert f"There is no session {number}." in said
            assert (await command("extend", 5, "--json"))[0] == 1
            for number in ("x", "-7", "9" * 19, ""):
                status, told, said = await command("extend", "--", number)
                assert (status, told) == (2, "")
                assert "SESSION" in said
            await subject.parts.config.apply("test", "no tunnels", NO_TUNNELS)
            status, _, said = await command("extend", session.id)
            assert status == 1
            assert "may not use VPN tunnelling now" in said
            assert (await subject.store.sessions.find(session.id)).extended == subject.clock.now

    run(work())


def test_all_sessions_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PAGE", 2)

    async def work():
        async with running(tmp_path) as (subject, command):
            assert await command("sessions") == (0, "no sessions\n", "")
            mine = []
            for number in range(5):
                subject.clock.now += 1
                mine.append(await subject.tunnel("bob" if number % 2 else "alice"))
            status, told, _ = await command("sessions", "--json")
            rows = json.loads(told)
            assert (status, [row["id"] for row in rows]) == (0, [str(each.id) for each in mine])
            assert rows[1]["user"] == "bob"
            assert rows[1]["addresses"] == list(mine[1].addresses)
            assert rows[1]["transport"] == "none"
            lines = (await command("sessions"))[1].splitlines()
            assert [line.split()[:2] for line in lines[1:]] == [[str(each.id), each.user] for each in mine]

    run(work())


def test_sessions_are_disconnected_and_the_audit_says_by_whom(tmp_path):
    async def work():
        async with running(tmp_path) as (subject, command):
            alices = [await subject.tunnel() for _ in range(3)]
            bobs = await subject.tunnel("bob")
            assert await command("disconnect", alices[0].id) == (0, "ended 1 sessions\n", "")
            status, _, said = await command("disconnect", alices[1].id, 5, 6)
            assert (status, "There is no session 5, 6." in said) == (1, True)
            assert "There is no user carol." in (await command("disconnect", "--user", "carol"))[2]
            for words in ((), ("--all", "--user", "alice"), (7, "--all"), (7, "--user", "alice")):
                status, _, said = await command("disconnect", *words)
                assert (status, "Name sessions" in said) == (2, True)
            assert (await subject.store.sessions.live_numbers())[-1:] != []
            status, told, _ = await command("disconnect", "--user", "Alice", "--json")
            assert (status, set(json.loads(told)["ended"])) == (0, {str(each.id) for each in alices[1:]})
            assert json.loads((await command("disconnect", "--all", "--json"))[1]) == {
                "ended": [str(bobs.id)]
            }
            ended = [await subject.store.sessions.find(each.id) for each in (*alices, bobs)]
            assert {each.cause for each in ended} == {EndCause.DISCONNECTED}
            acts = [e for e in await subject.store.audit.newest(99) if e.event == "session-disconnect"]
            assert {each.session for each in acts} == {each.id for each in (*alices, bobs)}
            assert {(each.log, each.source) for each in acts} == {("admin", "local")}
            assert all(each.actor for each in acts)

    run(work())


@pytest.mark.parametrize("words", [("sessions",), ("extend", "5"), ("disconnect", "--all"), ("status",)])
def test_without_a_server_nothing_is_opened(tmp_path, words):
    """Above all no configuration is taken over by a command that only looks."""
    directory = place_of(tmp_path)
    directory.config.write_text("")
    before = sorted(directory.path.rglob("*"))
    done = CliRunner().invoke(lockgate, ["server", *words, "--dir", str(directory.path), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (1, "server-not-running")
    assert sorted(directory.path.rglob("*")) == before
