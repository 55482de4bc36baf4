"""Coming back with a cookie: proof of the session's key, new cookies, and what an old one gives away."""

import asyncio
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from lockgate.model.session import EndCause, Refusal, RefusalReason
from lockgate.model.support_code import said_in
from lockgate.protocol.edge_link import Attach, CloseConn, Fatal, InstallEspIn, RekeyWanted
from lockgate.protocol.pulse.extensions import resume_message
from lockgate.protocol.secret import Secret
from lockgate.server.sessions import Opened, Proof
from lockgate.server.sessions import service as sessions_service
from lockgate.server.store import cookies
from tests.unit.server.control_subject import Rig, realm, tree
from tests.unit.server.gateway_subject import opened_generations, sees_end, state_of, subject
from tests.unit.server.scripted_edge import OwnClient, ScriptedEdge, Visitor, eventually
from tests.unit.server.support import CLIENT, PASSWORD, identity, new_store, run, same_store, user

KEY, OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)), Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
HERE, ELSEWHERE = bytes([1] * 32), bytes([2] * 32)
TAKEN_OVER = Fatal(7, "The session was ended because somebody else tried to take it over: sign in again.")


def proof(cookie, key=KEY, signed_for=HERE, exporter=HERE):
    return Proof(Secret(exporter), key.sign(resume_message(signed_for, cookie)))


class Case(Rig):
    """Sessions over a real store; clients are whoever has a cookie."""

    async def open(self, key=PUBLIC):
        return await self.sessions.open(identity(), CLIENT, public_key=key)

    async def resume(self, cookie, shown=None, connected=None):
        """The next cookie, or why there is none. Every call is a second later than the one before."""
        self.clock.now += 1
        result = await self.sessions.resume(
            cookie, CLIENT, shown or proof(cookie), connected=connected or self.clock.now
        )
        return result.cookie if isinstance(result, Opened) else result.reason

    async def audited(self):
        return [(entry.event, entry.outcome, entry.reason) for entry in await self.store.audit.newest(100)]


@contextlib.asynccontextmanager
async def case(folder):
    async with new_store(folder) as store:
        await store.users.add(user())
        it = Case(store)
        try:
            yield it
        finally:
            it.sign_ins.close()


# -- proof -----------------------------------------------------------------------------------------


def other_cookie(cookie):
    return Secret(cookie.reveal()[::-1])


PROOFS = {
    "missing": (lambda cookie: Proof(Secret(HERE), b""), RefusalReason.PROOF_MISSING),
    "missing, and no exporter": (lambda cookie: Proof(Secret(b""), b""), RefusalReason.PROOF_MISSING),
    "of another key": (lambda cookie: proof(cookie, key=OTHER_KEY), RefusalReason.PROOF_WRONG),
    "of another connection": (lambda cookie: proof(cookie, signed_for=ELSEWHERE), RefusalReason.PROOF_WRONG),
    "of another cookie": (lambda cookie: proof(other_cookie(cookie)), RefusalReason.PROOF_WRONG),
    "bytes": (lambda cookie: Proof(Secret(HERE), bytes(64)), RefusalReason.PROOF_WRONG),
    "without exporter": (lambda cookie: proof(cookie, exporter=b""), RefusalReason.PROOF_WRONG),
    "of everything but the label": (
        lambda cookie: Proof(Secret(HERE), KEY.sign(resume_message(HERE, cookie)[19:])),
        RefusalReason.PROOF_WRONG,
    ),
}


@pytest.mark.parametrize("shown", PROOFS)
def test_a_session_with_a_key_is_resumed_only_with_its_proof(tmp_path, shown):
    make, reason = PROOFS[shown]

    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            assert await it.resume(opened.cookie, make(opened.cookie)) is reason
            assert await it.audited() == [
                ("session-open", "ok", ""),
                ("session-resume", "failed", reason.value),
            ]
            # Nothing has changed: the cookie is good, and its generation the same.
            assert await it.sessions.find(opened.session.id) == opened.session
            assert isinstance(await it.resume(opened.cookie), Secret)

    run(work())


def test_a_key_that_is_no_point_of_the_curve_proves_nothing(tmp_path):
    async def work():
        async with case(tmp_path) as it:
            for key in (bytes([255] * 32), bytes(32), bytes([1, *bytes(31)])):
                opened = await it.open(key)
                assert await it.resume(opened.cookie) is RefusalReason.PROOF_WRONG

    run(work())


def test_a_session_without_a_key_keeps_its_one_cookie(tmp_path):
    """openconnect, and nothing that looks like a proof changes it."""

    async def work():
        async with case(tmp_path) as it:
            opened = await it.open(key=b"")
            for shown in (Proof(Secret(b""), b""), proof(opened.cookie), Proof(Secret(HERE), bytes(64))):
                assert await it.resume(opened.cookie, shown) == opened.cookie
            assert (await it.sessions.find(opened.session.id)).generation == 4
            rows = text("SELECT count(*) FROM cookies")
            assert await it.store.database.read(lambda connection: connection.execute(rows).scalar()) == 0

    run(work())


def test_an_ended_session_says_so_before_any_proof_is_looked_at(tmp_path):
    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            await it.sessions.end_many([opened.session.id], EndCause.LOGOUT)
            for shown in (None, Proof(Secret(HERE), b"")):
                assert await it.resume(opened.cookie, shown) is RefusalReason.ENDED

    run(work())


# -- new cookies -----------------------------------------------------------------------------------


def test_every_resumption_brings_a_new_cookie(tmp_path):
    async def work():
        async with case(tmp_path) as it:
            cookies = [(await it.open()).cookie]
            for _ in range(5):
                cookies.append(await it.resume(cookies[-1]))
            assert len({cookie.reveal() for cookie in cookies}) == 6
            return cookies

    values = [cookie.reveal() for cookie in run(work())]
    content = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert not [value for value in values if value in content]


def test_a_lost_answer_does_not_lose_the_session(tmp_path):
    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            await it.resume(opened.cookie)  # lost, three times
            await it.resume(opened.cookie)
            await it.resume(opened.cookie)
            second = await it.resume(opened.cookie)
            await it.resume(second)  # lost as well
            third = await it.resume(second)
            assert isinstance(await it.resume(third), Secret)
            assert (await it.sessions.find(opened.session.id)).generation == 8

    run(work())


def test_any_answer_that_arrived_is_good(tmp_path):
    """Two connections come back at once; the client goes on with whichever answer it has."""

    async def work():
        async with case(tmp_path) as it:
            for position in (0, 1):
                opened = await it.open()
                answers = [await it.resume(opened.cookie), await it.resume(opened.cookie)]
                assert isinstance(await it.resume(answers[position]), Secret)
                assert await it.resume(answers[1 - position]) is RefusalReason.COOKIE_REPLAYED

    run(work())


def test_a_cookie_is_spent_with_the_first_use_of_the_next(tmp_path):
    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            first = opened.cookie
            second = await it.resume(first)
            # Not by what does not count as a use.
            assert await it.resume(second, Proof(Secret(HERE), b"")) is RefusalReason.PROOF_MISSING
            assert (await it.sessions.by_cookie(second)).id == opened.session.id
            assert isinstance(await it.resume(first), Secret)
            third = await it.resume(second)
            assert await it.sessions.by_cookie(first) == Refusal(RefusalReason.UNKNOWN)
            assert await it.resume(first) is RefusalReason.COOKIE_REPLAYED
            assert (await it.sessions.by_cookie(third)).generation == 4

    run(work())


def test_a_spent_cookie_on_a_connection_from_before_is_late_and_no_alarm(tmp_path):
    """Bytes that hung in a network its client has left long ago."""

    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            before = it.clock.now
            second = await it.resume(opened.cookie)
            third = await it.resume(second)
            assert await it.resume(opened.cookie, connected=before) is RefusalReason.OVERTAKEN
            assert (await it.audited())[-1] == ("session-resume", "failed", "overtaken")
            assert isinstance(await it.resume(third), Secret)
            assert await it.resume(opened.cookie) is RefusalReason.COOKIE_REPLAYED

    run(work())


def test_two_that_show_one_cookie_at_once_are_served_one_after_the_other(tmp_path):
    async def work():
        async with case(tmp_path) as it, same_store(tmp_path) as second_process:
            opened = await it.open()
            other = Case(second_process)
            answers = await asyncio.gather(
                *(each.resume(opened.cookie) for _ in range(10) for each in (it, other))
            )
            assert len({answer.reveal() for answer in answers}) == 20
            assert (await it.sessions.find(opened.session.id)).generation == 21
            used = await asyncio.gather(*(it.resume(answer) for answer in answers[:5]))
            assert [type(answer) for answer in used] == [Secret] + [RefusalReason] * 4

    run(work())


def test_what_a_client_can_make_grow_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(cookies, "KEPT_GENERATIONS", 4)

    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            handed_out = [opened.cookie]
            for _ in range(20):
                handed_out.append(await it.resume(handed_out[-1]))
            rows = text("SELECT count(*) FROM cookies")
            assert await it.store.database.read(lambda connection: connection.execute(rows).scalar()) <= 8
            assert await it.resume(handed_out[0]) is RefusalReason.UNKNOWN
            assert isinstance(await it.resume(handed_out[-1]), Secret)

    run(work())


def test_cookies_go_with_their_session(tmp_path):
    async def work():
        async with case(tmp_path) as it:
            opened = await it.open()
            await it.resume(await it.resume(opened.cookie))
            await it.sessions.end_many([opened.session.id], EndCause.LOGOUT)
            it.clock.now += sessions_service.KEEP_ENDED + 1
            await it.sessions.due()
            assert await it.resume(opened.cookie) is RefusalReason.UNKNOWN
            rows = text("SELECT count(*) FROM cookies")
            assert await it.store.database.read(lambda connection: connection.execute(rows).scalar()) == 0

    run(work())


class Model:
    """The slow, obvious rule: which cookies are good."""

    def __init__(self, first):
        self.used, self.handed_out, self.spent = first, set(), set()

    def judge(self, cookie):
        return cookie == self.used or cookie in self.handed_out

    def use(self, cookie, following):
        if cookie != self.used:
            self.spent |= {self.used, *self.handed_out} - {cookie}
            self.used, self.handed_out = cookie, set()
        self.handed_out.add(following)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.integers(0, 30), max_size=12))
def test_the_store_agrees_with_the_rule(tmp_path_factory, choices):
    async def work():
        async with case(tmp_path_factory.mktemp("store")) as it:
            opened = await it.open()
            known = [opened.cookie]
            model = Model(opened.cookie.reveal())
            for choice in choices:
                cookie = known[choice % len(known)]
                good = model.judge(cookie.reveal())
                answer = await it.resume(cookie)
                assert isinstance(answer, Secret) == good
                if good:
                    known.append(answer)
                    model.use(cookie.reveal(), answer.reveal())
                else:
                    assert answer is RefusalReason.COOKIE_REPLAYED
                    assert cookie.reveal() in model.spent

    run(work())


# -- over the edge link ----------------------------------------------------------------------------


async def signed_in(edge, conn=1, key=KEY):
    """A Lockgate client with a tunnel: its cookie."""
    client = OwnClient(edge, conn, key)
    await client.sign_in(b"alice", PASSWORD.encode())
    cookie = await client.accept()
    await eventually(lambda: [m for m in edge.of(Attach) if m.conn == conn])
    return cookie


async def comes_back(edge, conn, cookie, key=KEY):
    client = OwnClient(edge, conn, key)
    following = await client.enter(cookie)
    await eventually(lambda: [m for m in edge.of(Attach) if m.conn == conn])
    return following


async def refused(edge, conn, cookie, key=KEY, shown=None):
    """Everything this client hears; no tunnel."""
    client = OwnClient(edge, conn, key)
    await client.show_cookie(cookie, shown)
    answer = await client.next_request()
    await edge.sees(CloseConn(conn=conn))
    assert [m for m in edge.of(Attach) if m.conn == conn] == []
    return answer


def test_who_has_proven_the_session_hears_why_it_may_not_go_on(tmp_path):
    nobody = tree(realms=[realm(policy={"browser": {"rules": [{"pattern": "*", "action": "deny"}]}})])

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            # In force before anybody has looked at the live sessions.
            await it.in_force.adopt(nobody, 2)
            stranger = await refused(edge, 2, first, key=OTHER_KEY)
            assert b"Support code" not in bytes(stranger)
            answer = bytes(await refused(edge, 3, first))
            assert b"Access is not allowed with this program." in answer
            code = said_in(answer.decode(errors="replace"))
            found = await it.decisions.find(code)
            assert (found.kind, found.user, found.revision) == ("resume", "alice", 2)
            assert "realms/Users/policy/browser" in [each["path"] for each in found.reasons]

    run(work())


def test_from_sign_in_through_resumptions(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            [opened] = it.sessions.made
            assert (opened.session.public_key, opened.session.bound) == (PUBLIC, True)
            second = await comes_back(edge, 2, first)
            third = await comes_back(edge, 3, second)
            assert len({first.reveal(), second.reveal(), third.reveal()}) == 3
            assert opened_generations(edge, opened.session) == [1, 2, 3]

    run(work())


def test_a_refusal_says_nothing_about_the_cookie(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            cookie = await signed_in(edge)
            unknown = await refused(edge, 2, Secret(b"0" * 32))
            elsewhere = OwnClient(edge, 9, KEY).sign(cookie)
            answers = [
                await refused(edge, 3, cookie, key=None),
                await refused(edge, 4, cookie, key=OTHER_KEY),
                await refused(edge, 5, cookie, shown=elsewhere),
            ]
            assert answers == [unknown] * 3
            reasons = [entry.reason for entry in await it.store.audit.newest(4)]
            assert reasons == ["unknown", "proof-missing", "proof-wrong", "proof-wrong"]
            assert await it.cause(it.sessions.made[0].session) is None
            await comes_back(edge, 6, cookie)

    run(work())


def test_a_replayed_cookie_ends_the_session_everywhere_and_is_told(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            session = it.sessions.made[0].session
            second = await comes_back(edge, 2, first)
            third = await comes_back(edge, 3, second)
            it.clock.now += 1
            # Without the key as well: that somebody has it is enough.
            answer = await refused(edge, 4, first, key=None)
            await sees_end(edge, session, TAKEN_OVER)
            assert await it.cause(session) is EndCause.COOKIE_REPLAYED
            await it.settle(edge)
            told = [(e.event, e.outcome, e.reason, e.session) for e in await it.store.audit.newest(3)]
            assert ("session-end", "ok", "cookie-replayed", session.id) in told
            assert ("cookie-replayed", "failed", "cookie-replayed", session.id) in told
            assert answer == await refused(edge, 5, third)  # nobody goes on with it
            assert await it.live() == []

    run(work())


def test_a_replay_cuts_off_the_packets_even_when_the_store_fails(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            session = it.sessions.made[0].session
            await comes_back(edge, 3, await comes_back(edge, 2, first))
            it.clock.now += 1
            it.sessions.failing = {"end"}
            await OwnClient(edge, 4, KEY).show_cookie(first)
            await sees_end(edge, session, TAKEN_OVER)
            await edge.sees(CloseConn(conn=4))

    run(work())


@pytest.mark.parametrize("heard", [True, False])
def test_an_answer_that_is_lost_with_the_edge_loses_nothing(tmp_path, heard):
    """The new cookie is in the store before it is on its way; the client has heard it, or not."""

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            session = it.sessions.made[0].session
            it.sessions.may_resume.clear()
            it.sessions.made.clear()
            client = OwnClient(edge, 2, KEY)
            await client.show_cookie(first)
            [committed] = await eventually(lambda: it.sessions.made)
            if heard:
                it.sessions.may_resume.set()
                assert await client.next_cookie() == committed.cookie
            await edge.die()
            it.sessions.may_resume.set()
            async with ScriptedEdge(it.socket, number=2) as second:
                await second.up()
                await comes_back(second, 3, committed.cookie if heard else first)
                assert opened_generations(second, session) == [3]

    run(work())


def test_overtaken_connections_keep_the_newer_tunnel_and_the_older_answer_good(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            early, late = OwnClient(edge, 2, KEY), OwnClient(edge, 3, KEY)
            for client in (early, late):
                await client.show_cookie(first)
            early_cookie = await early.next_cookie()
            await late.accept()
            await eventually(lambda: [m for m in edge.of(Attach) if m.conn == 3])
            early.send(early.answer())
            await edge.sees(CloseConn(conn=2))
            # It comes back with what it was told on the connection that was closed.
            await comes_back(edge, 4, early_cookie)
            assert await it.cause(it.sessions.made[0].session) is None
            assert opened_generations(edge, it.sessions.made[0].session) == [1, 3, 4]

    run(work())


def test_a_cookie_that_arrives_late_on_an_old_connection_ends_nothing(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            first = await signed_in(edge)
            stuck = OwnClient(edge, 2, KEY)
            stuck.connect()
            await edge.probe()
            it.clock.now += 1
            third = await comes_back(edge, 4, await comes_back(edge, 3, first))
            await stuck.show_cookie(first)
            await stuck.next_request()
            await edge.sees(CloseConn(conn=2))
            assert await it.cause(it.sessions.made[0].session) is None
            await comes_back(edge, 5, third)

    run(work())


def test_a_restarted_control_plane_knows_key_cookies_and_suite(tmp_path):
    async def work():
        async with subject(tmp_path) as it:
            async with it.serving() as edge:
                first = await signed_in(edge)
                second = await comes_back(edge, 2, first)
            session = await it.sessions.find(it.sessions.made[0].session.id)
            async with it.serving(state_of(session, conn=2)) as edge:
                edge.say(RekeyWanted(session.id))
                [rekeyed] = await eventually(lambda: edge.of(InstallEspIn))
                assert (rekeyed.sa.suite, rekeyed.sa.esn) == (session.suite, True)
                await refused(edge, 3, second, key=None)
                third = await comes_back(edge, 4, second)
                it.clock.now += 1
                await refused(edge, 5, first)
                assert await it.cause(session) is EndCause.COOKIE_REPLAYED
                assert await refused(edge, 6, third) == await refused(edge, 7, first)

    run(work())


def test_a_logout_without_a_tunnel_takes_the_newest_cookie(tmp_path):
    """The web front asks for a session by its cookie."""

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            second = await comes_back(edge, 2, await signed_in(edge))
            assert (await it.sessions.by_cookie(second)).id == it.sessions.made[0].session.id

    run(work())


def test_administrators_see_what_is_bound_and_how_packets_are_protected(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            await signed_in(edge)
            await Visitor(edge, 2).enter((await it.open("bob")).cookie)
            await eventually(lambda: len(edge.of(Attach)) == 2)
            shown = {live.session.user: live.as_dict(it.clock.now) for live in await it.live()}
            assert {name: (row["bound"], row["suite"]) for name, row in shown.items()} == {
                "alice": (True, "aes128-gcm"),
                "bob": (False, "aes256-cbc-sha256"),
            }

    run(work())
