"""One supervised process: started, watched, started again with a growing pause."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger("supervisor")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before a start; doubles with every quick death
STEADY = 30.0  # seconds alive after which a death counts as the first one again
STOP_PATIENCE = 5.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start a process."""

    name: str
    arguments: Sequence[str]
    descriptors: Sequence[int]
    standard_input: bytes = field(default=b"", repr=False)  # may hold keys


class Child:
    """Keeps the process of a recipe alive until `stop`."""

    def __init__(self, recipe: Recipe, on_start: Callable[[str, int], None]) -> None:
        self._recipe = recipe
        self._on_start = on_start
        self._process: asyncio.subprocess.Process | None = None
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Returns after `stop`, when the process is gone."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                process = await self._start()
            except OSError as error:  # no process to be had, or the program is being replaced
                log.error("process-not-started", process=self._recipe.name, reason=error.strerror)
                status = "not started"
            else:
                if self._stop.is_set():  # stop() came while there was no process to end
                    await self._end(process)
                status = _describe(await process.wait())
            if self._stop.is_set():
                return
            lived = time.monotonic() - started
            pause = FIRST_PAUSE if lived > STEADY else min(pause * 2, LONGEST_PAUSE)
            log.error("process-died", process=self._recipe.name, status=status, restart_in=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _start(self) -> asyncio.subprocess.Process:
        recipe = self._recipe
        self._process = process = await asyncio.create_subprocess_exec(
            *recipe.arguments,
            stdin=asyncio.subprocess.PIPE,
            pass_fds=list(recipe.descriptors),
            start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone
        )
        self._on_start(recipe.name, process.pid)
        log.info("process-started", process=recipe.name, pid=process.pid)
        assert process.stdin is not None
        try:
            process.stdin.write(recipe.standard_input)
            await process.stdin.drain()
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died at once; run() sees and logs that
        return process

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for a process that does not listen."""
        self._stop.set()
        if self._process is not None:
            await self._end(self._process)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
