"""Tells clients of ours which networks belong in their tunnel, when that has changed.

One client hears of it at most every PAUSE seconds, and then of what is in force by then: name servers whose answers
are good for seconds, or administrators who commit often, move no client's routes faster than that.
"""

from __future__ import annotations

from collections.abc import Callable

from lockgate.server.gateway.tunnel import Tunnel

PAUSE = 5.0  # seconds; as often as names are asked (`names.LOWEST_TTL`)


class SplitNews:
    """What the tunnels of one gateway still have to hear."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds since 1970."""
        self._clock = clock
        self._waiting: dict[int, Tunnel] = {}  # by session

    def look(self, tunnel: Tunnel) -> None:
        """Its rights may be others: its client hears of that now, or when it may."""
        self.forget(tunnel.session.id)
        rights = tunnel.rights
        if rights is None or not tunnel.follows or not tunnel.conn or tunnel.closing:
            return
        # Who loses everything keeps its routes: what was to go through the tunnel must not leave outside.
        if not rights.effective.vpn or not rights.split.answered:
            return
        now = self._clock()
        if tunnel.split is not None:
            told, when = tunnel.split
            if (told.include, told.exclude) == (rights.split.include, rights.split.exclude):
                return
            if 0 <= now - when < PAUSE:  # a clock that was set back keeps nothing waiting
                self._waiting[tunnel.session.id] = tunnel
                return
        tunnel.tell_split_networks(rights.split, now)

    def tick(self) -> None:
        """Looks at those who wait; once a second."""
        for tunnel in tuple(self._waiting.values()):
            self.look(tunnel)

    def forget(self, session: int) -> None:
        self._waiting.pop(session, None)
