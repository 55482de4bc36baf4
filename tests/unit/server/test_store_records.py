"""The smaller shelves of the store: browsers, tokens, configuration, decisions, samples, uploads."""

import asyncio
import hashlib
import json
from dataclasses import replace

import pytest
from sqlalchemy import text

from lockgate.model.session import EndCause
from lockgate.server.store.interface import (
    ADMIN_SERVER,
    LOCAL_SERVER,
    AuditEntry,
    DecisionRecord,
    DraftRecord,
    HandleRecord,
    RevisionRecord,
    Sample,
    TokenRecord,
    UploadRecord,
    WebSessionRecord,
)
from lockgate.server.store.verify import verify
from tests.unit.server.store_support import facts, new_store, run, same_store, user

NOW = 1000.0


def web(number=1, name="alice", **fields):
    record = WebSessionRecord(
        id=f"w{number}", cookie_hash=bytes([number]) * 32, csrf=bytes(32), audience="portal", user=name,
        server=LOCAL_SERVER, realm="Users", roles=("Users",), serial=7, facts=facts(name), source="192.0.2.9",
        user_agent="browser", started=NOW + number, expires=NOW + 3600, idle_seconds=600, last_seen=NOW + number,
    )  # fmt: skip
    return replace(record, **fields)


# -- browsers ---------------------------------------------------------------------------------------------------


def test_a_browser_session_lives_and_ends_once(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.web_sessions
            await store.users.add(user())
            assert await shelf.add(web())
            assert await shelf.by_cookie(bytes([1]) * 32) == web() == await shelf.find("w1")
            assert await shelf.by_cookie(bytes(32)) is None
            await shelf.touch({"w1": NOW + 50, "w9": NOW})
            await shelf.touch({"w1": NOW + 40})
            assert await shelf.update_roles("w1", ["A", "B"])
            fresh = replace(web().facts, groups=("Dev",))
            assert await shelf.update_facts("w1", fresh)
            seen = replace(web(), last_seen=NOW + 50, roles=("A", "B"), facts=fresh)
            assert await shelf.find("w1") == seen
            assert [each.id for each in await shelf.due(NOW + 649)] == []
            assert [each.id for each in await shelf.due(NOW + 650)] == ["w1"]
            assert await shelf.end("w1", "idle", 2000.0)
            assert not await shelf.end("w1", "logout", 2001.0)
            assert not await shelf.end("w9", "logout", 2001.0)
            assert not await shelf.update_roles("w1", ["C"])
            assert not await shelf.update_facts("w1", fresh)
            ended = replace(seen, ended=2000.0, cause="idle")
            assert await shelf.by_cookie(bytes([1]) * 32) == ended
            assert (await shelf.due(9e9), await shelf.live()) == ([], [])
            assert await shelf.live_counts() == {"console": 0, "portal": 0}
            await shelf.prune(2000.0)
            assert await shelf.find("w1") == ended
            await shelf.prune(2000.1)
            assert await shelf.find("w1") is None

    run(work())


def test_a_browser_session_is_extended(place):
    def noted(record):
        return AuditEntry(NOW, "noted", "ok", "", record.user, "", None, f"{record.expires:g}")

    async def work():
        async with new_store(place) as store:
            shelf = store.web_sessions
            await store.users.add(user())
            await shelf.add(web())
            extended = replace(web(), extended=NOW + 600, expires=NOW + 4200)
            assert (
                await shelf.extend("w1", NOW + 600, NOW + 600, NOW + 4200, noted)
                == extended
                == await shelf.find("w1")
            )
            assert (await shelf.extend("w1", NOW + 700, NOW + 700, NOW + 800, noted)).expires == NOW + 4200
            assert await shelf.extend("w1", NOW + 4200, NOW + 4200, NOW + 9999, noted) is None
            await shelf.end("w1", "logout", NOW + 4000)
            assert await shelf.extend("w1", NOW + 4000, NOW + 4000, NOW + 9999, noted) is None
            assert await shelf.extend("w9", NOW, NOW, NOW + 9999, noted) is None
            assert [each.text for each in await store.audit.newest(9)] == ["5200", "5200"]

    run(work())


def test_browsers_are_counted_and_ended_by_user(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.web_sessions
            await store.users.add(user())
            await store.users.add(user(server=ADMIN_SERVER))
            assert await shelf.add(web(1), max_per_user=1)
            assert not await shelf.add(web(2), max_per_user=1)
            assert await shelf.add(web(2), max_per_user=2)
            assert await shelf.add(web(3, server=ADMIN_SERVER, audience="console"), max_per_user=1)
            # The account is not as it was at the sign-in, or not there.
            assert not await shelf.add(web(4, serial=8))
            assert not await shelf.add(web(4, "bob"))
            assert [each.id for each in await shelf.live("portal")] == ["w1", "w2"]
            assert await shelf.live_counts() == {"console": 1, "portal": 2}
            assert [each.id for each in await shelf.live(user="alice", server=ADMIN_SERVER)] == ["w3"]
            assert await shelf.end_of_user(LOCAL_SERVER, "alice", "logout", NOW, keep="w2") == ["w1"]
            # A new password ends the others', a disabled account its own too.
            assert await shelf.add(web(5))
            await store.users.set_password(LOCAL_SERVER, "alice", "new", NOW, NOW, keep="w5")
            assert [each.id for each in await shelf.live()] == ["w3", "w5"]
            await store.users.set_enabled(LOCAL_SERVER, "alice", False, NOW, NOW)
            assert (await shelf.find("w5")).cause == EndCause.USER_DISABLED.value
            assert [each.id for each in await shelf.live()] == ["w3"]
            assert not await shelf.add(web(6))

    run(work())


def test_a_handle_is_used_once(place):
    async def work():
        async with new_store(place) as store, same_store(place) as other:
            await store.users.add(user())
            await store.web_sessions.add(web())
            for number in range(1, 5):
                await store.handles.add(bytes([number]) * 32, "w1", "https://gw/", NOW + 60)
            takers = [shelf.handles.take(bytes([1]) * 32, NOW) for shelf in (store, other) * 4]
            taken = [each for each in await asyncio.gather(*takers) if each is not None]
            assert taken == [HandleRecord("w1", "https://gw/", NOW + 60)]
            assert await store.handles.take(bytes([2]) * 32, NOW + 60) is None
            assert await store.handles.take(bytes([2]) * 32, NOW) is None  # showing it late used it up
            await store.handles.prune(NOW + 59)
            # A session that has ended takes its handles along.
            await store.web_sessions.end("w1", "logout", NOW)
            assert await store.handles.take(bytes([3]) * 32, NOW) is None
            await store.web_sessions.prune(NOW + 1)

    run(work())


def test_tokens(place):
    token = TokenRecord("t1", "backup", bytes(32), "admin", ("config:read", "logs:read"), NOW, NOW + 99)

    async def work():
        async with new_store(place) as store:
            shelf = store.tokens
            assert await shelf.add(token)
            assert not await shelf.add(replace(token, id="t2", hash=bytes([2]) * 32))
            other = replace(token, id="t3", owner="eve", hash=bytes([3]) * 32)
            assert await shelf.add(other)
            assert await shelf.by_hash(bytes(32)) == token == await shelf.find("t1")
            assert await shelf.by_hash(bytes([2]) * 32) is None
            await shelf.touch("t1", NOW + 5)
            assert await shelf.revoke("t1", NOW + 6)
            assert not await shelf.revoke("t1", NOW + 7)
            assert await shelf.all("admin") == [replace(token, last_used=NOW + 5, revoked=NOW + 6)]
            assert await shelf.delete("t1")
            assert not await shelf.delete("t1")
            assert await shelf.all() == [other]

    run(work())


# -- configuration --------------------------------------------------------------------------------------------


def revision(number, tree="{}"):
    base = number - 1 or None
    return RevisionRecord(
        number,
        NOW + number,
        "admin",
        f"reason {number}",
        base,
        tree,
        hashlib.sha256(tree.encode()).hexdigest(),
    )


NOTE = AuditEntry(NOW, "config-commit", "ok", "", "admin", "local", None, "", "admin", "", 2)


def test_revisions_follow_each_other(place):
    tree = json.dumps({"text": "ü\x00\ud800" * 50_000})

    async def work():
        async with new_store(place) as store, same_store(place) as other:
            shelf = store.revisions
            assert (await shelf.current_number(), await shelf.current(), await shelf.log(5)) == (0, None, [])
            assert await shelf.add(revision(1, tree), 0)
            results = await asyncio.gather(
                *(each.revisions.add(revision(2), 1, note=NOTE) for each in (store, other))
            )
            assert sorted(results) == [False, True]
            assert not await shelf.add(revision(2), 1)
            with pytest.raises(ValueError, match="revision 9 cannot follow"):
                await shelf.add(revision(9), 2)
            assert await shelf.current_number() == 2
            assert await shelf.current() == revision(2)
            assert await shelf.get(1) == revision(1, tree)
            assert await shelf.get(3) is None
            assert await shelf.add(revision(3), 2)
            assert [each.number for each in await shelf.log(2)] == [3, 2]
            assert await shelf.log(5, before=2) == [replace(revision(1, tree), tree="")]
            assert await store.audit.newest(5) == [NOTE]

    run(work())


def test_revisions_are_found_by_what_they_hold(place):
    async def work():
        async with new_store(place) as store:
            shelf = store.revisions
            for number, text in enumerate(("a_b%-1", "a_b%-1", "axbc-1", "\N{SNOWMAN}"), 1):
                tree = json.dumps({"token": text}, ensure_ascii=False)
                assert await shelf.add(revision(number, tree), number - 1)
            assert (await shelf.holding("a_b%-1")).number == 2
            assert (await shelf.holding("\N{SNOWMAN}")).number == 4
            assert await shelf.holding("a_b%-2") is None

    run(work())


def test_a_commit_takes_its_draft_and_tells_the_audit_or_does_nothing(place):
    draft = DraftRecord("d1", "admin", 1, 1, NOW, NOW, "{}")

    async def work():
        async with new_store(place) as store:
            await store.revisions.add(revision(1), 0)
            assert await store.drafts.add(draft)
            assert not await store.drafts.add(replace(draft, id="d2"), most=1)
            assert await store.drafts.edit("d1", 1, '{"a": 1}', NOW + 1)
            assert not await store.drafts.edit("d1", 1, '{"b": 1}', NOW + 2)  # from the other tab
            assert await store.drafts.edit("d1", 2, '{"c": 1}', NOW + 3, base=4)
            expected = replace(draft, base=4, version=3, changed=NOW + 3, tree='{"c": 1}')
            assert await store.drafts.get("d1") == expected
            assert await store.drafts.all() == [replace(expected, tree="")]
            assert await store.drafts.head("d1") == replace(expected, tree="")
            assert await store.drafts.head("d2") is None

            commit = store.revisions.add
            assert not await commit(revision(2), 1, draft="d1", draft_version=2, note=NOTE)
            assert not await commit(revision(2), 1, draft="d9", note=NOTE)
            assert (await store.revisions.current_number(), await store.audit.newest(9)) == (1, [])
            # The audit cannot be written: there is no revision either, and the draft is still there.
            await store.database.write(lambda c: c.execute(text("UPDATE audit_ends SET number = 7")))
            with pytest.raises(Exception, match="audit"):
                await commit(revision(2), 1, draft="d1", draft_version=3, note=NOTE)
            await store.database.write(lambda c: c.execute(text("UPDATE audit_ends SET number = 0")))
            assert await store.revisions.current_number() == 1
            assert await store.drafts.get("d1") == expected
            assert await commit(revision(2), 1, draft="d1", draft_version=3, note=NOTE)
            assert await store.drafts.get("d1") is None
            assert not await store.drafts.delete("d1")
            assert await store.audit.newest(9) == [NOTE]
            assert (await verify(store.audit)).ok

    run(work())


def test_users_follow_the_names_of_their_servers(place):
    async def work():
        async with new_store(place) as store:
            for server in ("A", "B", "C"):
                await store.users.add(user(server=server))
                await store.web_sessions.add(web(ord(server), server=server))
            await store.revisions.add(revision(1), 0, renamed_servers={"A": "B", "B": "A", "C": "D" * 64})
            servers = {each.id: each.server for each in await store.web_sessions.live()}
            assert servers == {"w65": "B", "w66": "A", "w67": "D" * 64}
            assert {each.server for each in await store.users.all()} == {"A", "B", "D" * 64}

    run(work())


def test_contents_that_no_tree_names_are_removed(place):
    async def work():
        async with new_store(place) as store:
            first, last, drafted, again, fresh = [
                await store.blobs.put(name.encode(), NOW)
                for name in ("first", "last", "drafted", "again", "fresh")
            ]
            await store.blobs.put(b"again", NOW + 20)
            await store.blobs.put(b"fresh", NOW + 10)
            for number, digest in enumerate((first, "", last), start=1):
                assert await store.revisions.add(revision(number, tree_with(digest)), number - 1)
            await store.drafts.add(DraftRecord("d1", "admin", 3, 1, NOW, NOW, tree_with(drafted)))
            assert await store.blobs.delete_unused(NOW + 10) == []
            assert await store.blobs.delete_unused(NOW + 11) == [fresh]
            await store.drafts.delete("d1")
            assert await store.blobs.delete_unused(NOW + 11) == [drafted]
            assert set(await store.blobs.all()) == {first, last, again}

    run(work())


def tree_with(digest):
    return json.dumps({"sign_in_pages": [{"name": "Ours", "templates": digest}]})


def test_blobs_and_single_texts(place):
    async def work():
        async with new_store(place) as store:
            one = await store.blobs.put(b"\x00\xff" * 9)
            assert (
                await store.blobs.put(b"\x00\xff" * 9) == one == hashlib.sha256(b"\x00\xff" * 9).hexdigest()
            )
            two = await store.blobs.put(b"two")
            assert await store.blobs.all() == dict(sorted({one: 18, two: 3}.items()))
            assert await store.blobs.get(two) == b"two"

            assert await store.meta.get("seed") is None
            await store.meta.set("seed", "a")
            await store.meta.set("seed", "b")
            assert await store.meta.get("seed") == "b"
            assert await store.meta.delete("seed")
            assert not await store.meta.delete("seed")

    run(work())


# -- what is written down all the time ---------------------------------------------------------------------------


def decision(number, name="alice"):
    return DecisionRecord(
        time=NOW + number, kind="sign-in", session=number, user=name, server=LOCAL_SERVER, realm="Users", revision=1,
        allow=number % 2 == 0, facts=facts(name).as_dict(), roles=("Users",), reasons=({"text": "a \x00", "ok": True},),
    )  # fmt: skip


def test_decisions(place):
    async def work():
        async with new_store(place) as store:
            await store.decisions.add_many([])
            await store.decisions.add_many([decision(number) for number in range(5)])
            await store.decisions.add(decision(5, "bob"))
            found = await store.decisions.since(NOW + 2)
            assert [replace(each, id=0) for each in found] == [decision(n) for n in (2, 3, 4)] + [
                decision(5, "bob")
            ]
            first = await store.decisions.since(NOW, limit=4)
            rest = await store.decisions.since(NOW, limit=4, after=first[-1].id)
            assert [each.session for each in first + rest] == [0, 1, 2, 3, 4, 5]
            assert [each.session for each in await store.decisions.since(NOW, "bob")] == [5]
            await store.decisions.prune(NOW + 5)
            assert [each.session for each in await store.decisions.since(0)] == [5]

    run(work())


def test_decisions_are_found_by_their_code_and_thinned_by_their_kind(place):
    async def work():
        async with new_store(place) as store:
            tries = [replace(decision(n), kind="attempt", code=f"0000-000{n}") for n in range(6)]
            await store.decisions.add_many([decision(9), *tries, replace(tries[2], user="bob")])
            assert (await store.decisions.by_code("0000-0003", NOW)).session == 3
            assert (await store.decisions.by_code("0000-0002", NOW)).user == "bob"  # the newest
            assert await store.decisions.by_code("0000-0003", NOW + 4) is None
            assert await store.decisions.by_code("0000-0009", NOW) is None
            assert [each.session for each in await store.decisions.since(0, kinds=("sign-in",))] == [9]
            await store.decisions.thin(("attempt", "question"), 7)
            assert len(await store.decisions.since(0)) == 8
            await store.decisions.thin(("attempt", "question"), 3)
            assert [each.session for each in await store.decisions.since(0)] == [9, 4, 5, 2]

    run(work())


def test_samples_are_rolled_up_once_and_in_whole_spans(place):
    def mean(values):
        return {"users": sum(each["users"] for each in values) / len(values), "of": len(values)}

    async def work():
        async with new_store(place) as store:
            shelf = store.samples
            for time in range(0, 700, 10):
                if not 300 <= time < 600:  # the server was down
                    await shelf.add(Sample(float(time), 10, {"users": time}))
            await shelf.add(Sample(0.0, 10, {"users": 5.0}))  # replaces
            assert await shelf.range(10, 0, 20) == [
                Sample(0.0, 10, {"users": 5.0}),
                Sample(10.0, 10, {"users": 10}),
            ]
            with pytest.raises(ValueError, match="no multiple"):
                await shelf.rollup(10, 305, 700.0, mean)
            assert await shelf.rollup(10, 300, 299.9, mean) == 0
            assert await shelf.rollup(10, 300, 899.0, mean) == 1
            assert await shelf.rollup(10, 300, 899.0, mean) == 0
            assert await shelf.rollup(10, 300, 900.0, mean) == 1
            rolled = await shelf.range(300, 0, 9999)
            assert [(each.time, each.values["of"]) for each in rolled] == [(0.0, 30), (600.0, 10)]
            await shelf.prune(10, 690.0)
            assert [each.time for each in await shelf.range(10, 0, 9999)] == [690.0]
            assert len(await shelf.range(300, 0, 9999)) == 2

    run(work())


def test_uploads_are_there_as_a_whole_or_not_at_all(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.uploads.PIECE", 10)

    def record(number):
        return UploadRecord(f"u{number}", "alice", LOCAL_SERVER, "laptop", 7, NOW + number, 0, "log.zip")

    async def parts(sizes, fail=False):
        for size in sizes:
            yield b"x" * size
        if fail:
            raise ConnectionError("the client went away")

    async def content(store, number):
        return b"".join([piece async for piece in store.uploads.content(f"u{number}")])

    async def work():
        async with new_store(place) as store:
            shelf = store.uploads
            assert await shelf.add(record(1), bytes(range(25))) == replace(record(1), size=25)
            assert await content(store, 1) == bytes(range(25))
            assert (await shelf.add(record(2), parts([3, 30, 0, 7]))).size == 40
            assert await content(store, 2) == b"x" * 40
            assert (await shelf.add(record(3), b"")).size == 0
            with pytest.raises(ConnectionError):
                await shelf.add(record(4), parts([30], fail=True))
            assert (await shelf.get("u4"), await content(store, 4)) == (None, b"")
            assert [each.id for each in await shelf.all()] == ["u3", "u2", "u1"]
            assert await shelf.get("u1") == replace(record(1), size=25)
            assert await shelf.delete("u3")
            assert not await shelf.delete("u3")
            assert await shelf.prune(NOW, 64) == ["u1"]
            assert await shelf.prune(NOW + 3, 999) == ["u2"]
            assert await shelf.all() == []
            assert await content(store, 2) == b""

    run(work())
