"""Tokens for programs."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.console.rest import rest, segment
from lockgate.server.web.principal import AREAS
from lockgate.server.web.problems import status_of

DAYS = (1, 7, 30, 90, 365)
URL = BASE + "tokens"


async def show(ask: Ask, made: Any = None, problem: Problem | None = None, status: int = 200) -> Response:
    """GET: tokens without their values. made: the answer that holds a new one, shown this once."""
    found = (await rest(ask, "GET", "tokens"))["tokens"]
    return await ask.page(
        "tokens.html",
        "tokens",
        tokens=sorted(found, key=lambda each: (each["revoked"] is not None, -each["created"])),
        areas=[(area, ask.principal.right(area)) for area in AREAS],
        days=DAYS,
        made=made,
        problem=problem,
        status=status,
        own=ask.principal.name,
        may_revoke=ask.principal.may("administrators", "write"),
    )


async def act(ask: Ask) -> Response:
    """POST: makes or revokes one."""
    sent = await ask.form()
    if sent.get("action", [""])[-1] == "revoke":
        await rest(ask, "DELETE", f"tokens/{segment(sent.get('token', [''])[-1])}")
        return ask.go(URL, "revoked")
    scopes = [
        f"{area}:{sent[f'area-{area}'][-1]}"
        for area in AREAS
        if sent.get(f"area-{area}", [""])[-1] in ("read", "write")
    ]
    days = sent.get("days", ["90"])[-1]
    body = {
        "name": sent.get("name", [""])[-1].strip(),
        "scopes": scopes,
        "seconds": 86400 * (int(days) if days in map(str, DAYS) else 90),
    }
    try:
        made = await rest(ask, "POST", "tokens", body=body)
    except ProblemError as error:
        return await show(ask, problem=error.problem, status=status_of(error.problem.code))
    return await show(ask, made=made)
