"""Records of users in the store: changed in one step, moved with their auth servers, exchanged by number."""

import asyncio
import contextlib

from lockgate.model.user_record import Version
from lockgate.server.store.interface import LOCAL_SERVER, Change, PeerRecord, RevisionRecord
from lockgate.server.store.user_records import KEEP_DELETED, MAX_AHEAD, MAX_ITEMS, MAX_OWN_DELETED
from tests.unit.server.store_support import new_store, run, same_store, user

NOW = 1_000_000_000_000  # milliseconds
DARK, LIGHT = '"dark"', '"light"'
COLOURS, DENSITY = "preference:colours", "preference:density"
OTHER = "f" * 32  # another gateway


def edit(**items):
    """An edit of preferences."""
    return lambda _: {f"preference:{name}": value for name, value in items.items()}


def change(item=COLOURS, text=DARK, *, time=NOW, who="alice", logical="Staff", origin=OTHER):
    return Change(logical, who, item, Version(time, origin, text))


async def synchronise(store, servers, renamed=None):
    """A revision with these logical servers."""
    number = await store.revisions.current_number()
    record = RevisionRecord(number + 1, 1.0, "test", "", None, "{}", "")
    assert await store.revisions.add(record, number, renamed_servers=renamed, logical_servers=servers)


def test_a_record_is_one_users(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            assert await shelf.change(LOCAL_SERVER, "alice", edit(colours=DARK), NOW) == {COLOURS: DARK}
            assert await shelf.get(LOCAL_SERVER, "alice") == {COLOURS: DARK}
            assert await shelf.get(LOCAL_SERVER, "bob") == {} == await shelf.get("Other", "alice")
            # An edit sees what is there, and one that fails changes nothing.
            seen = []

            def fail(items):
                seen.append(dict(items))
                raise ValueError

            with contextlib.suppress(ValueError):
                await shelf.change(LOCAL_SERVER, "alice", fail, NOW)
            assert seen == [{COLOURS: DARK}]
            assert await shelf.change(LOCAL_SERVER, "alice", edit(colours=None, density=LIGHT), NOW) == {
                DENSITY: LIGHT
            }
            # What is not synchronised is nobody else's.
            assert (await shelf.changes(0, 10)).changes == ()
            assert await shelf.clear(LOCAL_SERVER, "alice", NOW) == 1
            assert await shelf.get(LOCAL_SERVER, "alice") == {}

    run(work())


def test_two_who_edit_at_once_lose_nothing(place):
    async def work():
        async with new_store(place) as store, same_store(place) as other:

            def one_more(items):
                return {f"bookmark:{len(items):032x}": DARK}

            shelves = [store.user_records, other.user_records] * 10
            await asyncio.gather(*(each.change(LOCAL_SERVER, "alice", one_more, NOW) for each in shelves))
            assert len(await store.user_records.get(LOCAL_SERVER, "alice")) == 20

    run(work())


def test_a_deleted_user_leaves_no_record(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            for synchronised in ({}, {LOCAL_SERVER: "Staff"}):
                await synchronise(store, synchronised)
                await store.users.add(user())
                await shelf.change(LOCAL_SERVER, "alice", edit(colours=DARK), NOW)
                await shelf.change(LOCAL_SERVER, "bob", edit(colours=DARK), NOW)
                await store.users.delete(LOCAL_SERVER, "alice", NOW / 1000 + 5, 0.0)
                assert await shelf.get(LOCAL_SERVER, "alice") == {}
                assert await shelf.get(LOCAL_SERVER, "bob") == {COLOURS: DARK}
            # Other gateways hear of it.
            texts = {(each.user, each.version.text) for each in (await shelf.changes(0, 10)).changes}
            assert texts == {("alice", None), ("bob", DARK)}

    run(work())


def test_records_follow_their_auth_servers(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            await shelf.change("One", "alice", edit(colours=DARK), NOW)
            await shelf.change("Two", "alice", edit(colours=LIGHT, density=LIGHT), NOW + 5)
            await synchronise(store, {}, {"One": "Two", "Two": "One"})
            assert await shelf.get("Two", "alice") == {COLOURS: DARK}
            assert await shelf.get("One", "alice") == {COLOURS: LIGHT, DENSITY: LIGHT}
            # Together: the later of each.
            await synchronise(store, {"One": "Staff", "Two": "Staff"})
            both = {COLOURS: LIGHT, DENSITY: LIGHT}
            assert await shelf.get("One", "alice") == both == await shelf.get("Two", "alice")
            assert len((await shelf.changes(0, 10)).changes) == 2
            # Renamed while synchronised, and still there.
            await synchronise(store, {"Three": "Staff", "Two": "Staff"}, {"One": "Three"})
            assert await shelf.get("Three", "alice") == both
            # One goes its own way and takes a copy along; the other stays.
            await synchronise(store, {"Two": "Staff"})
            await shelf.change("Three", "alice", edit(colours=DARK), NOW + 10)
            assert await shelf.get("Two", "alice") == both
            await synchronise(store, {"Two": "People"})
            assert await shelf.get("Two", "alice") == both
            assert await shelf.logical_names() == {"People"}
            await synchronise(store, {})
            assert await shelf.get("Two", "alice") == both
            assert (await shelf.changes(0, 10)).changes == ()

    run(work())


def test_changes_are_taken_over_only_if_they_are_later_and_ours(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            await synchronise(store, {LOCAL_SERVER: "Staff"})
            merged = await shelf.merge([change(), change(logical="Else")], NOW)
            assert (merged.taken, dict(merged.refused)) == (1, {"not-synchronised": 1})
            assert await shelf.get(LOCAL_SERVER, "alice") == {COLOURS: DARK}
            # Once more, or earlier: nothing happens, so nothing goes round in circles.
            number = (await shelf.changes(0, 10)).following
            assert (await shelf.merge([change(), change(text=LIGHT, time=NOW - 1)], NOW)).taken == 0
            assert (await shelf.changes(0, 10)).following == number
            # Ours is later than what it replaces, although our clock is behind.
            await shelf.change(LOCAL_SERVER, "alice", edit(colours=LIGHT), NOW - 60_000)
            [mine] = (await shelf.changes(number, 10)).changes
            assert (mine.version.time, mine.version.text) == (NOW + 1, LIGHT)
            assert (await shelf.merge([change()], NOW)).taken == 0
            # A deletion counts like a change, and stays.
            assert (await shelf.merge([change(text=None, time=NOW + 2)], NOW)).taken == 1
            assert (await shelf.merge([change(time=NOW + 1)], NOW)).taken == 0
            assert await shelf.get(LOCAL_SERVER, "alice") == {}
            await shelf.prune(NOW + KEEP_DELETED)
            assert len((await shelf.changes(0, 10)).changes) == 1
            await shelf.prune(NOW + KEEP_DELETED + 10)
            assert (await shelf.changes(0, 10)).changes == ()
            assert (await shelf.merge([change(text=None)], NOW + KEEP_DELETED + 10)).taken == 0

    run(work())


def test_what_others_can_fill_is_bounded(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            await synchronise(store, {LOCAL_SERVER: "Staff"})
            merged = await shelf.merge([change(time=NOW + MAX_AHEAD + 1)], NOW)
            assert (merged.taken, dict(merged.refused)) == (0, {"ahead": 1})
            assert (await shelf.merge([change(time=NOW + MAX_AHEAD)], NOW)).taken == 1
            many = [change(f"bookmark:{number:032x}") for number in range(MAX_ITEMS + 5)]
            merged = await shelf.merge(many, NOW)
            assert (merged.taken, dict(merged.refused)) == (MAX_ITEMS - 1, {"too-many": 6})
            # One's own deletions are not kept without end either.
            items = [f"bookmark:{number:032x}" for number in range(MAX_OWN_DELETED + 3)]
            await shelf.change(LOCAL_SERVER, "bob", lambda _: dict.fromkeys(items, DARK), NOW)
            await shelf.change(LOCAL_SERVER, "bob", lambda _: dict.fromkeys(items), NOW)
            bobs = [each for each in (await shelf.changes(0, 9999)).changes if each.user == "bob"]
            assert len(bobs) == MAX_OWN_DELETED

    run(work())


def test_a_clock_that_was_wrong_is_no_trap(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            await synchronise(store, {LOCAL_SERVER: "Staff"})
            year = 365 * 86400 * 1000
            await shelf.change(LOCAL_SERVER, "alice", edit(colours=DARK, density=LIGHT), NOW + year)
            await shelf.change(LOCAL_SERVER, "alice", edit(colours=LIGHT), NOW)
            assert await shelf.set_back(NOW + 5) == 1
            assert await shelf.set_back(NOW + 5) == 0
            times = {each.item: each.version.time for each in (await shelf.changes(0, 10)).changes}
            assert times == {COLOURS: NOW, DENSITY: NOW + 5}

    run(work())


def test_changes_are_asked_for_by_number(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            await synchronise(store, {LOCAL_SERVER: "Staff"})
            for number in range(5):
                await shelf.change(LOCAL_SERVER, f"u{number}", edit(colours=DARK), NOW)
            first = await shelf.changes(0, 2)
            assert [each.user for each in first.changes] == ["u0", "u1"]
            assert await shelf.waiting(first.following) == 3
            await shelf.change(LOCAL_SERVER, "u0", edit(colours=LIGHT), NOW)
            rest = await shelf.changes(first.following, 9)
            assert [each.user for each in rest.changes] == ["u2", "u3", "u4", "u0"]
            assert await shelf.changes(rest.following, 9) == type(rest)((), rest.following)
            # Numbers go on although the rows with the greatest ones are gone.
            await synchronise(store, {})
            await synchronise(store, {LOCAL_SERVER: "Staff"})
            assert len((await shelf.changes(rest.following, 9)).changes) == 5

    run(work())


def test_what_is_known_of_peers(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.user_records
            peer = PeerRecord("west", OTHER, frozenset({"Staff"}), 3, 4, 1, 5.0, "")
            await shelf.keep_peer(peer)
            await shelf.keep_peer(PeerRecord("east"))
            assert await shelf.peers() == {"west": peer, "east": PeerRecord("east")}
            await shelf.forget_peers(["west"])
            assert await shelf.peers() == {"west": peer}
            assert len(await shelf.origin()) == 32
            assert await shelf.origin() == await shelf.origin()

    run(work())
