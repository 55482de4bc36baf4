"""Extends a tunnel's session, for the portal and for REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockgate.model.prompt import Refused
from lockgate.model.session import Session

if TYPE_CHECKING:
    from lockgate.server.web.services import Services


async def extend_tunnel(
    services: Services, session: int, *, source: str, actor: str = ""
) -> Session | Refused:
    """Extends the session everywhere, and the browser's that started it: the tunnel ends with that one.

    source, actor: as `Sessions.extend` takes them.
    """
    result = await services.running().extend(session, source=source, actor=actor)
    if isinstance(result, Session) and result.parent is not None:
        await services.web_sessions.extend(result.parent, source=source, actor=actor)
    return result
