"""The store: what was written is there for everybody, whole, and after a restart."""

import asyncio
import contextlib
import secrets
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from lockgate.model.problem import ProblemError
from lockgate.model.session import EndCause, Refusal, RefusalReason, Session
from lockgate.server.config.values import AddressRange
from lockgate.server.datadir import DataDirectory
from lockgate.server.store import create_store
from lockgate.server.store.interface import (
    ADMIN_SERVER,
    LOCAL_SERVER,
    AuditEntry,
    Grant,
    NotOpened,
    Resumption,
    SessionDraft,
    SessionFilter,
)
from lockgate.server.store.leases import usable
from tests.unit.server.store_support import CLIENT, facts, identity, new_store, run, same_store, user
from tests.unit.server.test_store_records import web

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


def child(parent):
    """A session that a browser's session starts."""
    return replace(draft(), parent=parent)


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


# -- users, administrators, audit ---------------------------------------------------------------------


def test_users_are_kept_as_they_are(place):
    async def work():
        async with new_store(place) as store:
            assert await store.users.add(user("alice"))
            assert not await store.users.add(user("alice", password_hash="other"))
            assert await store.users.add(user("alice", server=ADMIN_SERVER, password_hash="theirs"))
            assert await store.users.find(LOCAL_SERVER, "alice") == user("alice")
            assert await store.users.find(LOCAL_SERVER, "bob") is None
            await store.users.renew_hash(LOCAL_SERVER, "alice", "old", "newer")
            assert (await store.users.find(LOCAL_SERVER, "alice")).password_hash == "hash"
            await store.users.renew_hash(LOCAL_SERVER, "alice", "hash", "newer")
            assert await store.users.find(LOCAL_SERVER, "alice") == user("alice", password_hash="newer")
            assert (await store.users.find(ADMIN_SERVER, "alice")).password_hash == "theirs"

    run(work())


CHANGES = [
    (
        lambda store, name: store.users.set_password(LOCAL_SERVER, name, "new", 2000.0, 2030.0),
        EndCause.PASSWORD_CHANGED,
    ),
    (
        lambda store, name: store.users.set_enabled(LOCAL_SERVER, name, False, 2000.0, 2030.0),
        EndCause.USER_DISABLED,
    ),
    (lambda store, name: store.users.delete(LOCAL_SERVER, name, 2000.0, 2030.0), EndCause.USER_DELETED),
]


@pytest.mark.parametrize(("change", "cause"), CHANGES)
def test_a_changed_account_has_no_sessions_left(place, change, cause):
    async def work():
        async with new_store(place) as store:
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
def test_changing_nobody_says_so(place, change):
    async def work():
        async with new_store(place) as store:
            return await change(store, "nobody")

    assert run(work()) is None


def test_what_is_known_about_a_user_changes_without_ending_anything(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user("alice"))
            session = await opened(store)
            change = store.users.update
            assert await change(LOCAL_SERVER, "nobody", full_name="N") is None
            assert await change(LOCAL_SERVER, "alice") == user("alice")
            values = {"full_name": "Alice Ärmel", "groups": ["Staff", 'a"b'], "attributes": {"mail": ["a@x"]}}
            changed = await change(LOCAL_SERVER, "alice", **values, must_change=True)
            expected = {**values, "groups": ("Staff", 'a"b'), "attributes": {"mail": ("a@x",)}}
            assert changed == replace(user("alice"), **expected, must_change=True)
            assert await store.users.find(LOCAL_SERVER, "alice") == changed
            assert await store.sessions.live() == [session]
            await store.users.set_password(LOCAL_SERVER, "alice", "new", 2000.0, 2030.0)
            assert not (await store.users.find(LOCAL_SERVER, "alice")).must_change

    run(work())


def test_users_by_the_page(place):
    async def work():
        async with new_store(place) as store:
            for name in ("eve", "bob", "carol", "Über%_", "dora"):
                await store.users.add(user(name))
            await store.users.add(replace(user("root", server=ADMIN_SERVER), full_name="Bobby"))
            first = await store.users.page(None, "", None, 2)
            assert [each.name for each in first] == ["root", "bob"]
            rest = await store.users.page(None, "", (first[-1].server, first[-1].name), 9)
            assert {each.name for each in rest} == {"carol", "dora", "eve", "Über%_"}
            for text, server, found in (
                ("BOB", None, ["root", "bob"]),
                ("BOB", LOCAL_SERVER, ["bob"]),
                ("%_", None, ["Über%_"]),
                ("Ü", None, ["Über%_"]),
                ("%", LOCAL_SERVER, ["Über%_"]),
                ("nobody", None, []),
            ):
                assert [each.name for each in await store.users.page(server, text, None, 9)] == found
            assert [await store.users.count(), await store.users.count(ADMIN_SERVER)] == [6, 1]
            for server, count in ((None, 5), (ADMIN_SERVER, 0), (LOCAL_SERVER, 5)):
                hidden = {ADMIN_SERVER, "nowhere"}
                seen = await store.users.page(server, "", None, 9, without=hidden)
                assert len(seen) == count == await store.users.count(server, without=hidden)
                assert ADMIN_SERVER not in {each.server for each in seen}
            assert [each.name for each in await store.users.all(ADMIN_SERVER)] == ["root"]

    run(work())


# -- sessions and addresses -----------------------------------------------------------------------------


def test_a_session_is_there_after_a_restart(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            wanted = draft()
            session = await store.sessions.open(wanted, POOLS, 5, noted)
        async with same_store(place) as store:
            assert await store.sessions.by_cookie(wanted.cookie_hash) == session
            assert await store.sessions.by_cookie(secrets.token_bytes(32)) is None
            assert await store.sessions.find(session.id) == session
            assert await store.sessions.live() == [session]

    run(work())


def test_the_limit_counts_live_sessions_of_that_user(place):
    async def work():
        async with new_store(place) as store:
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


def test_users_of_two_servers_and_realms_are_counted_apart(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            await store.users.add(user(server="Other"))
            other = replace(draft(), identity=identity(server="Other", realm="Guests"))
            ours = await opened(store, limit=1)
            theirs = await store.sessions.open(other, POOLS, 1, noted, max_in_realm=1)
            assert (theirs.server, theirs.realm) == ("Other", "Guests")
            third = replace(other, id=5, cookie_hash=bytes(32))
            assert await store.sessions.open(third, POOLS, 9, noted, max_in_realm=1) is NotOpened.REALM_FULL
            counts = [
                await store.sessions.count(server, "alice", NOW) for server in (LOCAL_SERVER, "Other", "X")
            ]
            assert counts == [1, 1, 0]
            assert [await store.sessions.count_in_realm(realm, NOW) for realm in ("Users", "Guests")] == [
                1,
                1,
            ]
            assert await store.sessions.live("alice", "Other") == [theirs]
            assert {session.server for session in await store.sessions.live("alice")} == {
                LOCAL_SERVER,
                "Other",
            }
            await store.users.set_enabled("Other", "alice", False, NOW, NOW)
            assert await store.sessions.live() == [ours]

    run(work())


BAD_ACCOUNTS = [user(enabled=False), user(serial=8), user("bob")]


@pytest.mark.parametrize("account", BAD_ACCOUNTS)
def test_no_session_for_an_account_that_is_not_as_it_was(place, account):
    async def work():
        async with new_store(place) as store:
            await store.users.add(account)
            return await store.sessions.open(draft(), POOLS, 5, noted), await store.sessions.live()

    assert run(work()) == (NotOpened.USER_CHANGED, [])


def test_two_servers_never_lease_one_address_twice(place):
    async def work():
        async with new_store(place) as one, same_store(place) as other:
            await one.users.add(user())
            pools = [ip_network("10.88.0.0/24")]
            results = await asyncio.gather(
                *(opened(store, pools=pools) for _ in range(40) for store in (one, other))
            )
            return [session.address4 for session in results]

    addresses = run(work())
    assert sorted(addresses) == [ip_address(f"10.88.0.{low}") for low in range(2, 82)]


def test_an_ended_session_ends_once_and_cannot_come_back(place):
    async def work():
        async with new_store(place) as store:
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


def test_resuming_asks_the_judge_about_what_is_stored_now(place):
    elsewhere = replace(CLIENT, source="198.51.100.7", user_agent="newer")

    async def work():
        async with new_store(place) as store:
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


def test_a_client_says_its_name_for_its_own_generation_alone(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            session = await store.sessions.open(wanted := draft(), POOLS, 5, noted)
            await store.sessions.name_host(session.id, 1, "first")
            assert (await store.sessions.find(session.id)).client == replace(CLIENT, host_name="first")
            await store.sessions.resume(again(wanted, 1100.0), lambda _: None, noted)
            await store.sessions.name_host(session.id, 1, "late")
            assert (await store.sessions.find(session.id)).client == CLIENT
            await store.sessions.name_host(session.id, 2, "second")
            await store.sessions.end(session.id, EndCause.LOGOUT, 1200.0, 1230.0, noted)
            await store.sessions.name_host(session.id, 2, "later")
            assert (await store.sessions.find(session.id)).client.host_name == "second"

    run(work())


def test_a_session_and_its_line_in_the_audit_are_written_together_or_not_at_all(place):
    def broken(_):
        raise RuntimeError("no line")

    async def work():
        async with new_store(place) as store:
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
            await store.sessions.end(session.id, EndCause.LOGOUT, NOW, NOW, noted)
            assert len(await store.audit.newest(9)) == 3

    run(work())


def test_what_led_to_a_session_is_written_with_it_or_with_the_refusal(place):
    before = AuditEntry(NOW, "sign-in", "ok", "", "alice", "", None, "")

    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            session = await store.sessions.open(draft(), POOLS, 1, noted, before=[before])
            assert await store.audit.newest(9) == [before, noted(session)]
            refused = await store.sessions.open(draft(), POOLS, 1, noted, before=[before])
            assert refused is NotOpened.TOO_MANY
            assert await store.audit.newest(9) == [before, noted(session), before]

    run(work())


def test_a_session_that_went_on_is_not_ended_for_an_earlier_generation(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            wanted = draft()
            session = await store.sessions.open(wanted, POOLS, 1, noted)
            await store.sessions.resume(again(wanted, NOW), lambda _: None, noted)
            ended = await store.sessions.end(session.id, EndCause.IDLE, NOW, NOW, noted, generation=1)
            assert ended is None
            assert len(await store.audit.newest(9)) == 2
            ended = await store.sessions.end(session.id, EndCause.IDLE, NOW, NOW, noted, generation=2)
            assert (ended.ended, ended.cause) == (NOW, EndCause.IDLE)
            assert await store.sessions.find(session.id) == ended

    run(work())


def test_due_are_those_whose_time_is_over(place):
    async def work():
        async with new_store(place) as store:
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


def test_ended_among_known_sources_and_prune(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            one, two = await opened(store), await opened(store, now=NOW + 1)
            await store.sessions.end(one.id, EndCause.LOGOUT, 1100.0, 1130.0)
            many = [one.id, two.id, *range(1, 2000)]
            assert [session.id for session in await store.sessions.ended_among(many)] == [one.id]
            assert await store.sessions.known_sources(0.0, 10) == [(LOCAL_SERVER, "alice", "192.0.2.9")]
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
    ("10.88.0.9/32", "10.88.0.9", "10.88.0.9"),
]


@pytest.mark.parametrize(("pool", "first", "last"), USABLE)
def test_usable_addresses(pool, first, last):
    assert usable(ip_network(pool)) == (int(ip_address(first)), int(ip_address(last)))


def test_a_pool_that_grew_downwards_is_used_to_its_last_address(place):
    """The old pool was the upper half of the new one."""

    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            upper, whole = [ip_network("10.88.0.8/29")], [ip_network("10.88.0.0/28")]
            old = [await opened(store, pools=upper) for _ in range(5)]
            assert [str(session.address4) for session in old] == [f"10.88.0.{low}" for low in range(10, 15)]
            new = [await opened(store, pools=whole) for _ in range(8)]
            assert [str(session.address4) for session in new] == [f"10.88.0.{low}" for low in range(2, 10)]
            assert await store.sessions.open(draft(), whole, 100, noted) is NotOpened.NO_ADDRESS

    run(work())


def test_addresses_come_from_ranges_too(place):
    pools = [AddressRange(ip_address("10.88.0.250"), ip_address("10.88.1.1")), ip_network("10.99.0.7/32")]

    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            sessions = [await opened(store, pools=pools) for _ in range(9)]
            assert await store.sessions.open(draft(), pools, 100, noted) is NotOpened.NO_ADDRESS
            return [str(session.address4) for session in sessions]

    expected = [f"10.88.0.{low}" for low in range(250, 256)] + ["10.88.1.0", "10.88.1.1", "10.99.0.7"]
    assert run(work()) == expected


def test_a_session_follows_a_later_decision(place):
    later = Grant(("Staff", "Dev"), 9, NOW + 50, 60, 30, facts(source="198.51.100.7"))

    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            wanted = draft()
            session = await store.sessions.open(wanted, POOLS, 9, noted)
            ended = await opened(store)
            await store.sessions.end(ended.id, EndCause.LOGOUT, NOW, NOW)
            assert (session.revision, session.facts) == (1, facts())
            updated = await store.sessions.update_many({session.id: later, ended.id: later, 5: later}, noted)
            expected = replace(
                session, roles=later.roles, revision=9, expires=NOW + 50, idle_seconds=60, heartbeat_seconds=30,
                facts=later.facts,
            )  # fmt: skip
            assert updated == [expected] == await store.sessions.live()
            # Without facts those of before stay.
            grant = Grant(("Users",), 10, NOW + 60, 0)
            [again_] = await store.sessions.update_many({session.id: grant})
            assert again_ == replace(
                expected, roles=("Users",), revision=10, expires=NOW + 60, idle_seconds=0, heartbeat_seconds=0
            )
            # A judge may decide anew while it lets a client in.
            resumed = await store.sessions.resume(again(wanted, NOW), lambda _: later, noted)
            assert (resumed.roles, resumed.revision, resumed.generation) == (("Staff", "Dev"), 9, 2)

    run(work())


def test_an_extended_session_ends_later_and_never_earlier(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            session = await opened(store, expires=NOW + 100)
            ended = await opened(store)
            await store.sessions.end(ended.id, EndCause.LOGOUT, NOW, NOW)

            async def extend(number, now, until):
                return await store.sessions.extend(number, now, now - 1, until, noted)

            first = await extend(session.id, NOW + 60, NOW + 160)
            assert first == replace(session, extended=NOW + 59, expires=NOW + 160)
            assert first.counted_from == NOW + 59
            second = await extend(session.id, NOW + 70, NOW + 80)
            assert second == replace(session, extended=NOW + 69, expires=NOW + 160)
            assert await extend(session.id, NOW + 160, NOW + 999) is None
            assert await extend(ended.id, NOW, NOW + 999) is None
            assert await extend(5, NOW, NOW + 999) is None
            assert await store.sessions.live() == [second]
            # Only what happened is in the audit.
            assert [e.session for e in await store.audit.newest(9) if e.event == "noted"] == [
                session.id,
                ended.id,
                session.id,
                session.id,
            ]

    run(work())


def test_a_decision_made_before_an_extension_does_not_undo_it(place):
    """Roles were mapped anew, the user clicked, and only then what was decided is written down."""

    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            session = await opened(store, expires=NOW + 100)
            decided = Grant(("Staff",), 2, NOW + 50, 0, counted_from=session.counted_from)
            await store.sessions.extend(session.id, NOW + 40, NOW + 40, NOW + 140, noted)
            [later] = await store.sessions.update_many({session.id: decided})
            assert (later.roles, later.expires, later.extended) == (("Staff",), NOW + 90, NOW + 40)

    run(work())


def test_live_sessions_by_the_page(place):
    pools = [ip_network("10.88.0.0/24"), ip_network("fd00:88::/64")]

    async def work():
        async with new_store(place) as store:
            for name in ("ann", "bob", "cat"):
                await store.users.add(user(name))
            made = [
                await opened(store, name, now=NOW + n // 2, pools=pools)
                for n, name in enumerate(("bob", "ann", "cat") * 3)
            ]
            await store.sessions.end(made[4].id, EndCause.LOGOUT, NOW, NOW + 999)
            live = [session for session in made if session is not made[4]]

            async def pages(size, **kwargs):
                found, after = [], None
                while True:
                    page = await store.sessions.live_page(SessionFilter(), limit=size, after=after, **kwargs)
                    assert page.total == 8
                    found += page.sessions
                    after = page.following
                    if after is None:
                        return found

            for size in (1, 3, 8):
                for sort, key in (("started", lambda s: s.started), ("user", lambda s: s.user)):
                    expected = sorted(live, key=lambda s: (key(s), s.id))
                    assert await pages(size, sort=sort) == expected
                    assert await pages(size, sort=sort, descending=True) == expected[::-1]
            filters = [
                (SessionFilter(user="bob"), {"bob"}, 3), (SessionFilter(text="LAPTOP"), {"ann", "bob", "cat"}, 8),
                (SessionFilter(text=str(live[0].address6)), {live[0].user}, 1), (SessionFilter(text="%"), set(), 0),
                (SessionFilter(role="Users", realm="Users", server=LOCAL_SERVER), {"ann", "bob", "cat"}, 8),
                (SessionFilter(role="User"), set(), 0), (SessionFilter(realm="Guests"), set(), 0),
            ]  # fmt: skip
            for wanted, users, total in filters:
                page = await store.sessions.live_page(wanted, limit=50)
                assert ({session.user for session in page.sessions}, page.total) == (users, total), wanted
            assert await store.sessions.live_count() == 8
            bad = [
                "",
                "[]",
                "[1]",
                '["x", 1]',
                "[true, 1]",
                "[1, -1]",
                "[1, 1e400]",
                '[1e999, "1e5"]',
                '[1, "-1"]',
                f'[1{"0" * 400}, "1"]',
                "[1, null]",
                "[" * 9999,
                "\x00",
            ]
            for after in bad:
                with pytest.raises(ProblemError) as caught:
                    await store.sessions.live_page(SessionFilter(), after=after)
                assert caught.value.problem.code == "bad-page"
            for text in ("\ud800", "a\x00b"):
                with contextlib.suppress(
                    ProblemError
                ):  # some of it PostgreSQL's texts cannot even be asked for
                    assert (await store.sessions.live_page(SessionFilter(text=text))).total == 0

    run(work())


def test_sessions_of_a_browser_and_many_at_once(place):
    async def work():
        async with new_store(place) as store:
            await store.users.add(user())
            for number in (1, 2):
                assert await store.web_sessions.add(web(number))
            mine = [
                await store.sessions.open(replace(draft(), parent="w1"), POOLS, 9, noted) for _ in range(2)
            ]
            other = await store.sessions.open(replace(draft(), parent="w2"), POOLS, 9, noted)
            assert await store.sessions.of_parent("w1") == sorted(mine, key=lambda session: session.id)
            wanted = [session.id for session in mine] + [12]
            assert await store.sessions.live_among(wanted) == set(wanted[:2])
            ended = await store.sessions.end_many(wanted, EndCause.DISCONNECTED, 1100.0, 1130.0, noted, noted)
            assert [session.id for session in ended] == wanted[:2]
            assert {(session.ended, session.cause) for session in ended} == {(1100.0, EndCause.DISCONNECTED)}
            assert await store.sessions.end_many(wanted, EndCause.DISCONNECTED, 1200.0, 1230.0, noted) == []
            assert await store.sessions.live() == [other]
            assert await store.sessions.live_among(wanted) == set()
            assert (
                await store.sessions.live_numbers()
                == [other.id]
                == await store.sessions.live_numbers("alice")
            )
            assert await store.sessions.live_numbers("bob") == []
            assert len(await store.audit.newest(99)) == 7

    run(work())


def test_a_browser_that_is_signed_out_starts_no_session(place):
    async def work():
        async with new_store(place) as store:
            for account in (user(), user("bob")):
                await store.users.add(account)
            for record in (web(1), web(2, expires=NOW), web(3, "bob"), web(4, audience="console")):
                assert await store.web_sessions.add(record)
            assert isinstance(await store.sessions.open(child("w1"), POOLS, 9, noted), Session)
            assert await store.web_sessions.end("w1", "logout", NOW)
            for parent in ("w1", "w2", "w3", "w4", "none"):
                opened = await store.sessions.open(child(parent), POOLS, 9, noted)
                assert opened is NotOpened.PARENT_OVER, parent
            assert len(await store.sessions.live()) == 1
            assert len(await store.audit.newest(9)) == 1

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
        place = DataDirectory(Path(self.folder.name))
        place.database.parent.mkdir()
        self.pools = (*self.POOLS4, self.POOL6) if six else self.POOLS4
        self.families = (self.CANDIDATES4, self.CANDIDATES6) if six else (self.CANDIDATES4,)
        self.store = self.runner.run(create_store(place))
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
