"""The audit in the store: a chain that shows what was done to it, queries, retention."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from lockgate.model.problem import ProblemError
from lockgate.server.store.interface import AuditEntry, AuditFilter
from lockgate.server.store.verify import verify
from tests.unit.server.store_support import new_store, run, same_store

ENTRY = AuditEntry(1000.0, "sign-in", "ok", "", "alice", "192.0.2.9", None, "first")


def entry(number, **fields):
    return replace(ENTRY, time=1000.0 + number, **{"text": f"number {number}", **fields})


async def fill(store, count, first=1):
    for number in range(first, first + count):
        await store.audit.add(entry(number, session=number, log=("events", "user", "admin")[number % 3]))


async def execute(store, *statements):
    """What somebody with the database, and without the key, may do."""

    def work(connection):
        for statement in statements:
            connection.execute(text(statement))

    await store.database.write(work)


COPY = (
    'INSERT INTO audit_records SELECT {to}, time, log, event, outcome, reason, "user", actor, source, session, '
    "revision, text, position, mac FROM audit_records WHERE number = {of}"
)
RENUMBER = "UPDATE audit_records SET number = {to} WHERE number = {of}"

ATTACKS = [
    ("changed", 5, ["UPDATE audit_records SET text = 'nothing' WHERE number = 5"]),
    ("changed", 5, ["UPDATE audit_records SET time = time + 0.001 WHERE number = 5"]),
    ("changed", 5, ["UPDATE audit_records SET session = NULL WHERE number = 5"]),
    ("changed", 5, ["UPDATE audit_records SET actor = 'eve', revision = 3 WHERE number = 5"]),
    ("changed", 5, ["UPDATE audit_records SET position = position - 1 WHERE number = 5"]),
    ("changed", 5, ["UPDATE audit_records SET mac = (SELECT mac FROM audit_records WHERE number = 6) WHERE number = 5"]),
    ("missing", 5, ["DELETE FROM audit_records WHERE number = 5"]),
    ("missing", 5, ["DELETE FROM audit_records WHERE number BETWEEN 5 AND 7"]),
    ("missing", 1, ["DELETE FROM audit_records WHERE number = 1"]),
    ("missing", 5, [  # and the others closed up
        "DELETE FROM audit_records WHERE number = 5",
        *(RENUMBER.format(of=number, to=number - 1) for number in range(6, 13)),
    ]),
    ("reordered", 5, [RENUMBER.format(of=5, to=99), RENUMBER.format(of=6, to=5), RENUMBER.format(of=99, to=6)]),
    ("reordered", 3, [
        RENUMBER.format(of=3, to=99),
        *(RENUMBER.format(of=number, to=number - 1) for number in range(4, 10)),
        RENUMBER.format(of=99, to=9),
    ]),
    ("truncated", 12, ["DELETE FROM audit_records WHERE number = 12"]),
    ("truncated", 10, ["DELETE FROM audit_records WHERE number >= 10"]),
    ("truncated", 1, ["DELETE FROM audit_records"]),
    ("forged", 13, [COPY.format(of=12, to=13)]),
    ("end-changed", 11, [
        "DELETE FROM audit_records WHERE number = 12",
        "UPDATE audit_ends SET number = 11, record_mac = (SELECT mac FROM audit_records WHERE number = 11), position ="
        " (SELECT position FROM audit_records WHERE number = 11)",
    ]),
    ("changed", 13, [COPY.format(of=12, to=13), "UPDATE audit_ends SET number = 13"]),
    ("end-missing", 12, ["DELETE FROM audit_ends"]),
    ("end-changed", 11, [
        "INSERT INTO audit_ends SELECT 'anchor', 11, position, mac, mac FROM audit_records WHERE number = 11",
        "DELETE FROM audit_records WHERE number <= 11",
    ]),
    ("end-changed", 12, [  # the end's own MAC does not serve for the beginning
        "INSERT INTO audit_ends SELECT 'anchor', number, position, record_mac, mac FROM audit_ends",
        "DELETE FROM audit_records",
    ]),
]  # fmt: skip


def test_an_audit_that_nobody_touched_verifies(place):
    seen = []

    async def work():
        async with new_store(place) as store:
            empty = await verify(store.audit)
            assert (empty.ok, empty.checked, empty.head.number) == (True, 0, 0)
            await fill(store, 5)
            await store.audit.add(
                entry(6, text="\x7f ünï \U0001f600 \\ ' \" %", revision=2**62, actor="admin")
            )
        async with same_store(place) as store:
            return await verify(store.audit, lambda done, total: seen.append((done, total)))

    report = run(work())
    assert (report.ok, report.checked, report.first, report.last, report.head.number) == (True, 6, 1, 6, 6)
    assert seen == [(6, 6)]
    assert report.as_dict()["head"]["number"] == 6


def test_whatever_is_done_to_it_is_found(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.verify.PAGE", 4)

    async def work():
        async with new_store(place) as store:
            await fill(store, 12)
            await execute(store, "CREATE TABLE kept AS SELECT * FROM audit_records")
            await execute(store, "CREATE TABLE kept_ends AS SELECT * FROM audit_ends")
            for damage, number, statements in ATTACKS:
                await execute(store, *statements)
                finding = (await verify(store.audit)).finding
                assert finding is not None, statements
                assert (finding.damage, finding.number) == (damage, number), (finding, statements)
                await execute(store, "DELETE FROM audit_records", "DELETE FROM audit_ends")
                await execute(store, "INSERT INTO audit_records SELECT * FROM kept")
                await execute(store, "INSERT INTO audit_ends SELECT * FROM kept_ends")
                assert (await verify(store.audit)).ok, statements

    run(work())


def test_nothing_is_added_behind_an_end_that_is_not_ours(place):
    """Else one more record would make a shortened chain look right."""

    async def work():
        async with new_store(place) as store:
            await fill(store, 5)
            shortened = (
                "DELETE FROM audit_records WHERE number > 3",
                "UPDATE audit_ends SET number = 3, record_mac = (SELECT mac FROM audit_records WHERE number = 3)",
            )
            await execute(store, *shortened)
            with pytest.raises(ProblemError) as caught:
                await store.audit.add(entry(9))
            assert caught.value.problem.code == "audit-damaged"
            assert (await verify(store.audit)).finding.damage == "end-changed"
            # Somebody who may has it go on; that is written down, and no number is given twice.
            accepted = await store.audit.accept(entry(9, event="audit-accepted"))
            assert accepted.number == 4
            await fill(store, 2, 10)
            report = await verify(store.audit)
            assert (report.ok, report.skipped, report.first, report.checked) == (True, 3, 4, 3)
            await execute(store, "UPDATE audit_records SET text = '' WHERE number = 5")
            assert (await verify(store.audit)).finding.number == 5

    run(work())


def test_the_chain_goes_on_from_where_the_database_says_it_ends(place):
    async def work():
        async with new_store(place) as one, same_store(place) as other:
            await fill(one, 2)
            await fill(other, 2, first=3)  # since `one` looked

            def undone(connection):
                one.audit.chain.append_all(connection, [entry(5), entry(6)])
                raise RuntimeError("undone")

            with pytest.raises(RuntimeError, match="undone"):
                await one.database.write(undone)
            await fill(one, 1, first=5)
            await fill(other, 1, first=6)
            found = await other.audit.page(AuditFilter(), 10, oldest_first=True)
            assert [(each.number, each.entry.text) for each in found] == [
                (number, f"number {number}") for number in range(1, 7)
            ]
            report = await verify(one.audit)
            assert (report.finding, report.checked) == (None, 6)

    run(work())


def test_numbers_of_records_that_were_cut_off_are_not_given_again(place):
    async def work():
        async with new_store(place) as store:
            await fill(store, 5)
            await execute(store, "DELETE FROM audit_records WHERE number > 3")
            assert (await store.audit.accept(entry(9))).number == 6
            assert (await verify(store.audit)).ok

    run(work())


def test_verifying_goes_on_while_records_come_and_old_ones_go(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.verify.PAGE", 3)

    async def work():
        async with new_store(place) as store:
            await fill(store, 12)
            reads, read = [], store.database.read_aside

            async def meanwhile(work):
                reads.append(work)
                if len(reads) == 3:  # after the look at the ends and the first page
                    await fill(store, 1, 20)
                    await store.audit.prune(1009.0, None, lambda removed: entry(30, event="audit-prune"))
                return await read(work)

            store.database.read_aside = meanwhile
            report = await verify(store.audit)
            store.database.read_aside = read
            assert (report.ok, report.checked) == (True, 3 + 4), report.finding
            assert len(reads) > 3
            assert (await verify(store.audit)).ok

    run(work())


# -- retention ------------------------------------------------------------------------------------------------


def pruned(count):
    return entry(99, event="audit-prune", reason=str(count))


def test_old_records_go_and_the_rest_verifies(place):
    async def work():
        async with new_store(place) as store:
            await fill(store, 12)
            prune = store.audit.prune
            assert await prune(1001.0, None, pruned) == 0
            assert await prune(1005.0, 10**9, pruned) == 4
            numbers = [each.number for each in await store.audit.page(AuditFilter(), 99, oldest_first=True)]
            assert numbers == list(range(5, 14))
            report = await verify(store.audit)
            assert (report.ok, report.first, report.checked, report.skipped) == (True, 5, 9, 0)
            # A clock that went back: older than a record before it, and kept with it.
            await store.audit.add(entry(-500))
            assert await prune(1011.0, None, pruned) == 6
            for statement, damage in (
                ("UPDATE audit_ends SET number = 12 WHERE name = 'anchor'", "end-changed"),
                ("DELETE FROM audit_ends WHERE name = 'anchor'", "missing"),
            ):
                await execute(store, statement)
                assert (await verify(store.audit)).finding.damage == damage

    run(work())


def test_everything_old_goes_and_numbers_go_on(place):
    async def work():
        async with new_store(place) as store:
            await fill(store, 3)
            assert await store.audit.prune(9e9, None, pruned) == 3
            (line,) = await store.audit.page(AuditFilter(), 9)
            assert (line.number, line.entry.reason) == (4, "3")
            assert (await verify(store.audit)).ok
            await execute(store, "DELETE FROM audit_records")
            assert (await verify(store.audit)).finding.damage == "truncated"

    run(work())


def test_the_oldest_go_when_there_is_no_room(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.audit.PRUNED", 7)

    async def work():
        async with new_store(place) as store:
            await fill(store, 50)
            lines = await store.audit.page(AuditFilter(), 99, oldest_first=True)
            room = lines[-1].position - lines[19].position  # of the last thirty
            for limit, kept in ((10**9, 50), (room, 30), (room - 1, 30), (0, 1)):
                before = await store.audit.page(AuditFilter(), 99)
                await store.audit.prune(None, limit, pruned)
                assert (await verify(store.audit)).ok
                left = await store.audit.page(AuditFilter(), 99)
                size = left[0].position - left[-1].position
                own = 1 if left[0].number != before[0].number else 0
                assert size <= limit + 999 * own, (limit, size)
                assert len(left) <= kept + own

    run(work())


# -- queries ---------------------------------------------------------------------------------------------------


def test_pages_and_filters(place):
    async def work():
        async with new_store(place) as store:
            await fill(store, 9)
            await store.audit.add(
                entry(10, user="Bob", actor="admin", outcome="failed", reason="wrong-password")
            )
            await store.audit.add(
                entry(11, event="config-commit", user="", actor="bob", source="local", log="admin")
            )

            async def numbers(limit=99, **fields):
                return [each.number for each in await store.audit.page(AuditFilter(**fields), limit)]

            assert await numbers(3) == [11, 10, 9]
            assert await numbers(3, before=9) == [8, 7, 6]
            assert await numbers(after=9) == [11, 10]
            assert await numbers(log="admin") == [11, 8, 5, 2]
            assert await numbers(user="Bob") == [10]
            assert await numbers(user="bob") == [11]
            assert await numbers(text="BOB") == [11, 10]
            assert await numbers(text="wrong") == [10]
            assert await numbers(text="_") == []
            assert await numbers(source="local", event="config-commit") == [11]
            assert await numbers(outcome="failed") == [10]
            assert await numbers(since=1003.0, until=1005.0) == [4, 3]
            assert await numbers(2, log="user", since=1002.0) == [7, 4]
            (line,) = await store.audit.page(AuditFilter(), 1, oldest_first=True)
            assert (line.number, line.entry) == (1, entry(1, session=1, log="user"))
            assert await store.audit.newest(1) == [
                entry(11, event="config-commit", user="", actor="bob", source="local", log="admin")
            ]

    run(work())


def test_a_stream_ends_with_what_was_there_when_it_began(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.audit.PAGE", 4)

    async def work():
        async with new_store(place) as store:
            await fill(store, 10)
            seen = []
            async for each in store.audit.stream(AuditFilter(after=1)):
                if not seen:
                    await fill(store, 3, 11)
                seen.append(each.number)
            return seen

    assert run(work()) == list(range(2, 11))
