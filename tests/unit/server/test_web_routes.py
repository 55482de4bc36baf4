"""Every route of both listeners, asked by everybody there is: the route table is the list, nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lockgate.server.web.app import Listed, route_table
from lockgate.server.web.principal import AREAS, RECORDS, Needs, rights_of_scopes
from tests.unit.server.support import run
from tests.unit.server.web_subject import NOBODY, Caller, Subject, web

# Routes that nobody has to sign in for. Whoever adds one says here why that is safe.
PUBLIC = {
    ("gateway", "/dana-na/auth/logout.cgi"),  # ends the session whose cookie it gets, and nothing else
    ("gateway", "/portal/files/{name}"),  # style sheet and script, from a table made at start
    ("gateway", "/portal/pages/{archive}/{name:path}"),  # files of custom sign-in pages
    ("gateway", "/portal/logs"),  # uploads of clients: asks for a session's cookie itself
    # Sign-in of Network Connect clients, who must send their own header; nothing but the conversation's answers.
    ("gateway", "/dana-na/auth/url_default/welcome.cgi"),
    ("gateway", "/dana-na/auth/url_default/login.cgi"),
    ("gateway", "/dana/home/index.cgi"),  # a fixed text
    ("gateway", "/{path:path}"),  # sign-in, at whatever URL a policy names
    ("admin", "/healthz"),
    ("admin", "/readyz"),
    ("admin", "/metrics"),  # asks for an address of the configuration, or the right to read the status
    ("admin", "/admin/static/{name}"),
    ("admin", "/admin/sign-in"),
    ("admin", "/admin/sign-out"),  # ends the session whose cookie it gets
    ("admin", "/"),  # leads to the sign-in page
    ("admin", "/{path:path}"),  # sign-in, at whatever URL a policy of administrators names
}

# What stands for the parameters of an address.
VALUES = {"revision": "1", "number": "1", "session": "7", "name": "events", "page": "gateway"}


def address(row: Listed) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: VALUES.get(match[1], "x"), row.path)


def asked(row: Listed) -> Iterator[str]:
    return (method for method in sorted(row.methods) if method not in ("HEAD", "OPTIONS"))


async def answer(
    subject: Subject, row: Listed, method: str, caller: Caller, listener: str | None = None
) -> int:
    """The status of a request with an empty body; 401 and 403 are the guard's, all else got past it."""
    reply = await subject.ask(
        method,
        address(row),
        caller,
        body=None if method in ("GET", "DELETE") else {},
        listener=listener or row.listener,
    )
    # A page of the console leads to the sign-in page instead of saying 401.
    location = reply.headers.get("location", "")
    return 401 if reply.status in (302, 303) and "sign-in" in location else reply.status


def test_public_routes_are_those_of_the_list(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            public = {
                (row.listener, row.path) for row in route_table(subject.app) if row.needs.kind == "public"
            }
            assert public <= PUBLIC, "a public route was added: say in PUBLIC why that is safe"

    run(work())


def test_every_route_refuses_who_has_not_the_right_and_lets_in_who_has(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            tokens = await _tokens(subject)
            rows = [row for row in route_table(subject.app) if row.listener == "admin"]
            assert len([row for row in rows if row.path.startswith("/api/")]) > 40
            for row in rows:
                if row.needs.kind == "public":
                    continue
                for method in asked(row):
                    assert await answer(subject, row, method, NOBODY) == 401, (method, row.path)
                    for scope, caller in tokens.items():
                        may = _may(row.needs, scope)
                        status = await answer(subject, row, method, caller)
                        what = (method, row.path, row.needs.text(), scope, status)
                        if may:
                            assert status not in (401, 500), what
                            if row.needs.kind == "area":
                                assert status != 403 or _looks_closer(row), what
                        else:
                            assert status == 403, what

    run(work())


async def _tokens(subject: Subject) -> dict[str, Caller]:
    scopes = [f"{area}:{right}" for area in AREAS for right in ("read", "write")]
    return {scope: await subject.token(scope) for scope in scopes}


def _may(needs: Needs, scope: str) -> bool:
    """As the table of rights says it, written down once more."""
    area, _, right = scope.partition(":")
    if scope == "administrators:write":
        return True  # full power
    if area == RECORDS and needs.kind == "any":
        return False  # opens nothing that is for people
    enough = right == "write" or needs.right == "read"
    return enough and (needs.kind == "any" or needs.area == area)


def _looks_closer(row: Listed) -> bool:
    """Routes that ask for more than one right, by what the request is about."""
    return row.path.endswith(("/what-if", "/export", "/import", "/push"))


def test_no_route_of_one_listener_answers_on_the_other(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin, user = await subject.token("*"), await subject.portal()
            rows = route_table(subject.app)
            for row in rows:
                other = "gateway" if row.listener == "admin" else "admin"
                if (row.listener, row.path) == ("admin", "/") or row.path.startswith("/{"):
                    continue
                for method in asked(row):
                    for caller in (NOBODY, admin, user):
                        reply = await subject.ask(
                            method, address(row), caller, body=None if method == "GET" else {}, listener=other
                        )
                        # The portal answers every unknown address with its own page.
                        assert reply.status in (400, 403, 404, 405, 413), (
                            method,
                            row.path,
                            other,
                            reply.status,
                        )
                        assert b"rights" not in reply.content
                        # What did not come through the edge gets nothing at all.
                        for listener in (None, "", "ADMIN", "admin, admin"):
                            reply = await subject.ask(method, address(row), caller, listener=listener)
                            assert reply.status == 404

    run(work())


def test_a_portal_user_is_no_administrator_and_the_other_way_round(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            user, admin = await subject.portal(), await subject.console()
            swapped = Caller(
                tuple(
                    (name, value.replace("__Host-lockgate=", "__Host-lockgate-console="))
                    for name, value in user.headers
                )
            )
            for row in route_table(subject.app):
                for method in asked(row):
                    if row.needs.kind in ("any", "area"):
                        for caller in (user, swapped):
                            assert await answer(subject, row, method, caller) == 401, (method, row.path)
                    if row.needs.kind == "portal":
                        status = await answer(subject, row, method, admin)
                        assert status in (303, 401, 403), (method, row.path, status)

    run(work())


@pytest.mark.parametrize(
    ("scopes", "right"),
    [
        (("*",), {"system": "write", "administrators": "write"}),
        (("*:read",), {"system": "read", "administrators": "read"}),
        (("logs:read", "logs:write"), {"logs": "write", "system": "none"}),
        (
            ("config:write",),
            {"roles": "write", "maintenance": "write", "users": "none", "administrators": "none"},
        ),
        (("logs", "LOGS:read", "logs:all", "", "*:none", "config"), {"logs": "none", "system": "none"}),
    ],
)
def test_scopes(scopes, right):
    found = rights_of_scopes(scopes)
    assert {area: found[area] for area in right} == right
    assert set(found) == set(AREAS)
