"""The sign-in conversation: who gets in, who does not, and what each of them sees."""

import asyncio
import contextlib
import io
import json
from dataclasses import replace

import pytest
import structlog

from lockgate.model.prompt import Credentials, Notice, Refused, SessionChoice, SignedIn
from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from lockgate.server.auth import passwords
from lockgate.server.config.tree.authentication import Argon2, Guard
from lockgate.server.logs import configure_logs
from lockgate.server.sessions import Opened
from tests.unit.server.control_subject import Rig, limits, realm, request, tree
from tests.unit.server.support import CHEAP, CLIENT, HASH, PASSWORD, new_store, run, user


class Gateway(Rig):
    """Sign-ins over a real store."""

    async def reasons(self):
        """The audit's view of all sign-ins."""
        return [
            entry.reason or entry.outcome
            for entry in await self.store.audit.newest(1000)
            if entry.event == "sign-in"
        ]


def sign_in(**settings):
    """A tree with these settings of `sign_in`."""
    return tree(sign_in={"argon2": CHEAP.model_dump(), **settings})


def guarded(**settings):
    return sign_in(guard=Guard(**settings).model_dump())


@contextlib.asynccontextmanager
async def gateway(folder, configuration=None):
    async with new_store(folder) as store:
        await store.users.add(user("alice", password_hash=HASH))
        await store.users.add(user("dora", password_hash=HASH, enabled=False))
        subject = Gateway(store, configuration)
        try:
            await subject.sign_ins.start()
            yield subject
        finally:
            subject.sign_ins.close()


def with_notices(before="", after=""):
    notices = [{"name": name, "text": text} for name, text in (("before", before), ("after", after)) if text]
    policy = {
        "name": "users", "url": "*/", "realms": ["Users"],
        "pre_notification": "before" if before else "", "post_notification": "after" if after else "",
    }  # fmt: skip
    return tree(sign_in_notifications=notices, sign_in_policies=[policy])


def typed(name, password=PASSWORD):
    return {"username": name, "password": Secret.of_text(password)}


async def attempt(subject, *answers, source="192.0.2.9", user_agent="test client", **rest):
    """The steps of one conversation."""
    client = replace(CLIENT, source=source, user_agent=user_agent)
    conversation = subject.sign_ins.conversation(request(client, **rest))
    steps = [await conversation.start()]
    for answer in answers:
        steps.append(await conversation.answer(answer))
    return steps


def test_the_right_password_signs_in(tmp_path):
    async def work():
        async with gateway(tmp_path) as subject:
            prompt, outcome = await attempt(subject, typed(" ALICE "))
            assert prompt == Credentials(retry=False)
            identity = outcome.identity
            assert isinstance(outcome, SignedIn)
            assert (identity.user, identity.realm, identity.roles) == ("alice", "Users", ("Users",))
            assert (identity.method, identity.source, identity.serial) == ("password", "192.0.2.9", 7)
            (entry,) = await subject.store.audit.newest(10)
            assert (entry.event, entry.outcome, entry.user, entry.source) == (
                "sign-in",
                "ok",
                "alice",
                "192.0.2.9",
            )
            assert isinstance(await subject.sessions.open(identity, CLIENT), Opened)

    run(work())


# What is typed, and what only the audit may know about it.
NO = [
    (typed("alice", "wrong"), "wrong-password"),
    (typed("alice", PASSWORD.upper()), "wrong-password"),
    (typed("alice", ""), "empty-password"),
    (typed("nobody"), "unknown-user"),
    (typed(""), "bad-name"),
    (typed("a\nb"), "bad-name"),
    (typed("x" * 100_000), "bad-name"),
    (typed("dora", "wrong"), "wrong-password"),
    ({"password": Secret.of_text(PASSWORD)}, "bad-name"),
]


@pytest.mark.parametrize(("answer", "reason"), NO)
def test_every_wrong_answer_looks_the_same(tmp_path, answer, reason):
    async def work():
        async with gateway(tmp_path) as subject:
            steps = await attempt(subject, answer, answer, answer)
            assert steps == [
                Credentials(retry=False),
                Credentials(retry=True),
                Credentials(retry=True),
                Refused("sign-in-failed", "User name or password is wrong."),
            ]
            assert await subject.reasons() == [reason] * 3

    run(work())


def test_the_name_of_the_first_try_counts_for_the_second(tmp_path):
    async def work():
        async with gateway(tmp_path) as subject:
            steps = await attempt(subject, typed("alice", "wrong"), {"password": Secret.of_text(PASSWORD)})
            assert steps[-1].identity.user == "alice"

    run(work())


def test_who_knows_the_password_is_told_that_the_account_is_disabled(tmp_path):
    async def work():
        async with gateway(tmp_path) as subject:
            *_, outcome = await attempt(subject, typed("dora"))
            assert outcome.code == "user-disabled"
            assert await subject.reasons() == ["user-disabled"]

    run(work())


def test_a_notice_comes_first(tmp_path):
    async def work():
        async with gateway(tmp_path, with_notices("Be nice.")) as subject:
            notice, prompt, outcome = await attempt(subject, {}, typed("alice"))
            assert (notice, prompt) == (Notice("Be nice."), Credentials(retry=False))
            assert isinstance(outcome, SignedIn)

    run(work())


def test_no_step_is_skipped_or_taken_twice(tmp_path):
    async def work():
        async with gateway(tmp_path) as subject:
            conversation = subject.sign_ins.conversation(request())
            with pytest.raises(UsageError):
                await conversation.answer(typed("alice"))
            with pytest.raises(UsageError):
                await conversation.answer(typed("alice"))
            finished = subject.sign_ins.conversation(request())
            await finished.start()
            with pytest.raises(UsageError):
                await finished.start()
            await finished.answer(typed("alice"))
            for _ in range(2):
                with pytest.raises(UsageError):
                    await finished.answer(typed("alice"))

    run(work())


def test_a_notice_is_not_a_way_around_the_password(tmp_path):
    async def work():
        async with gateway(tmp_path, with_notices("x")) as subject:
            assert (await attempt(subject, typed("alice")))[-1] == Credentials(retry=False)

    run(work())


def test_when_something_breaks_the_answer_is_no_and_stays_no(tmp_path, monkeypatch):
    async def work():
        async with gateway(tmp_path) as subject:
            conversation = subject.sign_ins.conversation(request())
            await conversation.start()

            async def broken(*_, **__):
                raise OSError("disk")

            monkeypatch.setattr(subject.sign_ins._shared.audit, "write", broken)
            with pytest.raises(OSError, match="disk"):
                await conversation.answer(typed("alice"))
            with pytest.raises(UsageError):
                await conversation.answer(typed("alice"))

    run(work())


def test_who_opens_a_session_writes_the_sign_in_with_it(tmp_path):
    async def work():
        async with gateway(tmp_path) as subject:
            conversation = subject.sign_ins.conversation(request(), opens_session=True)
            await conversation.start()
            identity = (await conversation.answer(typed("alice"))).identity
            assert await subject.store.audit.newest(10) == []
            await subject.sessions.open(identity, CLIENT, before=conversation.unwritten)
            found = await subject.store.audit.newest(10)
            assert [each.event for each in found] == ["sign-in", "session-open"]

    run(work())


def test_a_locked_user_sees_what_a_wrong_password_shows(tmp_path, monkeypatch):
    settings = guarded(failures_per_user_and_address=3, lock_seconds=60)

    async def work():
        async with gateway(tmp_path, settings) as subject:
            before = await attempt(subject, *[typed("alice", "wrong")] * 3)
            work_done = []
            monkeypatch.setattr(passwords.Hasher, "verify", lambda *_: work_done.append(1))
            locked = await attempt(subject, *[typed("alice")] * 3)
            assert locked == before
            assert not work_done  # a locked attempt costs no hash
            monkeypatch.undo()
            assert await subject.reasons() == ["wrong-password"] * 3 + ["user-locked"] * 3
            # From elsewhere the same user gets in, and here as well when the lock is over.
            assert isinstance((await attempt(subject, typed("alice"), source="192.0.2.10"))[-1], SignedIn)
            subject.clock.now += 60
            assert isinstance((await attempt(subject, typed("alice")))[-1], SignedIn)

    run(work())


def test_attempts_that_wait_for_a_hash_are_judged_again(tmp_path):
    """A hundred guesses at once are no more than the limit and the few that were under way."""
    guard = Guard(failures_per_user_and_address=5, failures_per_address=1000)
    argon2 = Argon2(memory_kib=64, time_cost=1, concurrency=2)
    settings = sign_in(argon2=argon2.model_dump(), guard=guard.model_dump())

    async def work():
        async with gateway(tmp_path, settings) as subject:
            await asyncio.gather(*(attempt(subject, typed("alice", f"guess {n}")) for n in range(100)))
            reasons = await subject.reasons()
            assert reasons.count("wrong-password") <= 5 + 2
            assert reasons.count("user-locked") == 100 - reasons.count("wrong-password")

    run(work())


def test_a_full_queue_says_try_again(tmp_path):
    settings = sign_in(argon2=Argon2(memory_kib=64, time_cost=1, concurrency=1, queue=1).model_dump())

    async def work():
        async with gateway(tmp_path, settings) as subject, subject.sign_ins._hasher.slot():
            waiting = asyncio.create_task(attempt(subject, typed("alice")))
            for _ in range(10):
                await asyncio.sleep(0)
            assert (await attempt(subject, typed("alice")))[-1].code == "busy"
            assert await subject.reasons() == ["busy"]
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    run(work())


def test_a_restart_does_not_make_users_strangers(tmp_path):
    settings = guarded(failures_per_user=1, slow_seconds=3600)

    async def work():
        async with gateway(tmp_path, settings) as subject:
            identity = (await attempt(subject, typed("alice")))[-1].identity
            await subject.sessions.open(identity, CLIENT)
            restarted = Gateway(subject.store, settings)
            await restarted.sign_ins.start()
            for number in range(2):
                await attempt(restarted, typed("alice", "guess"), source=f"198.51.100.{number}")
            assert isinstance((await attempt(restarted, typed("alice")))[-1], SignedIn)
            *_, slowed = await attempt(restarted, typed("alice"), source="198.51.100.9")
            assert slowed == Credentials(retry=True)
            restarted.sign_ins.close()

    run(work())


def test_the_hash_is_renewed_when_the_parameters_changed(tmp_path):
    settings = sign_in(argon2=Argon2(memory_kib=72, time_cost=1).model_dump())

    async def work():
        async with gateway(tmp_path, settings) as subject:
            await attempt(subject, typed("alice", "wrong"))
            assert (await subject.store.users.find("System Local", "alice")).password_hash == HASH
            *_, outcome = await attempt(subject, typed("alice"))
            record = await subject.store.users.find("System Local", "alice")
            assert record.password_hash.startswith("$argon2id$v=19$m=72")
            # The account is the same one: the session can be opened.
            assert isinstance(await subject.sessions.open(outcome.identity, CLIENT), Opened)
            assert isinstance((await attempt(subject, typed("alice")))[-1], SignedIn)

    run(work())


async def open_sessions(subject, count):
    opened = []
    for _ in range(count):
        subject.clock.now += 1
        identity = (await attempt(subject, typed("alice")))[-1].identity
        opened.append((await subject.sessions.open(identity, CLIENT)).session)
    return opened


def test_at_the_limit_the_user_ends_one_of_the_own_sessions(tmp_path):
    async def work():
        async with gateway(tmp_path, tree(realms=[realm(policy=limits(2))])) as subject:
            await subject.store.users.add(user("bob", password_hash=HASH))
            identity = (await attempt(subject, typed("bob")))[-1].identity
            bobs = (await subject.sessions.open(identity, CLIENT)).session
            first, second = await open_sessions(subject, 2)

            conversation = subject.sign_ins.conversation(request())
            await conversation.start()
            choice = await conversation.answer(typed("alice"))
            assert isinstance(choice, SessionChoice)
            assert [(option.id, option.address, option.started) for option in choice.options] == [
                (str(first.id), "192.0.2.9", first.started),
                (str(second.id), "192.0.2.9", second.started),
            ]
            outcome = await conversation.answer({"session": str(first.id)})
            assert isinstance(outcome, SignedIn)
            assert (await subject.sessions.find(first.id)).cause == "replaced"
            subject.clock.now += 1
            third = await subject.sessions.open(outcome.identity, CLIENT)
            assert await subject.sessions.live() == [bobs, second, third.session]

    run(work())


@pytest.mark.parametrize(
    "answer", [{}, {"session": "1"}, {"session": 1}, {"session": "bob's"}, {"session": ""}]
)
def test_other_sessions_cannot_be_chosen(tmp_path, answer):
    async def work():
        async with gateway(tmp_path, tree(realms=[realm(policy=limits(1))])) as subject:
            await subject.store.users.add(user("bob", password_hash=HASH))
            identity = (await attempt(subject, typed("bob")))[-1].identity
            bobs = (await subject.sessions.open(identity, CLIENT)).session
            (mine,) = await open_sessions(subject, 1)
            chosen = {"session": str(bobs.id)} if answer.get("session") == "bob's" else answer
            *_, outcome = await attempt(subject, typed("alice"), chosen)
            assert outcome.code == "too-many-sessions"
            assert await subject.sessions.live() == [bobs, mine]

    run(work())


def test_secrets_and_control_characters_stay_out_of_log_and_audit(tmp_path):
    stream = io.StringIO()
    configure_logs("debug", stream)

    async def work():
        async with gateway(tmp_path) as subject:
            await attempt(subject, typed("alice"))
            await attempt(subject, typed("alice", "canary-password"), typed("evil\n\x1b[2J" + "x" * 1000))
            return await subject.store.audit.newest(100)

    try:
        entries = run(work())
    finally:
        structlog.reset_defaults()
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(entries) == 3
    assert json.loads(lines[0])["event"] == "sign-in"
    assert json.loads(lines[2])["reason"] == "bad-name"
    for text in (stream.getvalue(), repr(entries)):
        assert PASSWORD not in text
        assert "canary" not in text
    assert "\x1b" not in stream.getvalue()
    assert entries[2].user.startswith("evil\\x0a\\x1b[2Jxxx")
    assert len(entries[2].user) == 128
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"canary" not in file.read_bytes()
        assert PASSWORD.encode() not in file.read_bytes()
