"""Follows what the gateway says about split-tunnel networks while the tunnel runs.

One change of the machine at a time, at most one every PAUSE seconds, and always the latest word: a gateway that says
more moves nothing more often. Each change is a whole plan like that of a connection (`client.plan`), with the same
refusals, so a gateway gets nothing by this that it could not have by telling the client to connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from lockgate.client.service.tunnel import Tunnel
from lockgate.model.problem import ProblemError
from lockgate.protocol.pulse.client_events import SplitNetworksMoved

if TYPE_CHECKING:
    from lockgate.client.service.connection import Services

log = structlog.get_logger("connection")

PAUSE = 2.0  # seconds; a gateway of ours tells at most every five (`gateway/split_news.py`)


class SplitFollower:
    """One per connection. What fails is logged, and what was in place stays."""

    def __init__(self, connection: str, services: Services) -> None:
        self._connection, self._services = connection, services
        self._latest: tuple[Tunnel, SplitNetworksMoved, Callable[[], None]] | None = None
        self._work: asyncio.Task[None] | None = None

    def hear(self, tunnel: Tunnel, moved: SplitNetworksMoved, done: Callable[[], None]) -> None:
        """What the gateway says. done: called once `tunnel.config` says the same and the machine does as it says."""
        self._latest = (tunnel, moved, done)
        if self._work is None or self._work.done():
            self._work = self._services.spawn(self._follow(), f"split networks of {self._connection}")

    async def _follow(self) -> None:
        while self._latest is not None:
            (tunnel, moved, done), self._latest = self._latest, None
            before = tunnel.config
            config = replace(before, include=moved.include, exclude=moved.exclude)
            if config == before:
                continue
            try:
                changed = await self._services.network.change(self._connection, before, config)
            except ProblemError as error:
                log.error("split-networks-refused", connection=self._connection, **error.problem.as_dict())
                changed = False
            if changed:
                tunnel.config = config
                log.info(
                    "split-networks-moved",
                    connection=self._connection,
                    include=len(config.include),
                    exclude=len(config.exclude),
                )
                done()
            await asyncio.sleep(PAUSE)
