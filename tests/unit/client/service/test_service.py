"""What callers learn of each other's connections: nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from lockgate.client import debug_log, machine
from lockgate.client.service.api import Caller
from lockgate.client.service.connection import Connection
from lockgate.client.service.network import _to_its_end
from lockgate.client.service.service import ClientService, Parts
from lockgate.client.settings import parse_settings
from lockgate.model.problem import Problem, ProblemError

ALICE, BOB = 1000, 1001
FAILED = machine.Disconnected(Problem("trouble", "Something went wrong.", "Try again."))


def caller(uid: int) -> Caller:
    return Caller(uid, cast(asyncio.StreamWriter, None))


class World:
    """A service with connections of Alice's, in these states."""

    def __init__(self, *states: machine.State) -> None:
        nothing = cast(Any, SimpleNamespace())
        parts = Parts(nothing, nothing, nothing, nothing, nothing, nothing)
        self.service = ClientService(parts, lambda: None)
        for number, state in enumerate(states):
            settings = parse_settings({"server": "https://secret.test/", "name": "work"})
            connection = Connection(f"c{number}", ALICE, settings, nothing, state=state)
            self.service._connections[connection.id] = connection

    def ask(self, uid: int, operation: str, **fields: Any) -> dict[str, Any]:
        async def call() -> dict[str, Any]:
            return await self.service.operations()[operation](caller(uid), fields)

        return asyncio.run(call())

    def refusal(self, uid: int, operation: str, **fields: Any) -> Problem:
        with pytest.raises(ProblemError) as refused:
            self.ask(uid, operation, **fields)
        return refused.value.problem


@pytest.mark.parametrize("fields", [{}, {"connection": "c0"}, {"connection": "work"}])
@pytest.mark.parametrize("operation", ["details", "disconnect", "suspend", "resume", "attach"])
def test_another_user_s_connection_is_not_there(operation: str, fields: dict[str, str]) -> None:
    world = World(machine.Connected(machine.Via.ESP))
    assert world.refusal(BOB, operation, **fields).code == "no-such-connection"


@pytest.mark.parametrize("operation", ["sleep", "wake", "stop", "log-level"])
def test_the_machine_is_root_s(operation: str) -> None:
    assert World().refusal(BOB, operation).code == "not-allowed"


def test_remarks_and_the_level_of_the_debug_log(tmp_path: Path) -> None:
    debug_log.configure(tmp_path, 3)
    try:
        world, log = World(), structlog.get_logger("test")
        assert world.ask(BOB, "annotate", text="here") == {}
        log.debug("not yet")
        assert world.ask(0, "log-level", level=5) == {}
        log.debug("now")
        for wrong in ({}, {"text": " "}, {"text": 5}):
            assert world.refusal(BOB, "annotate", **wrong).code == "bad-request"
        for wrong in ({}, {"level": 4}, {"level": "5"}, {"level": [5]}):
            assert world.refusal(0, "log-level", **wrong).code == "bad-request"
        written = [json.loads(line) for line in (tmp_path / debug_log.FILE_NAME).read_text().splitlines()]
        assert [line["event"] for line in written] == ["annotation", "log-level", "now"]
        assert (written[0]["text"], written[0]["uid"]) == ("here", BOB)
    finally:
        structlog.reset_defaults()


def test_who_has_the_tunnel_is_not_told_to_others() -> None:
    world = World(machine.Connected(machine.Via.ESP))
    told = world.refusal(BOB, "connect", server="https://gw.test/")
    assert told.code == "already-connected"
    assert not any(word in told.text() for word in ("secret", "c0", "work", "connected ("))
    for uid in (ALICE, 0):
        told = world.refusal(uid, "connect", server="https://gw.test/")
        assert "secret.test" in told.text()
        assert "c0" in told.text()


def test_a_failure_stays_until_its_owner_has_seen_it() -> None:
    world = World(FAILED)
    world.service._make_room(caller(BOB))
    assert "c0" in world.service._connections
    world.service._make_room(caller(ALICE))
    assert world.service._connections == {}


def test_a_change_of_the_machine_is_finished_before_its_caller_goes() -> None:
    """Else what is undone meanwhile would be done again by a thread that nobody waits for."""
    order: list[str] = []
    begun = asyncio.Event()

    async def change() -> None:
        order.append("begun")
        begun.set()
        await asyncio.sleep(0.01)
        order.append("finished")

    async def attempt(lock: asyncio.Lock) -> None:
        async with lock:
            await _to_its_end(change())

    async def give_up() -> None:
        lock = asyncio.Lock()
        task = asyncio.ensure_future(attempt(lock))
        await begun.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        async with lock:
            order.append("undone")
        assert task.cancelled()

    asyncio.run(give_up())
    assert order == ["begun", "finished", "undone"]
