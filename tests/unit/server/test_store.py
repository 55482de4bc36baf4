"""The store: what was written is there for everybody, whole, and after a restart."""

import asyncio
import secrets
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import text

from lockgate.model.problem import ProblemError
from lockgate.model.session import EndCause, Refusal, RefusalReason, Session
from lockgate.server.store import create_store, open_store
from lockgate.server.store.database import Database
from lockgate.server.store.interface import (
    AdministratorRecord,
    AuditEntry,
    NotOpened,
    Resumption,
    SessionDraft,
)
from lockgate.server.store.leases import usable
from lockgate.server.store.migrate import SCRIPTS, upgrade
from lockgate.server.store.open import SCHEMA
from lockgate.server.store.tables import metadata
from tests.unit.server.support import CLIENT, identity, new_store, run, same_store, user

POOLS = (ip_network("10.88.0.0/29"), ip_network("fd00:88::/64"))
NOW = 1000.0


def draft(name="alice", *, serial=7, now=NOW, number=None, expires=None, idle=1800):
    return SessionDraft(
        id=number or secrets.randbits(62) + 1,
        cookie_hash=secrets.token_bytes(32),
        identity=identity(name, serial=serial),
        client=CLIENT,
        now=now,
        expires=now + 3600 if expires is None else expires,
        idle_seconds=idle,
    )


def again(wanted, now, *, client=CLIENT):
    """The client of that draft comes back with its first cookie."""
    return Resumption(
        cookie_hash=wanted.cookie_hash,
        next_hash=secrets.token_bytes(32),
        client=client,
        connected=now,
        suite=None,
        now=now,
    )


def noted(session):
    """A line for the audit."""
    return AuditEntry(NOW, "noted", "ok", "", session.user, "", session.id, "")


async def opened(store, *args, pools=POOLS, limit=100, **kwargs):
    result = await store.sessions.open(draft(*args, **kwargs), pools, limit, noted)
    assert isinstance(result, Session), result
    return result


# -- the database -----------------------------------------------------------------------------------


def test_the_migrations_build_the_tables(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            context = MigrationContext.configure
            options = {"compare_type": True, "compare_server_default": True}
            return await store.database.read(
                lambda connection: compare_metadata(context(connection, opts=options), metadata)
            )

    assert run(work()) == []
    assert ScriptDirectory(str(SCRIPTS)).get_current_head() == SCHEMA


def test_only_the_owner_can_read_it(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            return [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()]

    assert set(run(work())) == {0o600}


def test_a_database_is_not_made_twice_nor_by_opening(tmp_path):
    async def work():
        async with new_store(tmp_path):
            pass
        with pytest.raises(FileExistsError):
            await create_store(tmp_path / "lockgate.db")
        with pytest.raises(ProblemError, match="unable to open"):
            await open_store(tmp_path / "other.db")

    run(work())
    assert [file.name for file in tmp_path.iterdir()] == ["lockgate.db"]


def test_another_schema_is_upgraded_by_the_server_and_refused_by_commands(tmp_path):
    file = tmp_path / "lockgate.db"
    sqlite3.connect(file).close()
    file.touch()

    async def work():
        with pytest.raises(ProblemError) as caught:
            await open_store(file)
        assert caught.value.problem.code == "schema-differs"
        store = await open_store(file, upgrade=True)
        await store.close()
        await (await open_store(file)).close()

    run(work())


def test_a_database_of_the_first_release_keeps_its_sessions(tmp_path):
    file, cookie_hash = tmp_path / "lockgate.db", secrets.token_bytes(32)
    sqlite3.connect(file).close()
    file.touch()
    session = {
        "id": 4711, "cookie_hash": cookie_hash, "user": "alice", "realm": "Users", "roles": '["Users"]',
        "address4": b"\x0a\x58\x00\x02", "address6": None, "user_agent": CLIENT.user_agent,
        "host_name": CLIENT.host_name, "source": CLIENT.source, "started": NOW, "expires": NOW + 3600,
        "idle_seconds": 1800, "last_seen": NOW, "generation": 3, "ended": None, "cause": None,
    }  # fmt: skip

    async def work():
        database = Database(file)
        await database.write(lambda connection: upgrade(connection, "0001"))
        names, marks = ", ".join(session), ", ".join(f":{name}" for name in session)
        await database.write(
            lambda connection: connection.execute(
                text(f"INSERT INTO sessions ({names}) VALUES ({marks})"),
                session,
            )
        )
        await database.close()
        with pytest.raises(ProblemError) as caught:
            await open_store(file)
        assert caught.value.problem.code == "schema-differs"
        store = await open_store(file, upgrade=True)
        old = await store.sessions.by_cookie(cookie_hash)
        assert (old.id, old.user, old.generation) == (4711, "alice", 3)
        assert (old.public_key, old.bound, old.suite) == (b"", False, None)
        # As before: one cookie, no proof.
        for generation in (4, 5):
            wanted = replace(draft(), cookie_hash=cookie_hash)
            resumed = await store.sessions.resume(again(wanted, NOW + 1), lambda _: None, noted)
            assert resumed.generation == generation
        await store.close()

    run(work())


def test_an_error_names_the_file_and_no_values(tmp_path):
    file = tmp_path / "lockgate.db"
    file.write_bytes(b"this is no database" * 100)
    with pytest.raises(ProblemError, match=f"{file} cannot be used: file is not a database"):
        run(open_store(file))


def test_a_write_that_fails_leaves_nothing(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:

            def half(connection):
                connection.execute(text("DELETE FROM users"))
                raise RuntimeError("in the middle")

            await store.users.add(user())
            with pytest.raises(RuntimeError, match="in the middle"):
                await store.database.write(half)
            return await store.users.find("alice")

    assert run(work()) == user()


def test_two_processes_write_at_the_same_time(tmp_path, pytestconfig):
    """The command beside the server: every write of both is there."""
    program = """
import asyncio, sys
from pathlib import Path
from tests.unit.server.support import same_store, user
async def work():
    async with same_store(Path(sys.argv[1])) as store:
        for number in range(50):
            assert await store.users.add(user(f"{sys.argv[2]}{number}"))
asyncio.run(work())
"""

    async def make():
        async with new_store(tmp_path):
            pass

    run(make())
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, str(tmp_path), name], cwd=pytestconfig.rootpath
        )
        for name in "abc"
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]

    async def count():
        async with same_store(tmp_path) as store:
            return len(await store.users.all())

    assert run(count()) == 150


def test_it_notices_what_another_process_wrote_and_not_its_own(tmp_path):
    async def work():
        async with new_store(tmp_path) as server, same_store(tmp_path) as command:
            seen = [await server.changed_elsewhere(), await server.changed_elsewhere()]
            await server.users.add(user("own"))
            seen.append(await server.changed_elsewhere())
            await command.users.add(user("other"))
            seen += [await server.changed_elsewhere(), await server.changed_elsewhere()]
            return seen

    assert run(work()) == [True, False, False, True, False]


def test_who_asks_too_much_at_once_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.database.MAX_WAITING", 3)

    async def work():
        async with new_store(tmp_path) as store:
            return await asyncio.gather(*(store.users.all() for _ in range(5)), return_exceptions=True)

    results = run(work())
    assert [type(result) for result in results] == [list] * 3 + [ProblemError] * 2


def test_concurrent_readers_and_writers_of_one_process(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
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
    assert "lockgate.db" in [file.name for file in folder.iterdir()]


# -- users, administrators, audit ---------------------------------------------------------------------


def test_users_are_kept_as_they_are(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            assert await store.users.add(user("alice"))
            assert not await store.users.add(user("alice", password_hash="other"))
            assert await store.users.find("alice") == user("alice")
            assert await store.users.find("bob") is None
            await store.users.renew_hash("alice", "old", "newer")
            assert (await store.users.find("alice")).password_hash == "hash"
            await store.users.renew_hash("alice", "hash", "newer")
            assert await store.users.find("alice") == user("alice", password_hash="newer")

    run(work())


CHANGES = [
    (lambda store, name: store.users.set_password(name, "new", 2000.0, 2030.0), EndCause.PASSWORD_CHANGED),
    (lambda store, name: store.users.set_enabled(name, False, 2000.0, 2030.0), EndCause.USER_DISABLED),
    (lambda store, name: store.users.delete(name, 2000.0, 2030.0), EndCause.USER_DELETED),
]


@pytest.mark.parametrize(("change", "cause"), CHANGES)
def test_a_changed_account_has_no_sessions_left(tmp_path, change, cause):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user("alice"))
            await store.users.add(user("bob"))
            mine = [await opened(store), await opened(store)]
            other = await opened(store, "bob")
            assert sorted(await change(store, "alice")) == sorted(session.id for session in mine)
            assert await store.sessions.live() == [other]
            for session in mine:
                ended = await store.sessions.find(session.id)
                assert (ended.ended, ended.cause) == (2000.0, cause)
            # A sign-in that was under way, with the account as it was, gets no session any more.
            assert await store.sessions.open(draft(), POOLS, 100, noted) is NotOpened.USER_CHANGED
            # Addresses wait until the time that was given.
            fresh = await opened(store, "bob", now=2029.9)
            assert fresh.address4 == ip_address("10.88.0.5")
            later = await opened(store, "bob", now=2030.0)
            assert later.address4 == mine[0].address4

    run(work())


@pytest.mark.parametrize("change", [change for change, _ in CHANGES])
def test_changing_nobody_says_so(tmp_path, change):
    async def work():
        async with new_store(tmp_path) as store:
            return await change(store, "nobody")

    assert run(work()) is None


def test_administrators_and_audit(tmp_path):
    entries = [
        AuditEntry(float(n), "sign-in", "ok", "", "alice", "192.0.2.9", None, str(n)) for n in range(5)
    ]

    async def work():
        async with new_store(tmp_path) as store:
            assert await store.administrators.add(AdministratorRecord("admin", "hash", 1.0))
            assert not await store.administrators.add(AdministratorRecord("admin", "other", 1.0))
            assert await store.administrators.find("admin") == AdministratorRecord("admin", "hash", 1.0)
            assert await store.administrators.find("root") is None
            for entry in entries:
                await store.audit.add(entry)
            assert await store.audit.newest(3) == entries[2:]

    run(work())


# -- sessions and addresses -----------------------------------------------------------------------------


def test_a_session_is_there_after_a_restart(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            wanted = draft()
            session = await store.sessions.open(wanted, POOLS, 5, noted)
        async with same_store(tmp_path) as store:
            assert await store.sessions.by_cookie(wanted.cookie_hash) == session
            assert await store.sessions.by_cookie(secrets.token_bytes(32)) is None
            assert await store.sessions.find(session.id) == session
            assert await store.sessions.live() == [session]

    run(work())


def test_the_limit_counts_live_sessions_of_that_user(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            for name in ("alice", "bob"):
                await store.users.add(user(name))
            first = await opened(store, limit=2)
            await opened(store, expires=NOW + 10, limit=2)
            assert await store.sessions.open(draft(), POOLS, 2, noted) is NotOpened.TOO_MANY
            await opened(store, "bob", limit=2)
            await opened(store, now=NOW + 11, limit=2)  # the second is over, though nobody ended it yet
            assert await store.sessions.open(draft(now=NOW + 11), POOLS, 2, noted) is NotOpened.TOO_MANY
            await store.sessions.end(first.id, EndCause.LOGOUT, NOW, NOW)
            await opened(store, now=NOW + 11, limit=2)

    run(work())


BAD_ACCOUNTS = [user(enabled=False), user(serial=8), user("bob")]


@pytest.mark.parametrize("account", BAD_ACCOUNTS)
def test_no_session_for_an_account_that_is_not_as_it_was(tmp_path, account):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(account)
            return await store.sessions.open(draft(), POOLS, 5, noted), await store.sessions.live()

    assert run(work()) == (NotOpened.USER_CHANGED, [])


def test_two_servers_never_lease_one_address_twice(tmp_path):
    async def work():
        async with new_store(tmp_path) as one, same_store(tmp_path) as other:
            await one.users.add(user())
            pools = [ip_network("10.88.0.0/24")]
            results = await asyncio.gather(
                *(opened(store, pools=pools) for _ in range(40) for store in (one, other))
            )
            return [session.address4 for session in results]

    addresses = run(work())
    assert sorted(addresses) == [ip_address(f"10.88.0.{low}") for low in range(2, 82)]


def test_an_ended_session_ends_once_and_cannot_come_back(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            wanted = draft()
            session = await store.sessions.open(wanted, POOLS, 5, noted)
            ended = await store.sessions.end(session.id, EndCause.LOGOUT, 1100.0, 1130.0)
            assert ended == replace(session, ended=1100.0, cause=EndCause.LOGOUT)
            assert await store.sessions.end(session.id, EndCause.IDLE, 1200.0, 1230.0) is None
            assert await store.sessions.end(12345, EndCause.IDLE, 1200.0, 1230.0) is None
            await store.sessions.touch({session.id: 5000.0})
            # Not even by a judge that would let it.
            resumed = await store.sessions.resume(again(wanted, 1150.0), lambda _: None, noted)
            assert resumed == Refusal(RefusalReason.ENDED, ended)
            assert await store.sessions.find(session.id) == ended
            assert await store.sessions.live() == []

    run(work())


def test_resuming_asks_the_judge_about_what_is_stored_now(tmp_path):
    elsewhere = replace(CLIENT, source="198.51.100.7", user_agent="newer")

    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            wanted = draft()
            session = await store.sessions.open(wanted, POOLS, 5, noted)
            asked = []
            resumed = await store.sessions.resume(
                again(wanted, 1100.0, client=elsewhere), asked.append, noted
            )
            assert asked == [session]
            assert resumed == replace(session, generation=2, last_seen=1100.0, client=elsewhere)
            refused = await store.sessions.resume(again(wanted, 1200.0), lambda _: RefusalReason.IDLE, noted)
            assert refused == Refusal(RefusalReason.IDLE, resumed)
            assert await store.sessions.find(session.id) == resumed
            unknown = await store.sessions.resume(again(draft(), 1200.0), asked.append, noted)
            assert unknown == Refusal(RefusalReason.UNKNOWN)

    run(work())


def test_a_session_and_its_line_in_the_audit_are_written_together_or_not_at_all(tmp_path):
    def broken(_):
        raise RuntimeError("no line")

    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            wanted = draft()
            with pytest.raises(RuntimeError, match="no line"):
                await store.sessions.open(wanted, POOLS, 5, broken)
            assert await store.sessions.find(wanted.id) is None
            session = await store.sessions.open(wanted, POOLS, 5, noted)
            assert session.address4 == ip_address("10.88.0.2")
            with pytest.raises(RuntimeError, match="no line"):
                await store.sessions.resume(again(wanted, NOW), lambda _: None, broken)
            assert await store.sessions.find(session.id) == session
            await store.sessions.resume(again(wanted, NOW), lambda _: None, noted)
            assert await store.audit.newest(9) == [noted(session)] * 2

    run(work())


def test_due_are_those_whose_time_is_over(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            pools = [ip_network("10.88.0.0/24")]
            short = await opened(store, expires=NOW + 10, idle=0, pools=pools)
            lazy = await opened(store, expires=NOW + 99, idle=20, pools=pools)
            await opened(store, expires=NOW + 99, idle=0, pools=pools)

            async def due(now):
                return {session.id for session in await store.sessions.due(now)}

            assert await due(NOW + 9.9) == set()
            assert await due(NOW + 10) == {short.id}
            await store.sessions.end(short.id, EndCause.EXPIRED, NOW + 10, NOW + 10)
            assert await due(NOW + 20) == {lazy.id}
            await store.sessions.touch({lazy.id: NOW + 15, 999: NOW})
            assert await due(NOW + 34.9) == set()
            await store.sessions.touch({lazy.id: NOW + 5})  # never back
            assert await due(NOW + 35) == {lazy.id}
            assert len(await due(NOW + 99)) == 2

    run(work())


def test_ended_among_known_sources_and_prune(tmp_path):
    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            one, two = await opened(store), await opened(store, now=NOW + 1)
            await store.sessions.end(one.id, EndCause.LOGOUT, 1100.0, 1130.0)
            many = [one.id, two.id, *range(1, 2000)]
            assert [session.id for session in await store.sessions.ended_among(many)] == [one.id]
            assert await store.sessions.known_sources(0.0, 10) == [("alice", "192.0.2.9")]
            assert await store.sessions.known_sources(NOW + 2, 10) == []
            await store.sessions.prune(1100.0)
            assert await store.sessions.find(one.id) is not None
            await store.sessions.prune(1100.1)
            assert await store.sessions.find(one.id) is None
            assert await store.sessions.live() == [two]

    run(work())


USABLE = [
    ("10.88.0.0/30", "10.88.0.2", "10.88.0.2"),
    ("10.88.0.0/16", "10.88.0.2", "10.88.255.254"),
    ("fd00::/126", "fd00::2", "fd00::3"),
    ("fd00::/64", "fd00::2", "fd00::ffff:ffff:ffff:ffff"),
]


@pytest.mark.parametrize(("pool", "first", "last"), USABLE)
def test_usable_addresses(pool, first, last):
    assert usable(ip_network(pool)) == (int(ip_address(first)), int(ip_address(last)))


def test_a_pool_that_grew_downwards_is_used_to_its_last_address(tmp_path):
    """The old pool was the upper half of the new one."""

    async def work():
        async with new_store(tmp_path) as store:
            await store.users.add(user())
            upper, whole = [ip_network("10.88.0.8/29")], [ip_network("10.88.0.0/28")]
            old = [await opened(store, pools=upper) for _ in range(5)]
            assert [str(session.address4) for session in old] == [f"10.88.0.{low}" for low in range(10, 15)]
            new = [await opened(store, pools=whole) for _ in range(8)]
            assert [str(session.address4) for session in new] == [f"10.88.0.{low}" for low in range(2, 10)]
            assert await store.sessions.open(draft(), whole, 100, noted) is NotOpened.NO_ADDRESS

    run(work())


class Leases(RuleBasedStateMachine):
    """Sessions that come and go, against the obvious way to hand out addresses."""

    sessions = Bundle("sessions")
    POOLS4 = (ip_network("10.88.0.0/29"), ip_network("10.99.0.0/30"))
    POOL6 = ip_network("fd00:88::/126")
    CANDIDATES4 = (*(ip_address(f"10.88.0.{low}") for low in range(2, 7)), ip_address("10.99.0.2"))
    CANDIDATES6 = (ip_address("fd00:88::2"), ip_address("fd00:88::3"))

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = NOW
        self.free_at: dict[object, float] = {}
        self.used: dict[object, int] = {}

    @initialize(six=st.booleans())
    def start(self, six):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.pools = (*self.POOLS4, self.POOL6) if six else self.POOLS4
        self.families = (self.CANDIDATES4, self.CANDIDATES6) if six else (self.CANDIDATES4,)
        self.store = self.runner.run(create_store(Path(self.folder.name) / "lockgate.db"))
        self.runner.run(self.store.users.add(user()))

    def teardown(self):
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
            self.folder.cleanup()
        self.runner.close()

    def lowest(self, candidates):
        free = (a for a in candidates if a not in self.used and self.free_at.get(a, 0) <= self.now)
        return next(free, None)

    @rule(target=sessions)
    def open(self):
        expected = [self.lowest(family) for family in self.families]
        result = self.runner.run(self.store.sessions.open(draft(now=self.now), self.pools, 100, noted))
        if None in expected:
            assert result is NotOpened.NO_ADDRESS
            return None
        got = [address for address in (result.address4, result.address6) if address is not None]
        assert got == expected
        self.used.update(dict.fromkeys(got, result.id))
        return result.id

    @rule(session=sessions, quarantine=st.integers(0, 30))
    def end(self, session, quarantine):
        ended = self.runner.run(
            self.store.sessions.end(session or 0, EndCause.LOGOUT, self.now, self.now + quarantine)
        )
        mine = [address for address, owner in self.used.items() if owner == session]
        assert (ended is not None) == bool(mine)
        for address in mine:
            del self.used[address]
            self.free_at[address] = self.now + quarantine

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def live_sessions_are_those_with_addresses(self):
        if hasattr(self, "store"):
            live = self.runner.run(self.store.sessions.live())
            assert {session.id for session in live} == set(self.used.values())


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
