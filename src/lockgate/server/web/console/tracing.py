"""Policy tracing: why somebody may reach something, or may not, and what decided when somebody was refused. The same
as `lockgate explain`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from lockgate.model.decision import KINDS
from lockgate.model.problem import ProblemError
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.changes import url_of
from lockgate.server.web.console.rest import rest
from lockgate.server.web.problems import status_of

PROTOCOLS = ("tcp", "udp", "icmp")


async def show(ask: Ask) -> Response:
    """GET: the question, and its answer once there is a user."""
    keys = ("user", "server", "source", "device", "target", "port", "protocol")
    asked = {key: ask.query(key).strip()[:256] for key in keys}
    code = ask.query("code").strip()[:64]
    found, recorded, problem, status = None, None, None, 200
    if code:
        try:
            recorded = await rest(ask, "GET", f"decisions/{quote(code, safe='')}")
            _place(recorded["reasons"])
            again = recorded["again"]
            recorded["again_url"] = f"?{urlencode(again)}" if again else ""
            recorded["what"] = KINDS.get(recorded["kind"], recorded["kind"])
        except ProblemError as error:
            problem, status = error.problem, status_of(error.problem.code)
    elif asked["user"]:
        try:
            found = await rest(ask, "GET", "explain", query=asked)
            _place(found["reasons"])
        except ProblemError as error:
            problem, status = error.problem, status_of(error.problem.code)
    return await ask.page(
        "tracing.html",
        "tracing",
        asked=asked,
        found=found,
        code=code,
        recorded=recorded,
        problem=problem,
        status=status,
        protocols=PROTOCOLS,
        revision=ask.services.config.number,
        servers=[each.name for each in ask.services.in_force.tree.auth_servers],
    )


def _place(reasons: list[dict[str, Any]]) -> None:
    """Where in the console each of them was said."""
    for each in reasons:
        each["url"] = url_of(each["path"]) if each["path"] else ""
