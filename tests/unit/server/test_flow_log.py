"""From what the edge tells about flows to lines of the audit."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address

from sqlalchemy import select

from lockgate.model.flow import FlowLoss
from lockgate.model.session import EndCause
from lockgate.protocol.edge_link import Flow, FlowAudit, FlowCause, Flows, OpenSession, SetLimits, SetRules
from lockgate.server.gateway import flow_log
from lockgate.server.gateway.flow_log import FlowLog
from lockgate.server.store.flows import HEARD, packed
from lockgate.server.store.interface import AuditFilter
from lockgate.server.store.tables import flow_pieces
from tests.unit.server.scripted_edge import PATIENCE
from tests.unit.server.support import run
from tests.unit.server.test_follow import access, configuration, two_tunnels


def told(session, rule_set=0, **changes):
    flow = Flow(
        session=session,
        allowed=True,
        rule_set=rule_set,
        rule=0,
        protocol=6,
        remote=ip_address("10.77.0.80").packed,
        port=443,
        outbound=True,
        first=5000,
        last=1000,
        packets_in=3,
        bytes_in=300,
        packets_out=2,
        bytes_out=200,
        cause=FlowCause.IDLE,
    )
    return replace(flow, **changes)


async def lines(store, count):
    """The lines about flows once there are so many, oldest first."""
    async with asyncio.timeout(PATIENCE):
        while len(found := await store.audit.page(AuditFilter(log="flows"), 100)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(found) == count
    return found[::-1]


def test_a_flow_names_who_it_was_and_what_decided(tmp_path):
    other = configuration(access_control=[access("other", "10.77.9.0/24", "Staff")])
    renamed = configuration(access_control=[access("renamed", "10.77.9.0/24", "Staff")])

    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, bob, heard):
            opened = {m.session: m for m in edge.of(OpenSession)}
            assert {m.flows for m in opened.values()} == {FlowAudit.DENIED}
            first = opened[alice.id].rule_set
            for tree in (other, renamed):
                await it.adopt(tree)
                await it.settle(edge)
            # The same rules by another name are others: what was counted before keeps the name that it had.
            second, third = (m.rule_set for m in heard() if isinstance(m, SetRules) and m.session == alice.id)
            assert await it.service.end(bob.id, EndCause.DISCONNECTED)
            now = it.clock.now
            edge.say(
                Flows(0, 2000, (told(alice.id, first), told(alice.id, second), told(alice.id, third))),
                # A rule that no session has, a session that is over, and one that never was.
                # Decided while she was a guest.
                Flows(3, 0, (told(alice.id, opened[bob.id].rule_set),)),
                Flows(4, 0, (told(alice.id, 1, rule=5, allowed=False), told(bob.id, 0, rule=None), told(77))),
            )
            found = await lines(it.store, 7)
            facts = {each.number: (each.entry.user, each.flow.rule, each.entry.revision) for each in found}
            assert sorted(facts.values(), key=str) == [
                ("", "?", None),
                ("alice", "?", None),
                ("alice", "guests", 1),
                ("alice", "other", 2),
                ("alice", "renamed", 3),
                ("alice", "staff", 1),
                ("bob", "", None),
            ]
            [guest] = [each for each in found if each.flow.rule == "guests"]
            assert (guest.entry.user, guest.roles) == ("alice", ("Guests",))
            mine = next(each for each in found if each.flow.rule == "staff")
            assert (mine.entry.session, mine.entry.source, mine.roles) == (alice.id, "192.0.2.9", ("Staff",))
            assert (mine.flow.device, mine.flow.remote) == (str(alice.address4), "10.77.0.80")
            assert (mine.flow.first, mine.flow.last) == (now - 7, now - 3)
            refused = next(each for each in found if not each.flow.allowed)
            assert (refused.entry.outcome, refused.entry.reason) == ("failed", "denied")
            assert it.service.flows.recorded == 7

    run(work())


def test_which_flows_are_recorded_follows_the_configuration(tmp_path):
    def wanted(system, staff):
        roles = [{"name": "Staff", "session": {"flow_records": staff}}, {"name": "Guests"}]
        return configuration(log={"flows": system}, roles=roles)

    async def work():
        async with two_tunnels(tmp_path, wanted("none", "all")) as (it, edge, alice, bob, heard):
            opened = {m.session: m.flows for m in edge.of(OpenSession)}
            assert opened == {alice.id: FlowAudit.ALL, bob.id: FlowAudit.NONE}
            await it.adopt(wanted("denied", "all"))
            await it.settle(edge)
            assert heard() == [SetLimits(bob.id, 0, 0, FlowAudit.DENIED)]
            await it.adopt(wanted("denied", "system"))
            await it.settle(edge)
            assert heard()[1:] == [SetLimits(alice.id, 0, 0, FlowAudit.DENIED)]

    run(work())


def test_what_is_missing_is_said_and_nothing_is_written_twice(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, *_):
            flow = told(alice.id)
            edge.say(Flows(0, 0, (flow, flow)))
            await lines(it.store, 2)
            # Told again after a broken link, with one more; then five are missing.
            edge.say(Flows(0, 0, (flow, flow, flow)), Flows(8, 0, (flow,)))
            found = await lines(it.store, 5)
            [lost] = [each.entry for each in found if each.flow is None]
            assert (lost.event, lost.outcome, lost.text) == ("flows-lost", "failed", "5 flow records lost")
            assert (it.service.flows.recorded, it.service.flows.lost) == (4, 5)
            await edge.die()
            # Another process over the same store, the same edge: what the first one had not written is missing.
            log = FlowLog(it.store, it.audit, it.in_force.rule_names, it.clock)
            await log.greet(1)
            log.heard(Flows(12, 0, (flow,)), it.service.tunnels.get)
            await log.flush()
            assert [each.entry.text for each in await lines(it.store, 7)][-2:][0] == "3 flow records lost"
            # Another edge begins anew: nobody knows what the first had still to tell.
            await log.greet(2)
            log.heard(Flows(0, 0, (flow,)), it.service.tunnels.get)
            await log.flush()
            found = await lines(it.store, 9)
            assert [each.entry.reason for each in found if each.flow is None] == [
                "no-room",
                "no-room",
                "edge-gone",
            ]

    run(work())


def test_what_somebody_else_says_was_heard_is_a_gap_and_hides_nothing(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, *_):
            flow = told(alice.id)
            edge.say(Flows(0, 0, (flow,)))
            await lines(it.store, 1)
            older = await it.store.meta.get(HEARD)
            edge.say(Flows(1, 0, (flow,)))
            await lines(it.store, 2)
            await edge.die()
            values = (f"1:999999{older[3:]}", "1:999999", "1:", ":", "\u00b2:\u00b2", "9" * 5000, older)
            for turn, value in enumerate(values):
                await it.store.meta.set(HEARD, value)
                log = FlowLog(it.store, it.audit, it.in_force.rule_names, it.clock)
                await log.greet(1)
                log.heard(Flows(0, 0, (flow,)), it.service.tunnels.get)
                await log.flush()
                found = await lines(it.store, 2 * turn + 4)
                [lost] = [each.entry for each in found[-2:] if each.flow is None]
                assert (lost.reason, log.lost, log.recorded) == ("edge-gone", 0, 1), value
            # One that was written and means nothing.
            pieces = packed([], [FlowLoss(it.clock.now, 3, "no-room")])
            await it.store.audit.add_flows(
                pieces, lambda text: it.audit.entry("flows", ok=True, log="flows"), "1:x"
            )
            log = FlowLog(it.store, it.audit, it.in_force.rule_names, it.clock)
            await log.greet(1)
            await log.flush()
            assert (await lines(it.store, 2 * len(values) + 4))[-1].entry.reason == "edge-gone"

    run(work())


def test_flows_of_one_session_are_cut_to_pieces(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, _, alice, bob, __):
            log = FlowLog(it.store, it.audit, it.in_force.rule_names, it.clock)
            await log.greet(5)
            # The link's messages are shorter than what is written together.
            for number in range(6):
                flows = tuple(told(alice.id, port=number * 100 + each) for each in range(100))
                log.heard(Flows(number * 101, 0, (*flows, told(bob.id))), it.service.tunnels.get)
            await log.flush()
            sizes = await it.store.database.read(
                lambda connection: connection.execute(
                    select(flow_pieces.c.session, flow_pieces.c.flows).order_by(flow_pieces.c.place)
                ).all()
            )
            expected = [(alice.id, 256), (alice.id, 256), (alice.id, 88), (bob.id, 6)]
            assert sorted(tuple(each) for each in sizes) == sorted(expected)
            page = await it.store.audit.page(AuditFilter(log="flows", user="alice"), 1000, oldest_first=True)
            assert [each.flow.port for each in page] == list(range(600))

    run(work())


def test_a_store_that_fails_delays_and_a_full_queue_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(flow_log, "MAX_WAITING", 3)

    async def work():
        async with two_tunnels(tmp_path) as (it, _, alice, *_):
            log = FlowLog(it.store, it.audit, it.in_force.rule_names, it.clock)
            await log.greet(5)
            flow = told(alice.id)
            for number in (0, 2, 4):
                log.heard(Flows(number, 0, (flow, flow)), it.service.tunnels.get)
            await it.store.database.write(
                lambda connection: connection.exec_driver_sql("ALTER TABLE meta RENAME TO m")
            )
            failed = False
            try:
                await log.flush()
            except Exception:
                failed = True
            assert failed
            await it.store.database.write(
                lambda connection: connection.exec_driver_sql("ALTER TABLE m RENAME TO meta")
            )
            await log.flush()
            found = await lines(it.store, 3)
            assert [each.entry.text for each in found if each.flow is None] == ["4 flow records lost"]

    run(work())
