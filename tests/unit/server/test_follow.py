"""Live sessions follow what is in force: who hears of a change, what they hear, and who is left alone."""

import contextlib
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address

import pytest

from lockgate.model.session import EndCause, Refusal, RefusalReason
from lockgate.protocol.edge_link import (
    Attach,
    Fatal,
    FlowAudit,
    OpenSession,
    SetDeadline,
    SetLimits,
    SetRules,
    Transport,
)
from tests.unit.server.control_subject import OPEN, realm, rule, tree
from tests.unit.server.gateway_subject import sees_end, state_of, subject
from tests.unit.server.scripted_edge import Visitor
from tests.unit.server.support import CLIENT, NO_PROOF, run

NO_MORE = Fatal(7, "The configuration was changed, and the account gives no VPN access any more.")
# Staff are those whose name begins with a; bob is a guest.
RULES = [
    rule("staff", "Staff", kind="user", values=["a*"]),
    rule("guests", "Guests", kind="user", values=["b*"]),
]
ROLES = [{"name": "Staff"}, {"name": "Guests"}]


def access(name, to, *roles):
    return {"name": name, "action": "allow", "to": [to], "applies": {"to": "selected", "roles": list(roles)}}


def configuration(**parts):
    """Two roles with a rule of their own each."""
    return tree(
        **{
            "realms": [realm() | {"rules": RULES}],
            "roles": ROLES,
            "access_control": [
                access("staff", "10.77.1.0/24", "Staff"),
                access("guests", "10.77.2.0/24", "Guests"),
            ],
            **parts,
        }
    )


FIRST = configuration()


@contextlib.asynccontextmanager
async def two_tunnels(folder, configuration=FIRST):
    """alice (Staff) and bob (Guests), both connected."""
    async with subject(folder, configuration=configuration) as it, it.serving() as edge:
        tunnels = []
        for conn, name in enumerate(("alice", "bob"), 1):
            client = Visitor(edge, conn)
            await client.sign_in(name.encode(), b"wonderland-7f3a")
            await client.accept()
            [session] = await it.sessions.live(name)
            await edge.sees(Attach(conn=conn, session=session.id))
            tunnels.append(session)
        await it.settle(edge)
        before = len(edge.got)

        def heard():
            return [m for m in edge.got[before:] if getattr(m, "session", None)]

        yield it, edge, *tunnels, heard


def destinations(message):
    return [(ip_address(rule.address), rule.prefix) for rule in message.rules]


def test_a_tunnel_begins_with_the_rules_of_its_roles(tmp_path):
    async def work():
        async with two_tunnels(tmp_path) as (_, edge, alice, bob, heard):
            rules = {m.session: destinations(m) for m in edge.of(OpenSession)}
            assert rules == {
                alice.id: [(ip_address("10.77.1.0"), 24)],
                bob.id: [(ip_address("10.77.2.0"), 24)],
            }
            assert heard() == []

    run(work())


def test_a_rule_reaches_those_it_concerns_and_nobody_else(tmp_path):
    changed = configuration(
        access_control=[
            access("staff", "10.77.9.0/24", "Staff"),
            access("guests", "10.77.2.0/24", "Guests"),
        ]
    )

    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, _, heard):
            await it.adopt(changed)
            await it.settle(edge)
            [message] = heard()
            assert isinstance(message, SetRules)
            assert (message.session, message.revision) == (alice.id, 2)
            assert destinations(message) == [(ip_address("10.77.9.0"), 24)]
            # Nothing about the session itself has changed.
            assert (await it.sessions.find(alice.id)).revision == 1

    run(work())


@pytest.mark.parametrize(
    "parts",
    [
        {"sign_in_notifications": [{"name": "n", "text": "New."}]},
        {"roles": [{"name": "Staff", "ui": {"title": "Hello"}}, {"name": "Guests"}]},
        {"network": {"address_quarantine_seconds": 31}},
        {"realms": [realm() | {"rules": RULES}, realm("Other", roles=["Staff"])]},
    ],
)
def test_what_concerns_no_tunnel_disturbs_none(tmp_path, parts):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, *_, heard):
            await it.adopt(configuration(**parts))
            await it.settle(edge)
            assert heard() == []

    run(work())


LOST = {
    "by the rule of the realm": {"realms": [realm() | {"rules": RULES[1:]}]},
    "by a restriction of the role": {
        "roles": [{"name": "Staff", "restrictions": {"source": {"otherwise": "deny"}}}, {"name": "Guests"}]
    },
    "by the access feature": {"roles": [{"name": "Staff", "vpn_tunneling": False}, {"name": "Guests"}]},
    "by the realm's own policy": {
        "realms": [
            realm(policy={"browser": {"rules": [{"pattern": "test*", "action": "deny"}]}})
            | {"rules": RULES[:1]},
        ]
    },
}


@pytest.mark.parametrize("how", LOST)
def test_a_role_that_is_lost_is_lost_now(tmp_path, how):
    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, bob, heard):
            await it.adopt(configuration(**LOST[how]))
            await it.settle(edge)
            mine = [m for m in heard() if m.session == alice.id]
            # The packets stop before the store is asked.
            assert (type(mine[0]), mine[0].rules) == (SetRules, ())
            message, code = await sees_end(edge, alice, NO_MORE)
            assert mine[-1] == message
            assert await it.cause(alice) is EndCause.POLICY_CHANGED
            if how != "by the realm's own policy":  # which is closed to everybody
                assert [m for m in heard() if m.session == bob.id] == []
                assert await it.cause(bob) is None
            [entry] = [
                each
                for each in await it.store.audit.newest(100)
                if each.event == "session-end" and each.session == alice.id
            ]
            assert (entry.reason, entry.revision, entry.user) == ("policy-changed", 2, "alice")
            # The code that the client heard leads the help desk to what took the rights away.
            found = await it.decisions.find(code)
            assert (found.kind, found.session, found.revision) == ("end", alice.id, 2)
            assert any(not each["ok"] and each["path"] for each in found.reasons)
            assert code in entry.text
            if how == "by the access feature":  # the roles are as they were
                return
            await it.decisions.flush()
            recorded = [d for d in await it.store.decisions.since(0.0) if d.kind == "re-evaluation"]
            assert ("alice", False) in [(each.user, each.allow) for each in recorded]

    run(work())


def test_other_roles_are_written_down_with_their_cause(tmp_path):
    both = [rule("both", "Staff", "Guests", kind="user", values=["a*"]), RULES[1]]

    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, _, heard):
            await it.adopt(configuration(realms=[realm() | {"rules": both}]))
            await it.settle(edge)
            assert [(type(m), m.session) for m in heard()] == [(SetRules, alice.id)]
            stored = await it.sessions.find(alice.id)
            assert (stored.roles, stored.revision) == (("Staff", "Guests"), 2)
            [entry] = [each for each in await it.store.audit.newest(5) if each.event == "session-change"]
            assert (entry.reason, entry.text) == ("policy-changed", "Staff, Guests")

    run(work())


def test_limits_of_time_follow(tmp_path):
    def lasting(**options):
        return configuration(roles=[{"name": "Staff", "session": options}, {"name": "Guests"}])

    async def work():
        async with two_tunnels(tmp_path) as (it, edge, alice, bob, heard):
            it.clock.now = alice.started + 100
            await it.adopt(lasting(length_seconds=600, idle_seconds=60))
            await it.settle(edge)
            assert heard() == [SetDeadline(session=alice.id, remaining=500, idle=60)]
            stored = await it.sessions.find(alice.id)
            assert (stored.expires, stored.idle_seconds) == (alice.started + 600, 60)
            await it.adopt(lasting(length_seconds=99))
            await it.settle(edge)
            assert await it.cause(alice) is EndCause.EXPIRED
            assert await it.cause(bob) is None

    run(work())


def test_bandwidth_follows(tmp_path):
    slow = {"name": "slow", "up_kbit": 500, "applies": {"to": "selected", "roles": ["Guests"]}}

    async def work():
        async with two_tunnels(tmp_path) as (it, edge, _, bob, heard):
            await it.adopt(configuration(bandwidth=[slow]))
            await it.settle(edge)
            assert heard() == [SetLimits(session=bob.id, rate_in=500_000, rate_out=0, flows=FlowAudit.DENIED)]
            await it.adopt(configuration())
            await it.settle(edge)
            assert heard()[1:] == [SetLimits(session=bob.id, rate_in=0, rate_out=0, flows=FlowAudit.DENIED)]

    run(work())


def test_a_tunnel_begins_with_its_bandwidth(tmp_path):
    slow = {"name": "slow", "up_kbit": 500, "down_kbit": 2000}

    async def work():
        async with two_tunnels(tmp_path, configuration(bandwidth=[slow])) as (_, edge, *_):
            assert [(m.rate_in, m.rate_out) for m in edge.of(OpenSession)] == [(500_000, 2_000_000)] * 2

    run(work())


def test_a_name_with_other_addresses_reaches_its_users(tmp_path):
    named = configuration(
        access_control=[
            access("wiki", "wiki.example.org", "Staff"),
            access("guests", "10.77.2.0/24", "Guests"),
        ]
    )

    async def work():
        async with two_tunnels(tmp_path, named) as (it, edge, alice, _, heard):
            for address in ("10.77.5.5", "10.77.5.6"):
                it.in_force.resolve({"wiki.example.org": (ip_address(address),)})
                await it.service.follow.catch_up("name-changed")
                await it.settle(edge)
                assert heard()[-1].session == alice.id
                assert destinations(heard()[-1]) == [(ip_address(address), 32)]
            it.in_force.resolve({"wiki.example.org": (ip_address("10.77.5.6"),), "other": ()})
            await it.service.follow.catch_up("name-changed")
            await it.settle(edge)
            assert len(heard()) == 2

    run(work())


def test_groups_of_a_user_follow(tmp_path):
    grouped = [
        rule("staff", "Staff", kind="group", values=["Dev"]),
        rule("guests", "Guests", kind="user", values=["*"]),
    ]

    async def work():
        async with two_tunnels(tmp_path, configuration(realms=[realm() | {"rules": grouped}])) as tunnels:
            it, edge, alice, bob, heard = tunnels
            await it.service.follow.user_changed("alice", lambda facts: replace(facts, groups=("Dev",)))
            await it.settle(edge)
            assert [(type(m), m.session) for m in heard()] == [(SetRules, alice.id)]
            stored = await it.sessions.find(alice.id)
            assert (stored.roles, stored.facts.groups) == (("Staff", "Guests"), ("Dev",))
            assert (await it.sessions.find(bob.id)).roles == ("Guests",)

    run(work())


def test_groups_follow_also_while_the_client_is_away(tmp_path):
    rules = [
        rule("staff", "Staff", kind="group", values=["Dev"]),
        rule("guests", "Guests", kind="expression", text='NOT group = "Out"'),
    ]

    async def work():
        async with subject(tmp_path, configuration=configuration(realms=[realm() | {"rules": rules}])) as it:
            away, here = (await it.open()).session, (await it.open()).session
            async with it.serving(state_of(here, conn=5, transport=Transport.TLS)) as edge:
                await it.settle(edge)
                for groups, roles in ((("Dev",), ("Staff", "Guests")), ((), ("Guests",)), (("Out",), None)):
                    await it.service.follow.user_changed(
                        "alice", lambda facts, groups=groups: replace(facts, groups=groups)
                    )
                    for session in (away, here):
                        stored = await it.sessions.find(session.id)
                        if roles is None:
                            assert stored.cause is EndCause.POLICY_CHANGED
                        else:
                            assert (stored.roles, stored.facts.groups) == (roles, groups)

    run(work())


def test_groups_that_change_while_a_client_comes_back_count(tmp_path):
    """Between the resumption in the store and the tunnel lies the client's acknowledgement."""
    grouped = [
        rule("staff", "Staff", kind="group", values=["Dev"]),
        rule("guests", "Guests", kind="user", values=["*"]),
    ]

    async def work():
        configured = configuration(realms=[realm() | {"rules": grouped}])
        async with subject(tmp_path, configuration=configured) as it, it.serving() as edge:
            opened = await it.open()
            client = Visitor(edge, 1)
            await client.show_cookie(opened.cookie)
            await client.next_request()
            await it.service.follow.user_changed("alice", lambda facts: replace(facts, groups=("Dev",)))
            client.send(client.answer())
            await edge.sees(Attach(conn=1, session=opened.session.id))
            await it.settle(edge)
            assert (ip_address("10.77.1.0"), 24) in destinations(edge.of(SetRules)[-1])
            assert it.service.tunnels.get(opened.session.id).session.facts.groups == ("Dev",)

    run(work())


def test_roles_that_look_at_the_clock_come_and_go(tmp_path):
    by_day = [
        rule("day", "Staff", kind="expression", text="time.hour < 18"),
        rule("always", "Guests", kind="user", values=["*"]),
    ]

    async def work():
        async with subject(tmp_path, configuration=configuration(realms=[realm() | {"rules": by_day}])) as it:
            it.clock.now = datetime(2026, 7, 1, 12).timestamp()  # by the clock of this machine
            session = (await it.open()).session
            async with it.serving(state_of(session, conn=5, transport=Transport.TLS)) as edge:
                await it.settle(edge)
                assert (await it.sessions.find(session.id)).roles == ("Staff", "Guests")
                it.clock.now = datetime(2026, 7, 1, 18, 1).timestamp()
                await it.service.follow.clock_moved()
                await it.settle(edge)
                assert (await it.sessions.find(session.id)).roles == ("Guests",)
                assert destinations(edge.of(SetRules)[-1]) == [(ip_address("10.77.2.0"), 24)]

    run(work())


def test_after_a_restart_roles_are_what_they_would_be_now(tmp_path):
    """Nobody knows by which revision the roles of an adopted session were given."""

    async def work():
        async with subject(tmp_path, configuration=configuration()) as it:
            session = (await it.open()).session  # with the role Users, which is gone
            async with it.serving(state_of(session, conn=5)) as edge:
                await it.settle(edge)
                assert (await it.sessions.find(session.id)).roles == ("Staff",)
                assert destinations(edge.of(SetRules)[-1]) == [(ip_address("10.77.1.0"), 24)]

    run(work())


# -- coming back -----------------------------------------------------------------------------------


def roaming(mode):
    return tree(roles=[{"name": "Users", "session": {"roaming": mode}}], access_control=[OPEN])


PLACES = [
    ("enabled", "198.51.100.1", True),
    ("limit-to-subnet", "192.0.2.200", True),
    ("limit-to-subnet", "192.0.3.9", False),
    ("limit-to-subnet", "2001:db8::1", False),
    ("limit-to-subnet", "::ffff:192.0.2.7", True),
    ("disabled", "192.0.2.9", True),
    ("disabled", "192.0.2.10", False),
]


@pytest.mark.parametrize(("mode", "source", "good"), PLACES)
def test_roaming(tmp_path, mode, source, good):
    async def work():
        async with subject(tmp_path, configuration=roaming(mode)) as it:
            session = await it.open()
            client = replace(CLIENT, source=source)
            result = await it.sessions.resume(session.cookie, client, NO_PROOF, connected=it.clock.now)
            if good:
                assert result.session.generation == 2
                return
            assert isinstance(result, Refusal)
            assert result.reason is RefusalReason.ROAMING
            # The cookie in the wrong place costs its owner nothing.
            again = await it.sessions.resume(session.cookie, CLIENT, NO_PROOF, connected=it.clock.now)
            assert again.session.generation == 2

    run(work())


def test_who_comes_back_gets_the_roles_of_now_and_from_there(tmp_path):
    inside = {"source": {"rules": [{"network": "192.0.2.0/24", "action": "allow"}], "otherwise": "deny"}}
    roles = [{"name": "Users"}, {"name": "Office", "restrictions": inside}]

    async def work():
        async with subject(tmp_path, configuration=tree(roles=roles)) as it:
            first = await it.open()
            both = tree(roles=roles, realms=[realm(roles=["Users", "Office"])])
            await it.adopt(both)
            for source, expected in (("192.0.2.77", ("Users", "Office")), ("198.51.100.1", ("Users",))):
                result = await it.sessions.resume(
                    first.cookie, replace(CLIENT, source=source), NO_PROOF, connected=it.clock.now
                )
                assert result.session.roles == expected
                assert result.session.revision == 2
            await it.adopt(tree(roles=roles, realms=[realm(roles=["Office"])]))
            refused = await it.sessions.resume(
                first.cookie, replace(CLIENT, source="198.51.100.1"), NO_PROOF, connected=it.clock.now
            )
            assert refused.reason is RefusalReason.NOT_ALLOWED
            assert await it.cause(first.session) is None

    run(work())


def test_a_client_that_is_away_for_too_long(tmp_path, monkeypatch):
    from lockgate.server.gateway import service

    monkeypatch.setattr(service, "HOUSEKEEPING_INTERVAL", 0.01)
    roles = [{"name": "Users", "session": {"heartbeat_timeout_seconds": 60}}]

    async def work():
        async with subject(tmp_path, configuration=tree(roles=roles)) as it, it.serving() as edge:
            gone, back = await it.open(), await it.open()
            for conn, each in enumerate((gone, back), 1):
                await Visitor(edge, conn).enter(each.cookie)
                await edge.sees(Attach(conn=conn, session=each.session.id))
                Visitor(edge, conn).leave(each.session.id)
            await it.settle(edge)
            it.clock.now += 59
            await Visitor(edge, 9).enter(back.cookie)
            await edge.sees(Attach(conn=9, session=back.session.id))
            it.clock.now += 1
            assert await it.ends(gone.session) is EndCause.AWAY
            it.clock.now += 100
            await it.settle(edge)
            assert await it.cause(back.session) is None

    run(work())
