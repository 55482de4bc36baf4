"""What the local API can do; each operation takes the request's fields and returns the answer's."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from lockgate import __version__
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.session import EndCause
from lockgate.model.text import printable
from lockgate.server.auth.names import canonical
from lockgate.server.local_api import Operation
from lockgate.server.parts import Parts
from lockgate.server.store.interface import LOCAL_SERVER
from lockgate.server.web.local import api_operation

PIDS = "pids.json"  # in run/, kept by the supervisor


def operations(parts: Parts, app: ASGIApp) -> dict[str, Operation]:
    """The table for LocalApi. app: the HTTP application of this process."""
    gateway, users = parts.gateway, parts.store.users

    async def status(_: Mapping[str, Any]) -> dict[str, Any]:
        await gateway.refresh()
        live = await gateway.live()
        return {
            "version": __version__,
            "revision": parts.in_force.revision,
            "uptime": int(time.time() - parts.started),
            "edge": "up" if gateway.edge_is_up else "down",
            "pids": json.loads((parts.directory.run / PIDS).read_text()),
            "sessions": len(live),
            "connected": sum(entry.transport.value != "none" for entry in live),
            "counters": gateway.counters,
        }

    async def list_sessions(_: Mapping[str, Any]) -> dict[str, Any]:
        await gateway.refresh()
        now = time.time()
        return {"sessions": [entry.as_dict(now) for entry in await gateway.live()]}

    async def disconnect(request: Mapping[str, Any]) -> dict[str, Any]:
        ids, everyone = set(request.get("sessions", [])), request.get("all")
        live = await parts.sessions.live()
        user = await _known_user(str(request["user"])) if request.get("user") else None
        chosen = [each for each in live if everyone or str(each.id) in ids or each.user == user]
        missing = ids - {str(each.id) for each in chosen}
        if missing:
            raise ProblemError(
                Problem(
                    "no-such-session",
                    f"There is no session {', '.join(sorted(missing))}.",
                    "`lockgate server sessions` lists them.",
                )
            )
        await gateway.end_many([each.id for each in chosen], EndCause.DISCONNECTED)
        return {"ended": [str(each.id) for each in chosen]}

    async def _known_user(typed: str) -> str:
        name = canonical(typed)
        servers = [server.name for server in parts.in_force.tree.auth_servers]
        if name is not None:
            for server in servers:
                if await users.find(server, name) is not None:
                    return name
        raise ProblemError(
            Problem(
                "no-such-user",
                f"There is no user {printable(typed, 64)}.",
                "`lockgate user list` shows all; `lockgate server sessions` who is signed in.",
            )
        )

    async def user_changed(request: Mapping[str, Any]) -> dict[str, Any]:
        server, user = str(request.get("server", LOCAL_SERVER)), str(request.get("user", ""))
        return {"ended": [str(session) for session in await parts.user_changed(server, user)]}

    return {
        "status": status,
        "sessions": list_sessions,
        "disconnect": disconnect,
        "user-changed": user_changed,
        "api": api_operation(app),
    }
