"""What is done by the clock: each on its own, and a failure or a long turn of one is nobody else's."""

import asyncio

from lockgate.server import chores
from lockgate.server.chores import Chores
from tests.unit.server.scripted_edge import eventually
from tests.unit.server.support import run


def test_one_that_takes_long_keeps_no_other_waiting(monkeypatch):
    monkeypatch.setattr(chores, "TICK", 0.001)

    async def work():
        it, done, forever = Chores(), [], asyncio.Event()

        async def fails():
            done.append("fails")
            raise RuntimeError("no luck")

        async def quick():
            done.append("quick")

        it.every(3600.0, "long", forever.wait)
        it.every(0.0, "fails", fails)
        it.every(0.0, "quick", quick)
        running = asyncio.create_task(it.run())
        await eventually(lambda: done.count("quick") > 2 and done.count("fails") > 2)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])

    run(work())
