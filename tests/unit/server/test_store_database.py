"""The database under the store: schema, other processes, failures. Both kinds behave alike."""

import asyncio
import contextlib
import json
import secrets
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from lockgate.model.problem import ProblemError
from lockgate.model.session import EndCause
from lockgate.server.datadir import DataDirectory
from lockgate.server.store import create_store, open_store
from lockgate.server.store.choice import choose_postgresql, conninfo_of, open_database, text_for
from lockgate.server.store.interface import ADMIN_SERVER, LOCAL_SERVER, AuditFilter, Resumption
from lockgate.server.store.migrate import SCRIPTS, upgrade
from lockgate.server.store.open import SCHEMA
from lockgate.server.store.postgresql import connection_parameters, shown
from lockgate.server.store.tables import metadata
from lockgate.server.store.verify import verify
from tests.unit.server.store_support import CLIENT, new_store, run, same_store, user

NOW = 1000.0


def test_the_migrations_build_the_tables(place):
    async def work():
        async with new_store(place) as store:
            context = MigrationContext.configure
            options = {"compare_type": True, "compare_server_default": True}
            return await store.database.read(
                lambda connection: compare_metadata(context(connection, opts=options), metadata)
            )

    assert run(work()) == []
    assert ScriptDirectory(str(SCRIPTS)).get_current_head() == SCHEMA


def test_only_the_owner_can_read_it(new_place):
    for kind in ("sqlite", "postgresql"):
        place = new_place(kind, kind)

        async def work(place=place):
            async with new_store(place) as store:
                await store.users.add(user())
                files = [file for file in place.path.rglob("*") if file.is_file()]
                return {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}

        modes = run(work())
        assert set(modes.values()) == {0o600}
        assert ("lockgate.db" in modes, "store.toml" in modes) == (kind == "sqlite", kind != "sqlite")
        assert stat.S_IMODE(place.store_key.parent.stat().st_mode) == 0o700


def test_a_store_is_not_made_twice_nor_by_opening(place):
    async def work():
        with pytest.raises(ProblemError, match=r"unable to open|belongs to another release"):
            await open_store(place)
        async with new_store(place):
            pass
        with pytest.raises((FileExistsError, ProblemError)) as caught:
            await create_store(place)
        if isinstance(caught.value, ProblemError):
            assert caught.value.problem.code == "store-exists"

    run(work())


def test_another_schema_is_upgraded_by_the_server_and_refused_by_commands(place):
    async def work():
        with contextlib.suppress(AttributeError):
            if conninfo_of(place) is None:
                sqlite3.connect(place.database).close()
                place.database.touch()
        with pytest.raises(ProblemError) as caught:
            await open_store(place)
        assert caught.value.problem.code == "schema-differs"
        store = await open_store(place, upgrade=True)
        await store.database.write(
            lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        )
        await store.close()
        for upgrade_it in (False, True):  # a newer release's is nobody's to change
            with pytest.raises(ProblemError, match="newer release") as caught:
                await open_store(place, upgrade=upgrade_it)
            assert caught.value.problem.code == "schema-differs"

    run(work())


OLD_SESSION = {
    "id": 4711, "user": "alice", "realm": "Users", "roles": '["Users"]', "address4": b"\x0a\x58\x00\x02",
    "address6": None, "user_agent": CLIENT.user_agent, "host_name": CLIENT.host_name, "source": CLIENT.source,
    "started": NOW, "expires": NOW + 3600, "idle_seconds": 1800, "last_seen": NOW, "generation": 3, "ended": None,
    "cause": None,
}  # fmt: skip
OLD_USER = {"password_hash": "hash", "serial": 7, "created": 1.0, "changed": 2.0}
OLD_LINE = {
    "outcome": "ok",
    "reason": "",
    "user": "alice",
    "source": "192.0.2.9",
    "session": None,
    "text": "x",
}


@pytest.mark.parametrize("schema", ["0001", "0002"])
def test_a_gateway_of_an_earlier_release_keeps_everything(place, schema):
    """Users, administrators, a live session with its cookies and address, and the audit."""
    if conninfo_of(place) is None:
        sqlite3.connect(place.database).close()
        place.database.touch()
    shown_cookie, handed_out = secrets.token_bytes(32), secrets.token_bytes(32)
    rows = {
        "users": [
            {**OLD_USER, "name": "alice", "enabled": True},
            {**OLD_USER, "name": "bob", "enabled": False},
        ],
        "administrators": [{"name": "admin", "password_hash": "theirs", "created": 3.0}],
        "sessions": [{**OLD_SESSION, "cookie_hash": shown_cookie}],
        "leases": [{"address": b"\x0a\x58\x00\x02", "family": 4, "session": 4711, "free_at": 0.0}],
        # With gaps, as after a transaction that was undone.
        "audit": [
            {**OLD_LINE, "id": number, "time": float(number), "event": event}
            for number, event in ((1, "sign-in"), (2, "user-add"), (5, "session-open"), (9, "started"))
        ],
    }
    if schema == "0002":
        rows["sessions"][0]["public_key"] = bytes(32)
        rows["cookies"] = [{"hash": handed_out, "session": 4711, "generation": 4, "spent": None}]

    def fill(connection):
        for table, each in rows.items():
            for row in each:
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)

    async def work():
        database = open_database(place)
        await database.write(lambda connection: upgrade(connection, schema))
        await database.write(fill)
        await database.close()
        with pytest.raises(ProblemError) as caught:
            await open_store(place)
        assert caught.value.problem.code == "schema-differs"
        store = await open_store(place, upgrade=True)

        alice = replace(user("alice", serial=7), changed=2.0)
        assert await store.users.all(LOCAL_SERVER) == [alice, replace(alice, name="bob", enabled=False)]
        (admin,) = await store.users.all(ADMIN_SERVER)
        assert (admin.name, admin.password_hash, admin.enabled, admin.created) == (
            "admin",
            "theirs",
            True,
            3.0,
        )
        assert admin.serial > 0

        (session,) = await store.sessions.live()
        assert (session.id, session.user, session.server, session.roles) == (
            4711,
            "alice",
            LOCAL_SERVER,
            ("Users",),
        )
        assert (session.facts, session.revision, session.parent, session.generation) == (None, 0, None, 3)
        cookie = handed_out if schema == "0002" else shown_cookie
        for generation in (4, 5):
            resumption = Resumption(cookie, secrets.token_bytes(32), CLIENT, NOW, None, NOW + 1)
            entry = (await store.audit.newest(1))[0]
            resumed = await store.sessions.resume(resumption, lambda _: None, lambda _, entry=entry: entry)
            assert resumed.generation == generation
        assert await store.users.set_enabled(LOCAL_SERVER, "alice", False, 2000.0, 2030.0) == [4711]
        assert (await store.sessions.find(4711)).cause is EndCause.USER_DISABLED

        lines = await store.audit.page(AuditFilter(), 99, oldest_first=True)
        assert [(each.number, each.entry.event, each.entry.log) for each in lines[:4]] == [
            (1, "sign-in", "user"), (2, "user-add", "admin"), (3, "session-open", "user"), (4, "started", "events")
        ]  # fmt: skip
        assert (await verify(store.audit)).ok
        await store.close()
        await (await open_store(place, upgrade=True)).close()

    run(work())


def test_a_key_that_is_gone_is_not_replaced(place):
    async def work():
        async with new_store(place):
            pass
        kept = place.store_key.read_bytes()
        for content, code in ((None, "store-key-missing"), (kept[:31], "store-key-damaged")):
            place.store_key.unlink(missing_ok=True)
            if content is not None:
                place.store_key.write_bytes(content)
            for upgrade_it in (False, True):
                with pytest.raises(ProblemError) as caught:
                    await open_store(place, upgrade=upgrade_it)
                assert caught.value.problem.code == code

    run(work())


def test_an_error_names_the_file_and_no_values(new_place):
    place = new_place("sqlite")
    place.database.write_bytes(b"this is no database" * 100)
    with pytest.raises(ProblemError, match=f"{place.database} cannot be used: file is not a database"):
        run(open_store(place))


def test_a_write_that_fails_leaves_nothing(place):
    async def work():
        async with new_store(place) as store:

            def half(connection):
                connection.execute(text("DELETE FROM accounts"))
                raise RuntimeError("in the middle")

            await store.users.add(user())
            with pytest.raises(RuntimeError, match="in the middle"):
                await store.database.write(half)
            return await store.users.find(LOCAL_SERVER, "alice")

    assert run(work()) == user()


def test_two_processes_write_at_the_same_time(place, pytestconfig):
    """The command beside the server: every write of both is there, and the audit has no fork."""
    program = """
import asyncio, sys
from pathlib import Path
from lockgate.server.audit import Audit
from lockgate.server.datadir import DataDirectory
from tests.unit.server.store_support import same_store, user
async def work():
    async with same_store(DataDirectory(Path(sys.argv[1]))) as store:
        for number in range(50):
            assert await store.users.add(user(f"{sys.argv[2]}{number}"))
            await store.audit.add(Audit(store.audit).entry("user-add", ok=True, user=sys.argv[2]))
asyncio.run(work())
"""

    async def make():
        async with new_store(place):
            pass

    run(make())
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, str(place.path), name], cwd=pytestconfig.rootpath
        )
        for name in "abc"
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]

    async def count():
        async with same_store(place) as store:
            report = await verify(store.audit)
            return len(await store.users.all()), report.ok, report.checked

    assert run(count()) == (150, True, 150)


def test_it_notices_what_another_process_wrote_and_not_its_own(place):
    async def work():
        async with new_store(place) as server, same_store(place) as command:
            seen = [await server.changed_elsewhere(), await server.changed_elsewhere()]
            await server.users.add(user("own"))
            seen.append(await server.changed_elsewhere())
            await command.users.add(user("other"))
            seen += [await server.changed_elsewhere(), await server.changed_elsewhere()]
            return seen

    assert run(work()) == [True, False, False, True, False]


def test_who_asks_too_much_at_once_is_told(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.database.MAX_WAITING", 3)

    async def work():
        async with new_store(place) as store:
            return await asyncio.gather(*(store.users.all() for _ in range(5)), return_exceptions=True)

    results = run(work())
    assert [type(result) for result in results] == [list] * 3 + [ProblemError] * 2


def test_concurrent_readers_and_writers_of_one_process(place):
    async def work():
        async with new_store(place) as store:
            await asyncio.gather(
                *(store.users.add(user(f"u{number}")) for number in range(50)), store.users.all()
            )
            return len(await store.users.all())

    assert run(work()) == 50


def test_a_value_never_stays_in_the_file_name(tmp_path):
    """A folder with characters that mean something to SQLite's URIs."""
    folder = tmp_path / "a?b%20#c d"
    folder.mkdir()

    async def work():
        async with new_store(folder) as store:
            await store.users.add(user())

    run(work())
    assert [file.name for file in (folder / "db").iterdir()] == ["lockgate.db"]


# -- PostgreSQL ---------------------------------------------------------------------------------------------


def test_a_database_that_was_restarted_is_connected_again(new_place, postgresql):
    place = new_place("postgresql")

    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            assert await store.changed_elsewhere()
            postgresql.restart()
            assert await store.users.find(LOCAL_SERVER, "alice") == user()
            # What happened while nobody listened is not known.
            assert [await store.changed_elsewhere(), await store.changed_elsewhere()] == [True, False]
            postgresql.restart()
            assert await store.users.add(user("bob"))
            postgresql.restart()
            assert [await store.changed_elsewhere(), await store.changed_elsewhere()] == [True, False]

    run(work())


def test_a_database_that_is_away_is_a_problem_that_passes(new_place, postgresql):
    place = new_place("postgresql", alone=True)

    async def work():
        async with new_store(place) as store:
            name = psycopg.conninfo.conninfo_to_dict(conninfo_of(place))["dbname"]
            with psycopg.connect(postgresql.conninfo("postgres"), autocommit=True) as other:
                other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
                )
                for ask in (
                    store.users.all,
                    store.changed_elsewhere,
                    lambda: store.users.add(user()),
                    store.ping,
                ):
                    with pytest.raises(ProblemError, match="not currently accepting connections") as caught:
                        await ask()
                    assert caught.value.problem.code == "database-failed"
                other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            assert await store.users.add(user())

    run(work())


def test_a_connection_that_breaks_in_the_middle_undoes_what_was_begun(new_place, postgresql):
    place = new_place("postgresql")

    async def work():
        async with new_store(place) as store:

            def half(connection):
                connection.execute(text("INSERT INTO meta VALUES ('half', 'done')"))
                pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
                with psycopg.connect(postgresql.conninfo("postgres"), autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", [pid])
                connection.execute(text("INSERT INTO meta VALUES ('other', 'half')"))

            with pytest.raises(ProblemError, match="terminating connection"):
                await store.database.write(half)
            return await store.meta.get("half"), await store.meta.get("other")

    assert run(work()) == (None, None)


CONNINFOS = [
    ("dbname=x", {"dbname": "x"}, None),
    ("host=/run/x dbname=x", {"host": "/run/x"}, None),
    ("postgresql://u@127.0.0.1:5433/x", {"port": "5433", "user": "u"}, None),
    ("postgresql://db.example.com/x", {"sslrootcert": "system"}, "verify-full"),
    ("host=db.example.com sslrootcert=/etc/ca.pem", {"sslrootcert": "/etc/ca.pem"}, "verify-full"),
    ("postgresql://db.example.com/x?sslmode=require", {}, "require"),
    ("postgresql://[2001:db8::1]/x?connect_timeout=2", {"connect_timeout": "2"}, "verify-full"),
]


@pytest.mark.parametrize(("conninfo", "expected", "sslmode"), CONNINFOS)
def test_another_machine_has_to_prove_who_it_is(conninfo, expected, sslmode):
    parameters = connection_parameters(conninfo)
    assert {key: parameters[key] for key in expected} == expected
    assert parameters.get("sslmode") == sslmode


def test_a_password_is_never_shown(tmp_path):
    conninfo = "host=/nowhere user=u password=s3cret dbname=x"
    assert "s3cret" not in shown(conninfo)
    place = DataDirectory(tmp_path)
    choose_postgresql(place, conninfo)
    with pytest.raises(ProblemError) as caught:
        run(open_store(place))
    assert "s3cret" not in caught.value.problem.text()
    assert "/nowhere" in caught.value.problem.text()


@pytest.mark.parametrize("conninfo", ["host=a b=c", "postgresql://[", "=", "postgresql://h/x?nosuch=1"])
def test_what_is_no_conninfo_is_refused(tmp_path, conninfo):
    with pytest.raises(ProblemError) as caught:
        choose_postgresql(DataDirectory(tmp_path), conninfo)
    assert caught.value.problem.code == "store-conninfo"
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_the_choice(tmp_path):
    place = DataDirectory(tmp_path)
    assert conninfo_of(place) is None
    for conninfo in ("dbname=x", "password='a\"b\\\\c' host=ü\U0001f600 user=\t"):
        place.store_choice.write_text(text_for(conninfo))
        assert conninfo_of(place) == conninfo
    wrong = ["", "[postgresql]", "[sqlite]\nconninfo='x'", "[postgresql]\nconninfo=1", "[postgresql]\nconninfo=''",
             "postgresql='x'", "[postgresql]\nconninfo='x'\nmore=1", "{", json.dumps({})]  # fmt: skip
    for content in wrong:
        place.store_choice.write_text(content)
        with pytest.raises(ProblemError) as caught:
            conninfo_of(place)
        assert caught.value.problem.code == "store-choice", content
    place.store_choice.write_bytes(b"\xff")
    with pytest.raises(ProblemError):
        conninfo_of(place)


def test_a_transaction_that_fails_at_its_very_end_is_undone_and_the_store_goes_on(place):
    """Full disks, for example, show at the commit. Here it is a lease of a session that is not there."""
    lease = text("INSERT INTO leases (address, family, session, free_at) VALUES (:address, 4, 77, 0)")

    async def work():
        async with new_store(place) as store:
            with pytest.raises(ProblemError) as caught:
                await store.database.write(
                    lambda connection: connection.execute(lease, {"address": b"\x0a\x58\x00\x02"}).rowcount
                )
            assert caught.value.problem.code == "database-failed"
            assert await store.users.add(user())
            assert await store.users.count() == 1
            leases = text("SELECT count(*) FROM leases")
            assert await store.database.read(lambda connection: connection.execute(leases).scalar()) == 0

    run(work())


def test_a_database_that_cannot_be_reached_is_not_asked_once_for_everybody_who_waits(place, monkeypatch):
    """Each try may take seconds: an address that swallows packets."""
    tries, everybody_has_asked = [], threading.Event()

    def refuse():
        tries.append(1)
        assert everybody_has_asked.wait(30)
        raise DatabaseError("connect", None, OSError("no route"))

    async def work():
        async with new_store(place) as store:
            lane = store.database._main
            await store.database._run(lane, lane.disconnect)
            monkeypatch.setattr(lane, "_engine", SimpleNamespace(connect=refuse))
            asking = [asyncio.create_task(store.users.count()) for _ in range(20)]
            await asyncio.sleep(0)  # each of them as far as it comes by itself
            everybody_has_asked.set()
            results = await asyncio.gather(*asking, return_exceptions=True)
            assert [each.problem.code for each in results] == ["database-failed"] * 20
            assert len(tries) == 1
            monkeypatch.undo()
            assert await store.users.count() == 0

    run(work())
