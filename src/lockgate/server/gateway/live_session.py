"""A session as administrators see it: what the store has, and what the edge reported last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lockgate.model.session import Session
from lockgate.protocol import edge_link
from lockgate.server.gateway.tunnel import Tunnel

NO_TRAFFIC = edge_link.Traffic(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session with what the edge knows about it."""

    session: Session
    transport: edge_link.Transport
    peer: str
    traffic: edge_link.Traffic
    last_used: float  # seconds since 1970

    def as_dict(self, now: float) -> dict[str, Any]:
        """JSON values, for REST and commands. Times are seconds since 1970, durations seconds."""
        session = self.session
        return {
            "id": str(session.id),
            "user": session.user,
            "server": session.server,
            "addresses": list(session.addresses),
            "transport": self.transport.value,
            "suite": None if session.suite is None else session.suite.value,
            "bound": session.bound,
            "since": session.started,
            "source": session.client.source,
            "peer": self.peer,
            "realm": session.realm,
            "roles": list(session.roles),
            "revision": session.revision,
            "client": session.client.user_agent,
            "host_name": session.client.host_name,
            "remaining": session.remaining(now),
            "idle": max(0, int(now - self.last_used)),
            "bytes_in": self.traffic.bytes_in,
            "bytes_out": self.traffic.bytes_out,
            "dropped": self.traffic.dropped,
        }


def live_session(session: Session, tunnel: Tunnel | None) -> LiveSession:
    """tunnel: None where the edge does not have the session."""
    if tunnel is None:
        return LiveSession(session, edge_link.Transport.NONE, "", NO_TRAFFIC, session.last_seen)
    # Without its connection the client is away, whatever its last ESP packet was.
    transport = tunnel.transport if tunnel.conn else edge_link.Transport.NONE
    return LiveSession(session, transport, tunnel.peer, tunnel.traffic, tunnel.quiet_since)
