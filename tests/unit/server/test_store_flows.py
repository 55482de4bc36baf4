"""Flows in the store: found by what they say, proven by the chain, removed by age and size of their own."""

from dataclasses import replace
from itertools import pairwise

from lockgate.model.flow import Flow, FlowGroup, FlowLoss
from lockgate.server.store import flows as store_flows
from lockgate.server.store.chain import FLOWS, START
from lockgate.server.store.flows import HEARD, packed
from lockgate.server.store.interface import AuditEntry, AuditFilter
from lockgate.server.store.verify import verify
from tests.unit.server.store_support import new_store, run, same_store
from tests.unit.server.test_store_audit import execute

FLOW = Flow(
    first=1000.0,
    last=1010.0,
    allowed=True,
    protocol=6,
    device="10.88.0.10",
    remote="10.77.0.80",
    port=443,
    outbound=True,
    packets_in=12,
    bytes_in=3400,
    packets_out=10,
    bytes_out=90_000,
    rule="Intranet web",
    revision=7,
    cause="idle",
)
DENIED = replace(FLOW, allowed=False, port=22, rule="", packets_out=0, bytes_out=0, last=1020.0)
PING6 = replace(FLOW, protocol=58, remote="fd77::80", device="fd88::10", port=None, rule="Ping", last=1030.0)


def group(session, user, *flows):
    return FlowGroup(session, user, "192.0.2.9", ("Users", "Staff"), flows)


def entry(text):
    return AuditEntry(2000.0, "flows", "ok", "", "", "", None, text, "flows")


def line(number, log="user"):
    return AuditEntry(1000.0 + number, "sign-in", "ok", "", "alice", "192.0.2.9", None, f"{number}", log)


async def fill(store):
    """Three records of flows among others."""
    await store.audit.add(line(1))
    await store.audit.add_flows(
        packed([group(1, "alice", FLOW, DENIED), group(2, "bob", PING6)]), entry, "9:3"
    )
    await store.audit.add(line(2))
    await store.audit.add_flows(
        packed([group(1, "alice", DENIED)], [FlowLoss(1040.0, 17, "no-room")]), entry, "9:21"
    )
    await store.audit.add_flows(packed([group(2, "bob", FLOW)]), entry, "9:22")


async def texts(store, limit=100, **wanted):
    page = await store.audit.page(AuditFilter(log="flows", **wanted), limit)
    return [(each.entry.user, each.flow.port if each.flow else each.entry.text) for each in page]


def test_flows_are_found_by_what_they_say(place):
    async def work():
        async with new_store(place) as store:
            await fill(store)
            everything = [
                ("bob", 443),
                ("alice", 22),
                ("", "17 flow records lost"),
                ("bob", None),
                ("alice", 22),
                ("alice", 443),
            ]
            assert await texts(store) == everything
            for wanted, expected in [
                ({"user": "bob"}, [("bob", 443), ("bob", None)]),
                ({"session": 1, "outcome": "failed"}, [("alice", 22), ("alice", 22)]),
                ({"remote": "fd77::80"}, [("bob", None)]),
                ({"port": 443}, [("bob", 443), ("alice", 443)]),
                ({"event": "flows-lost"}, [("", "17 flow records lost")]),
                ({"text": "INTRANET"}, [("bob", 443), ("alice", 443)]),
                ({"since": 1020.0, "until": 1030.0}, [("alice", 22), ("alice", 22)]),
                ({"source": "192.0.2.8"}, []),
                ({"user": "alice", "port": 443, "until": 1010.0}, []),
            ]:
                assert await texts(store, **wanted) == expected, wanted
            # Page by page, each line once; and the other way round.
            seen, before = [], None
            while page := await store.audit.page(AuditFilter(log="flows", before=before), 2):
                seen += page
                before = page[-1].number
            assert [each.number for each in seen] == sorted({each.number for each in seen}, reverse=True)
            assert len(seen) == 6
            streamed = [each async for each in store.audit.stream(AuditFilter(log="flows"))]
            assert streamed == seen[::-1]
            assert streamed[0].flow == FLOW
            assert streamed[0].roles == ("Users", "Staff")
            assert [each.flow for each in await store.audit.flows_of(2)] == [FLOW, DENIED, PING6]
            assert await store.audit.flows_heard() == "9:22"
            # What was written already and nobody heard of it is not written again.
            assert await store.audit.add_flows(packed([group(2, "bob", FLOW)]), entry, "9:22") is None
            # Among all logs stand their records, and other logs have no remote ends.
            page = await store.audit.page(AuditFilter(), 100)
            assert [each.entry.event for each in page] == ["flows", "flows", "sign-in", "flows", "sign-in"]
            assert page[1].entry.text.startswith("1 flows, 1 denied, 17 lost; SHA-256 ")
            assert await store.audit.page(AuditFilter(log="user", port=443), 100) == []

    run(work())


def test_a_page_costs_about_what_it_shows(place, monkeypatch):
    monkeypatch.setattr(store_flows, "LINES", 480)
    looked_at, made = [], store_flows._lines

    def count(row, *rest):
        looked_at[-1] += row.flows
        return made(row, *rest)

    more = store_flows.Reader.more

    def begin(*given, **named):
        looked_at.append(0)
        return more(*given, **named)

    monkeypatch.setattr(store_flows, "_lines", count)
    monkeypatch.setattr(store_flows.Reader, "more", begin)

    async def work():
        async with new_store(place) as store:
            pieces = [group(1, "alice", *[replace(FLOW, port=port) for port in range(50)]) for _ in range(30)]
            for number in range(2):
                await store.audit.add_flows(packed(pieces), entry, f"9:{number}")
            # As an earlier release wrote them.
            large = [replace(FLOW, port=port) for port in range(1200)]
            await store.audit.add_flows(packed([group(2, "bob", *large)]), entry, "9:3")
            everything = [each async for each in store.audit.stream(AuditFilter(log="flows"))]
            assert (len(everything), max(looked_at)) == (4200, 1200)
            assert [each.number for each in everything] == sorted({each.number for each in everything})
            assert sorted(looked_at)[-2] == 450
            for oldest_first in (False, True):
                # Page by page: wherever one begins, within a record and within a piece.
                there, seen = AuditFilter(log="flows", user="alice"), []
                while True:
                    looked_at.clear()
                    page = await store.audit.page(there, 70, oldest_first=oldest_first)
                    assert sum(looked_at) <= (70 + 50) + (2 * 70 + 50), looked_at
                    if not page:
                        break
                    seen += page
                    at = page[-1].number
                    there = replace(there, after=at) if oldest_first else replace(there, before=at)
                assert seen == everything[:3000][:: 1 if oldest_first else -1]
            # What few lines fit, or none, is not looked for line by line, and never in many at once.
            for wanted, lines in (({"text": "nowhere"}, 0), ({"user": "alice", "text": ":49,"}, 60)):
                looked_at.clear()
                assert len(await texts(store, **wanted)) == lines
                assert max(looked_at[1:]) == 450
                assert len(looked_at) <= 3000 / 450 + 4

    run(work())


PIECE = "UPDATE flow_pieces SET {change} WHERE record = {record} AND place = {place}"
SWAPPED = [
    PIECE.format(change="record = 99", record=2, place=0),
    PIECE.format(change="record = 2, place = 0", record=5, place=0),
    PIECE.format(change="record = 5", record=99, place=0),
]
ATTACKS = [
    ("changed", 2, [PIECE.format(change="\"user\" = 'eve'", record=2, place=0)]),
    ("changed", 2, [PIECE.format(change="session = 3", record=2, place=2)]),
    ("changed", 2, [PIECE.format(change="until = until + 0.001", record=2, place=2)]),
    ("changed", 2, [PIECE.format(change="position = position - 1", record=2, place=2)]),
    (
        "changed",
        4,
        [
            PIECE.format(
                change="content = (SELECT content FROM flow_pieces WHERE record = 5)", record=4, place=1
            )
        ],
    ),
    ("changed", 2, ["DELETE FROM flow_pieces WHERE record = 2 AND place = 2"]),
    ("changed", 2, SWAPPED),
    ("missing", 5, ["DELETE FROM flow_pieces WHERE record = 5"]),
    ("missing", 2, ["DELETE FROM flow_pieces"]),
    ("forged", 3, [PIECE.format(change="record = 3", record=5, place=0)]),
    ("forged", 9, [PIECE.format(change="record = 9", record=5, place=0)]),
    ("changed", 5, ["UPDATE audit_records SET text = 'no flows' WHERE number = 5"]),
    (
        "end-changed",
        0,
        [
            "INSERT INTO audit_ends SELECT 'flows', number, position, record_mac, mac FROM audit_ends",
            "DELETE FROM flow_pieces",
        ],
    ),
]


def test_whatever_is_done_to_flows_is_found(place, monkeypatch):
    monkeypatch.setattr("lockgate.server.store.verify.PAGE", 2)

    async def work():
        async with new_store(place) as store:
            await fill(store)
            report = await verify(store.audit)
            assert (report.ok, report.checked) == (True, 5)
            for table in ("audit_records", "audit_ends", "flow_pieces"):
                await execute(store, f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
            for damage, number, statements in ATTACKS:
                await execute(store, *statements)
                finding = (await verify(store.audit)).finding
                assert finding is not None, statements
                assert (finding.damage, finding.number) == (damage, number), (finding, statements)
                for table in ("audit_records", "audit_ends", "flow_pieces"):
                    await execute(
                        store, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM kept_{table}"
                    )
                assert (await verify(store.audit)).ok, statements

    run(work())


FORGED = (
    "INSERT INTO flow_pieces SELECT 2, 0, 7, 'mallory', since, until, flows, position - 1, content FROM flow_pieces "
    "WHERE record = 7"
)


def test_flows_that_are_added_to_records_that_are_gone_are_not_shown_or_found(place):
    async def work():
        async with new_store(place) as store:
            await fill(store)
            assert await store.audit.prune(1e9, None, lambda count: line(99, "events")) == 5
            await store.audit.add_flows(packed([group(2, "bob", FLOW)]), entry, "9:23")
            await execute(store, FORGED)
            assert await texts(store) == [("bob", 443)]
            assert (await verify(store.audit)).ok
            # An earlier release left that place where it was.
            await store.database.write(lambda connection: store.audit.chain.move(connection, FLOWS, START))
            finding = (await verify(store.audit)).finding
            assert (finding.damage, finding.number) == ("forged", 2)
            # Who accepts the damage is rid of it.
            await store.audit.accept(line(8, "events"))
            assert await texts(store) == [("bob", 443)]
            assert (await verify(store.audit)).ok

    run(work())


def test_what_had_been_heard_is_believed_only_as_it_was_written(place):
    async def work():
        async with new_store(place) as store:
            assert await store.audit.flows_heard() == ""
            await fill(store)
            true = await store.meta.get(HEARD)
            await store.audit.add_flows(packed([group(2, "bob", FLOW)]), entry, "9:23")
            newest = await store.meta.get(HEARD)
            _, number, seal = newest.split(" ")
            other = f"9:999999 {number} {seal}"
            for tampered in (
                true,
                other,
                "9:999999",
                f"{newest}0",
                f"9:23 x {seal}",
                "9:23 6 \u00fc",
                "nothing",
                "",
            ):
                await store.meta.set(HEARD, tampered)
                assert await store.audit.flows_heard() is None, tampered
            await store.meta.delete(HEARD)
            assert await store.audit.flows_heard() is None
            # Nothing is left out because of it.
            await store.meta.set(HEARD, other)
            assert await store.audit.add_flows(packed([group(2, "bob", FLOW)]), entry, "9:999999") is not None
            assert await store.audit.flows_heard() == "9:999999"
            # The record that it was written with may go.
            await store.audit.prune(1e9, None, lambda count: line(99, "events"))
            assert await store.audit.flows_heard() == "9:999999"

    run(work())


def test_whoever_writes_waits_for_a_few_removals_only(place, monkeypatch):
    monkeypatch.setattr(store_flows, "PRUNED", 3)

    async def work():
        async with new_store(place) as store:
            for number in range(20):
                flows = [group(session, "alice", FLOW) for session in range(2)]
                await store.audit.add_flows(packed(flows), entry, f"9:{number}")
            left, write, read_aside = [], store.database.write, store.database.read_aside

            def count(connection):
                return connection.exec_driver_sql("SELECT count(*) FROM flow_pieces").scalar_one()

            async def counted(work, **options):
                left.append(await store.database.read(count))
                return await write(work, **options)

            def note(count):
                return line(count, "events")

            store.database.write = counted
            assert await store.audit.prune_flows(None, 1 << 30, note) == 0
            assert left == []  # what has to go is found out without holding up others

            async def meanwhile(work):
                store.database.read_aside = read_aside
                found = await read_aside(work)
                assert await store.audit.prune_flows(None, 1, note) == 40
                return found

            store.database.read_aside = meanwhile
            assert await store.audit.prune_flows(None, 1, note) == 0  # not counted once more
            page = await store.audit.page(AuditFilter(log="events"), 9)
            assert [each.entry.text for each in page] == ["40"]
            for number in range(20, 30):
                await store.audit.add_flows(packed(flows), entry, f"9:{number}")
            assert await store.audit.prune(1e9, None, note) == 31
            left.append(await store.database.read(count))
            assert left[-1] == 0
            assert max(before - after for before, after in pairwise(left)) == 4
            assert (await verify(store.audit)).ok

    run(work())


def test_flows_go_by_age_and_size_of_their_own_and_nothing_else_does(place):
    pruned = []

    def note(count):
        pruned.append(count)
        return line(9, "events")

    async def work():
        async with new_store(place) as store:
            await fill(store)
            assert await store.audit.prune_flows(900.0, None, note) == 0
            assert await store.audit.prune_flows(1035.0, 1 << 30, note) == 3
            assert [user for user, _ in await texts(store)] == ["bob", "alice", ""]
            assert (await verify(store.audit)).ok
            (first,) = await store.database.read(
                lambda connection: connection.exec_driver_sql(
                    "SELECT max(position) - min(position - length(content)) FROM flow_pieces WHERE record > 2"
                ).one()
            )
            assert await store.audit.prune_flows(None, first, note) == 0
            # To one byte: all of them. The records stay.
            assert await store.audit.prune_flows(None, 1, note) == 3
            assert await texts(store) == []
            report = await verify(store.audit)
            assert (report.ok, report.first, report.checked) == (True, 1, 7)
            await store.audit.add_flows(packed([group(2, "bob", PING6)]), entry, "9:23")
            assert await texts(store) == [("bob", None)]
        async with same_store(place) as store:
            assert (await verify(store.audit)).ok
            await execute(store, "DELETE FROM flow_pieces")
            assert (await verify(store.audit)).finding.number == 8

    run(work())
    assert pruned == [3, 3]


def test_flows_never_push_out_others_and_go_with_their_records(place):
    async def work():
        async with new_store(place) as store:
            for number in range(20):
                await store.audit.add(line(number))
            (before,) = await store.audit.page(AuditFilter(), 1)
            flows = [group(session, "alice", *[FLOW] * 50) for session in range(20)]
            for number in range(20):
                await store.audit.add_flows(packed(flows), entry, f"9:{number}")
            assert await store.audit.prune(None, before.position + 100, lambda count: line(99)) == 0
            # The audit's own age takes flows along.
            assert await store.audit.prune(1e9, None, lambda count: line(99)) == 40
            assert await texts(store) == []
            assert (await verify(store.audit)).ok

    run(work())
