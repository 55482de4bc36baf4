"""Other gateways that the records of users are exchanged with."""

from __future__ import annotations

from starlette.responses import Response

from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.rest import rest


async def show(ask: Ask) -> Response:
    """GET: how far that is, for each."""
    found = (await rest(ask, "GET", "user-records/peers"))["peers"]
    return await ask.page("record_peers.html", "record-peers", peers=found)
