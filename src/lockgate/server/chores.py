"""What a server does by the clock, beside its tunnels: picks up, writes down, clears away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from lockgate.model.problem import ProblemError

log = structlog.get_logger("chores")

TICK = 1.0  # seconds


@dataclass(slots=True)
class _Chore:
    name: str
    interval: float
    work: Callable[[], Awaitable[object]]
    next: float


class Chores:
    """Does each of its chores every so many seconds; a failure waits for the next turn.

    None waits for another: clearing old records away may take minutes, taking over a revision must not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._chores: list[_Chore] = []

    def every(self, interval: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """From now on, first within a tick."""
        self._chores.append(_Chore(name, interval, work, 0.0))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for chore in self._chores:
                group.create_task(self._keep_doing(chore), name=f"chore: {chore.name}")

    async def turn(self) -> None:
        """Does what is due, one after the other."""
        for chore in self._chores:
            await self._do(chore)

    async def _keep_doing(self, chore: _Chore) -> None:
        while True:
            await self._do(chore)
            await asyncio.sleep(TICK)

    async def _do(self, chore: _Chore) -> None:
        now = self._clock()
        if now < chore.next:
            return
        chore.next = now + chore.interval
        try:
            await chore.work()
        except ProblemError as error:
            log.error("not-done", chore=chore.name, **error.problem.as_dict())
        except Exception:
            log.exception("internal-error", chore=chore.name)
