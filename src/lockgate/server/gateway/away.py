"""Clients that are away, and when their sessions end for it (heartbeat time-out)."""

from __future__ import annotations

from lockgate.model.session import Session


class Away:
    """Which sessions have no connection, since when. Only those with a heartbeat time-out are kept."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[float, int]] = {}

    def left(self, session: Session, now: float) -> None:
        """Its connection is gone; what was known before stays."""
        if session.heartbeat_seconds:
            since, _ = self._since.get(session.id, (now, 0))
            self._since[session.id] = since, session.heartbeat_seconds

    def back(self, session: int) -> None:
        """It has a connection, or is over."""
        self._since.pop(session, None)

    def due(self, now: float) -> list[int]:
        """Sessions that have been away for too long."""
        return [session for session, (since, most) in self._since.items() if now >= since + most]
