"""From what takes access away to the edge's word that it is in force: one record for each cause, with its time."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest

from lockgate.model.session import EndCause
from lockgate.protocol import edge_link
from lockgate.protocol.edge_link import CloseSession, SetRules
from lockgate.server.gateway.enforcement import BUCKETS, EVENT, Histogram
from tests.unit.server.gateway_subject import NOTHING, state_of, subject
from tests.unit.server.scripted_edge import eventually
from tests.unit.server.support import run
from tests.unit.server.test_follow import access, configuration, two_tunnels

NO_RULES = configuration(access_control=[access("guests", "10.77.2.0/24", "Guests")])


async def records(it):
    """Oldest first."""
    entries = [each for each in await it.store.audit.newest(100) if each.event == EVENT]
    return [(each.outcome, each.reason, each.revision, each.text) for each in entries]


async def confirm(it, edge, seconds):
    """The edge lets the barrier that waits pass, so many seconds from now."""
    it.clock.now += seconds
    edge.say(edge_link.BarrierPassed(edge.barriers[-1][0]))
    await it.settle(edge)


def test_a_revision_is_in_force_when_the_edge_says_so(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, *_):
            edge.passes = False
            await it.adopt(NO_RULES)
            await it.settle(edge)
            [(number, before)] = edge.barriers
            assert edge.got[before - 1] == SetRules(session=alice.id, revision=2, rules=())
            assert await records(it) == []
            edge.say(edge_link.BarrierPassed(number + 1))  # of nobody
            await confirm(it, edge, 0.25)
            told = ("ok", "policy-changed", 2, "1 session; the last after 250 ms")
            assert await records(it) == [told]
            edge.say(edge_link.BarrierPassed(number))  # again
            await it.settle(edge)
            assert await records(it) == [told]
            assert it.service.enforcement.histograms == {"policy-changed": Histogram().plus(0.25)}

    run(work())


def test_what_takes_nothing_away_is_not_recorded(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, *_):
            await it.adopt(configuration(sign_in_notifications=[{"name": "n", "text": "New."}]))
            await it.service.end_many([12345], EndCause.DISCONNECTED)
            await it.settle(edge)
            assert (edge.barriers, await records(it)) == ([], [])

    run(work())


async def disconnect(it, edge, alice, bob):
    await it.service.end_many([alice.id, bob.id], EndCause.DISCONNECTED)


async def disable(it, edge, alice, bob):
    """By another process: the time counts from what it wrote."""
    it.clock.now += 1
    await it.store.sessions.end_many([alice.id], EndCause.USER_DISABLED, it.clock(), it.clock())
    it.clock.now += 2
    await it.service.end_stale()


async def change_groups(it, edge, alice, bob):
    """Seen a second after it happened."""
    await it.adopt(configuration(realms=[RULED_BY_GROUP]))
    await confirm(it, edge, 0)
    since = it.clock()
    it.clock.now += 1
    await it.service.follow.user_changed("alice", lambda facts: replace(facts, groups=("Out",)), since)


async def rename(it, edge, alice, bob):
    it.in_force.resolve({"wiki.example.org": (ip_address("10.77.5.6"),)})
    await it.service.follow.catch_up("name-changed", it.clock())


async def log_out(it, edge, alice, bob):
    edge.say(edge_link.SessionEnded(alice.id, alice.generation, edge_link.EndCause.LOGOUT, NOTHING))


async def expire(it, edge, alice, bob):
    it.clock.now = alice.expires + 0.125
    for session in (alice, bob):
        edge.say(edge_link.SessionEnded(session.id, session.generation, edge_link.EndCause.EXPIRED, NOTHING))


RULED_BY_GROUP = {
    "name": "Users",
    "server": "System Local",
    "rules": [
        {
            "name": "all",
            "condition": {"kind": "expression", "text": 'NOT group = "Out"'},
            "roles": ["Staff"],
        }
    ],
}
CAUSES = {
    disconnect: ("disconnected", 1, "2 sessions; the last after 500 ms"),
    disable: ("user-disabled", 1, "1 session; the last after 2500 ms"),
    rename: ("name-changed", 1, "1 session; the last after 500 ms"),
    change_groups: ("user-changed", 2, "1 session; the last after 1500 ms"),
}
BY_EDGE = {
    log_out: ("logout", 1, "1 session; the last after 0 ms; the edge ended them by itself"),
    expire: ("expired", 1, "2 sessions; the last after 125 ms; the edge ended them by itself"),
}
NAMED = configuration(
    access_control=[
        access("wiki", "wiki.example.org", "Staff"),
        access("guests", "10.77.2.0/24", "Guests"),
    ]
)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
def test_one_record_for_each_cause(tmp_path, cause):
    async def work():
        async with two_tunnels(tmp_path, NAMED) as (it, edge, alice, bob, _):
            edge.passes = False
            await cause(it, edge, alice, bob)
            await it.settle(edge)
            await confirm(it, edge, 0.5)
            assert (await records(it))[-1] == ("ok", *CAUSES[cause])
            assert [each[1] for each in await records(it)].count(CAUSES[cause][0]) == 1

    run(work())


@pytest.mark.parametrize("cause", BY_EDGE, ids=lambda cause: cause.__name__)
def test_what_the_edge_does_by_itself_is_recorded_together(tmp_path, cause):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, bob, _):
            await cause(it, edge, alice, bob)
            await it.settle(edge)
            it.service.enforcement.tidy()
            await eventually(lambda: it.service.enforcement.histograms)
            await it.settle(edge)
            assert await records(it) == [("ok", *BY_EDGE[cause])]

    run(work())


def test_an_edge_that_was_away_confirms_when_it_is_back(tmp_path):
    """A barrier that did not come back says nothing, and what happens meanwhile is confirmed with it."""

    async def work():
        async with subject(tmp_path, configuration=configuration()) as it:
            alice, bob = (await it.open("alice")).session, (await it.open("bob")).session
            states = [state_of(each, conn=number) for number, each in enumerate((alice, bob), 1)]
            async with it.serving(*states) as edge:
                await it.settle(edge)
                before = await records(it)
                edge.passes, edge.barriers = False, []
                await it.service.end(alice.id, EndCause.DISCONNECTED)
                await eventually(lambda: edge.barriers)
                await edge.die()
                await eventually(lambda: not it.service.edge_is_up)
                it.clock.now += 3
                await it.in_force.adopt(NO_RULES, 2)
                await it.service.follow.catch_up("policy-changed", it.clock())
                it.clock.now += 1
                async with type(edge)(it.socket, tuple(states)) as back:
                    await back.up()
                    await it.settle(back)
                    # Closed before its answer counts.
                    [(_, count)] = back.barriers
                    assert alice.id in [m.session for m in back.got[:count] if isinstance(m, CloseSession)]
                    away = "the edge was away, and confirmed it when it came back"
                    assert (await records(it))[len(before) :] == [
                        ("ok", "disconnected", 1, f"1 session; the last after 4000 ms; {away}"),
                        ("ok", "policy-changed", 2, f"2 sessions; the last after 1000 ms; {away}"),
                    ]

    run(work())


def test_no_edge_is_said_as_well(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, *_):
            await edge.die()
            await eventually(lambda: not it.service.edge_is_up)
            await it.service.end(alice.id, EndCause.DISCONNECTED)
            it.clock.now += 600
            it.service.enforcement.tidy()
            assert await records(it) == []
            it.clock.now += 1
            it.service.enforcement.tidy()
            async with asyncio.timeout(20):
                while not (found := await records(it)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            text = "1 session; no edge has confirmed it within 600 seconds"
            assert found == [("failed", "disconnected", 1, text)]
            assert it.service.enforcement.histograms == {}

    run(work())


def test_an_edge_that_says_nothing_is_said_as_well(tmp_path):
    """It is there and applies no order: nobody waits for it without end."""

    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, bob, _):
            edge.passes = False
            await it.service.end(alice.id, EndCause.DISCONNECTED)
            await it.settle(edge)
            it.clock.now += 600
            await it.service.end(bob.id, EndCause.DISCONNECTED)
            await it.settle(edge)
            it.clock.now += 1
            it.service.enforcement.tidy()
            await it.settle(edge)
            text = "1 session; no edge has confirmed it within 600 seconds"
            assert await records(it) == [("failed", "disconnected", 1, text)]
            [(first, _), (second, _)] = edge.barriers
            for number in (first, second):
                edge.say(edge_link.BarrierPassed(number))
            await it.settle(edge)
            assert (await records(it))[1:] == [("ok", "disconnected", 1, "1 session; the last after 1000 ms")]

    run(work())


def test_a_histogram_counts_up_to_its_bounds():
    histogram = Histogram()
    for seconds in (0.0, 1.0, 1.001, 601.0):
        histogram = histogram.plus(seconds)
    found = dict(histogram.cumulative())
    assert (found["0.005"], found["0.5"], found["1.0"], found["2.5"], found["+Inf"]) == (1, 1, 2, 3, 4)
    assert (len(found), histogram.total) == (len(BUCKETS) + 1, 603.001)
