"""The portal: what a browser sees from sign-in to sign-out, and what it cannot do."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from dataclasses import replace

import pytest

from lockgate.model.prompt import Refused
from lockgate.model.session import EndCause
from lockgate.model.support_code import said_in
from lockgate.protocol.preconfig import parse
from lockgate.server.launch_handles import LIFETIME, REFUSED
from lockgate.server.sessions import Opened
from lockgate.server.sign_in_pages import PageArchives
from tests.unit.server.control_subject import HOST
from tests.unit.server.control_subject import tree as default_tree
from tests.unit.server.portal_subject import Reply, part, portal
from tests.unit.server.support import CLIENT, PASSWORD, identity, run

SESSION, SIGNING_IN = "__Host-lockgate", "__Host-lockgate-sign-in"
TREE = default_tree()


def two_realms(**policy):
    """A tree with a second realm, whose users choose a role, and more that is to be seen."""
    first = TREE.model_dump(mode="json")["realms"][0]
    roles = TREE.model_dump(mode="json")["roles"]
    staff = roles[0] | {
        "name": "Staff",
        "ui": {
            "title": "Staff <pages>",
            "greeting": "Hello\n<b>there</b>",
            "show_client": True,
            "show_sessions": True,
        },
        "web_options": {
            "bookmarks": [
                {
                    "name": "Mobile Webmail",
                    "description": "",
                    "url": "https://mail.example.org/",
                    "new_window": True,
                },
                {
                    "name": "<i>Wiki",
                    "description": "Notes",
                    "url": "https://wiki.example.org/",
                    "new_window": False,
                },
            ]
        },
    }
    rules = [first["rules"][0], first["rules"][0] | {"name": "Staff", "roles": ["Staff"]}]
    second = first | {"name": "Staff", "when_several": "choose-role", "rules": rules}
    return default_tree(
        roles=[*roles, staff],
        realms=[first, second],
        sign_in_policies=part(TREE, "sign_in_policies", realms=["Users", "Staff"], **policy),
        sign_in_notifications=[
            {"name": "Before", "text": "Only for <staff>.\nAgreed?"},
            {"name": "After", "text": "You are in."},
        ],
    )


# -- signing in -------------------------------------------------------------------------------------


def test_sign_in_home_and_sign_out(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            page = await browser.get()
            assert page.status == 200
            assert '<label for="f-username">User name</label>' in page.text
            assert "script-src 'self'" in page.header("content-security-policy")
            planted = browser.cookies[SIGNING_IN]
            wrong = await browser.submit(page, username="alice", password="wrong")
            assert 'role="alert"' in wrong.text
            assert wrong.fields()["username"] == "alice"
            assert SESSION not in browser.cookies
            reply = await browser.submit(wrong, username="alice", password=PASSWORD)
            assert (reply.status, reply.header("location")) == (303, "/")
            assert SIGNING_IN not in browser.cookies
            assert browser.cookies[SESSION] not in ("", planted)
            home = await browser.get()
            assert "Hello, alice" in home.text
            assert PASSWORD not in home.text
            assert browser.cookies[SESSION] not in home.text
            away = await browser.submit(home, "/portal/sign-out")
            assert "You are signed out" in away.text
            assert SESSION not in browser.cookies
            assert "f-password" in (await browser.get()).text
            assert await subject.events("web-session-end") == ["logout"]

    run(work())


def test_every_prompt_of_a_sign_in(tmp_path):
    """Notice, realm, credentials, role, session limit, last notice."""
    tree = two_realms(pre_notification="Before", post_notification="After")
    limited = tree.model_dump(mode="json")
    limited["realms"][1]["policy"]["limits"]["max_sessions_per_user"] = 1

    async def work():
        async with portal(tmp_path, type(tree).model_validate(limited)) as subject:
            opened = await subject.services.sessions.open(identity(realm="Staff"), CLIENT)
            assert isinstance(opened, Opened)
            browser = subject.browser()
            notice = await browser.get()
            assert "Only for &lt;staff&gt;.<br>Agreed?" in notice.text
            declined = await browser.submit(notice, decline="yes")
            assert declined.status == 303
            notice = await browser.get()
            realm = await browser.submit(notice)
            assert realm.options("realm") == ["Users", "Staff"]
            again = await browser.submit(realm, realm="Nowhere")
            assert "Choose a realm." in again.text
            credentials = await browser.submit(again, realm="Staff")
            role = await browser.submit(credentials, username="alice", password=PASSWORD)
            assert role.options("roles") == ["0", "1"]
            assert (await browser.get()).options("roles") == ["0", "1"]  # a reload asks the same
            limit = await browser.submit(role, roles="1")
            assert limit.options("session") == [str(opened.session.id)]
            assert "Choose the session to end." in (await browser.submit(limit, session="77")).text
            last = await browser.submit(limit, session=str(opened.session.id))
            assert "You are in." in last.text
            home = await browser.follow(await browser.submit(last))
            assert '<h1 tabindex="-1">Staff &lt;pages&gt;</h1>' in home.text
            assert "Hello<br>&lt;b&gt;there&lt;/b&gt;" in home.text
            assert 'href="https://mail.example.org/" rel="noopener noreferrer" target="_blank"' in home.text
            assert "&lt;i&gt;Wiki" in home.text
            assert await subject.services.sessions.live("alice") == []

    run(work())


def test_a_password_that_has_to_be_changed(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            page = await browser.submit(await browser.get(), username="mia", password=PASSWORD)
            assert "Choose a new password" in page.text
            again = await browser.submit(page, old=PASSWORD, new="brand-new-one", again="brand-new-two")
            assert "not the same" in again.text
            short = await browser.submit(again, old=PASSWORD, new="short", again="short")
            assert "too short" in short.text
            reply = await browser.submit(short, old=PASSWORD, new="brand-new-one", again="brand-new-one")
            assert "Hello, mia" in (await browser.follow(reply)).text
            assert "Hello, mia" in (await subject.browser().sign_in("mia", "brand-new-one")).text

    run(work())


@pytest.mark.parametrize(
    ("user", "code"), [("dora", "user-disabled"), ("nobody", "sign-in-failed"), ("alice", "sign-in-failed")]
)
def test_a_refusal_says_why_and_how_to_go_on(tmp_path, user, code):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            page = await browser.get()
            password = PASSWORD if user == "dora" else "wrong"
            while page.status == 200:
                page = await browser.submit(page, username=user, password=password)
            assert page.status == 403
            assert code in page.text
            assert 'href="/"' in page.text
            assert browser.cookies == {}

    run(work())


def test_a_wrong_password_and_a_refusal_come_with_a_code(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            seen = {}
            for name in ("alice", "nobody"):
                browser = subject.browser()
                page = await browser.submit(await browser.get(), username=name, password="wrong")
                code = said_in(page.text)
                assert (await subject.services.decisions.find(code)).user == name
                seen[name] = page.text.replace(code, "").replace(name, "").replace(page.fields()["csrf"], "")
            assert seen["alice"] == seen["nobody"]
            browser = subject.browser()
            page = await browser.submit(await browser.get(), username="dora", password=PASSWORD)
            [code] = re.findall(r"Support code: <b>([0-9A-Z-]{9})</b>", page.text)
            assert (await subject.services.decisions.find(code)).kind == "refusal"

    run(work())


def test_asking_what_one_may_reach(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            home = await browser.sign_in()
            assert 'action="/portal/reach"' in home.text
            page = await browser.submit(home, "/portal/reach", target="10.77.0.9:443")
            assert page.status == 200
            assert "No: 10.77.0.9, TCP port 443" in page.text or "Yes: 10.77.0.9, TCP port 443" in page.text
            [code] = re.findall(r"Support code: <b>([0-9A-Z-]{9})</b>", page.text)
            found = await subject.services.decisions.find(code)
            assert (found.user, found.kind, found.facts["source"]) == ("alice", "question", "192.0.2.9")
            assert ("Yes" in page.text) == found.allow
            wrong = await browser.submit(
                await browser.get("/portal/reach"), "/portal/reach", target="<b>no name", protocol="tcp"
            )
            assert wrong.status == 422
            assert "&lt;b&gt;no name" in wrong.text
            assert "This is not the name of a host." in wrong.text
            stranger = subject.browser()
            assert (await stranger.get("/portal/reach")).status == 303
            forged = await browser.post("/portal/reach", {"target": "10.77.0.9", "protocol": "tcp"})
            assert forged.status == 403
            for _ in range(30):
                page = await browser.submit(page, "/portal/reach", target="10.77.0.9", protocol="tcp")
            assert page.status == 429

    run(work())


def test_where_there_is_no_sign_in(tmp_path):
    tree = default_tree(
        sign_in_policies=[
            *part(TREE, "sign_in_policies", url="*/staff/"),
            TREE.model_dump(mode="json")["sign_in_policies"][0]
            | {"name": "Off", "url": "*/off/", "enabled": False},
        ]
    )

    async def work():
        async with portal(tmp_path, tree) as subject:
            browser = subject.browser()
            moved = await browser.get("/staff")
            assert (moved.status, moved.header("location")) == (308, "/staff/")
            assert (await browser.get("/staff/")).status == 200
            for path in (
                "/",
                "/admin/",
                "/off/",
                "/staff/other/",
                "/favicon.ico",
                "/portal/",
                "/portal/files/x",
            ):
                assert (await browser.get(path)).status == 404, path
            home = await browser.sign_in(path="/staff/")
            assert "Hello, alice" in home.text
            assert 'data-at="/staff/"' in home.text

    run(work())


# -- what others try --------------------------------------------------------------------------------


def test_a_planted_cookie_is_worth_nothing(tmp_path):
    """Fixation: neither the cookie of a sign-in nor one of a session that the attacker knows survives it."""

    async def work():
        async with portal(tmp_path) as subject:
            attacker, victim = subject.browser(), subject.browser()
            await attacker.get()
            victim.cookies = dict(attacker.cookies)
            await victim.sign_in()
            assert "f-password" in (await attacker.get()).text
            own = subject.browser()
            await own.sign_in()
            planted = own.cookies[SESSION]
            other = subject.browser()
            other.cookies[SESSION] = planted
            other.extra = {"cookie": f"{SESSION}={planted}; {SESSION}=x"}
            assert "f-password" in (await other.get()).text  # two of them are none

    run(work())


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://{HOST}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": f"https://{HOST}"},
    ],
)
def test_forms_of_other_origins_are_refused(tmp_path, headers):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            page = await browser.get()
            form = page.fields() | {"username": "alice", "password": PASSWORD}
            reply = await browser.post("/", form, **headers)
            assert reply.status == 403
            assert SESSION not in browser.cookies
            home = await browser.sign_in()
            for path in ("start", "sign-out", "password", "sessions/end", "sessions/extend"):
                reply = await browser.post(f"/portal/{path}", home.fields(), **headers)
                assert reply.status == 403, path
            assert "Hello, alice" in (await browser.get()).text

    run(work())


def test_forms_without_the_token_of_their_session_are_refused(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser, other = subject.browser(), subject.browser()
            await browser.get()
            foreign = (await other.get()).fields()["csrf"]
            for token in ("", "x", foreign):
                form = {"csrf": token, "username": "alice", "password": PASSWORD}
                assert (await browser.post("/", form)).status == 403
            home = await browser.sign_in()
            theirs = (await other.sign_in()).fields()["csrf"]
            for token in ("", theirs, foreign):
                for path in ("start", "sign-out", "password", "sessions/end", "sessions/extend"):
                    assert (await browser.post(f"/portal/{path}", {"csrf": token})).status == 403
            assert (await browser.post("/portal/sign-out", {"csrf": home.fields()["csrf"]})).status == 200

    run(work())


def test_bodies_that_no_form_sends(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            page = await browser.get()
            token = page.fields()["csrf"]
            form = "application/x-www-form-urlencoded"
            assert (await browser.post("/", b"x" * 40_000, **{"content-type": form})).status == 413
            for body, kind in (
                (f"csrf={token}&csrf={token}".encode(), form),
                (b"&".join(b"a%d=1" % n for n in range(50)), form),
                (b'{"csrf": 1}', "application/json"),
                (b"\xff\xfe=%ff", form),
            ):
                assert (await browser.post("/", body, **{"content-type": kind})).status in (400, 403)
            long = await browser.submit(page, username="a" * 1025, password="x")
            assert "longer than it can be" in long.text
            gone = await browser.submit(
                page, username="\ud800".encode("utf-8", "replace").decode(), password="\x00"
            )
            assert gone.status == 200

    run(work())


def test_two_answers_at_once_are_one(tmp_path):
    """Two tabs: the second answer has nothing to answer, and starts anew."""

    async def work():
        async with portal(tmp_path) as subject:
            browser, twin = subject.browser(), subject.browser()
            page = await browser.get()
            twin.cookies = dict(browser.cookies)
            await browser.submit(page, username="alice", password=PASSWORD)
            late = await twin.submit(page, username="alice", password=PASSWORD)
            assert late.status == 303
            assert SESSION not in twin.cookies

    run(work())


# -- sessions and password --------------------------------------------------------------------------


def test_a_user_ends_own_sessions_and_no_others(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            sessions = subject.services.sessions
            mine = await sessions.open(identity(), CLIENT)
            theirs = await sessions.open(identity("mia"), CLIENT)
            assert isinstance(mine, Opened)
            assert isinstance(theirs, Opened)
            browser, other = subject.browser(), subject.browser(agent="Firefox/130 (Windows)")
            await other.sign_in()
            home = await browser.sign_in()
            assert "Firefox on Windows" in home.text
            token = home.fields()["csrf"]
            rows = [value for value in home.options("session") if value]
            assert len(rows) == 2
            foreign = [
                f"tunnel:{theirs.session.id}",
                "tunnel:x",
                "tunnel:" + "9" * 19,
                "tunnel:" + "9" * 30,
                "web:nobody",
                "",
                "x:1",
            ]
            for row in foreign:
                assert (
                    await browser.post("/portal/sessions/end", {"csrf": token, "session": row})
                ).status == 303
            assert {each.user for each in await sessions.live()} == {"alice", "mia"}
            for row in rows:
                await browser.post("/portal/sessions/end", {"csrf": token, "session": row})
            assert [each.user for each in await sessions.live()] == ["mia"]
            assert "f-password" in (await other.get()).text
            assert "Hello" in (await browser.get()).text

    run(work())


def test_a_reminder_of_what_ends_soon(tmp_path):
    session = {"length_seconds": 3600, "idle_seconds": 0, "reminder_seconds": 300}
    tree = default_tree(roles=part(TREE, "roles", session=session))
    mine, others = "Your sign-in ends at", "Sessions of yours end soon"

    async def work():
        async with portal(tmp_path, tree) as subject:

            def told(page):
                return [text in page.text for text in (mine, others)], page.text.count(">Soon<")

            assert isinstance(await subject.services.sessions.open(identity(), CLIENT), Opened)
            subject.clock.now += 600
            browser = subject.browser()
            await browser.sign_in()
            subject.clock.now += 2699
            assert told(await browser.get()) == ([False, False], 0)
            subject.clock.now += 1
            assert told(await browser.get()) == ([False, True], 1)
            subject.clock.now += 600
            assert told(await browser.get()) == ([True, True], 2)
            await subject.adopt(
                default_tree(roles=part(TREE, "roles", session=session | {"reminder_seconds": 0}))
            )
            assert told(await browser.get()) == ([False, False], 0)

    run(work())


def extending(allowed=True, **session):
    """A tree whose users may extend their sessions of an hour, or may not."""
    options = {"length_seconds": 3600, "idle_seconds": 0, "allow_extension": allowed, **session}
    return default_tree(roles=part(TREE, "roles", session=options))


def buttons(page):
    """What there is to be extended."""
    return re.findall(r'action="/portal/sessions/extend">.*?name="session" value="([^"]*)"', page.text)


async def extend(browser, page, session):
    reply = await browser.post("/portal/sessions/extend", {"csrf": page.fields()["csrf"], "session": session})
    assert reply.status == 303
    return await browser.follow(reply)


def test_a_user_extends_own_sessions(tmp_path):
    async def work():
        async with portal(tmp_path, extending()) as subject:
            sessions, records = subject.services.sessions, subject.services.store.web_sessions
            tunnel = (await sessions.open(identity(), CLIENT)).session
            other, browser = subject.browser(agent="Firefox/130 (Windows)"), subject.browser()
            await other.sign_in()
            subject.clock.now += 1
            home = await browser.sign_in()
            theirs, mine = await records.live("portal", "alice")
            assert buttons(home) == [f"tunnel:{tunnel.id}", f"web:{theirs.id}", f"web:{mine.id}"]
            subject.clock.now += 1800
            for session in buttons(home):
                assert "Your session was extended." in (await extend(browser, home, session)).text
            until = subject.clock.now + 3600
            assert (await sessions.find(tunnel.id)).expires == until
            assert [each.expires for each in await records.live("portal")] == [until, until]
            assert await subject.events("session-extend") == ["ok"]
            assert await subject.events("web-session-extend") == ["ok", "ok"]
            entries = await subject.services.store.audit.newest(3)
            assert [(each.user, each.source, each.revision, each.text) for each in entries] == [
                ("alice", "192.0.2.9", 1, "ends in 3600 seconds")
            ] * 3
            # Beyond the first length, up to the second.
            subject.clock.now += 3599
            await subject.services.web_sessions.end_due()
            assert "Hello, alice" in (await browser.get()).text
            subject.clock.now += 1
            assert "f-password" in (await browser.get()).text

    run(work())


def test_own_sessions_are_extended_up_to_the_limit(tmp_path):
    async def work():
        async with portal(tmp_path, extending(extension_limit_seconds=4000)) as subject:
            records, browser = subject.services.store.web_sessions, subject.browser()
            home = await browser.sign_in()
            [mine] = await records.live("portal", "alice")
            subject.clock.now += 1800
            after = await extend(browser, home, f"web:{mine.id}")
            assert "Your session was extended." in after.text
            assert buttons(after) == []
            [extended] = await records.live("portal")
            assert extended.expires == mine.started + 4000
            subject.clock.now += 1800
            assert "was not extended" in (await extend(browser, after, f"web:{mine.id}")).text
            [still] = await records.live("portal")
            assert (still.expires, still.extended) == (extended.expires, extended.extended)

    run(work())


def test_without_the_option_there_is_nothing_to_extend(tmp_path):
    async def work():
        async with portal(tmp_path, extending()) as subject:
            tunnel = (await subject.services.sessions.open(identity(), CLIENT)).session
            browser = subject.browser()
            home = await browser.sign_in()
            offered = buttons(home)
            await subject.adopt(extending(allowed=False))
            subject.clock.now += 60
            page = await browser.get()
            assert buttons(page) == []
            for session in offered:  # from a page of before
                assert "was not extended" in (await extend(browser, page, session)).text
            assert (await subject.services.sessions.find(tunnel.id)) == tunnel
            [record] = await subject.services.store.web_sessions.live("portal")
            assert (record.expires, record.extended) == (record.started + 3600, None)
            assert await subject.events("session-extend") == ["not-extendable"]
            assert await subject.events("web-session-extend") == ["not-extendable"]

    run(work())


def test_roles_without_vpn_extend_the_sign_in_alone(tmp_path):
    async def work():
        async with portal(tmp_path, extending()) as subject:
            tunnel = (await subject.services.sessions.open(identity(), CLIENT)).session
            browser = subject.browser()
            await browser.sign_in()
            roles = extending().model_dump(mode="json")["roles"]
            await subject.adopt(default_tree(roles=[roles[0] | {"vpn_tunneling": False}, *roles[1:]]))
            page = await browser.get()
            assert [each.partition(":")[0] for each in buttons(page)] == ["web"]
            assert "was not extended" in (await extend(browser, page, f"tunnel:{tunnel.id}")).text
            assert "was extended" in (await extend(browser, page, buttons(page)[0])).text

    run(work())


def test_nobody_extends_what_is_over_or_not_theirs(tmp_path):
    async def work():
        async with portal(tmp_path, extending()) as subject:
            services = subject.services
            theirs = (await services.sessions.open(identity("mia"), CLIENT)).session
            over = (await services.sessions.open(identity(), CLIENT)).session
            await services.sessions.end_many([over.id], EndCause.LOGOUT)
            browser, gone = subject.browser(), subject.browser()
            await gone.sign_in()
            [signed_out] = await services.store.web_sessions.live("portal")
            await services.web_sessions.end(signed_out.id, "logout")
            home = await browser.sign_in()
            console = replace(signed_out, id="c" * 32, cookie_hash=b"c" * 32, audience="console", ended=None)
            await services.store.web_sessions.add(replace(console, cause=None))
            for session in (
                f"tunnel:{theirs.id}",
                f"tunnel:{over.id}",
                f"web:{signed_out.id}",
                f"web:{console.id}",
                "web:nobody",
                "tunnel:x",
                "tunnel:" + "9" * 19,
                "tunnel:" + "9" * 30,
                "",
            ):
                assert "was not extended" in (await extend(browser, home, session)).text, session
            assert (await services.sessions.find(theirs.id)) == theirs
            for number in (signed_out.id, console.id):
                assert (await services.store.web_sessions.find(number)).extended is None
            assert await subject.events("session-extend") == ["session-over"]
            assert await subject.events("web-session-extend") == ["session-over"]

    run(work())


def test_a_tunnel_that_the_portal_started_is_extended_with_its_sign_in(tmp_path):
    """It would end with that."""

    async def work():
        async with portal(tmp_path, extending()) as subject:
            browser = subject.browser()
            link = await started(browser, await browser.sign_in())
            subject.clock.now += 30
            tunnel = (await subject.launch(link)).session
            home = await browser.get()
            [record] = await subject.services.store.web_sessions.live("portal")
            # The list tells the sign-in's end for both.
            assert home.text.count(f"<dt>Ends</dt><dd>{moment(home, record.expires)}") == 2
            subject.clock.now += 1800
            await extend(browser, home, f"tunnel:{tunnel.id}")
            [record] = await subject.services.store.web_sessions.live("portal")
            assert record.expires == subject.clock.now + 3600
            assert (await subject.services.sessions.find(tunnel.id)).expires == record.expires

    run(work())


def moment(page, seconds):
    """A time as the page shows it."""
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    return re.search(f'<time datetime="{shown}">[^<]*</time>', page.text)[0]


def test_the_sign_in_is_extended_where_no_sessions_are_shown(tmp_path):
    roles = extending(reminder_seconds=600).model_dump(mode="json")["roles"]
    roles[0]["ui"]["show_sessions"] = False

    async def work():
        async with portal(tmp_path, default_tree(roles=roles)) as subject:
            browser = subject.browser()
            home = await browser.sign_in()
            assert len(buttons(home)) == 1
            subject.clock.now += 3300
            soon = await browser.get()
            assert "click Extend" in soon.text
            page = await extend(browser, soon, buttons(soon)[0])
            assert "was extended" in page.text
            assert "click Extend" not in page.text

    run(work())


def own_tree(*, staff=True, users=False):
    """Users of the realm Staff may add bookmarks with the role Staff, or those with Users."""
    document = two_realms().model_dump(mode="json")
    for role, may in zip(document["roles"], (users, staff), strict=True):
        role["web_options"]["own_bookmarks"] = may
    document["realms"][1]["when_several"] = "merge"
    document["realms"][0]["rules"][0]["roles"] = ["Users", "Staff"]
    document["sign_in_policies"][0]["realms"] = ["Users"]
    return type(TREE).model_validate(document)


async def save(browser, page, **form):
    """The form of the page of bookmarks."""
    fields = {"csrf": page.fields()["csrf"], **form}
    return await browser.post(
        "/portal/bookmarks", fields, origin=f"https://{HOST}", **{"sec-fetch-site": "same-origin"}
    )


def entries(page):
    """Names on the page of bookmarks, and the ids of those that can be edited."""
    names = re.findall(r'<div class="what"><b>(.*?)</b>', page.text)
    return dict(zip(names, re.findall(r"edit=([0-9a-f]{32})", page.text), strict=True))


def test_bookmarks_of_ones_own(tmp_path):
    async def work():
        async with portal(tmp_path, own_tree()) as subject:
            browser = subject.browser()
            assert "Add bookmarks of your own" in (await browser.sign_in()).text
            page = await browser.get("/portal/bookmarks")
            for name in ("<b>Wiki", "Mail", "Notes"):
                reply = await save(
                    browser, page, name=name, url="https://own.example.org/?a=1&b=2", new_window="yes"
                )
                assert (reply.status, reply.header("location")) == (303, "/portal/bookmarks")
            page = await browser.get("/portal/bookmarks")
            assert list(entries(page)) == ["&lt;b&gt;Wiki", "Mail", "Notes"]
            await save(browser, page, id=entries(page)["Notes"], action="up")
            await save(browser, page, id=entries(page)["&lt;b&gt;Wiki"], action="delete")
            page = await browser.get(f"/portal/bookmarks?edit={entries(page)['Mail']}")
            assert 'value="Mail"' in page.text
            await save(browser, page, id=entries(page)["Mail"], name="Post", url="http://post.example.org")
            home = (await browser.get()).text
            own = home.partition("Your own")[2].partition("</ul>")[0]
            assert re.findall(r"<b>(.*?)</b>", own) == ["Notes", "Post"]
            assert (
                '<a href="https://own.example.org/?a=1&amp;b=2" rel="noopener noreferrer" target="_blank">'
                in own
            )
            assert '<a href="http://post.example.org" rel="noopener noreferrer">' in own
            # The organisation's stand above, and nobody else has these.
            assert home.index("Mobile Webmail") < home.index("Your own")
            assert await subject.services.store.user_records.get("System Local", "mia") == {}
            again = subject.browser()
            home = await again.sign_in()
            assert list(entries(await again.get("/portal/bookmarks"))) == ["Notes", "Post"]
            # "May I reach …?" knows them by name.
            asked = await again.submit(home, "/portal/reach", target="post")
            assert "post.example.org, TCP port 80" in asked.text

    run(work())


def test_what_is_no_bookmark_is_said_beside_what_was_typed(tmp_path):
    async def work():
        async with portal(tmp_path, own_tree()) as subject:
            browser = subject.browser()
            await browser.sign_in()
            page = await browser.get("/portal/bookmarks")
            for name, url in (
                ("Bad", "javascript:alert(1)"),
                ("Bad", "data:text/html,<script>"),
                ("Bad", "https://somebody@host/"),
                ("", "https://host/"),
            ):
                reply = await save(browser, page, name=name, url=url)
                assert reply.status == 422
                assert 'role="alert"' in reply.text
                assert reply.fields()["url"] == url
            for form in ({"id": "0" * 32, "action": "up"}, {"id": "x", "action": "delete"}, {"id": "\x00"}):
                reply = await save(browser, page, name="n", url="https://host/", **form)
                assert "not there any more" in reply.text
            assert (await browser.get("/portal/bookmarks?edit=x")).status == 404
            foreign = {"csrf": "x", "name": "n", "url": "https://host/"}
            reply = await browser.post("/portal/bookmarks", foreign, origin=f"https://{HOST}")
            assert reply.status == 403
            reply = await browser.post(
                "/portal/bookmarks", {**foreign, "csrf": page.fields()["csrf"]}, origin="https://evil.example"
            )
            assert reply.status == 403
            assert await subject.services.store.user_records.get("System Local", "alice") == {}

    run(work())


def test_bookmarks_need_a_role_that_allows_them(tmp_path):
    async def work():
        async with portal(tmp_path, own_tree(staff=False)) as subject:
            browser = subject.browser()
            home = await browser.sign_in()
            assert "bookmarks of your own" not in home.text
            assert (await browser.get("/portal/bookmarks")).status == 403
            assert (await save(browser, home, name="n", url="https://host/")).status == 403
            # One role of several is enough, at once; taken away again, they are kept but not shown.
            await subject.adopt(own_tree(staff=False, users=True))
            assert (await save(browser, home, name="n", url="https://host/")).status == 303
            assert "https://host/" in (await browser.get()).text
            await subject.adopt(own_tree(staff=False))
            assert "https://host/" not in (await browser.get()).text
            await subject.adopt(own_tree())
            assert "https://host/" in (await browser.get()).text

    run(work())


def test_preferences_change_every_page(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            assert 'data-colours="auto" data-density="comfortable"' in (await browser.sign_in()).text
            page = await browser.get("/portal/preferences")
            assert page.options("colours") == ["auto", "light", "dark"]
            reply = await browser.submit(page, "/portal/preferences", colours="dark", density="compact")
            assert "Your preferences are saved." in (await browser.follow(reply)).text
            for path in ("/", "/portal/preferences", "/portal/password"):
                shown = (await browser.get(path)).text
                assert 'data-colours="dark" data-density="compact"' in shown
                assert '<meta name="color-scheme" content="dark">' in shown
            wrong = await browser.submit(
                page, "/portal/preferences", colours='dark"><script>', density="compact"
            )
            assert wrong.status == 400

    run(work())


def test_changing_the_password(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser, other = subject.browser(), subject.browser()
            await other.sign_in()
            await browser.sign_in()
            page = await browser.get("/portal/password")
            for old, new, again, complaint in (
                ("wrong", "another-one", "another-one", "old password is wrong"),
                (PASSWORD, "another-one", "another-two", "not the same"),
                (PASSWORD, "short", "short", "too short"),
                (PASSWORD, PASSWORD, PASSWORD, "is the old one"),
            ):
                reply = await browser.submit(page, "/portal/password", old=old, new=new, again=again)
                assert (reply.status, complaint in reply.text) == (422, True), reply.text
            reply = await browser.submit(
                page, "/portal/password", old=PASSWORD, new="another-one", again="another-one"
            )
            home = await browser.follow(reply)
            assert "Your password was changed" in home.text
            assert "f-password" in (await other.get()).text
            assert "Hello, alice" in (await subject.browser().sign_in(password="another-one")).text

    run(work())


def test_a_policy_change_ends_what_it_takes_away(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            await browser.sign_in()
            await subject.adopt(default_tree(realms=part(TREE, "realms", rules=[])))
            assert "f-password" in (await browser.get()).text
            reply = await browser.get("/portal/password")
            assert (reply.status, reply.header("location")) == (303, "/")

    run(work())


# -- launching the client ---------------------------------------------------------------------------


async def started(browser, home: Reply) -> str:
    form = {"csrf": home.fields()["csrf"], "at": "/"}
    reply = await browser.post("/portal/start", form, origin=f"https://{HOST}")
    assert reply.status == 200, reply.text
    return json.loads(reply.text)["link"]


def test_start_gives_a_link_that_opens_one_session(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            link = await started(browser, await browser.sign_in())
            assert link.startswith(f"pulsesecureclient://connect?name={HOST}&server=https://{HOST}/&handle=")
            opened = await subject.launch(link)
            assert isinstance(opened, Opened)
            assert (opened.session.user, opened.session.roles) == ("alice", ("Users",))
            assert await subject.launch(link) == REFUSED
            assert await subject.events("launch") == ["ok", "handle-unknown"]
            home = await browser.get()
            assert "laptop" in home.text
            await browser.submit(home, "/portal/sign-out")
            assert await subject.services.sessions.live() == []
            ended = await subject.services.sessions.find(opened.session.id)
            assert ended.cause == "portal-ended"

    run(work())


def test_handles_that_are_refused(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            home = await browser.sign_in()
            for options, reason in (
                ({"source": "192.0.2.10"}, "handle-other-device"),
                ({"source": "2001:db8::1"}, "handle-other-device"),
                ({"at": "other.example.org/"}, "handle-other-server"),
                ({"at": f"{HOST}:8443/"}, "handle-other-server"),
                ({"at": f"{HOST}/staff/"}, "handle-other-server"),
            ):
                link = await started(browser, home)
                assert await subject.launch(link, **options) == REFUSED
                assert (await subject.events("launch"))[-1] == reason
                assert await subject.launch(link) == REFUSED  # spent all the same
            link = await started(browser, home)
            subject.clock.now += LIFETIME
            assert await subject.launch(link) == REFUSED
            link = await started(browser, await browser.get())
            await browser.submit(await browser.get(), "/portal/sign-out")
            assert await subject.launch(link) == REFUSED
            assert (await subject.events("launch"))[-1] in ("portal-session-over", "handle-unknown")
            assert await subject.services.sessions.live() == []

    run(work())


def test_a_handle_does_not_outlive_the_account_or_the_role(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            link = await started(browser, await browser.sign_in())
            users, now = subject.services.store.users, subject.clock()
            await users.set_enabled("System Local", "alice", False, now, now)
            assert isinstance(await subject.launch(link), Refused)
            await users.set_enabled("System Local", "alice", True, now, now)
            link = await started(browser, await browser.sign_in())
            await subject.adopt(default_tree(roles=part(TREE, "roles", vpn_tunneling=False)))
            assert isinstance(await subject.launch(link), Refused)
            home = await browser.get()
            assert 'id="start"' not in home.text
            reply = await browser.post("/portal/start", {"csrf": home.fields()["csrf"], "at": "/"})
            assert reply.status == 403

    run(work())


def test_a_place_is_one_address_or_one_ipv6_network(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser(source="2001:db8:0:1::5")
            link = await started(browser, await browser.sign_in())
            assert isinstance(await subject.launch(link, source="2001:db8:0:1:ffff::9"), Opened)
            link = await started(browser, await browser.get())
            assert await subject.launch(link, source="2001:db8:0:2::5") == REFUSED

    run(work())


def test_start_only_at_a_sign_in_url_of_ones_own(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            token = (await browser.sign_in()).fields()["csrf"]
            for at in ("", "/nowhere/", "//evil.example/", "https://evil.example/", "/admin/"):
                reply = await browser.post("/portal/start", {"csrf": token, "at": at})
                assert reply.status == 400, at
            reply = await browser.post("/portal/start", {"csrf": token, "at": "/"}, host="gw@evil.example")
            assert reply.status == 400

    run(work())


def test_the_client_is_launched_by_itself_once(tmp_path):
    vpn = TREE.roles[0].vpn.model_dump(mode="json") | {"auto_launch": True}
    tree = default_tree(roles=part(TREE, "roles", vpn=vpn))

    async def work():
        async with portal(tmp_path, tree) as subject:
            browser = subject.browser()
            assert "data-auto" in (await browser.sign_in()).text
            assert "data-auto" not in (await browser.get()).text

    run(work())


def test_the_connections_of_ones_role(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            browser = subject.browser()
            assert (await browser.get("/portal/configuration")).status == 303
            await browser.sign_in()
            reply = await browser.get("/portal/configuration")
            assert parse(reply.text).connections[0].get("uri") == HOST
            assert reply.header("content-disposition").startswith(
                'attachment; filename="Default.pulsepreconfig";'
            )

    run(work())


# -- custom pages and uploads -----------------------------------------------------------------------

CUSTOM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{title}}</title>
<link rel="stylesheet" href="{{assets}}/look.css"></head><body class="ours"><form method="post" action="{{action}}">
<input type="hidden" name="csrf" value="{{form_token}}"><p>{{error}}</p>
<label>{{user_label}}<input name="username" value="{{user}}"></label>
<label>{{password_label}}<input name="password" type="password"></label><button>Go</button></form></body></html>"""


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, text in files.items():
            file.writestr(name.replace("_html", ".html").replace("_css", ".css").replace("_", "-"), text)
    return out.getvalue()


def test_a_custom_page(tmp_path):
    async def work():
        async with portal(tmp_path) as subject:
            blobs = subject.services.store.blobs
            digest = await PageArchives(blobs).accept(archive(sign_in_html=CUSTOM, look_css="p{}"))
            unused = await PageArchives(blobs).accept(archive(sign_in_html=CUSTOM, look_css="a{}"))
            page = {"kind": "custom", "templates": digest, "title": "<Ours>", "user_label": "Badge & name"}
            await subject.adopt(default_tree(sign_in_pages=part(TREE, "sign_in_pages", **page)))
            browser = subject.browser()
            first = await browser.get()
            assert 'class="ours"' in first.text
            assert "&lt;Ours&gt;" in first.text
            assert "Badge &amp; name" in first.text
            policy = first.header("content-security-policy")
            assert "script-src" not in policy
            assert "default-src 'none'" in policy
            wrong = await browser.submit(first, username='"><script>x</script>', password="wrong")
            assert 'value="&quot;&gt;&lt;script&gt;x&lt;/script&gt;"' in wrong.text
            file = await browser.get(f"/portal/pages/{digest}/look.css")
            assert (file.status, file.body) == (200, b"p{}")
            assert "sandbox" in file.header("content-security-policy")
            for path in (
                f"{digest}/sign-in.html",
                f"{digest}/other.css",
                f"{unused}/look.css",
                f"{'0' * 64}/look.css",
            ):
                assert (await browser.get(f"/portal/pages/{path}")).status == 404
            assert "Hello, alice" in (await browser.sign_in()).text
            mia = subject.browser()
            change = await mia.submit(await mia.get(), username="mia", password=PASSWORD)
            assert 'class="single"' in change.text  # what the archive does not have is ours

    run(work())


def test_logs_of_clients(tmp_path):
    session = TREE.roles[0].session.model_dump(mode="json") | {"upload_logs": True}
    allowed = default_tree(
        roles=part(TREE, "roles", session=session),
        client_logs={"upload": True, "max_megabytes": 1, "keep_days": 30, "keep_total_megabytes": 1},
    )
    off = default_tree(roles=part(TREE, "roles", session=session), client_logs={"upload": False})

    async def work():
        async with portal(tmp_path) as subject:
            opened = await subject.services.sessions.open(identity(), CLIENT)
            assert isinstance(opened, Opened)
            cookie = {"cookie": f"DSID={opened.cookie.reveal_text()}", "content-type": "application/zip"}
            client = subject.browser(agent="Lockgate/0")

            async def send(body: bytes, query: str = "", **headers: str) -> Reply:
                return await client.post(f"/portal/logs{query}", body, **headers)

            assert (await send(b"PK", **cookie)).status == 403  # the role does not say so
            await subject.adopt(off)
            assert json.loads((await send(b"PK", **cookie)).text)["code"] == "uploads-off"
            await subject.adopt(allowed)
            assert (await send(b"PK")).status == 401
            assert (await send(b"PK", cookie="DSID=" + "0" * 32)).status == 401
            reply = await send(b"PK\x03\x04logs", "?name=..%2F..%2Fetc%2Flogs%0A.zip", **cookie)
            assert reply.status == 201
            subject.clock.now += 1
            reply = await send(b"PK\x03\x04logs", "?name=Logs%20(1).zip", **cookie)
            assert reply.status == 201
            uploads = subject.services.store.uploads
            record, first = await uploads.all()
            assert first.name == "logs_.zip"
            assert (record.user, record.host_name, record.size, record.name) == (
                "alice",
                "laptop",
                8,
                "Logs (1).zip",
            )
            assert b"".join([piece async for piece in uploads.content(record.id)]) == b"PK\x03\x04logs"
            before = len(await uploads.all())
            too_much = await send(bytes((1 << 20) + 1), **cookie)
            assert too_much.status == 413
            undeclared = await send(bytes((1 << 20) + 1), **cookie | {"content-length": "x"})
            assert undeclared.status == 413
            assert len(await uploads.all()) == before
            for _ in range(3):
                subject.clock.now += 1
                assert (await send(bytes(600_000), **cookie)).status == 201
            assert len(await uploads.all()) == 1  # the oldest made room
            assert "upload-too-large" in await subject.events("client-log-upload")

    run(work())
