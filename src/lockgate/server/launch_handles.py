"""Launch handles: what the portal's Start puts into a link, so that the client needs no password.

A handle is 32 random bytes of which only the hash is stored. It is good once, for 60 seconds, at the server URL
it was made for, for a client that comes from where the browser came from, and as long as the portal session
lives. Everything else is one and the same no; why is for the audit.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from lockgate.model.place import same_network
from lockgate.model.prompt import Refused
from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url
from lockgate.protocol.launch_url import HANDLE
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.store.interface import HandleRecord, Handles, WebSessionRecord, WebSessions

LIFETIME = 60.0
"""Seconds: the time a browser, a person who agrees, and a connection need."""

SAME_NETWORK6 = 64
"""Bits of an IPv6 address that tell one place from another; the rest changes by itself (RFC 8981)."""

REFUSED = Refused(
    "launch-refused", "This link is not good, or not any more. Click Start in the portal again."
)


class LaunchHandles:
    """Makes and redeems handles. One per control plane; it holds no state of its own."""

    def __init__(
        self,
        handles: Handles,
        web_sessions: WebSessions,
        audit: Audit,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._handles, self._web_sessions = handles, web_sessions
        self._audit, self._clock = audit, clock

    async def make(self, session: WebSessionRecord, server: GatewayUrl) -> Secret:
        """A fresh handle of a live portal session, for a client that connects to `server`."""
        handle = Secret(secrets.token_bytes(HANDLE))
        await self._handles.add(_hash(handle), session.id, str(server), self._clock() + LIFETIME)
        return handle

    async def redeem(
        self, handle: Secret, *, host: str, path: str, source: str
    ) -> WebSessionRecord | Refused:
        """The portal session that a client's handle stands for; the handle is spent either way.

        host, path: as the client named them in its request. source: address it comes from.
        """
        now = self._clock()
        record = await self._handles.take(_hash(handle), now)
        if record is None:
            return await self._refuse("handle-unknown", source)  # never made, used, or forgotten
        session = await self._web_sessions.find(record.web_session)
        reason = _judge(record, session, host, path, source, now)
        if session is None or reason is not None:
            return await self._refuse(reason or "handle-unknown", source, session)
        return session

    async def _refuse(self, reason: str, source: str, session: WebSessionRecord | None = None) -> Refused:
        user = "" if session is None else session.user
        await self._audit.record("launch", ok=False, reason=reason, user=user, source=source, log="user")
        return REFUSED


def _judge(
    record: HandleRecord, session: WebSessionRecord | None, host: str, path: str, source: str, now: float
) -> str | None:
    """Why not, or None."""
    if now >= record.expires:
        return "handle-late"
    if session is None or session.audience != "portal" or session.ended is not None:
        return "portal-session-over"
    idle = session.idle_seconds
    if now >= session.expires or (idle and now >= session.last_seen + idle):
        return "portal-session-over"
    try:
        asked = str(parse_gateway_url(f"https://{host}{path}"))
    except ValueError:
        return "handle-other-server"
    if not secrets.compare_digest(asked.encode(), record.server_url.encode()):
        return "handle-other-server"
    if not same_network(session.source, source, 32, SAME_NETWORK6):
        return "handle-other-device"
    return None


def _hash(handle: Secret) -> bytes:
    """What the store looks up. Its time tells nothing: who times it does not choose the hash."""
    return hashlib.sha256(handle.reveal()).digest()
