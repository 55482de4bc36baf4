"""Policy tracing: why somebody may reach something, or may not. The same as `lockgate explain`."""

from __future__ import annotations

from starlette.responses import Response

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
    found, problem, status = None, None, 200
    if asked["user"]:
        query = dict(asked)
        if not query["port"].isdecimal():
            query["port"] = ""
        try:
            found = await rest(ask, "GET", "explain", query=query)
            for each in found["reasons"]:
                each["url"] = url_of(each["path"]) if each["path"] else ""
        except ProblemError as error:
            problem, status = error.problem, status_of(error.problem.code)
    return await ask.page(
        "tracing.html",
        "tracing",
        asked=asked,
        found=found,
        problem=problem,
        status=status,
        protocols=PROTOCOLS,
        revision=ask.services.config.number,
        servers=[each.name for each in ask.services.in_force.tree.auth_servers],
    )
