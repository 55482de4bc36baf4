"""Session life: what a cookie is worth, when a session is over, what is written down."""

import contextlib
import hashlib
from dataclasses import replace
from ipaddress import ip_address

import pytest

from lockgate.model.prompt import Refused
from lockgate.model.session import EndCause, Refusal, RefusalReason
from lockgate.protocol.secret import Secret
from lockgate.server.config.compile import compile_policy
from lockgate.server.sessions import readmission, service
from tests.unit.server.control_subject import OPEN, Rig, limits, realm, tree
from tests.unit.server.support import CLIENT, NO_PROOF, identity, new_store, run, same_store, user

POOLS = ["10.88.0.0/29", "fd00:88::/64"]


def role(name="Users", **session):
    return {"name": name, "session": {"length_seconds": 1000, "idle_seconds": 100, **session}}


def configuration(pools=POOLS, **parts):
    """Three sessions a user, short ones; `parts` as `tree` takes them."""
    return tree(
        **{
            "network": {"pools": list(pools), "address_quarantine_seconds": 30},
            "realms": [realm(policy=limits(3))],
            "roles": [role()],
            **parts,
        }
    )


class Subject(Rig):
    def of(self, name):
        """What `at_limit` wants to know."""
        return "System Local", name, self.in_force.policy.realms["Users"]

    async def open(self, name="alice"):
        self.clock.now += 0.001  # lists are ordered by time
        return await self.sessions.open(identity(name), CLIENT)

    async def resume(self, cookie, client=CLIENT, proof=NO_PROOF, connected=None):
        """connected: now, unless a test says another time."""
        when = self.clock.now if connected is None else connected
        return await self.sessions.resume(cookie, client, proof, connected=when)

    async def audited(self):
        return [(entry.event, entry.outcome, entry.reason) for entry in await self.store.audit.newest(100)]


@contextlib.asynccontextmanager
async def subject(folder, **kwargs):
    async with new_store(folder) as store:
        for name in ("alice", "bob"):
            await store.users.add(user(name))
        subject = Subject(store, configuration(**kwargs))
        try:
            yield subject
        finally:
            subject.sign_ins.close()


def test_a_new_session_and_its_cookie(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            session, cookie = opened.session, opened.cookie.reveal()
            assert (session.user, session.roles, session.generation) == ("alice", ("Users",), 1)
            assert (session.address4, session.address6) == (ip_address("10.88.0.2"), ip_address("fd00:88::2"))
            assert session.expires - session.started == 1000
            assert session.remaining(it.clock.now) == 1000
            assert len(cookie) == 32
            assert await it.sessions.by_cookie(opened.cookie) == session
            assert await it.audited() == [("session-open", "ok", "")]
            return cookie

    cookie = run(work())
    content = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert cookie not in content
    assert hashlib.sha256(cookie).digest() in content


def test_cookies_and_numbers_differ(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = [await it.open() for _ in range(3)]
            assert len({each.cookie.reveal() for each in opened}) == 3
            assert len({each.session.id for each in opened}) == 3

    run(work())


NO_COOKIES = [b"", b"0" * 31, b"0" * 32, b"0" * 33, b"X" * 32, b"\x00" * 32, b"\xff" * 32, b"0" * 100_000]


@pytest.mark.parametrize("value", NO_COOKIES)
def test_what_is_no_cookie(tmp_path, value):
    async def work():
        async with subject(tmp_path) as it:
            await it.open()
            assert await it.sessions.by_cookie(Secret(value)) == Refusal(RefusalReason.UNKNOWN)
            assert await it.resume(Secret(value)) == Refusal(RefusalReason.UNKNOWN)
            assert (await it.audited())[-1] == ("session-resume", "failed", "unknown")

    run(work())


def test_another_spelling_of_a_cookie_is_not_the_cookie(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            cookie = (await it.open()).cookie.reveal()
            for other in (cookie.upper(), cookie + b"\n", b" " + cookie):
                if other != cookie:
                    assert isinstance(await it.sessions.by_cookie(Secret(other)), Refusal)

    run(work())


def test_resuming_keeps_the_addresses_and_moves_the_generation(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            it.clock.now += 50
            elsewhere = replace(CLIENT, source="198.51.100.3")
            resumed = (await it.resume(opened.cookie, elsewhere)).session
            assert resumed == replace(
                opened.session,
                generation=2,
                client=elsewhere,
                last_seen=it.clock.now,
                facts=replace(opened.session.facts, source="198.51.100.3"),
            )
            entry = (await it.store.audit.newest(1))[0]
            assert (entry.event, entry.source, entry.session) == (
                "session-resume",
                "198.51.100.3",
                resumed.id,
            )

    run(work())


ENDS = [
    (EndCause.LOGOUT, RefusalReason.ENDED),
    (EndCause.DISCONNECTED, RefusalReason.ENDED),
    (EndCause.REPLACED, RefusalReason.ENDED),
    (EndCause.PASSWORD_CHANGED, RefusalReason.ENDED),
    (EndCause.IDLE, RefusalReason.IDLE),
    (EndCause.EXPIRED, RefusalReason.EXPIRED),
    (EndCause.USER_DISABLED, RefusalReason.USER_DISABLED),
    (EndCause.USER_DELETED, RefusalReason.USER_DISABLED),
]


@pytest.mark.parametrize(("cause", "reason"), ENDS)
def test_an_ended_session_is_over_and_says_why(tmp_path, cause, reason):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            [ended] = await it.sessions.end_many([opened.session.id], cause)
            assert (ended.ended, ended.cause) == (it.clock.now, cause)
            for answer in (
                await it.sessions.by_cookie(opened.cookie),
                await it.resume(opened.cookie),
            ):
                assert answer == Refusal(reason, ended)
            assert await it.sessions.end_many([opened.session.id], EndCause.LOGOUT) == []
            assert await it.audited() == [
                ("session-open", "ok", ""),
                ("session-end", "ok", cause.value),
                ("session-resume", "failed", reason.value),
            ]

    run(work())


def test_the_length_ends_a_session_by_its_own_clock(tmp_path):
    """Nobody swept yet: the cookie is worth nothing all the same."""

    async def work():
        async with subject(tmp_path, roles=[role(idle_seconds=0)]) as it:
            opened = await it.open()
            it.clock.now += 999.9
            assert await it.sessions.by_cookie(opened.cookie) == opened.session
            it.clock.now += 0.1
            assert (await it.sessions.by_cookie(opened.cookie)).reason is RefusalReason.EXPIRED
            assert (await it.resume(opened.cookie)).reason is RefusalReason.EXPIRED
            assert await it.sessions.due() == [(opened.session, EndCause.EXPIRED)]

    run(work())


def test_resuming_does_not_make_a_session_longer(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            for _ in range(10):
                it.clock.now += 99.9
                session = (await it.resume(opened.cookie)).session
                assert session.expires == opened.session.expires
            it.clock.now += 10
            assert (await it.resume(opened.cookie)).reason is RefusalReason.EXPIRED

    run(work())


EXTENDABLE = role(allow_extension=True, idle_seconds=0)


def test_a_user_extends_a_session_where_a_role_allows_it(tmp_path):
    async def work():
        async with subject(tmp_path, roles=[EXTENDABLE]) as it:
            session = (await it.open()).session
            it.clock.now += 600
            assert it.sessions.may_extend(session)
            extended = await it.sessions.extend(session.id, source="198.51.100.3")
            assert extended == replace(session, expires=it.clock.now + 1000, extended=it.clock.now)
            assert await it.sessions.find(session.id) == extended
            [entry] = [each for each in await it.store.audit.newest(9) if each.event == "session-extend"]
            assert (entry.outcome, entry.user, entry.source, entry.session, entry.revision, entry.log) == (
                "ok", "alice", "198.51.100.3", session.id, 1, "user",
            )  # fmt: skip
            assert entry.text == "ends in 1000 seconds"
            it.clock.now += 999.9
            assert await it.sessions.due() == []
            it.clock.now += 0.1
            assert [cause for _, cause in await it.sessions.due()] == [EndCause.EXPIRED]

    run(work())


def test_users_extend_up_to_the_limit_and_administrators_beyond_it(tmp_path):
    limited = role(allow_extension=True, extension_limit_seconds=1500, idle_seconds=0)

    async def work():
        async with subject(tmp_path, roles=[limited]) as it:
            session = (await it.open()).session
            it.clock.now += 400
            extended = await it.sessions.extend(session.id, source="")
            assert extended.expires == session.started + 1400
            it.clock.now += 400
            assert it.sessions.may_extend(extended)
            extended = await it.sessions.extend(session.id, source="")
            assert (extended.expires, extended.counted_from) == (
                session.started + 1500,
                session.started + 500,
            )
            it.clock.now += 400
            assert not it.sessions.may_extend(extended)
            assert (await it.sessions.extend(session.id, source="")).code == "not-extendable"
            assert (await it.sessions.find(session.id)) == extended
            extended = await it.sessions.extend(session.id, source="", actor="root")
            assert extended.expires == it.clock.now + 1000

    run(work())


def test_what_an_extension_is_counted_by_follows_the_roles(tmp_path):
    """Shorter and longer, the length counts from the extension; resuming changes nothing about that."""

    def lasting(seconds):
        return configuration(roles=[role(allow_extension=True, idle_seconds=0, length_seconds=seconds)])

    async def work():
        async with subject(tmp_path, roles=[EXTENDABLE]) as it:
            opened = await it.open()
            began = opened.session.started
            await it.adopt(lasting(700))
            it.clock.now = began + 600
            assert (await it.sessions.extend(opened.session.id, source="")).expires == began + 1300
            it.clock.now = began + 1200
            assert (await it.resume(opened.cookie)).session.expires == began + 1300
            await it.adopt(lasting(2000))
            assert (await it.resume(opened.cookie)).session.expires == began + 2600
            await it.adopt(lasting(601))
            assert (await it.resume(opened.cookie)).session.expires == began + 1201
            it.clock.now = began + 1201
            assert (await it.resume(opened.cookie)).reason is RefusalReason.EXPIRED

    run(work())


def test_an_extension_never_brings_the_end_nearer(tmp_path):
    """Nobody has told the session of its shorter length yet."""

    async def work():
        async with subject(tmp_path, roles=[EXTENDABLE]) as it:
            session = (await it.open()).session
            await it.adopt(
                configuration(roles=[role(allow_extension=True, length_seconds=60, idle_seconds=0)])
            )
            assert (await it.sessions.extend(session.id, source="")).expires == session.expires

    run(work())


@pytest.mark.parametrize(
    ("roles", "realms", "by_user", "by_administrator"),
    [
        ([role(allow_extension=True)], None, None, None),
        ([role()], None, "not-extendable", None),
        ([role(allow_extension=True) | {"vpn_tunneling": False}], None, "not-extendable", "not-extendable"),
        ([role(allow_extension=True)], [realm(policy=limits(3)) | {"rules": []}], "not-extendable", "not-extendable"),
    ],
    ids=["allowed", "without-the-option", "without-vpn", "without-roles"],
)  # fmt: skip
def test_the_roles_of_now_decide_about_an_extension(tmp_path, roles, realms, by_user, by_administrator):
    async def work():
        async with subject(tmp_path, roles=[EXTENDABLE]) as it:
            session = (await it.open()).session
            await it.adopt(configuration(roles=roles, **({} if realms is None else {"realms": realms})))
            it.clock.now += 50
            assert it.sessions.may_extend(session) == (by_user is None)
            for actor, code in (("", by_user), ("root (local)", by_administrator)):
                answer = await it.sessions.extend(session.id, source="local", actor=actor)
                assert getattr(answer, "code", None) == code
                entry = (await it.store.audit.newest(1))[0]
                outcome = ("ok", "") if code is None else ("failed", code)
                assert (entry.event, entry.outcome, entry.reason) == ("session-extend", *outcome)
                assert (entry.user, entry.actor, entry.revision) == ("alice", actor, 2)
            if by_user and by_administrator:
                assert await it.sessions.find(session.id) == session

    run(work())


@pytest.mark.parametrize("way", ["logout", "length", "idle", "nobody"])
def test_what_is_over_is_not_extended(tmp_path, way):
    async def work():
        async with subject(tmp_path, roles=[role(allow_extension=True)]) as it:
            session = (await it.open()).session
            if way == "logout":
                await it.sessions.end_many([session.id], EndCause.LOGOUT)
            elif way == "length":
                it.clock.now += 1000
                await it.sessions.note_activity({session.id: it.clock.now})
            elif way == "idle":
                it.clock.now += 100
            before = await it.sessions.find(session.id)
            number = 5 if way == "nobody" else session.id
            for actor in ("", "root (local)"):
                assert (await it.sessions.extend(number, source="", actor=actor)).code == "session-over"
            assert await it.sessions.find(session.id) == before
            assert not it.sessions.may_extend(before) or way == "nobody"

    run(work())


def test_a_session_that_ends_while_it_is_extended_stays_ended(tmp_path, monkeypatch):
    """The end comes between the decision and the store."""

    async def work():
        async with subject(tmp_path, roles=[EXTENDABLE]) as it:
            session = (await it.open()).session
            extend = it.sessions._records.extend

            async def late(*args):
                await it.sessions.end_many([session.id], EndCause.LOGOUT)
                return await extend(*args)

            monkeypatch.setattr(it.sessions._records, "extend", late)
            assert (await it.sessions.extend(session.id, source="")).code == "session-over"
            stored = await it.sessions.find(session.id)
            assert (stored.cause, stored.expires, stored.extended) == (EndCause.LOGOUT, session.expires, None)
            assert (await it.audited())[-1] == ("session-extend", "failed", "session-over")

    run(work())


def test_activity_keeps_a_session_before_it_is_written_down(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            start = it.clock.now
            it.clock.now += 20
            await it.sessions.note_activity({opened.session.id: it.clock.now})
            assert (await it.sessions.find(opened.session.id)).last_seen == start
            it.clock.now += 99.9
            assert await it.sessions.due() == []
            assert (await it.sessions.by_cookie(opened.cookie)).id == opened.session.id
            it.clock.now += 0.1
            assert [cause for _, cause in await it.sessions.due()] == [EndCause.IDLE]
            assert (await it.sessions.by_cookie(opened.cookie)).reason is RefusalReason.IDLE

    run(work())


def test_activity_is_written_down_now_and_then(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            for _ in range(40):
                it.clock.now += 1
                await it.sessions.note_activity({opened.session.id: it.clock.now, 12345: it.clock.now})
            stored = (await it.sessions.find(opened.session.id)).last_seen
            assert it.clock.now - service.FLUSH_INTERVAL <= stored < it.clock.now
            await it.sessions.flush()
            assert (await it.sessions.find(opened.session.id)).last_seen == it.clock.now
            assert it.sessions._seen == {}

    run(work())


def test_limits_are_refusals_with_a_reason(tmp_path):
    async def work():
        async with subject(tmp_path, pools=["10.88.0.0/29"]) as it:
            opened = [await it.open() for _ in range(3)]
            assert [option.id for option in await it.sessions.at_limit(*it.of("alice"))] == [
                str(each.session.id) for each in opened
            ]
            assert await it.sessions.at_limit(*it.of("bob")) == ()
            too_many = await it.open()
            for _ in range(2):
                await it.open("bob")
            no_address = await it.open("bob")
            await it.store.users.set_enabled("System Local", "bob", False, it.clock.now, it.clock.now)
            changed = await it.open("bob")
            assert [type(each) for each in (too_many, no_address, changed)] == [Refused] * 3
            assert [each.code for each in (too_many, no_address, changed)] == [
                "too-many-sessions",
                "no-address-left",
                "user-changed",
            ]
            assert [entry for entry in await it.audited() if entry[1] == "failed"] == [
                ("session-open", "failed", "too-many-sessions"),
                ("session-open", "failed", "no-address-left"),
                ("session-open", "failed", "user-changed"),
            ]

    run(work())


def test_addresses_wait_their_quarantine(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            first = (await it.open()).session
            await it.sessions.end_many([first.id], EndCause.LOGOUT)
            it.clock.now += 29.9
            assert (await it.open()).session.address4 == ip_address("10.88.0.3")
            it.clock.now += 0.1
            assert (await it.open()).session.address4 == first.address4

    run(work())


def test_what_the_command_beside_the_server_ends_is_noticed(tmp_path):
    async def work():
        async with subject(tmp_path) as it, same_store(tmp_path) as command:
            alices, bobs = (await it.open()).session, (await it.open("bob")).session
            known = [alices.id, bobs.id]
            assert await it.sessions.ended_elsewhere(known) == []
            await command.users.set_enabled("System Local", "alice", False, it.clock.now, it.clock.now + 30)
            (ended,) = await it.sessions.ended_elsewhere(known)
            assert (ended.id, ended.cause) == (alices.id, EndCause.USER_DISABLED)
            assert await it.sessions.ended_elsewhere(known) == []
            assert await it.sessions.live() == [bobs]

    run(work())


def test_a_failure_does_not_lose_what_another_process_ended(tmp_path, monkeypatch):
    async def work():
        async with subject(tmp_path) as it, same_store(tmp_path) as command:
            session = (await it.open()).session
            await it.sessions.ended_elsewhere([session.id])
            await command.users.set_enabled("System Local", "alice", False, it.clock.now, it.clock.now + 30)

            async def broken(*_):
                raise OSError("disk")

            monkeypatch.setattr(it.sessions._records, "ended_among", broken)
            with pytest.raises(OSError, match="disk"):
                await it.sessions.ended_elsewhere([session.id])
            monkeypatch.undo()
            assert [ended.id for ended in await it.sessions.ended_elsewhere([session.id])] == [session.id]

    run(work())


def test_old_ended_sessions_are_forgotten(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            await it.sessions.end_many([opened.session.id], EndCause.LOGOUT)
            await it.sessions.due()
            assert (await it.sessions.by_cookie(opened.cookie)).reason is RefusalReason.ENDED
            it.clock.now += service.KEEP_ENDED + 1
            await it.sessions.due()
            assert (await it.sessions.by_cookie(opened.cookie)).reason is RefusalReason.UNKNOWN

    run(work())


# -- while another revision is committed -----------------------------------------------------------


def test_rights_that_were_compiled_during_a_change_do_not_outlive_it(tmp_path, monkeypatch):
    """A resumption is judged in a thread of the store, while the loop takes another revision over."""

    async def work():
        async with subject(tmp_path, access_control=[OPEN]) as it:
            compile_rights = it.in_force._compile

            def during(roles):
                found = compile_rights(roles)
                policy = compile_policy(configuration(access_control=[]), 2)
                it.in_force.policy = policy
                it.in_force._begin_anew()
                return found

            it.in_force._begin_anew()
            monkeypatch.setattr(it.in_force, "_compile", during)
            assert it.in_force.rights(("Users",)).rules
            monkeypatch.undo()
            assert it.in_force.rights(("Users",)).rules == ()

    run(work())


def test_a_resumption_is_of_the_revision_that_judged_it(tmp_path, monkeypatch):
    """So that whoever starts the tunnel sees that there is a newer one."""

    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open()
            decide = readmission.admit

            def during(*args, **kwargs):
                decided = decide(*args, **kwargs)
                it.in_force.policy = compile_policy(configuration(), 2)
                return decided

            monkeypatch.setattr(readmission, "admit", during)
            moved = replace(CLIENT, host_name="other")
            resumed = await it.resume(opened.cookie, moved)
            assert resumed.session.revision == 1

    run(work())


def test_no_session_without_any_address(tmp_path):
    """A profile may name addresses of a network that takes effect at the next start."""
    profile = {"name": "New", "addresses": ["10.99.0.0/24"], "applies": {"to": "all", "roles": []}}

    async def work():
        async with subject(tmp_path) as it:
            grown = configuration(pools=(*POOLS, "10.99.0.0/24"), connection_profiles=[profile])
            await it.adopt(grown)
            assert (await it.open()).code == "no-address-left"

    run(work())
