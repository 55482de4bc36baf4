"""Clients that are away, and when their sessions end for it: after the heartbeat time-out, or because they never
came."""

from __future__ import annotations

from lockgate.model.session import EndCause, Session

START_PATIENCE = 600.0
"""Seconds from a sign-in over HTTP to its tunnel, for `openconnect --authenticate` and who reads its output."""


class Away:
    """Which sessions have no connection, since when. Only those with a heartbeat time-out are kept, and those that
    never had one."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[float, int]] = {}
        self._expected: dict[int, float] = {}  # until when

    def expected(self, session: int, now: float) -> None:
        """Its client has signed in, and has still to ask for its tunnel."""
        self._expected[session] = now + START_PATIENCE

    def left(self, session: Session, now: float) -> None:
        """Its connection is gone; what was known before stays."""
        if session.heartbeat_seconds:
            since, _ = self._since.get(session.id, (now, 0))
            self._since[session.id] = since, session.heartbeat_seconds

    def back(self, session: int) -> None:
        """It has a connection, or is over."""
        self._since.pop(session, None)
        self._expected.pop(session, None)

    def due(self, now: float) -> list[tuple[int, EndCause]]:
        """Sessions that have been away for too long."""
        away = [
            (session, EndCause.AWAY) for session, (since, most) in self._since.items() if now >= since + most
        ]
        never = [(session, EndCause.ABANDONED) for session, until in self._expected.items() if now >= until]
        return away + never
