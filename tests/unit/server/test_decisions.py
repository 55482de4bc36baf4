"""Recorded decisions: written in time, explained from what is known about somebody, made again under another tree."""

import asyncio
import contextlib
from dataclasses import replace
from ipaddress import ip_address

import pytest

from lockgate.model.problem import ProblemError
from lockgate.server import explanations
from tests.unit.server.control_subject import Rig, realm, rule, tree
from tests.unit.server.support import CLIENT, facts, identity, new_store, run, user

STAFF = {
    "name": "Staff",
    "web_options": {"bookmarks": [{"name": "Wiki", "url": "https://wiki.example.org/x"}]},
}
RULES = [
    rule("staff", "Staff", kind="group", values=["Dev"]),
    rule("all", "Users", kind="user", values=["*"]),
]
ACCESS = [
    {
        "name": "web",
        "action": "allow",
        "to": ["10.77.0.0/24", "wiki.example.org"],
        "protocol": "tcp",
        "ports": ["443"],
        "applies": {"to": "selected", "roles": ["Staff"]},
    }
]
FIRST = {
    "roles": [STAFF, {"name": "Users"}],
    "realms": [realm() | {"rules": RULES}],
    "access_control": ACCESS,
}


@contextlib.asynccontextmanager
async def rig(folder):
    async with new_store(folder) as store:
        await store.users.add(replace(user("alice"), groups=("Dev",)))
        await store.users.add(user("bob"))
        it = Rig(store, tree(**FIRST))
        it.names["wiki.example.org"] = (ip_address("10.77.0.80"),)
        it.in_force.resolve({"wiki.example.org": (ip_address("10.77.0.80"),)})
        try:
            yield it
        finally:
            it.sign_ins.close()


QUESTIONS = [
    ("alice", {"target": "10.77.0.9", "port": 443}, True),
    ("alice", {"target": "10.77.0.9", "port": 80}, False),
    ("alice", {"target": "10.77.0.9", "port": 443, "protocol": "udp"}, False),
    ("alice", {"target": "10.78.0.9", "port": 443}, False),
    ("alice", {"target": "WIKI.example.org", "port": 443}, True),
    ("alice", {"target": "Wiki"}, True),  # the bookmark, with its port
    ("bob", {"target": "10.77.0.9", "port": 443}, False),
    ("bob", {}, True),  # may sign in
]


@pytest.mark.parametrize(("name", "question", "allow"), QUESTIONS)
def test_why(tmp_path, name, question, allow):
    async def work():
        async with rig(tmp_path) as it:
            found = await it.explanations.explain(name, **question)
            assert found.allow is allow
            assert found.reasons[-1].ok is allow
            assert found.revision == 1

    run(work())


def test_a_live_session_is_explained_by_the_roles_it_has(tmp_path):
    async def work():
        async with rig(tmp_path) as it:
            await it.sessions.open(identity("alice"), CLIENT)  # with the role Users
            target = {"target": "10.77.0.9", "port": 443}
            assert not (await it.explanations.explain("alice", **target)).allow
            assert not (await it.explanations.explain("alice", device="laptop", **target)).allow
            # From elsewhere, or from another device, it would be a sign-in of now.
            assert (await it.explanations.explain("alice", source="198.51.100.1", **target)).allow
            assert (await it.explanations.explain("alice", device="tablet", **target)).allow

    run(work())


@pytest.mark.parametrize(
    ("name", "question", "code"),
    [
        ("nobody", {}, "no-such-user"),
        ("a\nb", {}, "no-such-user"),
        ("alice", {"server": "Administrators"}, "no-such-user"),
        ("alice", {"source": "somewhere"}, "bad-question"),
        ("alice", {"target": "10.77.0.9", "protocol": "smoke"}, "bad-question"),
        ("alice", {"target": "10.77.0.9", "protocol": "256"}, "bad-question"),
    ],
)
def test_questions_that_have_no_answer(tmp_path, name, question, code):
    async def work():
        async with rig(tmp_path) as it:
            with pytest.raises(ProblemError) as caught:
                await it.explanations.explain(name, **question)
            assert caught.value.problem.code == code

    run(work())


def noted(it, name, groups, when):
    it.clock.now = when
    known = replace(facts(name), groups=groups, time=when)
    it.decisions.note("sign-in", known, ("Users",), True, 1, ())


def test_what_if_tells_who_loses_and_who_gains(tmp_path):
    other = {**FIRST, "realms": [realm() | {"rules": [RULES[1]]}]}

    async def work():
        async with rig(tmp_path) as it:
            now = it.clock.now
            noted(it, "alice", ("Dev",), now - 100)
            noted(it, "bob", (), now - 50)
            noted(it, "carol", ("Dev",), now - 10_000)
            it.clock.now = now
            report = await it.explanations.what_if(tree(**other), now - 1000)
            assert (report.replayed, report.people) == (2, 2)
            [person] = report.affected
            assert person.user == "alice"
            assert any("Staff" in change.text for change in person.loses)
            assert await it.explanations.what_if(it.in_force.tree, now - 1000) != report
            assert not (await it.explanations.what_if(it.in_force.tree, 0.0)).affected

    run(work())


def test_what_cannot_be_written_waits(tmp_path, monkeypatch):
    async def work():
        async with rig(tmp_path) as it:
            noted(it, "alice", (), it.clock.now)

            async def broken(_):
                raise OSError("disk")

            monkeypatch.setattr(it.store.decisions.__class__, "add_many", lambda *_: broken(None))
            with pytest.raises(OSError, match="disk"):
                await it.decisions.flush()
            monkeypatch.undo()
            await it.decisions.flush()
            await it.decisions.flush()
            assert [each.user for each in await it.store.decisions.since(0.0)] == ["alice"]

    run(work())


def test_two_who_write_at_once_write_everything_once(tmp_path):
    async def work():
        async with rig(tmp_path) as it:
            for number in range(3):
                noted(it, f"user{number}", (), it.clock.now)
            first, second = (
                asyncio.create_task(it.decisions.flush()),
                asyncio.create_task(it.decisions.flush()),
            )
            await asyncio.sleep(0)
            noted(it, "user3", (), it.clock.now)
            noted(it, "user4", (), it.clock.now)
            await first
            await second
            await it.decisions.flush()
            recorded = [each.user for each in await it.store.decisions.since(0.0)]
            assert recorded == [f"user{number}" for number in range(5)]

    run(work())


def test_the_newest_of_many_decisions_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(explanations, "PAGE", 3)

    async def work():
        async with rig(tmp_path) as it:
            for number in range(5):
                known = replace(facts("alice"), host_name=f"device{number}", time=it.clock.now)
                it.decisions.note("sign-in", known, ("Users",), True, 1, ())
            await it.decisions.flush()
            known = await it.explanations._recorded("alice", None, None)
            assert known.host_name == "device4"

    run(work())


def test_old_decisions_are_forgotten(tmp_path):
    async def work():
        async with rig(tmp_path) as it:
            noted(it, "alice", (), it.clock.now)
            await it.decisions.flush()
            it.clock.now += 30 * 86400 + 1
            await it.decisions.prune()
            assert await it.store.decisions.since(0.0) == []

    run(work())
