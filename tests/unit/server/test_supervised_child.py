"""A supervised process: kept alive, ended when told, and nothing of its keys in a log."""

import asyncio
import contextlib
import os
import signal
import sys

from lockgate.server.supervisor import child
from lockgate.server.supervisor.child import Child, Recipe
from tests.unit.server.scripted_edge import eventually
from tests.unit.server.support import run

WAITS = ("sleep", "600")
# Says that it is deaf before anybody may end it.
IGNORES = (
    sys.executable,
    "-S",
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "os.write(int(sys.argv[1]), b'x'); signal.pause()",
)


def gone(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


class Starts:
    """Process numbers, as the supervisor is told."""

    def __init__(self):
        self.pids = []

    def __call__(self, name, pid):
        assert name == "waiter"
        self.pids.append(pid)


@contextlib.asynccontextmanager
async def supervised(arguments, descriptors=()):
    starts = Starts()
    subject = Child(Recipe("waiter", arguments, descriptors), starts)
    task = asyncio.create_task(subject.run())
    try:
        yield subject, starts, task
    finally:
        await subject.stop()
        await task


def test_stop_ends_the_process_and_the_supervision():
    async def work():
        async with supervised(WAITS) as (subject, starts, task):
            await eventually(lambda: starts.pids)
            await subject.stop()
            await task
            assert len(starts.pids) == 1
            assert gone(starts.pids[0])

    run(work())


def test_stop_while_the_process_is_being_started_ends_it():
    async def work():
        async with supervised(WAITS) as (subject, starts, task):
            await asyncio.sleep(0)  # run() is inside the start now
            assert starts.pids == []
            await subject.stop()
            await task
            assert len(starts.pids) == 1
            assert gone(starts.pids[0])

    run(work())


def test_stop_before_the_start_starts_nothing():
    async def work():
        async with supervised(WAITS) as (subject, starts, task):
            await subject.stop()
            await task
            assert starts.pids == []

    run(work())


def test_stop_between_a_death_and_the_next_start_returns(monkeypatch):
    monkeypatch.setattr(child, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(child, "LONGEST_PAUSE", 3600.0)

    async def work():
        async with supervised(WAITS) as (subject, starts, task):
            await eventually(lambda: starts.pids)
            os.kill(starts.pids[0], signal.SIGKILL)
            await eventually(lambda: gone(starts.pids[0]))
            await subject.stop()
            await task
            assert len(starts.pids) == 1

    run(work())


def test_a_process_that_dies_is_started_again():
    async def work():
        async with supervised(WAITS) as (_, starts, task):
            for deaths in range(1, 3):
                await eventually(lambda deaths=deaths: len(starts.pids) == deaths)
                os.kill(starts.pids[-1], signal.SIGKILL)
            await eventually(lambda: len(starts.pids) == 3)
            assert not task.done()
            assert len(set(starts.pids)) == 3

    run(work())


def test_a_program_that_is_missing_for_a_while_is_started_when_it_is_there(tmp_path):
    program = tmp_path / "program"

    async def work():
        async with supervised((str(program),)) as (_, starts, task):
            await asyncio.sleep(0)
            assert not task.done()
            staged = tmp_path / "staged"
            staged.write_text("#!/bin/sh\nexec sleep 60\n")
            staged.chmod(0o700)
            staged.rename(program)
            await eventually(lambda: starts.pids)

    run(work())


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(child, "STOP_PATIENCE", 0.05)

    async def work():
        reading, writing = os.pipe()
        try:
            os.set_blocking(reading, False)
            async with supervised((*IGNORES, str(writing)), [writing]) as (subject, starts, task):
                await eventually(lambda: readable(reading))
                await subject.stop()
                await task
                assert len(starts.pids) == 1
                assert gone(starts.pids[0])
        finally:
            os.close(reading)
            os.close(writing)

    def readable(descriptor):
        with contextlib.suppress(BlockingIOError):
            return os.read(descriptor, 1)
        return b""

    run(work())


def test_a_recipe_does_not_show_its_standard_input():
    recipe = Recipe("edge", ["lockgate-edge"], [3], standard_input=b"PRIVATE KEY")
    assert "lockgate-edge" in repr(recipe)
    assert "PRIVATE" not in f"{recipe!r}{recipe}"
