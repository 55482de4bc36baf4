"""REST about users' records: administrators look and delete, other gateways exchange changes and can do nothing else."""

import pytest

from lockgate.model.user_record import Version
from lockgate.server.config.edits import SetValue
from lockgate.server.store.interface import ADMIN_SERVER, LOCAL_SERVER, PeerRecord
from lockgate.server.user_records import UserRecords
from lockgate.server.web.app import route_table
from lockgate.server.web.principal import RECORDS
from tests.unit.server.support import run
from tests.unit.server.test_web_routes import address, asked
from tests.unit.server.web_subject import web

CHANGES, PEERS = "/api/v1/user-records/changes", "/api/v1/user-records/peers"
RECORD = f"/api/v1/users/{LOCAL_SERVER.replace(' ', '%20')}/alice/record"
ORIGIN = "f" * 32
PEER_TOKEN = "lgt_canary-of-a-peer"


async def synchronise(subject, server=LOCAL_SERVER, name="Staff"):
    await subject.parts.config.apply(
        "test",
        "",
        [
            SetValue(f"auth_servers/{server}/user_record_synchronization", True),
            SetValue(f"auth_servers/{server}/logical_auth_server_name", name),
        ],
    )


def given(subject, **fields):
    return {
        "logical_server": "Staff",
        "user": "alice",
        "item": "preference:colours",
        "time": int(subject.clock() * 1000),
        "origin": ORIGIN,
        "value": "dark",
        **fields,
    }


def test_administrators_look_and_delete(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            records = UserRecords(subject.store.user_records, subject.clock)
            await records.add(LOCAL_SERVER, "alice", "Wiki <b>", "https://wiki.example.org/", True)
            await records.choose(LOCAL_SERVER, "alice", {"colours": "dark"})
            reader, writer = await subject.token("users:read"), await subject.token("users:write")
            assert (await subject.get(RECORD, reader)).json == {
                "server": LOCAL_SERVER,
                "name": "alice",
                "logical_server": None,
                "bookmarks": [{"name": "Wiki <b>", "url": "https://wiki.example.org/", "new_window": True}],
                "preferences": {"colours": "dark", "density": "comfortable"},
            }
            assert (await subject.get(RECORD.replace("alice", "ALICE"), reader)).json["name"] == "alice"
            assert (await subject.get(RECORD.replace("System", "No"), reader)).status == 404
            page = await subject.get(
                f"/admin/users/one?server={LOCAL_SERVER.replace(' ', '+')}&name=alice",
                await subject.console(),
            )
            assert "Wiki &lt;b&gt;" in page.content.decode()
            # Administrators' records are administrators' business.
            of_admin = RECORD.replace(LOCAL_SERVER.replace(" ", "%20"), ADMIN_SERVER)
            assert (await subject.get(of_admin, reader)).status == 403
            assert (await subject.ask("DELETE", of_admin, writer)).status == 403
            assert (await subject.ask("DELETE", RECORD, reader)).status == 403
            assert (await subject.ask("DELETE", RECORD, writer)).json == {"items": 2}
            assert (await subject.get(RECORD, reader)).json["bookmarks"] == []
            newest = (await subject.store.audit.newest(1))[0]
            assert (newest.event, newest.user, newest.log) == ("user-record-delete", "alice", "admin")

    run(work())


def test_the_token_of_another_gateway_can_do_nothing_else(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token(f"{RECORDS}:write")
            reached = set()
            for row in route_table(subject.app):
                if row.needs.kind in ("any", "area"):
                    for method in asked(row):
                        body = None if method in ("GET", "HEAD", "DELETE") else {}
                        reply = await subject.ask(
                            method, address(row), token, body=body, listener=row.listener
                        )
                        if reply.status not in (401, 403):
                            reached.add((method, row.path))
            assert {path for _, path in reached} == {CHANGES}
            for scope in ("*:read", "config:write", "users:write", f"{RECORDS}:read"):
                other = await subject.token(scope)
                reply = await subject.post(CHANGES, other, {"changes": []})
                assert reply.status == 403, scope
            # Who has only that right cannot do more in the console either.
            await subject.role(RECORDS, **{RECORDS: "write"})
            assert (await subject.get("/admin/", await subject.console(RECORDS))).status == 403

    run(work())


def test_changes_go_both_ways(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token(f"{RECORDS}:write")
            shelf = subject.store.user_records
            sent = {"changes": [given(subject)]}
            assert (await subject.post(CHANGES, token, sent)).json == {
                "taken": 0,
                "refused": {"not-synchronised": 1},
            }
            await synchronise(subject)
            assert (await subject.post(CHANGES, token, sent)).json == {"taken": 1, "refused": {}}
            assert await shelf.get(LOCAL_SERVER, "alice") == {"preference:colours": '"dark"'}
            told = (await subject.get(CHANGES, token)).json
            assert told["changes"] == sent["changes"]
            assert told["names"] == ["Staff"]
            after = {"after": told["following"], "origin": told["origin"]}
            assert (await subject.get(CHANGES, token, query=after)).json["changes"] == []
            # Another origin: whoever asks speaks of numbers that are not ours.
            again = (await subject.get(CHANGES, token, query={**after, "origin": ORIGIN})).json
            assert again["changes"] == sent["changes"]
            strange = [
                given(subject, item="preference:of-a-later-release"),
                given(
                    subject,
                    value={"name": "x", "url": "javascript:alert(1)", "new_window": True, "position": 1},
                ),
                given(subject, time=int(subject.clock() * 1000) + 3_600_000),
                given(subject, logical_server=LOCAL_SERVER),
            ]
            assert (await subject.post(CHANGES, token, {"changes": strange})).json == {
                "taken": 0,
                "refused": {"ahead": 1, "not-synchronised": 1, "not-understood": 2},
            }

    run(work())


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "ALICE"}, {"user": ""}, {"user": "a\nb"}, {"user": None}, {"time": -1}, {"time": 1.0}, {"time": True},
        {"time": 1 << 50}, {"origin": "F" * 32}, {"origin": "f" * 31}, {"logical_server": ""},
        {"logical_server": "x" * 65}, {"more": 1}, {"origin": None},
    ],
)  # fmt: skip
def test_what_is_no_change_is_refused_with_all_that_came_with_it(tmp_path, wrong):
    async def work():
        async with web(tmp_path) as subject:
            await synchronise(subject)
            token = await subject.token(f"{RECORDS}:write")
            sent = {"changes": [given(subject), given(subject, item="preference:density", **wrong)]}
            reply = await subject.post(CHANGES, token, sent)
            assert (reply.status, reply.code) == (400, "bad-change")
            assert (await subject.post(CHANGES, token, {"changes": [given(subject)] * 201})).status == 422
            assert await subject.store.user_records.get(LOCAL_SERVER, "alice") == {}

    run(work())


def test_a_setting_counts_at_once_and_needs_its_name(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            records = subject.store.user_records
            await records.change(LOCAL_SERVER, "alice", lambda _: {"preference:colours": '"dark"'}, 5)
            admin = await subject.token("*")
            path = f"auth_servers/{LOCAL_SERVER}/user_record_synchronization"
            edits = {"edits": [{"op": "set", "path": path, "value": True}], "reason": ""}
            reply = await subject.post("/api/v1/config/apply", admin, edits)
            assert (reply.status, reply.code) == (422, "config-invalid")
            await synchronise(subject)
            [change] = (await records.changes(0, 9)).changes
            assert (change.logical, change.user) == ("Staff", "alice")
            assert change.version == Version(5, await records.origin(), '"dark"')
            assert (await subject.get(RECORD, admin)).json["logical_server"] == "Staff"
            # Renamed, it is still the record of the same user.
            await subject.post(
                "/api/v1/config/apply",
                admin,
                {
                    "edits": [{"op": "rename", "path": f"auth_servers/{LOCAL_SERVER}", "name": "People"}],
                    "reason": "",
                },
            )
            assert await records.get("People", "alice") == {"preference:colours": '"dark"'}

    run(work())


def test_how_far_the_exchange_is(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("*")
            assert (await subject.get(PEERS, admin)).json == {"peers": []}
            assert (
                "no other gateway"
                in (await subject.get("/admin/record-peers", await subject.console())).content.decode()
            )
            await synchronise(subject)
            peer = {"name": "west", "url": "https://west.example.org", "token": PEER_TOKEN}
            await subject.post(
                "/api/v1/config/apply",
                admin,
                {"edits": [{"op": "set", "path": "user_records", "value": {"peers": [peer]}}], "reason": ""},
            )
            shelf = subject.store.user_records
            now = int(subject.clock() * 1000)
            await shelf.change(LOCAL_SERVER, "alice", lambda _: {"preference:colours": '"dark"'}, now)
            names = frozenset({"Staff"})
            await shelf.keep_peer(
                PeerRecord("west", ORIGIN, names, 0, 0, 2, 1_234_567.0, "<b>No</b> answer.")
            )
            told = (await subject.get(PEERS, await subject.token("system:read"))).json["peers"]
            assert told == [
                {
                    "name": "west",
                    "url": "https://west.example.org",
                    "names": ["Staff"],
                    "succeeded": 1_234_567.0,
                    "waiting": 1,
                    "refused": 2,
                    "error": "<b>No</b> answer.",
                }
            ]
            page = (await subject.get("/admin/record-peers", await subject.console())).content.decode()
            assert "&lt;b&gt;No&lt;/b&gt; answer." in page
            servers = (
                await subject.get("/admin/settings/auth-servers", await subject.console())
            ).content.decode()
            assert "User Record Synchronization" in servers
            assert "Staff" in servers
            figures = (await subject.get("/metrics", admin)).content.decode()
            assert 'lockgate_record_peer_waiting{peer="west"} 1.0' in figures
            assert 'lockgate_record_peer_success_time_seconds{peer="west"} 1.234567e+06' in figures
            # Its token is written and never read, and bound to the address that it was entered for.
            assert (
                PEER_TOKEN
                not in (await subject.get("/api/v1/config?path=user_records", admin)).content.decode()
            )
            moved = {"op": "set", "path": "user_records/peers/west/url", "value": "https://evil.example.org"}
            reply = await subject.post("/api/v1/config/apply", admin, {"edits": [moved], "reason": ""})
            assert (reply.status, reply.code) == (422, "config-invalid")

    run(work())
