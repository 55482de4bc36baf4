"""Secrets go in and never come out: planted everywhere, then looked for in every answer there is."""

from __future__ import annotations

import base64
import re

from lockgate.server.config.edits import SetValue
from lockgate.server.store.interface import ADMIN_SERVER, UploadRecord
from lockgate.server.web.app import route_table
from tests.unit.server.support import HASH, facts, run
from tests.unit.server.web_subject import PUSH_TOKEN, web

PEER_TOKEN = "a-token-of-a-peer-71d0"
PASSPHRASE = "a passphrase of an export"
NEW_PASSWORD = "planted-password-93c1"


def forms(secret: bytes) -> list[bytes]:
    """How a secret could be written."""
    texts = [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
    return [text.rstrip(b"=") for text in texts]


async def _ids(subject, token) -> dict[str, str]:
    """Real things for the parameters of every address."""
    session = await subject.tunnel()
    draft = await subject.parts.config.create_draft("admin")
    edit = SetValue("push_targets/other/token", PUSH_TOKEN + "2")
    await subject.parts.config.edit(draft.id, draft.version, [edit])
    await subject.store.uploads.add(
        UploadRecord("0123456789abcdef", "alice", "System Local", "laptop", session.id, 1.0, 0, "log.zip"),
        b"log",
    )
    (browser,) = await subject.store.web_sessions.live("portal")
    (made, *_) = await subject.store.tokens.all()
    return {
        "draft": draft.id,
        "number": "2",
        "session": str(session.id),
        "server": ADMIN_SERVER.replace(" ", "%20"),
        "token": made.id,
        "name": "events",
        "upload": "0123456789abcdef",
        "component_set": "Default",
        "browser": browser.id,
        "code": subject.parts.decisions.refuse("sign-in", facts("alice"), (), 1, ()),
    }


def _address(path: str, ids: dict[str, str]) -> str:
    ids = dict(ids)
    if "/users/" in path:
        ids["name"] = "admin"
    if "/web-sessions/" in path:
        ids["session"] = ids["browser"]
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: ids.get(match[1], "gateway"), path)


QUERIES = {
    "/api/v1/config/compare": "?a=1&b=2",
    "/api/v1/explain": "?user=alice&target=10.1.2.3&port=443",
    "/api/v1/config": "?path=push_targets/other",
}


def test_no_secret_comes_out_of_any_get_route(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            console = await subject.console()
            await subject.portal()
            target = {"name": "other", "url": "https://other.example:8443/", "token": PUSH_TOKEN, "ca": ""}
            await subject.parts.config.apply("admin", "a target", [SetValue("push_targets/other", target)])
            sealed = subject.parts.config.data["push_targets"][0]["token"]
            assert sealed.startswith("sealed:")
            peer = target | {"token": PEER_TOKEN}
            await subject.parts.config.apply("admin", "a peer", [SetValue("user_records/peers/other", peer)])
            of_peer = subject.parts.config.data["user_records"]["peers"][0]["token"]
            assert of_peer.startswith("sealed:")
            reply = await subject.ask(
                "PUT",
                f"/api/v1/users/{ADMIN_SERVER}/second/password",
                token,
                body={"password": NEW_PASSWORD},
            )
            assert reply.status == 200
            ids = await _ids(subject, token)
            secrets = [
                PUSH_TOKEN.encode(),
                PEER_TOKEN.encode(),
                sealed.encode(),
                sealed.partition("v1:")[2].encode(),
                of_peer.encode(),
                of_peer.partition("v1:")[2].encode(),
                HASH.encode(),
            ]
            secrets += [b"$argon2id$", NEW_PASSWORD.encode()]
            for record in await subject.store.tokens.all():
                secrets += forms(record.hash)
            for session in await subject.store.web_sessions.live():
                secrets += forms(session.cookie_hash)
                # A page of the console holds the text that is made of this key, never the key.
                secrets += forms(session.csrf)
            for caller in (token, console):
                secrets += [
                    value.rpartition(" ")[2].rpartition("=")[2].encode()
                    for name, value in caller.headers
                    if name in ("cookie", "authorization")
                ]
            asked = 0
            for row in route_table(subject.app):
                if "GET" not in row.methods or row.listener != "admin":
                    continue
                path = _address(row.path, ids) + QUERIES.get(row.path, "")
                for caller in (token, console):
                    reply = await subject.get(path, caller)
                    if row.path.startswith("/api/") and "{sha256}" not in row.path:
                        assert reply.status == 200, (path, reply.content[:200])
                    asked += 1
                    everything = reply.content + repr(sorted(reply.headers.items())).encode()
                    for secret in secrets:
                        assert secret not in everything, (path, secret)
            assert asked > 60

    run(work())


def test_nor_out_of_what_is_not_a_get(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            target = {"name": "other", "url": "https://other.example:8443/", "token": PUSH_TOKEN, "ca": ""}
            edits = [{"op": "insert", "path": "push_targets/other", "value": target}]
            replies = [
                await subject.post("/api/v1/config/apply", token, {"edits": edits}),
                await subject.post("/api/v1/config/export", token, {}),
                await subject.post("/api/v1/config/export", token, {"passphrase": PASSPHRASE}),
                await subject.post("/api/v1/config/drafts", token, {}),
            ]
            draft = replies[-1].json
            kept = draft["data"]["push_targets"][0]["token"]
            assert kept == "(secret)"
            address = f"/api/v1/config/drafts/{draft['id']}"
            replies += [
                # Sending it back as it was shown keeps it, and so is no change.
                await subject.ask("PUT", address, token, body={"version": 1, "data": draft["data"]}),
                await subject.get(f"{address}/diff", token),
            ]
            assert replies[-1].json["changes"] == []
            for reply in replies:
                assert reply.status < 300, reply.content
                assert PUSH_TOKEN.encode() not in reply.content
                assert b"sealed:" not in reply.content
            sealed = subject.parts.config.data["push_targets"][0]["token"]
            assert subject.parts.services.vault.open(sealed) == PUSH_TOKEN

    run(work())


def test_a_refusal_does_not_repeat_what_was_sent(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            secret = "planted-in-a-bad-request"
            for method, path, body in (
                ("POST", "/api/v1/users", {"server": 7, "name": "x", "password": secret}),
                ("POST", "/api/v1/users", {"server": ADMIN_SERVER, "name": "x", "password": [secret]}),
                ("POST", "/api/v1/users", {"server": ADMIN_SERVER, "name": "x", "password": secret * 20}),
                ("POST", "/api/v1/users", {"server": ADMIN_SERVER, "name": "x", "passwort": secret}),
                ("PUT", "/api/v1/users/x/y/password", {"password": {"value": secret}}),
                ("POST", "/api/v1/config/import", {"document": {}, "passphrase": secret, "mode": "x"}),
                (
                    "POST",
                    "/api/v1/config/apply",
                    {"edits": [{"op": "set", "path": "push_targets/x/token", "value": [secret]}]},
                ),
            ):
                reply = await subject.ask(method, path, token, body=body)
                assert 400 <= reply.status < 500, (path, reply.status)
                assert secret.encode() not in reply.content, (path, reply.content)
            for record in await subject.store.audit.newest(1000):
                assert secret not in repr(record)

    run(work())


def test_a_token_is_shown_once(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            console = await subject.console()
            made = await subject.post("/api/v1/tokens", console, {"name": "mine", "scopes": ["logs:read"]})
            token = made.json["token"]
            assert re.fullmatch(r"lgt_[a-z2-7]{52}", token)
            for path in ("/api/v1/tokens", "/api/v1/logs/admin-access"):
                reply = await subject.get(path, console)
                assert token.encode() not in reply.content
                assert b"mine" in reply.content

    run(work())
