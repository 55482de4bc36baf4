"""What REST does: drafts and their races, delegated rights on objects, users, tokens, logs."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime

import pytest

from lockgate.model.decision import Reason
from lockgate.model.session import EndCause
from lockgate.server import pki
from lockgate.server.audit import with_code
from lockgate.server.config.edits import SetValue
from lockgate.server.config.service import SEED_DIGEST
from lockgate.server.sessions import service as sessions_service
from lockgate.server.store.flows import packed
from lockgate.server.store.interface import ADMIN_SERVER, LOCAL_SERVER
from lockgate.server.web import tokens
from tests.unit.server.asgi import call_app
from tests.unit.server.support import facts, run
from tests.unit.server.test_store_flows import DENIED, FLOW, PING6, group
from tests.unit.server.test_store_flows import entry as flows_entry
from tests.unit.server.web_subject import ADMIN_REALM, AGENT, FULL, NOBODY, SOURCE, Subject, web

DRAFTS = "/api/v1/config/drafts"
IDLE = {"op": "set", "path": "roles/Users/session/idle_seconds"}


def idle(seconds: int) -> list[dict]:
    return [{**IDLE, "value": seconds}]


async def draft_with(subject: Subject, caller, edits) -> tuple[str, int]:
    made = (await subject.post(DRAFTS, caller, {})).json
    reply = await subject.post(f"{DRAFTS}/{made['id']}/edits", caller, {"version": 1, "edits": edits})
    assert reply.status == 200, reply.content
    return made["id"], reply.json["version"]


# -- drafts --------------------------------------------------------------------------------------------


def test_from_a_draft_to_a_revision_and_back(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.console()
            draft, version = await draft_with(subject, admin, idle(600))
            found = (await subject.get(f"{DRAFTS}/{draft}/diff", admin)).json
            (change,) = found["changes"]
            assert change == {
                "path": "roles/Users/session/idle_seconds", "kind": "changed", "before": 1800, "after": 600,
            }  # fmt: skip
            assert found["areas"] == ["roles"]
            assert (await subject.get(f"{DRAFTS}/{draft}/validate", admin)).json["valid"]
            reply = await subject.post(
                f"{DRAFTS}/{draft}/commit", admin, {"version": version, "reason": "shorter"}
            )
            assert (reply.json["number"], reply.json["author"]) == (2, "admin")
            assert subject.parts.in_force.policy.roles["Users"].session.idle_seconds == 600
            assert (await subject.get(f"{DRAFTS}/{draft}", admin)).code == "no-such-draft"
            log = (await subject.get("/api/v1/config/revisions", admin)).json
            assert [(each["number"], each["reason"]) for each in log["revisions"]] == [
                (2, "shorter"), (1, "first start"),
            ]  # fmt: skip
            reply = await subject.post("/api/v1/config/revisions/1/rollback", admin, {"reason": "no"})
            assert reply.json["number"] == 3
            compared = (await subject.get("/api/v1/config/compare?a=1&b=3", admin)).json
            assert compared["changes"] == []
            entries = (await subject.get("/api/v1/logs/admin-access?event=config-committed", admin)).json
            assert [(each["user"], each["source"], each["revision"]) for each in entries["entries"]] == [
                ("admin", SOURCE, 3), ("admin", SOURCE, 2),
            ]  # fmt: skip

    run(work())


def test_differences_by_the_page(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.console()
            roles = subject.parts.config.data["roles"] + [{"name": f"Role {number}"} for number in range(5)]
            edits = [{"op": "set", "path": "roles", "value": roles}]
            reply = await subject.post("/api/v1/config/apply", admin, {"edits": edits, "reason": "five"})
            assert reply.status == 200, reply.content
            path = "/api/v1/config/compare?a=1&b=2"
            whole = (await subject.get(path, admin)).json
            assert (len(whole["changes"]), whole["total"]) == (5, 5)
            for skip in (0, 2, 4):
                found = (await subject.get(f"{path}&limit=2&skip={skip}", admin)).json
                assert (found["changes"], found["total"]) == (whole["changes"][skip : skip + 2], 5)

    run(work())


def test_invalid_changes_name_field_value_and_reason_and_change_nothing(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.console()
            draft, version = await draft_with(subject, admin, idle(-5))
            judged = (await subject.get(f"{DRAFTS}/{draft}/validate", admin)).json
            assert not judged["valid"]
            (finding,) = judged["findings"]
            assert finding["path"] == "roles/Users/session/idle_seconds"
            assert "-5" in finding["wrong"]
            reply = await subject.post(f"{DRAFTS}/{draft}/commit", admin, {"version": version})
            assert (reply.status, reply.code) == (422, "config-invalid")
            assert "roles/Users/session/idle_seconds" in reply.json["details"][0]
            assert subject.parts.config.number == 1
            # The last administrator's rights cannot be given away.
            edits = [{"op": "set", "path": "admin_roles/.Administrators/administrators", "value": "read"}]
            reply = await subject.post("/api/v1/config/apply", admin, {"edits": edits})
            assert reply.code == "config-invalid"

    run(work())


def test_of_two_tabs_the_later_one_sees_that_it_is_later(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin, second = await subject.console(), await subject.console("second")
            draft, version = await draft_with(subject, admin, idle(600))
            edit = {"version": version, "edits": idle(700)}
            replies = await asyncio.gather(
                *(
                    subject.post(f"{DRAFTS}/{draft}/edits", who, edit)
                    for who in (admin, second, admin, second)
                )
            )
            assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
            assert {reply.code for reply in replies if reply.status == 409} == {"draft-changed"}
            commit = {"version": version + 1}
            replies = await asyncio.gather(
                *(subject.post(f"{DRAFTS}/{draft}/commit", who, commit) for who in (admin, second, admin))
            )
            assert sorted(reply.status for reply in replies) == [200, 404, 404]
            assert subject.parts.config.number == 2

    run(work())


def test_two_drafts_of_one_revision_conflict_or_are_brought_together(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin, second = await subject.console(), await subject.console("second")
            elsewhere = [{"op": "set", "path": "log/keep_days", "value": 90}]
            mine, one = await draft_with(subject, admin, idle(600))
            same, two = await draft_with(subject, second, idle(700))
            other, three = await draft_with(subject, second, elsewhere)
            assert (await subject.post(f"{DRAFTS}/{mine}/commit", admin, {"version": one})).status == 200
            for draft, version in ((same, two), (other, three)):
                reply = await subject.post(f"{DRAFTS}/{draft}/commit", second, {"version": version})
                assert (reply.status, reply.code) == (409, "conflict")
                assert "admin committed revision 2" in reply.json["summary"]
            (conflict,) = (await subject.get(f"{DRAFTS}/{same}/diff", second)).json["conflicts"]
            assert (conflict["mine"]["after"], conflict["theirs"]["after"]) == (700, 600)
            reply = await subject.post(f"{DRAFTS}/{same}/rebase", second, {"version": two})
            assert reply.code == "conflict"
            reply = await subject.post(f"{DRAFTS}/{other}/rebase", second, {"version": three})
            version = reply.json["version"]
            assert (
                await subject.post(f"{DRAFTS}/{other}/commit", second, {"version": version})
            ).status == 200
            tree = subject.parts.config.tree
            assert (tree.roles[0].session.idle_seconds, tree.log.keep_days) == (600, 90)

    run(work())


# -- delegated rights ----------------------------------------------------------------------------------


def test_a_delegated_administrator_sees_and_changes_only_the_own_areas(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("roles", roles="write", maintenance="write", logs="read")
            mine = await subject.token("*", owner="roles")
            admin = await subject.token("*")
            whole = (await subject.get("/api/v1/config", mine)).json["value"]
            assert set(whole) == {
                "roles", "access_control", "connection_profiles", "split_tunneling_networks", "bandwidth",
                "push_targets", "log", "traces",
            }  # fmt: skip
            assert (await subject.get("/api/v1/config?path=admin_roles", mine)).status == 403
            assert (await subject.get("/api/v1/config?path=gateway/hostname", mine)).status == 403
            # Editing, replacing and committing are judged by what they change.
            theirs, version = await draft_with(
                subject,
                admin,
                [{"op": "set", "path": "gateway/hostname", "value": "other.example"}, *idle(600)],
            )
            found = (await subject.get(f"{DRAFTS}/{theirs}/diff", mine)).json
            assert [change["path"] for change in found["changes"]] == ["roles/Users/session/idle_seconds"]
            assert found["areas"] == ["roles", "system"]
            reply = await subject.post(f"{DRAFTS}/{theirs}/commit", mine, {"version": version})
            assert (reply.status, reply.code) == (403, "not-allowed")
            for path in ("admin_roles/roles/administrators", "/admin_roles/roles/administrators", "metrics"):
                edits = [{"op": "set", "path": path, "value": "write"}]
                edit = await subject.post(
                    f"{DRAFTS}/{theirs}/edits", mine, {"version": version, "edits": edits}
                )
                apply = await subject.post("/api/v1/config/apply", mine, {"edits": edits})
                assert edit.status == 403
                assert apply.status in (403, 422), apply.content
            # A draft that leaves out what one cannot see takes it away: no.
            draft = (await subject.post(DRAFTS, mine, {})).json
            reply = await subject.ask(
                "PUT", f"{DRAFTS}/{draft['id']}", mine, body={"version": 1, "data": draft["data"]}
            )
            assert reply.status == 403
            assert (await subject.post("/api/v1/config/apply", mine, {"edits": idle(700)})).status == 200
            # Going back would change what others set; exporting everything shows it.
            await subject.post(
                "/api/v1/config/apply", admin, {"edits": [{"op": "set", "path": "log/keep_days", "value": 9}]}
            )
            assert (await subject.post("/api/v1/config/revisions/2/rollback", mine, {})).status == 403
            assert (await subject.post("/api/v1/config/export", mine, {})).status == 403
            parts = {"parts": ["roles/Users"]}
            assert (await subject.post("/api/v1/config/export", mine, parts)).status == 200
            assert (
                await subject.ask("DELETE", f"{DRAFTS}/{theirs}", await subject.token("roles:write"))
            ).status == 403

    run(work())


def test_who_may_write_users_may_not_make_administrators(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("users", users="write")
            mine = await subject.token("*", owner="users")
            new = {"name": "mallory", "password": "long-enough-1"}
            assert (await subject.post("/api/v1/users", mine, {**new, "server": ADMIN_SERVER})).status == 403
            assert (await subject.post("/api/v1/users", mine, {**new, "server": LOCAL_SERVER})).status == 201
            for method, path, body in (
                ("GET", "", None),
                ("PATCH", "", {"enabled": False}),
                ("PUT", "/password", {"password": "long-enough-1"}),
                ("DELETE", "", None),
            ):
                address = f"/api/v1/users/{ADMIN_SERVER}/admin{path}"
                assert (await subject.ask(method, address, mine, body=body)).status == 403
            listed = (await subject.get("/api/v1/users", mine)).json
            assert {user["server"] for user in listed["users"]} == {LOCAL_SERVER}
            assert listed["total"] == len(listed["users"]) == 3
            assert (await subject.get(f"/api/v1/users?server={ADMIN_SERVER}", mine)).json["users"] == []

    run(work())


def test_who_may_write_auth_servers_does_not_reach_administrators_by_way_of_them(tmp_path):
    made = pki.create("ca.example.org", (), datetime.now(UTC)).ca.decode()
    ca = {"name": "Mine", "certificate": made, "client_authentication": True}

    async def work():
        async with web(tmp_path) as subject:
            await subject.role("authentication", authentication="write", users="write", system="write")
            mine = await subject.token("*", owner="authentication")

            async def tried(*edits):
                return await subject.post("/api/v1/config/apply", mine, {"edits": list(edits)})

            servers = f"auth_servers/{ADMIN_SERVER}"
            # Users of another server would be administrators: the realm goes on to name the same server.
            moved = {"op": "rename", "path": f"auth_servers/{LOCAL_SERVER}", "name": ADMIN_SERVER}
            for edits in (
                [{"op": "remove", "path": servers}, moved],
                [{"op": "set", "path": f"{servers}/minimum_length", "value": 1}],
                [{"op": "rename", "path": servers, "name": "Others"}],
            ):
                reply = await tried(*edits)
                assert (reply.status, reply.code) == (403, "not-allowed"), edits
            assert await subject.store.users.find(ADMIN_SERVER, "alice") is None
            draft = (await subject.post(DRAFTS, mine, {})).json
            staged = {"version": 1, "edits": [{"op": "remove", "path": servers}, moved]}
            assert (await subject.post(f"{DRAFTS}/{draft['id']}/edits", mine, staged)).status == 200
            given = {"version": 2}
            assert (await subject.post(f"{DRAFTS}/{draft['id']}/commit", mine, given)).status == 403
            # A CA matters to administrators only where they are known by certificates.
            trust = {"op": "set", "path": "certificates/trusted_client_cas/Mine", "value": ca}
            assert (await tried(trust)).status == 200
            rule = {
                "name": "By certificate",
                "condition": {"kind": "expression", "text": 'certDN.OU = "Root"'},
                "roles": [FULL],
            }
            await subject.parts.config.apply(
                "admin", "", [SetValue(f"admin_realms/{ADMIN_REALM}/rules/By certificate", rule)]
            )
            assert (
                await tried({"op": "remove", "path": "certificates/trusted_client_cas/Mine"})
            ).status == 403
            # Servers that have users only are theirs.
            other = {"kind": "local", "name": "Others", "minimum_length": 20}
            assert (
                await tried({"op": "insert", "path": "auth_servers/Others", "value": other})
            ).status == 200
            assert (await tried({**moved, "name": "Staff"})).status == 200
            assert await subject.store.users.find("Staff", "alice") is not None

    run(work())


def test_nobody_shuts_out_the_own_account(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.console()
            mine = f"/api/v1/users/{ADMIN_SERVER}/admin"
            assert (await subject.ask("DELETE", mine, admin)).code == "own-account-in-use"
            for name in (mine, mine[:-5] + "ADMIN", mine[:-5] + "admin%20"):
                raw = name.replace(" ", "%20").encode()
                reply = await subject.ask(
                    "PATCH", name.replace("%20", " "), admin, body={"enabled": False}, raw_path=raw
                )
                assert reply.status == 409, name
            # A new password of one's own ends all other sessions.
            other = await subject.console()
            reply = await subject.ask("PUT", f"{mine}/password", admin, body={"password": "long-enough-2"})
            assert reply.status == 200
            assert (await subject.get("/api/v1/me", admin)).status == 200
            assert (await subject.get("/api/v1/me", other)).status == 401

    run(work())


def test_peers_get_all_records_of_users_and_so_take_the_right_to_write_users(tmp_path):
    peer = {"name": "other", "url": "https://other.example:8443/", "token": "of-the-other-gateway", "ca": ""}
    edits = [{"op": "insert", "path": "user_records/peers/other", "value": peer}]
    often = [{"op": "set", "path": "user_records/interval_seconds", "value": 60}]

    async def work():
        async with web(tmp_path) as subject:
            for name, rights, status in (("system", {}, 403), ("users", {"users": "write"}, 200)):
                await subject.role(name, system="write", **rights)
                mine = await subject.token("*", owner=name)
                assert (await subject.post("/api/v1/config/apply", mine, {"edits": often})).status in (
                    200,
                    409,
                )
                assert (await subject.post("/api/v1/config/apply", mine, {"edits": edits})).status == status

    run(work())


def test_what_is_pushed_here_makes_no_administrators(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin, pusher = await subject.token("*"), await subject.token("config:write")
            document = (await subject.post("/api/v1/config/export", admin, {})).json
            tree = document["tree"]
            tree["roles"][0]["session"]["idle_seconds"] = 600
            path, given = "/api/v1/config/import", {"document": document, "commit": True, "reason": "pushed"}
            reply = await subject.post(path, pusher, given)
            assert (reply.status, reply.json["revision"]["number"]) == (200, 2), reply.content
            tree["admin_roles"].append({"name": "mine", "administrators": "write"})
            reply = await subject.post(path, pusher, given)
            assert (reply.status, reply.code) == (403, "not-allowed")
            part = {"lockgate": 1, "parts": {"admin_realms/Admin Users/rules": []}, "blobs": {}}
            reply = await subject.post(path, pusher, {**given, "document": part})
            assert reply.status in (403, 422)
            # Which config.toml was taken over is not for others to say.
            kept = await subject.store.meta.get(SEED_DIGEST)
            same = {**given, "document": {**document, "config_toml": "0" * 64}}
            assert (await subject.post(path, pusher, same)).status == 403
            assert await subject.store.meta.get(SEED_DIGEST) == kept
            # What was refused leaves nothing behind.
            assert (await subject.get(DRAFTS, admin)).json == {"drafts": []}
            assert subject.parts.config.number == 2
            for broken in ({}, {"lockgate": 2}, {**document, "tree": []}, {**document, "extra": 1}):
                reply = await subject.post(path, pusher, {"document": broken})
                assert (reply.status, reply.code) == (400, "document-invalid"), broken
            deep: object = 1
            for _ in range(40):
                deep = {"tree": deep}
            assert (await subject.post(path, pusher, {"document": deep})).code == "document-too-deep"

    run(work())


# -- users, sessions -----------------------------------------------------------------------------------


def test_users_from_the_first_to_the_last_day(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("*")
            new = {
                "server": LOCAL_SERVER, "name": "Çarol", "password": "long-enough-1", "groups": ["Staff"],
                "attributes": {"mail": ["c@example.org"]}, "full_name": "Carol", "must_change": True,
            }  # fmt: skip
            made = await subject.post("/api/v1/users", admin, new)
            assert (made.status, made.json["name"], made.json["must_change"]) == (201, "çarol", True)
            assert (await subject.post("/api/v1/users", admin, new)).code == "user-exists"
            short = {**new, "name": "d", "password": "short"}
            assert (await subject.post("/api/v1/users", admin, short)).code == "password-too-short"
            nowhere = {**new, "server": "Nowhere"}
            assert (await subject.post("/api/v1/users", admin, nowhere)).code == "no-such-server"
            session = await subject.tunnel("alice")
            alice = f"/api/v1/users/{LOCAL_SERVER}/alice"
            changed = await subject.ask("PATCH", alice, admin, body={"groups": ["Dev"], "enabled": False})
            assert changed.json["ended"] == [str(session.id)]
            assert changed.json["user"]["groups"] == ["Dev"]
            ended = await subject.store.sessions.find(session.id)
            assert ended.cause is EndCause.USER_DISABLED
            assert (await subject.ask("DELETE", alice, admin)).status == 200
            assert (await subject.get(alice, admin)).code == "no-such-user"
            page = (await subject.get("/api/v1/users?limit=1&text=arol", admin)).json
            assert [user["name"] for user in page["users"]] == ["çarol"]
            names, after = [], None
            while True:
                page = (await subject.get("/api/v1/users", admin, query={"limit": 3, "after": after})).json
                names += [(user["server"], user["name"]) for user in page["users"]]
                after = page["following"]
                if after is None:
                    break
            assert len(names) == len(set(names)) == page["total"]

    run(work())


def test_sessions_are_listed_by_the_page_and_ended(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("sessions:write")
            mine = [await subject.tunnel("alice"), await subject.tunnel("bob")]
            page = (await subject.get("/api/v1/sessions?sort=user&limit=1", admin)).json
            assert ([each["user"] for each in page["sessions"]], page["total"]) == (["alice"], 2)
            rest = (
                await subject.get(
                    "/api/v1/sessions", admin, query={"sort": "user", "after": page["following"]}
                )
            ).json
            assert [each["user"] for each in rest["sessions"]] == ["bob"]
            assert (await subject.get("/api/v1/sessions?after=x", admin)).code == "bad-page"
            one = await subject.ask("DELETE", f"/api/v1/sessions/{mine[0].id}", admin)
            assert one.json == {"ended": [str(mine[0].id)]}
            assert (await subject.get(f"/api/v1/sessions/{mine[0].id}", admin)).code == "no-such-session"

    run(work())


def test_several_sessions_end_in_one_step(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("sessions:write")

            async def end(given):
                return await subject.post("/api/v1/sessions/end", admin, given)

            alices, bobs = [await subject.tunnel() for _ in range(3)], await subject.tunnel("bob")
            numbers = [str(each.id) for each in alices]
            for wrong in (
                {},
                {"sessions": numbers, "user": "alice"},
                {"user": "alice", "all": True},
                {"all": False},
                {"sessions": []},
                {"sessions": ["x"]},
                {"user": ""},
            ):
                reply = await end(wrong)
                assert (reply.status, reply.code) == (422, "bad-request"), wrong
            assert "exactly one of sessions, user and all" in (await end({})).json["details"][0]
            for strange in ("5", str((1 << 63) - 1), "9" * 19):
                reply = await end({"sessions": [numbers[0], strange]})
                assert (reply.code, strange in reply.json["summary"]) == ("no-such-session", True)
            for stranger in ("carol", "ali", "a\nb"):
                reply = await end({"user": stranger})
                assert (reply.code, "\n" in reply.json["summary"]) == ("no-such-user", False)
            assert len(await subject.store.sessions.live()) == 4
            assert (await end({"sessions": [numbers[0]] * 2})).json == {"ended": numbers[:1]}
            assert (await end({"sessions": numbers[:1]})).code == "no-such-session"
            assert sorted((await end({"user": " \uff21LICE "})).json["ended"]) == sorted(numbers[1:])
            assert (await end({"user": "alice"})).json == {"ended": []}
            assert (await end({"all": True})).json == {"ended": [str(bobs.id)]}
            entries = await subject.store.audit.newest(20)
            acts = [each for each in entries if each.event == "session-disconnect"]
            assert {each.session: each.user for each in acts} == {
                **{each.id: "alice" for each in alices}, bobs.id: "bob",
            }  # fmt: skip
            assert len(acts) == 4
            assert all(each.actor.startswith("admin (token ") for each in acts)
            assert {(each.log, each.source) for each in acts} == {("admin", SOURCE)}

    run(work())


def test_many_sessions_end_in_few_transactions(tmp_path, monkeypatch):
    """Each with two lines in the audit; other writers have their turn in between."""
    monkeypatch.setattr(sessions_service, "STEP", 4)

    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("sessions:write")
            mine = [await subject.tunnel(name) for name in ("alice", "bob") for _ in range(5)]
            writes, database = [], subject.store.sessions._database
            write = database.write

            async def counted(*args, **kwargs):
                writes.append(args)
                return await write(*args, **kwargs)

            monkeypatch.setattr(database, "write", counted)
            reply = await subject.post("/api/v1/sessions/end", admin, {"all": True})
            assert len(reply.json["ended"]) == len(mine)
            ends = [each for each in writes if "end_many" in each[0].__qualname__]
            assert (len(ends), len(writes)) == (3, 4)  # and that the token was used
            events = [each.event for each in await subject.store.audit.newest(20)]
            assert events == ["session-end", "session-disconnect"] * 10

    run(work())


def test_a_browser_of_the_console_is_signed_out_by_full_administrators_only(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin, sessions = await subject.token("*"), await subject.token("sessions:write")
            browser = await subject.console("second")
            await subject.portal()
            seen = (await subject.get("/api/v1/web-sessions", sessions)).json["sessions"]
            assert [each["audience"] for each in seen] == ["portal"]
            listed = (await subject.get("/api/v1/web-sessions", admin)).json["sessions"]
            ids = {each["audience"]: each["id"] for each in listed}
            for audience, caller, status in (
                ("console", sessions, 403),
                ("portal", sessions, 200),
                ("console", admin, 200),
            ):
                assert (
                    await subject.ask("DELETE", f"/api/v1/web-sessions/{ids[audience]}", caller)
                ).status == status
            assert (await subject.get("/api/v1/me", browser)).status == 401

    run(work())


# -- tokens --------------------------------------------------------------------------------------------


def test_a_token_is_never_more_than_its_owner_and_never_more_than_its_scopes(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("logs", logs="read")
            for scopes, reads, writes in (
                (("*",), {"logs"}, set()),
                (("logs:write",), {"logs"}, set()),
                (("system:read",), set(), set()),
            ):
                token = await subject.token(*scopes, owner="logs")
                reply = await subject.get("/api/v1/me", token)
                rights = reply.json["rights"] if reply.status == 200 else {}
                assert {area for area, right in rights.items() if right != "none"} == reads | writes
            assert (await subject.get("/api/v1/me", await subject.token("logs:read"))).json["rights"][
                "users"
            ] == "none"

    run(work())


async def _expired(subject, token):
    subject.clock.now += 3600


async def _revoked(subject, token):
    (record,) = await subject.store.tokens.all("admin")
    assert (await subject.ask("DELETE", f"/api/v1/tokens/{record.id}", token)).status == 204


async def _owner_disabled(subject, token):
    await subject.store.users.set_enabled(ADMIN_SERVER, "admin", False, subject.clock(), 0.0)


async def _owner_anew(subject, token):
    """Somebody else who is given the name later."""
    old = await subject.store.users.find(ADMIN_SERVER, "admin")
    await subject.store.users.delete(ADMIN_SERVER, "admin", subject.clock(), 0.0)
    await subject.store.users.add(old)


@pytest.mark.parametrize("end", [_expired, _revoked, _owner_disabled, _owner_anew])
def test_a_token_that_is_over_is_refused_at_once(tmp_path, end):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            assert (await subject.get("/api/v1/me", token)).status == 200
            await end(subject, token)
            reply = await subject.get("/api/v1/me", token)
            assert (reply.status, reply.code) == (401, "not-signed-in")
            assert reply.headers["www-authenticate"].startswith("Bearer")

    run(work())


def test_tokens_make_no_tokens_and_nobody_makes_them_for_others(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            new = {"name": "mine", "scopes": ["*"]}
            assert (await subject.post("/api/v1/tokens", await subject.token("*"), new)).status == 403
            admin = await subject.console()
            assert (await subject.post("/api/v1/tokens", admin, {**new, "owner": "second"})).status == 403
            assert (await subject.post("/api/v1/tokens", admin, new)).status == 201
            assert (await subject.post("/api/v1/tokens", admin, new)).code == "token-exists"
            for scopes in (["everything"], [], ["logs:read", "x"], ["*"] * 40):
                reply = await subject.post("/api/v1/tokens", admin, {"name": "n", "scopes": scopes})
                assert reply.status in (400, 422), scopes
            # A command on the gateway names the owner.
            made = await call_app(
                subject.app, "POST", "/api/v1/tokens", body={**new, "name": "cli", "owner": "second"}
            )
            assert made.body["about"]["owner"] == "second"

    run(work())


def test_tokens_that_are_over_stand_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_PER_OWNER", 4)

    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.console()

            async def make(name, seconds=3600):
                subject.clock.now += 1
                given = {"name": name, "scopes": ["*"], "seconds": seconds}
                reply = await subject.post("/api/v1/tokens", admin, given)
                return reply.code if reply.status != 201 else reply.json["about"]["id"]

            async def names():
                return sorted(each.name for each in await subject.store.tokens.all("admin"))

            for name in ("a", "b"):
                await make(name, 60)
            revoked = await make("c")
            assert (await subject.ask("DELETE", f"/api/v1/tokens/{revoked}", admin)).status == 204
            subject.clock.now += 60
            await make("d")
            # There is room for no record more, but for three tokens: the name that is wanted goes first, then the oldest.
            await make("b")
            assert await names() == ["a", "b", "c", "d"]
            await make("e")
            assert await names() == ["b", "c", "d", "e"]
            await make("f")
            assert await names() == ["b", "d", "e", "f"]
            assert await make("g") == "too-many-tokens"
            assert await make("d") == "too-many-tokens"
            subject.clock.now += 3600
            await make("b")
            assert await names() == ["b", "d", "e", "f"]

    run(work())


def test_guessing_tokens_and_passwords_is_one_and_the_same_count(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            wrong = NOBODY.plus(("authorization", "Bearer lgt_" + "a" * 52))
            right = await subject.token("*")
            limit = subject.parts.in_force.tree.sign_in.guard.failures_per_address
            for _ in range(limit - 1):
                assert (await subject.get("/api/v1/me", wrong)).status == 401
            sign_ins = subject.parts.sign_ins
            assert sign_ins.address_open(SOURCE)
            # One wrong password of a sign-in from there is the last of them.
            sign_ins.address_failed(SOURCE)
            reply = await subject.get("/api/v1/me", right)
            assert (reply.status, reply.code) == (429, "too-many-attempts")
            assert (await subject.get("/api/v1/me", right, source="203.0.113.9")).status == 200
            # A right token does not take the failures of its address away.
            subject.clock.now += 61
            assert (await subject.get("/api/v1/me", right)).status == 200

    run(work())


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YWRtaW46YWRtaW4=",
        "bearer lgt_x",
        "Bearer lgt_" + "x" * 5000,
        "Bearer \xff",
    ],
)
def test_what_is_no_token(tmp_path, header):
    async def work():
        async with web(tmp_path) as subject:
            caller = (await subject.console()).plus(("authorization", header))
            assert (await subject.get("/api/v1/me", caller)).status == 401
            twice = NOBODY.plus(*(await subject.token("*")).headers, ("authorization", "Bearer x"))
            assert (await subject.get("/api/v1/me", twice)).status == 401

    run(work())


# -- logs, explanations --------------------------------------------------------------------------------


def test_flows_are_a_log_with_what_they_are_made_of(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            groups = [group(2**62 + 1, "alice", FLOW, DENIED), group(2, "bob", PING6)]
            await subject.parts.store.audit.add_flows(packed(groups), flows_entry, "1:3")
            token = await subject.token("logs:read")

            async def ports(query):
                entries = (await subject.get(f"/api/v1/logs/flows?{query}", token)).json["entries"]
                return [each["flow"]["port"] for each in entries]

            assert await ports("") == [None, 22, 443]
            assert await ports(f"session={2**62 + 1}&outcome=failed") == [22]
            assert await ports("remote=fd77:0::80") == [None]
            assert await ports("port=443&user=alice") == [443]
            assert (await subject.get("/api/v1/logs/flows?remote=what", token)).code == "bad-address"
            assert (await subject.get("/api/v1/logs/user-access?port=443", token)).json["entries"] == []
            page = (await subject.get("/api/v1/logs/flows?limit=1&port=443", token)).json
            [entry] = page["entries"]
            assert entry["session"] == str(2**62 + 1)
            assert entry["flow"]["rule"] == "Intranet web"
            assert (entry["flow"]["began"], entry["flow"]["roles"]) == ("client", ["Users", "Staff"])
            exported = (await subject.get("/api/v1/logs/flows/export?format=csv&port=22", token)).content
            header, line = exported.decode().splitlines()
            assert "remote,port,allowed" in header
            assert "10.77.0.80,22,False,client" in line
            syslog = (await subject.get("/api/v1/logs/flows/export?format=syslog&port=443", token)).content
            assert b'remote="10.77.0.80" port="443" rule="Intranet web"' in syslog
            metrics = await subject.get("/metrics", await subject.token("system:read"))
            assert b"lockgate_flow_records_total 0.0" in metrics.content
            await subject.role("system", logs="read")
            reader = await subject.console("system")
            shown = (await subject.get("/admin/logs/flows?remote=10.77.0.80&port=443", reader)).content
            assert b"Intranet web" in shown
            assert b"Ping" not in shown

    run(work())


def test_logs_are_filtered_paged_exported_and_verified(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            audit = subject.parts.services.audit
            for number in range(25):
                await audit.record(
                    "sign-in", ok=number % 5 != 0, user=f"user{number}", source="192.0.2.1", text="=1+1"
                )
            token = await subject.token("logs:read")
            page = (await subject.get("/api/v1/logs/user-access?limit=10", token)).json
            assert [each["user"] for each in page["entries"]] == [f"user{n}" for n in range(24, 14, -1)]
            page = (
                await subject.get(f"/api/v1/logs/user-access?before={page['following']}&limit=100", token)
            ).json
            assert (len(page["entries"]), page["following"]) == (15, None)
            failed = (await subject.get("/api/v1/logs/user-access?outcome=failed&text=USER2", token)).json
            assert [each["user"] for each in failed["entries"]] == ["user20"]
            assert (await subject.get("/api/v1/logs/events?event=sign-in", token)).json["entries"] == []
            lines = (
                await subject.get("/api/v1/logs/user-access/export?outcome=failed", token)
            ).content.splitlines()
            assert [json.loads(line)["user"] for line in lines] == [
                "user0",
                "user5",
                "user10",
                "user15",
                "user20",
            ]
            reply = await subject.get("/api/v1/logs/user-access/export?format=csv", token)
            assert reply.headers["content-disposition"].startswith("attachment;")
            rows = list(csv.reader(io.StringIO(reply.content.decode())))
            assert len(rows) == 26
            assert not any(cell.startswith("=") for row in rows for cell in row)
            report = (await subject.post("/api/v1/audit/verify", token, {})).json
            assert (report["ok"], report["finding"]) == (True, None)
            assert report["checked"] >= 25

    run(work())


def test_explanations_and_what_if(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("*")
            asked = {"user": "alice", "target": "10.1.2.3", "port": 443, "source": "192.0.2.9"}
            found = (await subject.get("/api/v1/explain", admin, query=asked)).json
            assert found["allow"], found
            assert any(reason["path"].startswith("access_control/") for reason in found["reasons"])
            assert (await subject.get("/api/v1/explain?user=nobody", admin)).code == "no-such-user"
            draft, _ = await draft_with(
                subject, admin, [{"op": "remove", "path": "realms/Users/rules/Everybody"}]
            )
            report = await subject.post("/api/v1/what-if", admin, {"draft": draft})
            assert report.status == 200, report.content
            assert (await subject.post("/api/v1/what-if", admin, {})).status == 400

    run(work())


def test_a_support_code_finds_the_decision(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            helper = await subject.token("logs:read")
            decisions, audit = subject.parts.decisions, subject.parts.services.audit
            reason = Reason("no rule allows it", "access_control", False, "not for you")
            code = decisions.refuse("sign-in", facts("alice"), ("Users",), 1, [reason], session=7)
            await audit.record("sign-in", ok=False, user="alice", text=with_code("Users", code), log="user")
            found = (await subject.get(f"/api/v1/decisions/{code.lower().replace('-', '')}", helper)).json
            assert (found["code"], found["user"], found["session"], found["allow"]) == (
                code,
                "alice",
                "7",
                False,
            )
            assert found["reasons"] == [{"text": reason.text, "path": reason.path, "ok": False}]
            assert (await subject.get("/api/v1/explain", helper, query=found["again"])).status == 200
            [line] = (
                await subject.get("/api/v1/logs/user-access", helper, query={"code": code.lower()})
            ).json["entries"]
            assert line["text"] == f"code {code}: Users"
            other = (await subject.get("/api/v1/logs/user-access?code=0000-0000", helper)).json
            assert other["entries"] == []
            assert (await subject.get("/api/v1/logs/user-access?code=what", helper)).code == "bad-code"
            missing = await subject.get("/api/v1/decisions/0000-0000", helper)
            assert (missing.status, missing.code) == (404, "no-such-code")
            assert (await subject.get("/api/v1/decisions/what", helper)).status == 400
            other = await subject.token("users:write")
            assert (await subject.get(f"/api/v1/decisions/{code}", other)).status == 403

    run(work())


# -- commands ------------------------------------------------------------------------------------------


def test_a_command_gets_what_rest_says_and_its_problems(tmp_path):
    from lockgate.model.problem import ProblemError

    async def work():
        async with web(tmp_path) as subject:
            found = await call_app(subject.app, "GET", "/api/v1/config", query={"path": "roles/Users/name"})
            assert found.body["value"] == "Users"
            me = await call_app(subject.app, "GET", "/api/v1/me", actor="root behind sudo")
            assert (me.body["kind"], me.body["name"]) == ("local", "root behind sudo")
            text = await call_app(subject.app, "GET", "/api/v1/installer-configuration/Default")
            assert text.body.startswith("schema version {")
            with pytest.raises(ProblemError) as raised:
                await call_app(subject.app, "GET", "/api/v1/config/revisions/9")
            assert raised.value.problem.code == "no-such-revision"
            done = await call_app(
                subject.app,
                "POST",
                "/api/v1/config/apply",
                body={"edits": idle(60), "reason": "x"},
                actor="me",
            )
            assert done.body["author"] == "me"
            agent = await call_app(subject.app, "GET", "/healthz", headers={"user-agent": AGENT})
            assert agent.body == {"status": "up"}

    run(work())
