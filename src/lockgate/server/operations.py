"""What the local API can do; each operation takes the request's fields and returns the answer's."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from lockgate import __version__
from lockgate.server.local_api import Operation
from lockgate.server.parts import Parts
from lockgate.server.store.interface import LOCAL_SERVER
from lockgate.server.web.local import api_operation

PIDS = "pids.json"  # in run/, kept by the supervisor


def operations(parts: Parts, app: ASGIApp) -> dict[str, Operation]:
    """The table for LocalApi. app: the HTTP application of this process."""
    gateway = parts.gateway

    async def status(_: Mapping[str, Any]) -> dict[str, Any]:
        await gateway.refresh()
        transports = gateway.transports()
        return {
            "version": __version__,
            "revision": parts.in_force.revision,
            "uptime": int(time.time() - parts.started),
            "edge": "up" if gateway.edge_is_up else "down",
            "pids": json.loads((parts.directory.run / PIDS).read_text()),
            "sessions": await parts.store.sessions.live_count(),
            "connected": sum(count for name, count in transports.items() if name != "none"),
            "counters": gateway.counters,
        }

    async def user_changed(request: Mapping[str, Any]) -> dict[str, Any]:
        server, user = str(request.get("server", LOCAL_SERVER)), str(request.get("user", ""))
        return {"ended": [str(session) for session in await parts.user_changed(server, user)]}

    return {
        "status": status,
        "user-changed": user_changed,
        "api": api_operation(app),
    }
