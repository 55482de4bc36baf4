"""Users of local auth servers, administrators among them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.web.console.ask import Ask, with_query
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.console.rest import rest, segment
from lockgate.server.web.forms import labels
from lockgate.server.web.problems import status_of

PAGE_SIZE = 100
URL = BASE + "users"

AGAIN = Problem("passwords-differ", "The two passwords are not the same.", "Type the same password twice.")


def _servers(ask: Ask) -> list[str]:
    return [each.name for each in ask.services.in_force.tree.auth_servers if each.kind == "local"]


def _path(server: str, name: str) -> str:
    return f"users/{segment(server)}/{segment(name)}"


def _url(server: str, name: str) -> str:
    return f"{URL}/one?{urlencode({'server': server, 'name': name})}"


async def show(ask: Ask) -> Response:
    """GET: users, by the page."""
    server, text = ask.query("server"), ask.query("q")[:200]
    found = await rest(
        ask,
        "GET",
        "users",
        query={"server": server, "text": text, "limit": PAGE_SIZE, "after": ask.query("after") or None},
    )
    return await ask.page(
        "users.html",
        "users",
        users=[{**each, "url": _url(each["server"], each["name"])} for each in found["users"]],
        total=found["total"],
        server=server,
        text=text,
        servers=_servers(ask),
        following=with_query(ask.request, after=found["following"]) if found["following"] else "",
        first=with_query(ask.request, after="") if ask.query("after") else "",
        may_write=ask.principal.may("users", "write"),
    )


async def show_new(
    ask: Ask, typed: Any = None, problem: Problem | None = None, status: int = 200
) -> Response:
    """GET: the form of a user who is not there yet."""
    servers = _servers(ask)
    return await ask.page(
        "user.html",
        "users",
        title="New user",
        trail=[("New user", "")],
        user=None,
        typed={
            **dict.fromkeys(("name", "full_name", "email", "groups", "attributes"), ""),
            "server": ask.query("server") or (servers[0] if servers else ""),
            **(typed or {}),
        },
        servers=servers,
        problem=problem,
        status=status,
        may_write=ask.principal.may("users", "write"),
    )


async def add(ask: Ask) -> Response:
    """POST: adds a user."""
    sent = await ask.form()
    typed = {key: values[-1] for key, values in sent.items() if key not in ("password", "again")}
    password = sent.get("password", [""])[-1]
    if password != sent.get("again", [""])[-1]:
        return await show_new(ask, typed, AGAIN, 422)
    body = {
        "name": typed.get("name", "").strip(),
        "server": typed.get("server", ""),
        "password": password,
        "must_change": typed.get("must_change") == "1",
        **_about(typed),
    }
    try:
        made = await rest(ask, "POST", "users", body=body)
    except ProblemError as error:
        return await show_new(ask, typed, error.problem, status_of(error.problem.code))
    return ask.go(_url(made["server"], made["name"]), "user-added")


def _about(typed: dict[str, str]) -> dict[str, Any]:
    """Full name, address, groups and attributes as they were typed."""
    attributes: dict[str, list[str]] = {}
    for line in typed.get("attributes", "").splitlines():
        key, separator, value = line.partition("=")
        if separator and key.strip():
            attributes.setdefault(key.strip(), []).append(value.strip())
    return {
        "full_name": typed.get("full_name", "").strip(),
        "email": typed.get("email", "").strip(),
        "groups": [line.strip() for line in typed.get("groups", "").splitlines() if line.strip()],
        "attributes": attributes,
    }


async def show_one(ask: Ask, problem: Problem | None = None, status: int = 200) -> Response:
    """GET: one user."""
    path = _path(ask.query("server"), ask.query("name"))
    user, record = await rest(ask, "GET", path), await rest(ask, "GET", path + "/record")
    lines = [f"{key} = {value}" for key, values in user["attributes"].items() for value in values]
    return await ask.page(
        "user.html",
        "users",
        title=user["name"],
        trail=[(user["name"], "")],
        user=user,
        record=record,
        labels={
            name: (labels.option(name), labels.option(value)) for name, value in record["preferences"].items()
        },
        typed={**user, "groups": "\n".join(user["groups"]), "attributes": "\n".join(lines)},
        servers=_servers(ask),
        own=(user["server"], user["name"]) == (ask.principal.server, ask.principal.name),
        problem=problem,
        status=status,
        may_write=ask.principal.may("users", "write"),
    )


async def act(ask: Ask) -> Response:
    """POST: saves, sets a password, disables, deletes."""
    sent = await ask.form()
    typed = {key: values[-1] for key, values in sent.items()}
    server, name = ask.query("server"), ask.query("name")
    path, url = _path(server, name), _url(server, name)
    try:
        match typed.get("action"):
            case "delete":
                await rest(ask, "DELETE", path)
                return ask.go(URL, "user-deleted")
            case "enable" | "disable":
                await rest(ask, "PATCH", path, body={"enabled": typed["action"] == "enable"})
                return ask.go(url, "user-saved")
            case "delete-record":
                await rest(ask, "DELETE", path + "/record")
                return ask.go(url, "record-deleted")
            case "password":
                if typed.get("password") != typed.get("again"):
                    return await show_one(ask, AGAIN, 422)
                body = {"password": typed.get("password", ""), "must_change": typed.get("must_change") == "1"}
                await rest(ask, "PUT", path + "/password", body=body)
                return ask.go(url, "password-set")
            case _:
                await rest(ask, "PATCH", path, body=_about(typed))
                return ask.go(url, "user-saved")
    except ProblemError as error:
        if error.problem.code == "no-such-user":
            raise
        return await show_one(ask, error.problem, status_of(error.problem.code))
