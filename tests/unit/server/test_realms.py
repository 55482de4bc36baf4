"""Signing in where there are several realms, roles and policies: who is asked what, and who gets which roles."""

import contextlib
from dataclasses import replace

import pytest

from lockgate.model.facts import CertificateFacts
from lockgate.model.problem import ProblemError
from lockgate.model.prompt import (
    Credentials,
    NewPassword,
    Notice,
    RealmChoice,
    Refused,
    RoleChoice,
    SignedIn,
)
from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from tests.unit.server.control_subject import Rig, realm, request, rule, tree
from tests.unit.server.support import CLIENT, HASH, PASSWORD, new_store, run, user

FAILED = Refused("sign-in-failed", "User name or password is wrong.")
ROLES = [{"name": name} for name in ("Users", "Staff", "Guests")]
ADMIN = "Administrators"


def typed(name, password=PASSWORD):
    return {"username": name, "password": Secret.of_text(password)}


def policy(url="*/", realms=("Users",), **rest):
    return {"name": url.replace("/", "-"), "url": url, "realms": list(realms), **rest}


def administrators():
    return {
        "name": "administrators", "url": "*/admin/", "user_type": "administrators",
        "admin_realms": ["Admin Users"],
    }  # fmt: skip


STAFF = realm("Staff", roles=["Staff"])
GUESTS = realm("Guests", roles=["Guests"])


@contextlib.asynccontextmanager
async def gateway(folder, **parts):
    async with new_store(folder) as store:
        await store.users.add(replace(user("alice", password_hash=HASH), groups=("Dev", "Berlin")))
        await store.users.add(user("root", password_hash=HASH, server=ADMIN))
        parts.setdefault("roles", ROLES)
        parts.setdefault("realms", [realm(), STAFF, GUESTS])
        parts.setdefault("sign_in_policies", [policy(), administrators()])
        rig = Rig(store, tree(**parts))
        try:
            yield rig
        finally:
            rig.sign_ins.close()


async def attempt(rig, *answers, client=CLIENT, **rest):
    """The steps of one conversation."""
    conversation = rig.sign_ins.conversation(request(client, **rest))
    steps = [await conversation.start()]
    for answer in answers:
        steps.append(await conversation.answer(answer))
    return steps


async def audited(rig):
    return [
        (entry.reason or entry.outcome, entry.log)
        for entry in await rig.store.audit.newest(100)
        if entry.event == "sign-in"
    ]


def in_realm(step):
    assert isinstance(step, SignedIn), step
    return step.identity.realm, step.identity.roles


# -- URLs and realms -------------------------------------------------------------------------------


URLS = [
    ("gw.example.org", "/", ("Users", ("Users",))),
    ("gw.example.org:443", "/staff/", ("Staff", ("Staff",))),
    ("gw.example.org", "/staff/anything", ("Staff", ("Staff",))),
    ("guests.example.org", "/staff", ("Guests", ("Guests",))),
    ("other.example.net", "/guests", None),  # switched off
    ("gw.example.org", "/staff/../guests", None),
]


@pytest.mark.parametrize(("host", "path", "where"), URLS)
def test_the_url_decides_about_the_realm(tmp_path, host, path, where):
    policies = [
        policy("*/"),
        policy("*/staff/", ["Staff"]),
        policy("guests.example.org/", ["Guests"]),
        policy("*/guests/", ["Guests"], enabled=False),
        administrators(),
    ]

    async def work():
        async with gateway(tmp_path, sign_in_policies=policies) as rig:
            if where is None:
                assert await attempt(rig, host=host, path=path) == [
                    Refused("no-sign-in-here", "Sign-in is not possible at this address.")
                ]
                assert await audited(rig) == [("no-sign-in-here", "user")]
                return
            prompt, outcome = await attempt(rig, typed("alice"), host=host, path=path)
            assert prompt == Credentials(retry=False)
            assert in_realm(outcome) == where

    run(work())


def test_administrators_and_users_do_not_sign_in_at_each_others_doors(tmp_path):
    async def work():
        async with gateway(tmp_path) as rig:
            console = {"audience": "administrators", "path": "/admin/", "kind": "console"}
            *_, outcome = await attempt(rig, typed("root"), **console)
            assert in_realm(outcome) == ("Admin Users", (".Administrators",))
            assert (outcome.identity.audience, outcome.identity.server) == ("administrators", ADMIN)
            for name, door in (("alice", console), ("root", {})):
                *_, outcome = await attempt(rig, *[typed(name)] * 3, **door)
                assert outcome == FAILED
            assert (await attempt(rig, audience="users", path="/admin/"))[0] == Credentials(retry=False)
            assert (await attempt(rig, audience="administrators", path="/"))[0].code == "no-sign-in-here"
            assert ("ok", "admin") in await audited(rig)

    run(work())


def test_the_user_chooses_a_realm_of_the_list(tmp_path):
    async def work():
        async with gateway(tmp_path, sign_in_policies=[policy(realms=["Users", "Staff"])]) as rig:
            choice, prompt, outcome = await attempt(rig, {"realm": "Staff"}, typed("alice"))
            assert (choice, prompt) == (RealmChoice(("Users", "Staff")), Credentials(retry=False))
            assert in_realm(outcome) == ("Staff", ("Staff",))
            # One that is not of this URL is none.
            *_, again = await attempt(rig, {"realm": "Guests"})
            assert again == choice

    run(work())


def test_a_typed_realm_names_no_others(tmp_path):
    policies = [policy(realms=["Users", "Staff"], realm_choice="typed")]

    async def work():
        async with gateway(tmp_path, sign_in_policies=policies) as rig:
            asked, *_, outcome = await attempt(rig, {"realm": " staff "}, typed("alice"))
            assert asked == RealmChoice(())
            assert in_realm(outcome)[0] == "Staff"
            assert (await attempt(rig, *[{"realm": "Guests"}] * 3))[-1] == FAILED

    run(work())


SUFFIXES = [
    # typed, options, what comes of it
    ("alice@Staff", {}, "Staff"),
    ("Staff\\alice", {}, "Staff"),
    ("alice", {}, RealmChoice(("Users", "Staff"))),
    ("alice@Guests", {}, RealmChoice(("Users", "Staff"))),
    ("alice", {"fail_without_suffix": True}, FAILED),
    ("alice@Guests", {"fail_without_suffix": True}, FAILED),
    ("alice@Staff", {"strip_suffix": False}, FAILED),
]


@pytest.mark.parametrize(("name", "options", "expected"), SUFFIXES)
def test_the_realm_as_a_suffix_of_the_name(tmp_path, name, options, expected):
    policies = [policy(realms=["Users", "Staff"], realm_by_suffix=True, **options)]

    async def work():
        async with gateway(tmp_path, sign_in_policies=policies) as rig:
            prompt, *steps = await attempt(rig, typed(name))
            assert prompt == Credentials(retry=False)
            if expected == FAILED:
                steps = await attempt(rig, *[typed(name)] * 3)
                assert steps[-1] == FAILED
            elif isinstance(expected, str):
                assert in_realm(steps[-1]) == (expected, (expected,))
                assert steps[-1].identity.user == "alice"
            else:
                assert steps[-1] == expected

    run(work())


def test_the_password_is_kept_until_the_realm_is_chosen(tmp_path):
    policies = [policy(realms=["Users", "Staff"], realm_by_suffix=True)]

    async def work():
        async with gateway(tmp_path, sign_in_policies=policies) as rig:
            *_, outcome = await attempt(rig, typed("alice"), {"realm": "Staff"})
            assert in_realm(outcome)[0] == "Staff"
            *_, outcome = await attempt(rig, typed("alice", "wrong"), {"realm": "Staff"})
            assert outcome == Credentials(retry=True)

    run(work())


# -- who may try -----------------------------------------------------------------------------------


def closed(**parts):
    return [realm(policy=parts)]


BARRED = [
    ({"source": {"rules": [{"network": "192.0.2.0/24", "action": "deny"}]}}, {}),
    ({"source": {"otherwise": "deny"}}, {}),
    ({"browser": {"rules": [{"pattern": "test*", "action": "deny"}]}}, {}),
    ({"certificate": {"require": "required"}}, {}),
    (
        {"certificate": {"require": "required", "attributes": [{"attribute": "OU", "values": ["Ops"]}]}},
        {"certificate": CertificateFacts({"OU": ("Dev",)}, "CA", "1", "00")},
    ),
]


@pytest.mark.parametrize(("parts", "rest"), BARRED)
def test_who_may_not_try_is_not_asked_for_a_password(tmp_path, parts, rest):
    async def work():
        async with gateway(tmp_path, realms=closed(**parts)) as rig:
            [outcome] = await attempt(rig, **rest)
            assert outcome.code == "not-allowed"
            assert await audited(rig) == [("not-allowed", "user")]

    run(work())


def test_a_password_that_is_too_short_is_wrong_and_is_not_looked_at(tmp_path):
    async def work():
        async with gateway(tmp_path, realms=closed(password={"minimum_length": 16})) as rig:
            assert (await attempt(rig, *[typed("alice")] * 3))[-1] == FAILED
            assert await audited(rig) == [("password-too-short", "user")] * 3

    run(work())


# -- roles -----------------------------------------------------------------------------------------


def mapped(*rules, **rest):
    return [{"name": "Users", "server": "System Local", "rules": list(rules), **rest}]


def test_roles_come_from_rules_and_what_nobody_gives_is_refused(tmp_path):
    rules = [
        rule("developers", "Staff", kind="group", values=["Dev"]),
        rule("nobody", "Guests", kind="group", values=["Sales"]),
        rule("by expression", "Users", kind="expression", text='group = "Berlin" AND user = "a*"'),
    ]

    async def work():
        async with gateway(tmp_path, realms=mapped(*rules)) as rig:
            *_, outcome = await attempt(rig, typed("alice"))
            assert in_realm(outcome) == ("Users", ("Staff", "Users"))
            facts = outcome.identity.facts
            assert (facts.groups, facts.source) == (("Dev", "Berlin"), "192.0.2.9")
            await rig.store.users.add(user("zoe", password_hash=HASH))
            *_, outcome = await attempt(rig, typed("zoe"))
            assert outcome.code == "no-role"
            await rig.decisions.flush()
            decisions = await rig.store.decisions.since(0.0)
            assert [(each.user, each.allow, each.roles) for each in decisions] == [
                ("alice", True, ("Staff", "Users")),
                ("zoe", False, ()),
            ]

    run(work())


def test_a_tunnel_needs_a_role_with_vpn_tunnelling(tmp_path):
    roles = [{"name": "Users", "vpn_tunneling": False}]

    async def work():
        async with gateway(tmp_path, roles=roles, realms=[realm()]) as rig:
            *_, outcome = await attempt(rig, typed("alice"))
            assert outcome.code == "no-vpn"
            *_, outcome = await attempt(rig, typed("alice"), kind="portal")
            assert isinstance(outcome, SignedIn)

    run(work())


def test_a_choice_of_roles(tmp_path):
    choosing = [realm(roles=["Staff", "Guests"], when_several="choose-role")]

    async def work():
        async with gateway(tmp_path, realms=choosing) as rig:
            *_, choice, outcome = await attempt(rig, typed("alice"), {"roles": "1"}, kind="portal")
            assert choice == RoleChoice((("Staff",), ("Guests",)))
            assert (outcome.identity.roles, outcome.identity.chosen) == (("Guests",), ("Guests",))
            for answer in ({}, {"roles": "2"}, {"roles": "-1"}, {"roles": 0}):
                *_, again, outcome = await attempt(rig, typed("alice"), answer, answer, answer, kind="portal")
                assert again == choice
                assert outcome.code == "no-role"
            *_, asked, outcome = await attempt(rig, typed("alice"), {"roles": "7"}, {"roles": "0"})
            assert asked == choice
            assert outcome.identity.roles == ("Staff",)

    run(work())


def test_a_group_that_is_lost_while_somebody_is_asked_gives_nothing(tmp_path):
    by_group = [rule("staff", "Staff", kind="group", values=["Dev"])]
    choosing = [realm(rules=[*by_group, *realm(roles=["Guests"])["rules"]], when_several="choose-role")]

    async def work():
        async with gateway(tmp_path, realms=choosing) as rig:
            conversation = rig.sign_ins.conversation(request(CLIENT, kind="portal"))
            await conversation.start()
            assert await conversation.answer(typed("alice")) == RoleChoice((("Staff",), ("Guests",)))
            await rig.store.users.update("System Local", "alice", groups=[])
            outcome = await conversation.answer({"roles": "0"})
            assert (outcome.identity.roles, outcome.identity.facts.groups) == (("Guests",), ())

    run(work())


# -- passwords -------------------------------------------------------------------------------------


async def with_expired_password(rig):
    await rig.store.users.update("System Local", "alice", must_change=True)


def change(old, new):
    return {"old": Secret.of_text(old), "new": Secret.of_text(new)}


def test_an_expired_password_is_changed_before_anything_else(tmp_path):
    async def work():
        async with gateway(tmp_path) as rig:
            identity = (await attempt(rig, typed("alice")))[-1].identity
            other = (await rig.sessions.open(identity, CLIENT)).session
            await with_expired_password(rig)
            *_, asked, outcome = await attempt(rig, typed("alice"), change(PASSWORD, "looking-glass"))
            assert isinstance(asked, NewPassword)
            assert isinstance(outcome, SignedIn)
            assert (await rig.sessions.find(other.id)).cause == "password-changed"
            # The account is the changed one: its session can be opened.
            assert (await rig.sessions.open(outcome.identity, CLIENT)).session.user == "alice"
            *_, again = await attempt(rig, typed("alice"))
            assert again == Credentials(retry=True)
            *_, outcome = await attempt(rig, typed("alice", "looking-glass"))
            assert isinstance(outcome, SignedIn)

    run(work())


@pytest.mark.parametrize(
    "answer", [change("wrong", "looking-glass"), change(PASSWORD, PASSWORD), change(PASSWORD, "short")]
)
def test_a_password_that_was_not_changed_gives_nothing(tmp_path, answer):
    async def work():
        async with gateway(tmp_path) as rig:
            await with_expired_password(rig)
            *steps, outcome = await attempt(rig, typed("alice"), answer, answer, answer)
            assert [type(step) for step in steps] == [Credentials, NewPassword, NewPassword, NewPassword]
            assert outcome.code == "password-not-changed"
            assert (await rig.store.users.find("System Local", "alice")).password_hash == HASH

    run(work())


def test_users_change_their_passwords_where_they_may(tmp_path):
    async def work():
        async with gateway(tmp_path) as rig:

            async def wish(old, new):
                secrets = Secret.of_text(old), Secret.of_text(new)
                await rig.sign_ins.change_password("System Local", "alice", *secrets, "192.0.2.9")

            for old, new in (("wrong", "looking-glass"), (PASSWORD, "short")):
                with pytest.raises(ProblemError) as caught:
                    await wish(old, new)
                assert caught.value.problem.code == "password-not-changed"
            await wish(PASSWORD, "looking-glass")
            *_, outcome = await attempt(rig, typed("alice", "looking-glass"))
            assert isinstance(outcome, SignedIn)
            server = {"kind": "local", "name": "System Local", "allow_password_change": False}
            others = [each.model_dump(mode="json") for each in rig.in_force.tree.auth_servers[1:]]
            await rig.adopt(tree(roles=ROLES, auth_servers=[server, *others]))
            with pytest.raises(ProblemError):
                await wish("looking-glass", "wonderland-2")

    run(work())


# -- notices and changes on the way ----------------------------------------------------------------


def test_notices_come_first_and_last(tmp_path):
    notices = [{"name": "a", "text": "Be nice."}, {"name": "b", "text": "Welcome."}]
    policies = [policy(pre_notification="a", post_notification="b")]

    async def work():
        async with gateway(tmp_path, sign_in_policies=policies, sign_in_notifications=notices) as rig:
            first, _, last, outcome = await attempt(rig, {}, typed("alice"), {})
            assert (first, last) == (Notice("Be nice."), Notice("Welcome."))
            assert isinstance(outcome, SignedIn)
            assert await audited(rig) == [("ok", "user")]

    run(work())


def test_what_is_committed_while_somebody_types_counts(tmp_path):
    notices = [{"name": "b", "text": "Welcome."}]
    policies = [policy(post_notification="b")]
    parts = {"sign_in_policies": policies, "sign_in_notifications": notices, "roles": ROLES}
    both = [realm(roles=["Users", "Staff"])]

    async def work():
        async with gateway(tmp_path, realms=both, **parts) as rig:
            for now, expected in ((realm(roles=["Staff"]), ("Staff",)), (realm(roles=[]), None)):
                conversation = rig.sign_ins.conversation(request())
                await conversation.start()
                assert isinstance(await conversation.answer(typed("alice")), Notice)
                await rig.adopt(tree(realms=[now], **parts))
                outcome = await conversation.answer({})
                if expected is None:
                    assert outcome.code == "policy-changed"
                else:
                    assert outcome.identity.roles == expected
                    assert outcome.identity.revision == rig.in_force.revision

    run(work())


def test_vpn_that_is_taken_away_while_somebody_types_gives_no_tunnel(tmp_path):
    notices = [{"name": "b", "text": "Welcome."}]
    parts = {"sign_in_policies": [policy(post_notification="b")], "sign_in_notifications": notices}

    async def work():
        async with gateway(tmp_path, realms=[realm(roles=["Users"])], roles=ROLES, **parts) as rig:
            conversation = rig.sign_ins.conversation(request())
            await conversation.start()
            assert isinstance(await conversation.answer(typed("alice")), Notice)
            without = [{**each, "vpn_tunneling": False} for each in ROLES]
            await rig.adopt(tree(realms=[realm(roles=["Users"])], roles=without, **parts))
            assert (await conversation.answer({})).code == "no-vpn"

    run(work())


def test_no_answer_skips_the_password(tmp_path):
    policies = [policy(realms=["Users", "Staff"])]

    async def work():
        async with gateway(tmp_path, sign_in_policies=policies) as rig:
            for answer in (typed("alice"), {"realm": 1}, {}):
                conversation = rig.sign_ins.conversation(request())
                await conversation.start()
                with pytest.raises(UsageError):
                    await conversation.answer(answer)
                with pytest.raises(UsageError):
                    await conversation.answer({"realm": "Users"})

    run(work())
