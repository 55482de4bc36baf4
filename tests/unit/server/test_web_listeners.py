"""The door: addresses with more than one reading, headers of ours from elsewhere, bodies too large or too deep."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import Request

from lockgate.server.web.body import JSON_LIMIT
from lockgate.server.web.listeners import is_plain
from lockgate.server.web.peer import NOBODY as NO_PEER
from lockgate.server.web.peer import Peer
from tests.unit.server.support import run
from tests.unit.server.web_subject import NOBODY, web

PLAIN = [
    b"/",
    b"/admin/",
    b"/api/v1/config",
    b"/api/v1/users/System%20Local/alice",
    b"/api/v1/users/x/%C3%A4%C3%B6",
    b"/a-b._~c/@:!$&'()*+,=",
]
ODD = [
    b"",
    b"api/v1/me",
    b"//api/v1/me",
    b"/api//v1/me",
    b"/api/v1/me//",
    b"/api/v1/./me",
    b"/api/v1/../v1/me",
    b"/..",
    b"/api/v1/%2e%2e/me",
    b"/api/v1/%2E/me",
    b"/api/v1/.%2e/me",
    b"/api/v1/%252e%252e/../me",
    b"/api%2fv1/me",
    b"/api%2Fv1/me",
    b"/api%5cv1/me",
    b"/api\\v1\\me",
    b"/api/v1/me%00",
    b"/api/v1/me\x00",
    b"/api/v1/me%0d%0aX-A:%20b",
    b"/api/v1/me%7f",
    b"/api/v1/m%65",  # a letter that needs no encoding
    b"/api/v1/me%",
    b"/api/v1/me%2",
    b"/api/v1/me%zz",
    b"/api/v1/me;jsessionid=1",
    b"/api/v1/me%3Bx",
    b"/api/v1/%ff",  # no UTF-8
    b"/api/v1/\xc3\xa4",  # not encoded at all
    b"/api/v1/%c0%ae%c0%ae/me",  # dots, too long encoded
    b"/" + b"a" * 3000,
]


@pytest.mark.parametrize("path", PLAIN)
def test_plain_addresses_are_let_through(path):
    assert is_plain(path, b"")


@pytest.mark.parametrize("path", ODD)
def test_addresses_with_two_readings_are_refused(path, tmp_path):
    assert not is_plain(path, b"")


@pytest.mark.parametrize("query", [b"a=%00", b"a=%ff", b"a=\x01", b"a=" + b"x" * 9000])
def test_odd_queries_are_refused(query):
    assert not is_plain(b"/", query)
    assert is_plain(b"/", b"path=roles%2FStaff&text=a+b%0Ac")


@given(st.binary(max_size=40))
def test_a_plain_address_reads_the_same_once_decoded(rest):
    """Whoever decodes it, once or segment by segment, and whoever removes dot segments, sees the same."""
    from posixpath import normpath
    from urllib.parse import quote, unquote

    raw = b"/" + rest
    if is_plain(raw, b""):
        decoded = unquote(raw.decode("ascii"))
        assert [unquote(each) for each in raw.decode("ascii").split("/")] == decoded.split("/")
        assert normpath(decoded).rstrip("/") == decoded.rstrip("/")
        assert unquote(quote(decoded)) == decoded


def test_odd_addresses_reach_no_route(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            for raw in ODD:
                # What a server makes of it for the route is what must not count.
                reply = await subject.ask("GET", "/api/v1/me", token, raw_path=raw)
                assert (reply.status, reply.code) == (400, "bad-address"), raw
            for path in ("/API/v1/me", "/api/V1/me", "/api/v1/Me", "/api/v1/me/", "/Metrics", "/healthz/"):
                assert (await subject.get(path, token)).status == 404, path

    run(work())


def peer(*headers: tuple[str, str]) -> Peer:
    raw = Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in headers]).raw
    return Peer.of(Request({"type": "http", "headers": raw}))


EDGE = (("x-lockgate-listener", "admin"), ("x-lockgate-peer", "192.0.2.7:1234"))


def test_the_facts_of_the_edge():
    der = [b"\x30\x01\x02", b"\x30\x03"]
    found = peer(
        *EDGE,
        ("x-lockgate-local", "192.0.2.1:8443"),
        ("x-lockgate-server-name", "gw.example.org"),
        ("x-lockgate-tls", "TLSv1.3/A/B"),
        ("x-lockgate-client-certificate", ",".join(base64.b64encode(each).decode() for each in der)),
    )
    assert found == Peer("admin", "192.0.2.7", "192.0.2.1:8443", "gw.example.org", "TLSv1.3/A/B", tuple(der))
    for text, address in (
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[::ffff:192.0.2.7]:443", "192.0.2.7"),
        ("[2001:DB8:0:0::1]:443", "2001:db8::1"),
    ):
        assert peer(EDGE[0], ("x-lockgate-peer", text)).address == address


@pytest.mark.parametrize(
    "headers",
    [
        (),
        EDGE[:1],
        EDGE[1:],
        (*EDGE, EDGE[0]),
        (*EDGE, ("x-lockgate-listener", "gateway")),
        (*EDGE, ("x-lockgate-peer", "127.0.0.1:1")),
        (EDGE[0], ("x-lockgate-peer", "localhost:1")),
        (EDGE[0], ("x-lockgate-peer", "127.0.0.1, 192.0.2.1:1")),
        (("x-lockgate-listener", "Admin"), EDGE[1]),
        (("x-lockgate-listener", "admin "), EDGE[1]),
        (("x-lockgate-listener", "admin,gateway"), EDGE[1]),
        (("x_lockgate_listener", "admin"), EDGE[1]),
        (("x-lockgate-listener", ""), EDGE[1]),
    ],
)
def test_facts_that_the_edge_did_not_write_are_none(headers):
    assert peer(*headers) == NO_PEER


def test_no_header_makes_somebody_local(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            for name in ("lockgate.principal", "lockgate-principal", "x-lockgate-principal", "lockgate.peer"):
                caller = NOBODY.plus(
                    (name, "local"), ("x-forwarded-user", "admin"), ("x-remote-user", "admin")
                )
                assert (await subject.get("/api/v1/me", caller)).status == 401

    run(work())


def test_bodies_are_bounded_whatever_they_declare(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            large = b'{"reason": "' + b"x" * JSON_LIMIT + b'"}'
            path = "/api/v1/config/revisions/1/rollback"
            for declared in (True, False):
                reply = await subject.post(path, token, large, declared=declared)
                assert (reply.status, reply.code) == (413, "body-too-large")
            lie = token.plus(("content-length", "10"))
            assert (await subject.post(path, lie, large)).status == 413
            # Nobody gets a body read before it is known who asks.
            assert (await subject.post(path, NOBODY, large, declared=False)).status == 401
            # Nor where there is nothing to read.
            assert (
                await subject.ask("GET", "/api/v1/me", token, body=b"x" * 10, declared=True)
            ).status == 413
            assert (await subject.ask("DELETE", "/api/v1/config/drafts/x", token, body={})).status == 413

    run(work())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"a":' * 50_000, 400),
        (b'{"edits": ' + b"[" * 200 + b"]" * 200 + b"}", 400),
        (b'{"reason": NaN}', 400),
        (b'{"reason": 1e999999}', 422),
        (b'{"base": ' + b"9" * 5000 + b"}", 400),
        (b'{"reason": "\xff"}', 400),
        (b'{"reason": "\\ud800", "edits": []}', 422),
        (b"", 422),
        (b"null", 422),
        (b"[" + b"0," * 3_000_000 + b"0]", 413),
    ],
)
def test_bodies_that_are_deep_odd_or_no_json(tmp_path, body, status):
    async def work():
        async with web(tmp_path) as subject:
            reply = await subject.post("/api/v1/config/apply", await subject.token("*"), body)
            assert reply.status == status, reply.content[:300]
            assert set(reply.json) >= {
                "type",
                "title",
                "status",
                "code",
                "summary",
                "fix",
                "details",
                "request_id",
            }
            assert reply.headers["content-type"] == "application/problem+json"

    run(work())


def test_every_answer_has_the_headers_of_an_answer(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")
            seen = set()
            for method, path, listener in (
                ("GET", "/api/v1/me", "admin"),
                ("GET", "/api/v1/nothing", "admin"),
                ("PATCH", "/api/v1/me", "admin"),
                ("GET", "/", "admin"),
                ("GET", "/", "gateway"),
                ("GET", "/healthz", "admin"),
                ("GET", "//", "admin"),
                ("GET", "/x", None),
            ):
                reply = await subject.ask(method, path, token, listener=listener)
                headers = reply.headers
                assert "default-src 'none'" in headers["content-security-policy"], path
                assert "unsafe" not in headers["content-security-policy"]
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["referrer-policy"] in ("no-referrer", "same-origin")
                assert headers["cache-control"] == "no-store"
                assert headers["strict-transport-security"]
                assert "server" not in headers
                assert not any(name.startswith("access-control-") for name in headers)
                seen.add(headers["x-request-id"])
            assert len(seen) == 8

    run(work())


def test_a_mistake_of_ours_tells_nothing_but_its_number(tmp_path, caplog):
    async def work():
        async with web(tmp_path) as subject:
            token = await subject.token("*")

            async def broken(*_, **__):
                raise RuntimeError("the canary of an exception")

            subject.parts.config.drafts = broken
            reply = await subject.get("/api/v1/config/drafts", token)
            assert (reply.status, reply.code) == (500, "internal-error")
            assert reply.json["request_id"] == reply.headers["x-request-id"]
            assert b"canary" not in reply.content

    run(work())
