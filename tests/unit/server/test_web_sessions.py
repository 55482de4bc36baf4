"""Browsers: forged requests, planted cookies, and what ends a session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Credentials
from lockgate.model.session import EndCause
from lockgate.protocol.secret import Secret
from lockgate.server.config.edits import Remove, SetValue
from lockgate.server.store.interface import ADMIN_SERVER, LOCAL_SERVER
from lockgate.server.web.sessions import COOKIES, MAX_PER_USER
from lockgate.server.web.signing_in import MAX_PER_PLACE, MAX_TOTAL, PATIENCE, SigningIns
from tests.unit.server.support import Clock, run
from tests.unit.server.web_subject import ADMIN_HOST, ADMIN_REALM, AGENT, FULL, SOURCE, Caller, web

ORIGIN = ("origin", f"https://{ADMIN_HOST}")
NEW_DRAFT = "/api/v1/config/drafts"


def without(caller: Caller, name: str) -> Caller:
    return Caller(tuple(each for each in caller.headers if each[0] != name))


@pytest.mark.parametrize("headers", [(), (("x-csrf-token", "A" * 43),), (("x-csrf-token", ""),)])
def test_a_change_by_cookie_needs_the_anti_forgery_text(tmp_path, headers):
    async def work():
        async with web(tmp_path) as subject:
            caller = without(await subject.console(), "x-csrf-token").plus(ORIGIN, *headers)
            reply = await subject.post(NEW_DRAFT, caller, {})
            assert (reply.status, reply.code) == (403, "forged")
            assert (await subject.get("/api/v1/me", caller)).status == 200  # looking needs none

    run(work())


def test_the_text_of_another_session_is_no_good(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            mine, other = await subject.console(), await subject.console("second")
            stolen = next(value for name, value in other.headers if name == "x-csrf-token")
            caller = without(mine, "x-csrf-token").plus(("x-csrf-token", stolen))
            assert (await subject.post(NEW_DRAFT, caller, {})).code == "forged"
            assert (await subject.post(NEW_DRAFT, mine, {})).status == 201

    run(work())


@pytest.mark.parametrize(
    "header",
    [
        ("origin", "https://evil.example"),
        ("origin", f"http://{ADMIN_HOST}"),
        ("origin", f"https://{ADMIN_HOST}.evil.example"),
        ("origin", "https://gw.example.org"),  # the portal's origin: another port is another origin
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "invented"),
    ],
)
def test_a_strange_page_cannot_act_even_with_the_text(tmp_path, header):
    async def work():
        async with web(tmp_path) as subject:
            caller = (await subject.console()).plus(header)
            assert (await subject.post(NEW_DRAFT, caller, {})).code == "forged"
            fine = (await subject.console()).plus(ORIGIN, ("sec-fetch-site", "same-origin"))
            assert (await subject.post(NEW_DRAFT, fine, {})).status == 201

    run(work())


def test_what_a_form_can_send_is_no_api_request(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            for kind in (
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
            ):
                caller = (await subject.token("*")).plus(("content-type", kind))
                assert (await subject.post(NEW_DRAFT, caller, {})).status == 415
                subject.clock.now += 1

    run(work())


def test_a_cookie_that_was_planted_before_the_sign_in_is_worth_nothing_after_it(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            planted = "P" * 43
            record, cookie = await subject.parts.web_sessions.start(
                subject.administrator("admin"), "console", user_agent=AGENT
            )
            assert cookie.reveal_text() != planted
            for value in (planted, record.id, record.cookie_hash.hex()):
                caller = Caller((("cookie", f"{COOKIES['console']}={value}"),))
                assert (await subject.get("/api/v1/me", caller)).status == 401
            name = COOKIES["console"]
            # Two cookies of one name: which of them is meant?
            both = Caller((("cookie", f"{name}={planted}; {name}={cookie.reveal_text()}"),))
            assert (await subject.get("/api/v1/me", both)).status == 401

    run(work())


def test_the_conversation_of_a_sign_in_is_answered_once_and_only_by_its_own_browser():
    clock = Clock()
    table = SigningIns(clock)
    prompt = Credentials(retry=False)
    cookie, _ = table.begin("console", SOURCE, object(), prompt)
    assert table.look(cookie, "portal") is None
    assert table.take(Secret.of_text("x"), "console") is None
    entry = table.take(cookie, "console")
    assert entry is not None
    assert table.take(cookie, "console") is None, "two tabs answered the same prompt"
    table.put(cookie, entry, prompt)
    clock.now += PATIENCE
    assert table.look(cookie, "console") is None


def test_the_table_of_sign_ins_is_bounded_in_all_and_for_one_place():
    table = SigningIns(Clock())
    prompt = Credentials(retry=False)
    first, _ = table.begin("portal", "198.51.100.1", object(), prompt)
    mine = [table.begin("portal", f"2001:db8::{n:x}", object(), prompt)[0] for n in range(MAX_PER_PLACE + 5)]
    assert len(table) == MAX_PER_PLACE + 1  # one IPv6 network is one place
    assert table.look(mine[0], "portal") is None
    assert table.look(mine[-1], "portal") is not None
    assert table.look(first, "portal") is not None
    for n in range(MAX_TOTAL):
        table.begin("portal", f"10.{n >> 8}.{n & 255}.1", object(), prompt)
    assert len(table) == MAX_TOTAL


@pytest.mark.parametrize(
    ("cause", "after"),
    [("idle", 900), ("expired", 4 * 3600)],
)
def test_a_console_session_ends_by_its_own_clock(tmp_path, cause, after):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            sessions = subject.parts.web_sessions
            step = after if cause == "idle" else 600
            for _ in range(after // step):
                assert (await subject.get("/api/v1/me", caller)).status == 200
                await sessions.end_due()
                subject.clock.now += step
            # Its timer ends it, also when nobody asks.
            await sessions.end_due()
            (record,) = await _all(subject)
            assert (record.ended, record.cause) == (subject.clock(), cause)
            assert (await subject.get("/api/v1/me", caller)).status == 401

    run(work())


async def _all(subject):
    from sqlalchemy import select

    from lockgate.server.store.tables import web_sessions
    from lockgate.server.store.web_sessions import _record

    rows = await subject.store.database.read(
        lambda connection: connection.execute(select(web_sessions)).all()
    )
    return [_record(row) for row in rows]


async def _closed_realm(subject):
    policy = {"rules": [{"network": f"{SOURCE}/32", "action": "deny"}], "otherwise": "allow"}
    await subject.parts.config.apply(
        "test", "", [SetValue(f"admin_realms/{ADMIN_REALM}/policy/source", policy)]
    )


async def _disabled(subject):
    await subject.store.users.set_enabled(ADMIN_SERVER, "admin", False, subject.clock(), 0.0)


async def _new_password(subject):
    await subject.store.users.set_password(ADMIN_SERVER, "admin", "hash", subject.clock(), 0.0)


async def _deleted(subject):
    await subject.store.users.delete(ADMIN_SERVER, "admin", subject.clock(), 0.0)


@pytest.mark.parametrize("change", [_closed_realm, _disabled, _new_password, _deleted])
def test_what_takes_a_right_away_does_so_at_the_next_request(tmp_path, change):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            assert (await subject.get("/api/v1/me", caller)).status == 200
            await change(subject)
            assert (await subject.get("/api/v1/me", caller)).status == 401
            assert all(record.ended is not None for record in await _all(subject))

    run(work())


def test_rights_change_at_once_with_the_committed_role(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("logs", logs="write", users="read")
            record, cookie = await subject.parts.web_sessions.start(
                subject.administrator("logs", ("logs",)), "console", user_agent=AGENT
            )
            caller = Caller((("cookie", f"{COOKIES['console']}={cookie.reveal_text()}"),))
            token = await subject.token("*", owner="logs")
            for who in (caller, token):
                assert (await subject.get("/api/v1/users", who)).status == 200
                assert (await subject.get("/api/v1/status", who)).status == 403
            await subject.parts.config.apply(
                "test", "less and more", [SetValue("admin_roles/logs", {"name": "logs", "system": "read"})]
            )
            for who in (caller, token):
                assert (await subject.get("/api/v1/users", who)).status == 403
                assert (await subject.get("/api/v1/status", who)).status == 200
            # No rule gives a role any more.
            await subject.parts.config.apply("test", "", [Remove(f"admin_realms/{ADMIN_REALM}/rules/logs")])
            for who in (caller, token):
                assert (await subject.get("/api/v1/status", who)).status == 401
            ended = await subject.store.web_sessions.find(record.id)
            assert ended is not None
            assert ended.cause == "policy-changed"

    run(work())


def test_whoever_leaves_a_group_loses_its_roles_in_every_browser(tmp_path):
    by_group = {
        "name": "Group",
        "condition": {"kind": "group", "values": ["Root"]},
        "roles": [FULL],
    }

    async def work():
        async with web(tmp_path) as subject:
            parts = subject.parts
            await parts.config.apply(
                "test", "", [SetValue(f"admin_realms/{ADMIN_REALM}/rules/Group", by_group)]
            )
            await subject.store.users.update(ADMIN_SERVER, "logs", groups=["Root"])
            known = subject.administrator("logs")
            known = replace(known, facts=replace(known.facts, groups=("Root",)))
            _, cookie = await parts.web_sessions.start(known, "console", user_agent=AGENT)
            caller = Caller((("cookie", f"{COOKIES['console']}={cookie.reveal_text()}"),))
            assert (await subject.get("/api/v1/me", caller)).status == 200
            reply = await subject.ask(
                "PATCH",
                f"/api/v1/users/{ADMIN_SERVER}/logs",
                await subject.token("*"),
                body={"groups": []},
            )
            assert reply.status == 200
            assert (await subject.get("/api/v1/me", caller)).status == 401

    run(work())


def test_an_administrator_who_moves_to_a_forbidden_network_is_out(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            policy = {"rules": [{"network": "192.0.2.0/24", "action": "allow"}], "otherwise": "deny"}
            await subject.parts.config.apply(
                "test", "", [SetValue(f"admin_realms/{ADMIN_REALM}/policy/source", policy)]
            )
            caller, token = await subject.console(), await subject.token("*")
            for who in (caller, token):
                assert (await subject.get("/api/v1/me", who)).status == 200
                assert (await subject.get("/api/v1/me", who, source="203.0.113.5")).status == 401

    run(work())


def test_signing_out_of_the_portal_takes_its_tunnels_along(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            sessions, ended = subject.parts.web_sessions, []

            async def end(session, cause):
                ended.append((session, cause))

            sessions.end_tunnel = end
            await subject.portal()
            (record,) = await _all(subject)
            child = await subject.tunnel(parent=record.id)
            await subject.tunnel("bob")
            subject.clock.now += 3600
            await sessions.end_due()
            assert ended == []  # idle, but its tunnel is not
            assert await sessions.end(record.id, "logout")
            assert ended == [(child.id, EndCause.PORTAL_ENDED)]
            assert not await sessions.end(record.id, "logout")

    run(work())


def test_one_user_has_a_bounded_number_of_browsers_and_nobody_else_is_signed_out(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            other = await subject.console("second")
            first = await subject.console()
            for _ in range(MAX_PER_USER):
                subject.clock.now += 1
                last = await subject.console()
            assert (await subject.get("/api/v1/me", first)).status == 401
            for caller in (last, other):
                assert (await subject.get("/api/v1/me", caller)).status == 200

    run(work())


def test_a_sign_in_that_the_account_has_outlived_starts_nothing(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            identity = subject.administrator("admin")
            await _new_password(subject)
            with pytest.raises(ProblemError) as raised:
                await subject.parts.web_sessions.start(identity, "console", user_agent=AGENT)
            assert raised.value.problem.code == "sign-in-again"
            # Nor is an administrator's sign-in one of the portal.
            with pytest.raises(ProblemError):
                await subject.parts.web_sessions.start(identity, "portal", user_agent=AGENT)
            assert await _all(subject) == []

    run(work())


def test_cookies_stay_with_their_own_origin():
    from starlette.responses import Response

    from lockgate.server.web import sessions, signing_in

    for audience, same_site in (("console", "strict"), ("portal", "lax")):
        response = Response()
        sessions.set_cookie(response, audience, Secret.of_text("x"))
        signing_in.set_cookie(response, audience, Secret.of_text("x"))
        for header, wanted in zip(response.headers.getlist("set-cookie"), (same_site, "strict"), strict=True):
            name, *attributes = [part.strip().lower() for part in header.split(";")]
            assert name.startswith("__host-")
            assert set(attributes) == {"secure", "httponly", "path=/", f"samesite={wanted}"}


def test_servers_of_the_same_user_name_do_not_mix(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.store.users.add(
                replace(await subject.store.users.find(ADMIN_SERVER, "admin"), server=LOCAL_SERVER)
            )
            caller = await subject.console()
            await subject.store.users.delete(LOCAL_SERVER, "admin", subject.clock(), 0.0)
            assert (await subject.get("/api/v1/me", caller)).status == 200

    run(work())
