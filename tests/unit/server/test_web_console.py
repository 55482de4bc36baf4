"""The console's pages, asked as a browser would: rights, secrets, forged forms, changes that meet."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from lockgate.model.decision import Reason
from lockgate.server.config.edits import SetValue
from lockgate.server.web.console.menu import entries
from lockgate.server.web.sessions import COOKIES
from tests.unit.server.support import PASSWORD, facts, run
from tests.unit.server.web_subject import (
    ADMIN_HOST,
    NOBODY,
    PUSH_TOKEN,
    Caller,
    Reply,
    Subject,
    configuration,
    web,
)

CLUSTER = "/admin/settings/cluster"
SIGN_IN = "/admin/sign-in"


async def send(subject: Subject, path: str, caller: Caller, **fields: str) -> Reply:
    """A form, as a browser posts it from our own page."""
    headers = (
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", f"https://{ADMIN_HOST}"),
        ("sec-fetch-site", "same-origin"),
    )
    return await subject.ask("POST", path, caller.plus(*headers), body=urlencode(fields).encode())


def hidden(page: Reply, name: str) -> str:
    """A hidden field of a page."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.content.decode())
    assert found, page.content.decode()[:2000]
    return html.unescape(found[1])


def said(page: Reply) -> str:
    return re.sub(r"<[^>]*>|\s+", " ", page.content.decode())


def test_everybody_sees_the_menu_of_their_rights(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("roles", roles="write", logs="read")
            caller = await subject.console("roles")
            page = (await subject.get("/admin/", caller)).content.decode()
            for entry in entries():
                allowed = entry.area in ("", "roles", "logs")
                assert (f'href="{entry.url}"' in page) == allowed, entry.id
                reply = await subject.get(entry.url, caller)
                assert (reply.status == 403) != allowed or entry.id == "sessions", entry.id

    run(work())


def test_the_help_desk_finds_a_decision_by_its_code(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("system", logs="read")
            caller = await subject.console("system")
            reason = Reason("rule <x> denies it", "access_control/x", False)
            known = replace(facts("alice"), user_agent="<script>")
            code = subject.parts.decisions.refuse("sign-in", known, ("Users",), 1, [reason])
            page = await subject.get(f"/admin/tracing?code={code.lower()}", caller)
            assert page.status == 200
            text = said(page)
            assert f"{code}: sign-in, denied" in text
            assert "rule &lt;x&gt; denies it" in text
            assert b"<script>" not in page.content.replace(b"<script ", b"")
            [again] = re.findall(r'href="(/admin/tracing\?[^"]*user=alice[^"]*)"', page.content.decode())
            assert "alice" in said(await subject.get(html.unescape(again), caller))
            assert (await subject.get("/admin/tracing?code=0000-0000", caller)).status == 404
            # Another question than the one that was typed is not answered.
            wrong = await subject.get("/admin/tracing?user=alice&target=10.77.0.9&port=https", caller)
            assert 400 <= wrong.status < 500
            assert 'id="verdict"' not in (text := wrong.content.decode())
            assert "port" in text.partition('role="alert"')[2].partition("</div>")[0]
            log = await subject.get(f"/admin/logs/user-access?code={code}", caller)
            assert f'value="{code}"' in log.content.decode()
            # What is no code is not taken for no filter at all.
            log = await subject.get("/admin/logs/user-access?code=K7QD", caller)
            assert log.status == 422
            assert "This is no support code." in (text := log.content.decode())
            assert 'value="K7QD"' in text
            assert 'data-label="Event"' not in text

    run(work())


def test_read_only_means_no_button_and_no_effect(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("system", system="read", users="write")
            caller = await subject.console("system")
            page = await subject.get(CLUSTER, caller)
            assert "Save changes" not in page.content.decode()
            assert "disabled" in page.content.decode()
            for path in (CLUSTER, "/admin/settings/push-targets?new=1"):
                reply = await send(subject, path, caller, cluster_name="x", name="x")
                assert reply.status == 403
            assert await subject.parts.config.drafts() == []

    run(work())


def test_no_page_holds_a_secret(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            new = "/admin/settings/push-targets?new=1"
            reply = await send(subject, new, caller, name="other", url="https://other:8443", token=PUSH_TOKEN)
            assert reply.status == 303
            at = "/admin/settings/push-targets?at=other"
            pages = [at, "/admin/settings/push-targets/json?at=other", "/admin/changes", "/admin/push"]
            for path in [*pages, "/admin/revisions?path=push_targets"]:
                reply = await subject.get(path, caller)
                assert reply.status == 200
                assert PUSH_TOKEN.encode() not in reply.content
                assert b"sealed:" not in reply.content
            stored = (await subject.parts.config.drafts())[0]
            data = (await subject.parts.config.draft(stored.id)).data
            sealed = data["push_targets"][0]["token"]
            assert sealed.startswith("sealed:")
            await send(subject, at, caller, name="other", description="renamed", token="")
            data = (await subject.parts.config.draft(stored.id)).data
            assert data["push_targets"][0]["token"] == sealed
            assert data["push_targets"][0]["description"] == "renamed"

    run(work())


def test_a_revision_with_many_changes_is_read_by_the_page(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            data = subject.parts.config.data
            roles = [*data["roles"], *({"name": f"Role {number}"} for number in range(120))]
            await subject.parts.config.apply("admin", "many", [SetValue("roles", roles)], None)
            first = (await subject.get("/admin/revisions/2", caller)).content.decode()
            assert "1 to 100 of 120" in first
            assert "roles/Role 99" in first
            assert "roles/Role 100" not in first
            assert 'href="/admin/revisions/2?skip=100"' in first
            rest = (await subject.get("/admin/revisions/2?skip=100", caller)).content.decode()
            assert "101 to 120 of 120" in rest
            assert "roles/Role 119" in rest
            assert (await subject.get("/admin/revisions/3", caller)).status == 404

    run(work())


def test_what_was_found_about_a_draft_is_told_to_each_as_far_as_they_may_see(tmp_path):
    """Also when somebody with more rights asked before, and about each version anew."""

    async def work():
        async with web(tmp_path) as subject:
            await subject.role("roles", roles="read")
            full, limited = await subject.console(), await subject.console("roles")
            config = subject.parts.config
            draft = await config.create_draft("admin")
            for number in range(1, 4):
                roles = [*draft.data["roles"], {"name": f"Role {number}"}]
                edits = [SetValue("roles", roles), SetValue("network/mtu", 100 + number)]
                draft = await config.edit(draft.id, draft.version, edits)
                url = f"/api/v1/config/drafts/{draft.id}"
                for caller, paths, wrong in (
                    (full, ["network/mtu", *(f"roles/Role {each + 1}" for each in range(number))], 1),
                    (limited, [f"roles/Role {each + 1}" for each in range(number)], 0),
                ):
                    found = (await subject.get(url + "/diff", caller)).json
                    assert [each["path"] for each in found["changes"]] == paths
                    part = (await subject.get(url + "/diff?skip=1&limit=1", caller)).json
                    assert [each["path"] for each in part["changes"]] == paths[1:2]
                    assert part["total"] == found["total"] == len(paths)
                    judged = (await subject.get(url + "/validate", caller)).json
                    assert (judged["valid"], len(judged["findings"])) == (False, wrong)
                    if wrong:
                        assert str(100 + number) in judged["findings"][0]["wrong"]
                page = (await subject.get(f"/admin/changes?draft={draft.id}", limited)).content.decode()
                assert f"Role {number}" in page
                assert "mtu" not in page

    run(work())


def test_two_windows_of_one_administrator(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            seen = hidden(await subject.get(CLUSTER, caller), "seen")
            assert (await send(subject, CLUSTER, caller, seen=seen, cluster_name="one")).status == 303
            late = await send(subject, CLUSTER, caller, seen=seen, cluster_name="two")
            assert late.status == 409
            assert '"one"' in said(late).replace("&#34;", '"')
            assert 'value="two"' in late.content.decode()
            again = await send(subject, CLUSTER, caller, seen=hidden(late, "seen"), cluster_name="two")
            assert again.status == 303
            draft = await subject.parts.config.draft((await subject.parts.config.drafts())[0].id)
            assert draft.data["cluster"]["cluster_name"] == "two"

    run(work())


def test_a_wrong_form_saves_nothing_and_says_where(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            path = "/admin/settings/user-roles?at=Users&part=session"
            reply = await send(subject, path, caller, **{"session.length_seconds": "-1"})
            assert reply.status == 422
            assert 'id="f-session-length-seconds-error"' in reply.content.decode()
            assert 'value="-1"' in reply.content.decode()
            assert await subject.parts.config.drafts() == []
            for name in ("a/b", "", "Users"):
                new = await send(subject, "/admin/settings/user-roles?new=1", caller, name=name)
                assert new.status == 422, name
                assert 'id="f-name-error"' in new.content.decode()

    run(work())


def test_renaming_is_followed_and_removing_is_said(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            await send(subject, "/admin/settings/user-roles?at=Users", caller, name="Everyone")
            draft = await subject.parts.config.draft((await subject.parts.config.drafts())[0].id)
            assert draft.data["realms"][0]["rules"][0]["roles"] == ["Everyone"]
            await send(subject, "/admin/settings/user-roles/remove?at=Everyone", caller)
            page = await subject.get("/admin/changes", caller)
            assert "This draft cannot be committed yet" in said(page)
            assert "/admin/settings/user-realms?at=Users" in html.unescape(page.content.decode())

    run(work())


def test_forged_forms_do_nothing(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console(forgery=True)
            page = await subject.get(CLUSTER, caller)
            token = hidden(page, "csrf")
            for fields in ({}, {"csrf": "wrong"}):
                assert (await send(subject, CLUSTER, caller, cluster_name="x", **fields)).status == 403
            strange = caller.plus(
                ("origin", "https://elsewhere.example"), ("content-type", "application/x-www-form-urlencoded")
            )
            body = urlencode({"csrf": token, "cluster_name": "x"}).encode()
            assert (await subject.ask("POST", CLUSTER, strange, body=body)).status == 403
            assert await subject.parts.config.drafts() == []
            assert (await send(subject, CLUSTER, caller, cluster_name="x", csrf=token)).status == 303

    run(work())


async def sign_in(subject: Subject, url: str) -> tuple[Reply, Reply]:
    """The form at `url`, and what follows its right answer."""
    form = await subject.get(url)
    assert form.status == 200, form.content
    cookie = form.cookies[0].partition(";")[0]
    fields = {"csrf": hidden(form, "csrf"), "username": "admin", "password": PASSWORD}
    action = re.search(r'action="([^"]*)"', form.content.decode())
    assert action
    return form, await send(subject, action[1], Caller((("cookie", cookie),)), **fields)


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ("/admin/settings/cluster?at=", "/admin/settings/cluster?at="),
        ("https://elsewhere.example/admin/", "/admin/"),
        ("//elsewhere.example/admin/", "/admin/"),
        ("/admin/\\elsewhere.example", "/admin/"),
        ("/admin/sign-in?to=/admin/", "/admin/"),
    ],
)
def test_signing_in_leads_back_to_pages_of_ours_only(tmp_path, wanted, where):
    async def work():
        async with web(tmp_path) as subject:
            form, reply = await sign_in(subject, f"{SIGN_IN}?{urlencode({'to': wanted})}")
            assert (reply.status, reply.headers["location"]) == (303, where)
            given = next(each for each in reply.cookies if each.startswith(COOKIES["console"] + "="))
            assert all(word in given for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
            before = form.cookies[0].partition(";")[0]
            assert given.partition(";")[0].partition("=")[2] != before.partition("=")[2]
            page = await subject.get("/admin/", Caller((("cookie", given.partition(";")[0]),)))
            assert page.status == 200

    run(work())


def test_other_addresses_of_administrators(tmp_path):
    async def work():
        policy = {
            "name": "Operators",
            "url": "*/ops/",
            "user_type": "administrators",
            "admin_realms": ["Admin Users"],
        }
        known = configuration().model_dump(mode="json")["sign_in_policies"]
        async with web(tmp_path, configuration(sign_in_policies=[*known, policy])) as subject:
            _, reply = await sign_in(subject, "/ops/")
            assert (reply.status, reply.headers["location"]) == (303, "/admin/")
            for path in ("/ops", "/ops/more", "/elsewhere/"):
                assert (await subject.get(path)).status == 404
            assert (await subject.get("/ops/", listener="gateway")).status != 200

    run(work())


def test_pages_lead_strangers_to_the_sign_in(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            reply = await subject.get("/admin/sessions?q=x", NOBODY)
            assert (reply.status, reply.headers["location"]) == (303, f"{SIGN_IN}?to=/admin/sessions%3Fq%3Dx")
            swapped = await subject.get("/admin/sessions", Caller((("hx-request", "true"),)))
            assert swapped.headers["hx-redirect"].startswith(SIGN_IN)
            caller = await subject.console()
            page = await subject.get("/admin/no/such/page", caller)
            assert page.status == 404
            assert b"There is nothing at this address" in page.content
            assert page.headers["content-security-policy"].startswith(
                "default-src 'none'; script-src 'self';"
            )

    run(work())


def test_export_and_import_of_a_file(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            exported = await send(subject, "/admin/import-export/export", caller, what="all")
            assert "attachment" in exported.headers["content-disposition"]
            changed = exported.content.replace(b'"Everybody who signs in."', b'"Those who sign in."')
            assert changed != exported.content
            body = (
                b'--b\r\ncontent-disposition: form-data; name="document"; filename="x.json"\r\n\r\n'
                + changed
                + b'\r\n--b\r\ncontent-disposition: form-data; name="mode"\r\n\r\nreplace\r\n--b--\r\n'
            )
            sender = caller.plus(("content-type", "multipart/form-data; boundary=b"))
            reply = await subject.ask("POST", "/admin/import-export/import", sender, body=body)
            assert reply.status == 303
            page = await subject.get(reply.headers["location"], caller)
            assert "Those who sign in." in page.content.decode()
            assert "1 change" in said(page)
            bad = body.replace(changed, b"{" * 2000)
            reply = await subject.ask("POST", "/admin/import-export/import", sender, body=bad)
            assert reply.status == 400
            assert "not JSON" in said(reply)

    run(work())


def test_search_finds_pages_objects_and_settings(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            caller = await subject.console()
            page = said(await subject.get("/admin/search?q=idle", caller))
            assert "Idle time-out" in page
            page = said(await subject.get("/admin/search?q=open+policy", caller))
            assert "Initial open policy" in page
            await subject.role("logs", logs="read")
            page = said(await subject.get("/admin/search?q=policy", await subject.console("logs")))
            assert "Policy Tracing" in page
            assert "Initial open policy" not in page

    run(work())
