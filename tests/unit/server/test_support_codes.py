"""Whoever is refused gets a code, and the help desk finds by it what decided; strangers learn nothing by it."""

import asyncio
import contextlib
from dataclasses import replace
from ipaddress import ip_address

import pytest

from lockgate.model.policy import Bookmark
from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Refused
from lockgate.model.session import EndCause
from lockgate.model.support_code import parse_support_code
from lockgate.protocol.secret import Secret
from lockgate.server import decisions, support_codes
from lockgate.server.config.tree.authentication import Guard
from lockgate.server.own_questions import PARALLEL, PER_MINUTE, OwnQuestions, read_question
from tests.unit.server.control_subject import Rig, limits, realm, request, rule, tree
from tests.unit.server.scripted_edge import eventually
from tests.unit.server.support import (
    CHEAP,
    CLIENT,
    HASH,
    NO_PROOF,
    PASSWORD,
    facts,
    identity,
    new_store,
    run,
    user,
)

NOBODY_FROM_THERE = {
    "policy": {"source": {"rules": [{"network": "198.51.100.0/24", "action": "deny"}], "otherwise": "allow"}}
}


@contextlib.asynccontextmanager
async def rig(folder, **parts):
    async with new_store(folder) as store:
        for name in ("alice", "dora"):
            await store.users.add(user(name, password_hash=HASH, enabled=name != "dora"))
        it = Rig(store, tree(**{"sign_in": {"argon2": CHEAP.model_dump(), "attempts": 1}, **parts}))
        try:
            await it.sign_ins.start()
            yield it
        finally:
            it.sign_ins.close()


async def refused(it, name="alice", password=PASSWORD, source="192.0.2.9", **rest):
    """How a sign-in that is refused ends."""
    conversation = it.sign_ins.conversation(request(replace(CLIENT, source=source), **rest))
    step = await conversation.start()
    if not isinstance(step, Refused):
        step = await conversation.answer({"username": name, "password": Secret.of_text(password)})
    assert isinstance(step, Refused), step
    return step


STRANGERS_TO_STAFF = [rule("staff", "Users", kind="group", values=["Staff"])]
# Tree, what is typed, kind and decisive path or text of the decision, what the person hears beside the text.
REFUSALS = {
    "wrong password": ({}, {"password": "wrong"}, "attempt", "the password is wrong", ()),
    "unknown user": ({}, {"name": "nobody"}, "attempt", "the auth server knows no such user", ()),
    "no user name": ({}, {"name": "a\x00b"}, "attempt", "that cannot be a user name", ()),
    "disabled": ({}, {"name": "dora"}, "refusal", "the account is disabled", ()),
    "no role": (
        {"realms": [realm() | {"rules": STRANGERS_TO_STAFF}]},
        {},
        "sign-in",
        "no rule gives a role: nothing may be used",
        ("your account has no role here",),
    ),
    "no VPN": (
        {"roles": [{"name": "Users", "vpn_tunneling": False}]},
        {},
        "sign-in",
        "no role has VPN tunneling",
        ("none of your roles includes VPN access",),
    ),
    "certificate": (
        {"realms": [realm() | {"policy": {"certificate": {"require": "required"}}}]},
        {},
        "attempt",
        "a certificate is required and there is none",
        (),
    ),
    "no sign-in at this URL": (
        {"sign_in_policies": [{"name": "users", "url": "*/staff/", "realms": ["Users"]}]},
        {},
        "attempt",
        None,
        (),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_has_a_code_that_finds_its_reasons(tmp_path, case):
    parts, typed, kind, text, told = REFUSALS[case]

    async def work():
        async with rig(tmp_path, **parts) as it:
            step = await refused(it, **typed)
            assert step.reasons == told
            found = await it.decisions.find(step.support.lower().replace("-", " "))
            assert (found.kind, found.allow, found.revision) == (kind, False, 1)
            assert found.facts["source"] == "192.0.2.9"
            if text is not None:
                assert text in [each["text"] for each in found.reasons if each["ok"] is False]
            [entry] = await it.store.audit.newest(1)
            assert entry.outcome == "failed"
            assert step.support in entry.text  # the log leads there as well
            # Nothing that a stranger claims is taken for a fact about somebody.
            if kind == "attempt":
                assert (await it.explanations._recorded("alice", None, None)) is None

    run(work())


def test_a_locked_user_and_a_locked_address(tmp_path):
    guard = Guard(failures_per_user_and_address=1, failures_per_address=2).model_dump()
    section = {"argon2": CHEAP.model_dump(), "attempts": 1, "guard": guard}

    async def work():
        async with rig(tmp_path, sign_in=section) as it:
            reasons = []
            for name in ("alice", "alice", "nobody", "nobody"):
                found = await it.decisions.find((await refused(it, name, "wrong")).support)
                reasons.append(found.reasons[0]["text"].partition(" after")[0])
            assert reasons == [
                "the password is wrong",
                "the user is locked at this address",
                "the auth server knows no such user",
                "the address is locked",
            ]

    run(work())


def test_a_user_that_exists_and_one_that_does_not_are_told_the_same(tmp_path):
    async def work():
        async with rig(tmp_path) as it:
            seen, codes = {}, []
            for name in ("alice", "nobody"):
                # The log has other reasons for the empty one, but only if there is such a user.
                steps = [await refused(it, name, password) for password in ("wrong", "wrong", "", "wrong")]
                assert all(parse_support_code(each.support) == each.support for each in steps)
                codes += [each.support for each in steps]
                seen[name] = [(each.code, each.text, each.reasons) for each in steps]
            assert seen["alice"] == seen["nobody"]
            assert len(set(codes)) == len(codes)

    run(work())


def test_guessing_fills_neither_the_queue_nor_the_store(tmp_path, monkeypatch):
    async def work():
        async with rig(tmp_path) as it:
            known, codes = facts("x"), set()
            for number in range(support_codes.IN_ALL + 200):
                source = f"198.51.{number // 20 % 256}.{number // 20 // 256 + 1}"
                someone = replace(known, user=f"user{number}", source=source)
                codes.add(it.decisions.turn_away(someone, 1, ()))
            assert len(codes) == support_codes.IN_ALL + 200  # everybody gets one all the same
            await it.decisions.flush()
            assert len(await it.store.decisions.since(0.0)) == support_codes.IN_ALL
            it.clock.now += support_codes.WINDOW
            for number in range(100):
                someone = replace(known, user=f"other{number}", source="203.0.113.1")
                it.decisions.turn_away(someone, 1, ())
            await it.decisions.flush()
            in_all = support_codes.IN_ALL + support_codes.PER_PLACE
            assert len(await it.store.decisions.since(0.0)) == in_all
            it.decisions.note("sign-in", known, ("Users",), True, 1, ())
            monkeypatch.setattr(decisions, "MAX_KEPT", 40)
            await it.decisions.flush()
            await it.decisions.prune()
            kinds = [each.kind for each in await it.store.decisions.since(0.0)]
            assert (kinds.count("attempt"), kinds.count("sign-in")) == (40, 1)

    run(work())


def test_an_unknown_and_an_old_code_say_how_long_codes_are_kept(tmp_path):
    async def work():
        async with rig(tmp_path) as it:
            code = (await refused(it, password="wrong")).support  # a wrong one
            assert (await it.decisions.find(code)).user == "alice"
            it.clock.now += 30 * 86400 + 1
            for typed in (code, "0000-0000"):
                with pytest.raises(ProblemError) as caught:
                    await it.decisions.find(typed)
                assert caught.value.problem.code == "no-such-code"
                assert "30 days" in caught.value.problem.fix
            with pytest.raises(ProblemError) as caught:
                await it.decisions.find("what?")
            assert caught.value.problem.code == "bad-code"

    run(work())


def test_too_many_sessions(tmp_path):
    async def work():
        async with rig(tmp_path, realms=[realm() | {"policy": limits(1)}]) as it:
            await it.sessions.open(identity(), CLIENT)
            conversation = it.sign_ins.conversation(request())
            await conversation.start()
            await conversation.answer({"username": "alice", "password": Secret.of_text(PASSWORD)})
            step = await conversation.answer({"session": "none"})
            assert step.reasons == ("you may have 1 sessions at a time",)
            found = await it.decisions.find(step.support)
            assert found.reasons[-1]["path"] == "realms/Users/policy/limits/max_sessions_per_user"
            # Meanwhile somebody else of the same name was faster: the store says no.
            late = await it.sessions.open(identity(), CLIENT)
            assert (await it.decisions.find(late.support)).kind == "refusal"

    run(work())


def test_a_return_that_the_policy_refuses(tmp_path):
    async def work():
        async with rig(tmp_path) as it:
            opened = await it.sessions.open(identity(), CLIENT)
            await it.adopt(tree(realms=[realm() | NOBODY_FROM_THERE]))
            there = replace(CLIENT, source="198.51.100.7")
            result = await it.sessions.resume(opened.cookie, there, NO_PROOF, connected=it.clock.now)
            assert result.told.reasons == ("access is not allowed from 198.51.100.7",)
            found = await it.decisions.find(result.told.support)
            assert (found.kind, found.session, found.revision) == ("resume", opened.session.id, 2)
            assert "realms/Users/policy/source" in [each["path"] for each in found.reasons]
            # A cookie of a session that is over is a stranger's until proven otherwise.
            await it.sessions.end_many([opened.session.id], EndCause.DISCONNECTED)
            result = await it.sessions.resume(opened.cookie, CLIENT, NO_PROOF, connected=it.clock.now)
            assert result.told is None
            assert (await it.decisions.find(result.support)).kind == "attempt"

    run(work())


# -- may I reach …? --------------------------------------------------------------------------------

BOOKMARKS = (Bookmark(name="Wiki", description="", url="https://wiki.example.org/x", new_window=False),)
TYPED = [
    ("10.77.0.9", "", "tcp", ("10.77.0.9", None)),
    ("10.77.0.9:80", "", "tcp", ("10.77.0.9", 80)),
    ("10.77.0.9:80", "443", "tcp", ("10.77.0.9", 443)),
    ("fd00::1", "22", "tcp", ("fd00::1", 22)),
    ("[fd00::1]:22", "", "tcp", ("fd00::1", 22)),
    ("https://Wiki.Example.org/a?b#c", "", "tcp", ("wiki.example.org", 443)),
    ("http://alice:secret@wiki.example.org:8080/", "", "tcp", ("wiki.example.org", 8080)),
    (" wiki ", "", "tcp", ("wiki.example.org", 443)),
    ("wiki.example.org.", "", "udp", ("wiki.example.org", None)),
    ("10.77.0.9", "80", "icmp", ("10.77.0.9", None)),
]


@pytest.mark.parametrize(("typed", "port", "protocol", "meant"), TYPED)
def test_what_people_type(typed, port, protocol, meant):
    found = read_question(typed, port, protocol, BOOKMARKS)
    assert (found.target, found.port, found.protocol) == (*meant, protocol)


@pytest.mark.parametrize(
    ("typed", "port", "protocol"),
    [
        ("", "", "tcp"),
        ("x" * 261, "", "tcp"),
        ("a b", "", "tcp"),
        ("wïki.example.org", "", "tcp"),
        ("10.77.0.9:99999", "", "tcp"),
        ("10.77.0", "", "tcp"),
        ("10.77.0.9", "0", "tcp"),
        ("10.77.0.9", "\u0663", "tcp"),
        ("10.77.0.9", "80", "smoke"),
        ("https://", "", "tcp"),
        ("//[x", "", "tcp"),
    ],
)
def test_what_nobody_can_mean(typed, port, protocol):
    with pytest.raises(ProblemError) as caught:
        read_question(typed, port, protocol, BOOKMARKS)
    assert caught.value.problem.code == "bad-question"


WEB = {"name": "web", "action": "allow", "to": ["10.77.0.0/24"], "protocol": "tcp", "ports": ["443"]}
SECRET = {"name": "vault", "action": "deny", "to": ["10.77.0.66/32"]}


@contextlib.asynccontextmanager
async def questions(folder, roles=("Users",)):
    async with rig(folder, access_control=[SECRET, WEB], roles=[{"name": "Users"}, {"name": "None"}]) as it:
        names = {
            "wiki.example.org": ["10.77.0.9"],
            "hidden.example.org": ["10.77.0.66", "10.99.0.1", "fd99::1"],
        }
        asked_for = []

        async def resolve(name):
            asked_for.append(name)
            return [ip_address(each) for each in names.get(name, ())]

        own = OwnQuestions(it.decisions, it.in_force, resolve, it.clock)

        async def ask(typed, port="443", name="alice", roles=roles):
            return await own.ask(facts(name), roles, typed, port, "tcp")

        yield it, ask, asked_for


def test_people_hear_the_verdict_and_the_help_desk_the_rule(tmp_path):
    async def work():
        async with questions(tmp_path) as (it, ask, _):
            yes, no = await ask("wiki.example.org"), await ask("10.77.0.66")
            assert (yes.allow, no.allow) == (True, False)
            assert "an access rule for your roles allows it" in yes.reasons
            assert "an access rule for your roles denies it" in no.reasons
            for answer in (yes, no):
                told = " ".join(answer.reasons)
                assert not any(word in told for word in ("access_control", "10.77.0.0/24", "'web'", "vault"))
            found = await it.decisions.find(no.code)
            assert (found.kind, found.allow, found.user) == ("question", False, "alice")
            assert "access_control/vault" in [each["path"] for each in found.reasons]
            again = it.decisions.again(found)
            assert (again["user"], again["target"], again["port"]) == ("alice", "10.77.0.66", "443")
            assert not (await it.explanations.explain(again.pop("user"), **{**again, "port": 443})).allow
            # A question is no sign-in: it is not replayed.
            assert await it.explanations._recorded("alice", None, None) is None

    run(work())


def test_nobody_learns_which_names_there_are(tmp_path):
    async def work():
        async with questions(tmp_path) as (_, ask, asked_for):
            hidden, none = await ask("hidden.example.org"), await ask("nothing.example.org")
            assert (hidden.allow, hidden.reasons) == (none.allow, none.reasons) != (True, ())
            before = list(asked_for)
            assert "you have no role any more" in (await ask("wiki.example.org", roles=("Gone",))).reasons
            assert asked_for == before

    run(work())


def test_a_name_of_somebody_elses_rule_takes_the_same_way(tmp_path):
    """Or its answer, which comes without a question to a name server, would tell that there is a rule."""

    async def work():
        async with questions(tmp_path) as (it, ask, asked_for):
            it.in_force.resolve({"hidden.example.org": (ip_address("10.77.0.66"),)})
            named, none = await ask("hidden.example.org"), await ask("nothing.example.org")
            assert (named.allow, named.reasons) == (none.allow, none.reasons)
            assert asked_for == ["hidden.example.org", "nothing.example.org"]
            # What the rules go by counts, not what a name server says now.
            it.in_force.resolve({"nothing.example.org": (ip_address("10.77.0.9"),)})
            assert (await ask("nothing.example.org")).allow

    run(work())


def test_nobody_keeps_others_from_asking(tmp_path):
    async def work():
        async with questions(tmp_path) as (it, _, _):
            answered, asked_for = asyncio.Event(), []

            async def resolve(name):
                asked_for.append(name)
                await answered.wait()
                return []

            own = OwnQuestions(it.decisions, it.in_force, resolve, it.clock)

            def ask(name, target):
                return asyncio.create_task(own.ask(facts(name), ("Users",), target, "443", "tcp"))

            tasks = [ask("alice", f"slow{number}.example.org") for number in range(PARALLEL + 1)]
            await eventually(lambda: asked_for)
            tasks.append(ask("bob", "wiki.example.org"))
            await eventually(lambda: "wiki.example.org" in asked_for)
            assert asked_for == ["slow0.example.org", "wiki.example.org"]
            answered.set()
            await asyncio.gather(*tasks)
            assert len(asked_for) == len(tasks)

    run(work())


def test_questions_are_counted_by_user(tmp_path):
    async def work():
        async with questions(tmp_path) as (it, ask, _):
            for _ in range(PER_MINUTE):
                await ask("10.77.0.9")
            with pytest.raises(ProblemError) as caught:
                await ask("10.77.0.9")
            assert caught.value.problem.code == "too-many-attempts"
            assert (await ask("10.77.0.9", name="bob")).allow
            it.clock.now += 60
            assert (await ask("10.77.0.9")).allow

    run(work())
