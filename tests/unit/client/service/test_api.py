"""The local API over a real socket, with the kernel's word about the caller replaced where that matters."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lockgate.client.service import api
from lockgate.client.service.api import Caller, CallerFront, LocalApi
from lockgate.client.service.front import Cancelled, FrontGone
from lockgate.model.problem import Problem, ProblemError

PATIENCE = 10.0


class Client:
    """The other end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    def send(self, line: object) -> None:
        data = line if isinstance(line, bytes) else json.dumps(line).encode()
        self.writer.write(data + b"\n")

    async def next(self) -> dict[str, Any] | None:
        line = await self._reader.readline()
        return json.loads(line) if line else None

    async def ask(self, line: object) -> dict[str, Any] | None:
        self.send(line)
        return await self.next()


class Service:
    """Some operations, the API that serves them, and who left."""

    def __init__(self, path: Path) -> None:
        self.left: list[Caller] = []
        self.outcomes: list[str] = []
        self.asking: asyncio.Task[None] | None = None
        self.waiting = 0
        self.go_on = asyncio.Event()
        operations = {
            "echo": self._echo,
            "refuse": self._refuse,
            "break": self._break,
            "prompt": self._prompt,
        }
        self.path = path / api.SOCKET_NAME
        self.api = LocalApi(
            self.path, {**operations, "answer": self._answer, "wait": self._wait, "flood": self._flood}
        )
        self.api.on_leave(self.left.append)

    async def _echo(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"said": request.get("text"), "uid": caller.uid}

    async def _refuse(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        raise ProblemError(Problem("no", "No.", "Do not ask."))

    async def _break(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        raise RuntimeError("secret of the inside")

    async def _prompt(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asking = asyncio.create_task(self._ask(CallerFront(caller, "c1")))
        return {}

    async def _ask(self, front: CallerFront) -> None:
        """Outlives its request, as a connection does."""
        try:
            self.outcomes.append(json.dumps(await front.ask("token", {"text": "Code?"})))
        except (FrontGone, Cancelled) as error:
            self.outcomes.append(type(error).__name__)

    async def _answer(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        caller.answer(request)
        return {}

    async def _wait(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        self.waiting += 1
        await self.go_on.wait()
        return {}

    async def _flood(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        for _ in range(64):
            caller.say({"event": "state", "note": "x" * (1 << 17)})
        return {}

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=1 << 20)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


def with_service(path: Path, work: Callable[[Service], Awaitable[None]]) -> None:
    async def run() -> None:
        service = Service(path)
        serving = asyncio.ensure_future(service.api.run())
        async with asyncio.timeout(PATIENCE):
            await until(lambda: service.path.exists() and bool(service.path.stat().st_mode & 0o006))
            try:
                await work(service)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110 - what is waited for is not ours
            await asyncio.sleep(0.001)


async def prompted(client: Client) -> dict[str, Any]:
    assert await client.ask({"id": 1, "op": "prompt"}) == {"id": 1, "result": {}}
    prompt = await client.next()
    assert prompt is not None
    return prompt


def code(answer: dict[str, Any] | None) -> object:
    return None if answer is None else answer.get("error", {}).get("code")


def test_answers_carry_the_number_of_their_request(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            answer = await client.ask({"id": 7, "op": "echo", "text": "ü"})
            assert answer == {"id": 7, "result": {"said": "ü", "uid": os.getuid()}}
            assert code(await client.ask({"id": 8, "op": "refuse"})) == "no"

    with_service(tmp_path, work)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"echo"',
        b"{}",
        b'{"op": []}',
        b'{"op": "nothing"}',
        b"\xff",
        b"[" * 99999,
    ],
)
def test_nonsense_is_answered_and_the_socket_lives_on(tmp_path: Path, line: bytes) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            assert code(await client.ask(line)) == "bad-request"
            assert (await client.ask({"id": 1, "op": "echo"}) or {})["id"] == 1

    with_service(tmp_path, work)


def test_a_mistake_of_ours_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            answer = await client.ask({"id": 1, "op": "break"})
            assert code(answer) == "internal-error"
            assert "secret" not in json.dumps(answer)

    with_service(tmp_path, work)


def test_a_line_that_is_too_long_ends_the_caller_alone(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as long, service.caller() as other:
            long.send(b"x" * (api.LINE_LIMIT + 1))
            assert await long.next() is None
            assert code(await other.ask({"id": 1, "op": "refuse"})) == "no"

    with_service(tmp_path, work)


def test_only_so_many_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_CALLERS_OF_ONE", 2)

    async def work(service: Service) -> None:
        async with service.caller() as one, service.caller() as two:
            for client in (one, two):
                assert await client.ask({"id": 1, "op": "echo"})
            async with service.caller() as third:
                assert code(await third.next()) == "too-many-callers"
                assert await third.next() is None
        await until(lambda: len(service.left) == 2)
        async with service.caller() as again:
            assert await again.ask({"id": 1, "op": "echo"})

    with_service(tmp_path, work)


def test_only_so_many_requests_at_once(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            for number in range(api.MAX_REQUESTS + 5):
                client.send({"id": number, "op": "wait"})
            await until(lambda: service.waiting == api.MAX_REQUESTS)
            async with service.caller() as other:  # meanwhile others are served
                assert await other.ask({"id": 1, "op": "echo"})
            assert service.waiting == api.MAX_REQUESTS
            service.go_on.set()
            answers = [await client.next() for _ in range(api.MAX_REQUESTS + 5)]
            assert {answer["id"] for answer in answers if answer} == set(range(api.MAX_REQUESTS + 5))

    with_service(tmp_path, work)


def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            client.send({"id": 1, "op": "flood"})
            await until(lambda: bool(service.left))

    with_service(tmp_path, work)


def test_who_may_not_steer_is_told_so_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "is_allowed", lambda uid: False)

    async def work(service: Service) -> None:
        async with service.caller() as client:
            assert code(await client.next()) == "not-allowed"
            assert await client.next() is None
        assert not service.api.callers

    with_service(tmp_path, work)


@pytest.mark.parametrize(
    ("user", "group", "members", "allowed"),
    [
        (pwd.struct_passwd(("alice", "x", 4711, 100, "", "", "")), 900, ["alice"], True),
        (pwd.struct_passwd(("alice", "x", 4711, 900, "", "", "")), 900, [], True),  # her first group
        (pwd.struct_passwd(("alice", "x", 4711, 100, "", "", "")), 900, ["bob"], False),
        (pwd.struct_passwd(("alice", "x", 4711, 100, "", "", "")), None, [], False),  # no such group
        (None, 900, ["alice"], False),  # a number without an account
    ],
)
def test_members_of_the_group_may_steer(
    monkeypatch: pytest.MonkeyPatch,
    user: pwd.struct_passwd | None,
    group: int | None,
    members: list[str],
    allowed: bool,
) -> None:
    def account(uid: int) -> pwd.struct_passwd:
        if user is None:
            raise KeyError(uid)
        return user

    def group_of(name: str) -> grp.struct_group:
        if group is None:
            raise KeyError(name)
        return grp.struct_group((name, "x", group, members))

    monkeypatch.setattr(pwd, "getpwuid", account)
    monkeypatch.setattr(grp, "getgrnam", group_of)
    assert api.is_allowed(4711) is allowed
    assert api.is_allowed(0)
    assert api.is_allowed(os.getuid())


def test_callers_see_their_own_and_root_sees_all() -> None:
    async def work() -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        writer = asyncio.StreamWriter(asyncio.Transport(), protocol, reader, asyncio.get_running_loop())
        alice, root = Caller(1000, writer), Caller(0, writer)
        assert [alice.may_see(uid) for uid in (1000, 1001, 0)] == [True, False, False]
        assert all(root.may_see(uid) for uid in (1000, 1001, 0))

    asyncio.run(work())


def test_a_prompt_waits_for_its_answer(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            prompt = await prompted(client)
            number = prompt.pop("prompt")
            assert prompt == {"event": "prompt", "connection": "c1", "kind": "token", "text": "Code?"}
            answer = {"op": "answer", "prompt": number, "fields": {"code": "1"}}
            assert code(await client.ask({**answer, "id": 2, "prompt": number + 1})) == "no-such-prompt"
            assert await client.ask({**answer, "id": 3}) == {"id": 3, "result": {}}
            await until(lambda: service.outcomes == ['{"code": "1"}'])
            # An answer is taken once.
            assert code(await client.ask({**answer, "id": 4})) == "no-such-prompt"

    with_service(tmp_path, work)


def test_nobody_answers_for_another_caller(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as asked, service.caller() as other:
            prompt = await prompted(asked)
            stolen = {"id": 1, "op": "answer", "prompt": prompt["prompt"], "fields": {"code": "1"}}
            assert code(await other.ask(stolen)) == "no-such-prompt"
            assert service.outcomes == []

    with_service(tmp_path, work)


@pytest.mark.parametrize(
    "how", [{"cancel": True}, {"cancel": True, "fields": {"code": "1"}}, {}, {"fields": 7}]
)
def test_a_prompt_can_be_cancelled(tmp_path: Path, how: dict[str, Any]) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            prompt = await prompted(client)
            client.send({"id": 2, "op": "answer", "prompt": prompt["prompt"], **how})
            await until(lambda: service.outcomes == ["Cancelled"])

    with_service(tmp_path, work)


def test_who_leaves_leaves_no_prompt_waiting(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        async with service.caller() as client:
            await prompted(client)
        await until(lambda: service.outcomes == ["FrontGone"] and len(service.left) == 1)
        assert not service.api.callers

    with_service(tmp_path, work)
