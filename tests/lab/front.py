"""A front of the client's local API in the test's own process: quick, and every word of the service kept."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.gateway import PASSWORD
from tests.lab.own_client import OwnClient
from tests.lab.waiting import LabError

Message = dict[str, Any]
Answer = Callable[[Message], Message | None]
"""Fields for a prompt, or None to cancel."""

ENDED = ("failed", "disconnected")


def obedient(prompts: int = 8) -> Answer:
    """Somebody who answers anything, but not for ever."""
    left = itertools.count(prompts, -1)

    def answer(prompt: Message) -> Message | None:
        if next(left) <= 0:
            return None
        match prompt["kind"]:
            case "realm":
                return {"realm": (prompt["choices"] or ["users"])[0]}
            case "credentials":
                return {"username": "alice", "password": PASSWORD}
            case "new-password":
                return {"old": PASSWORD, "new": PASSWORD + "!"}
            case "token":
                return {"code": "123456"}
            case "session":
                return {"session": prompt["sessions"][0]["id"]}
            case _:
                return {"accept": True}

    return answer


class Front:
    """Asks for one connection; when it is closed, so is the connection unless it was for the background.

    prompts, states: what was asked and told so far.
    """

    def __init__(self, client: OwnClient, answer: Answer | None = None) -> None:
        self.prompts: list[Message] = []
        self.states: list[Message] = []
        self.connection = ""
        self._answer = answer or obedient()
        self._numbers = itertools.count(1)
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(client.socket_path))

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, op: str, **fields: Any) -> int:
        number = next(self._numbers)
        self._socket.sendall(json.dumps({"id": number, "op": op, **fields}).encode() + b"\n")
        return number

    def connect(self, server: str, *, ca: Path | None = None, **fields: Any) -> Front:
        """Sends the request. raises: LabError when it is refused."""
        if ca is not None:
            fields["ca"] = ca.read_text()
        self._await_answer(self.send("connect", server=server, **fields))
        return self

    def _await_answer(self, number: int) -> None:
        for line in self._lines(time.monotonic() + 30):
            if line.get("id") == number:
                if "error" in line:
                    raise LabError(f"refused: {line['error']}")
                self.connection = line["result"]["connection"]
                return
            self._take(line)
        raise LabError("the service does not answer")

    def wait(self, *wanted: str, seconds: float = 30.0) -> str:
        """Answers prompts until the state is one of these, or over; the state, whatever it is at the deadline."""
        if self.state not in (*wanted, *ENDED):
            for line in self._lines(time.monotonic() + seconds):
                self._take(line)
                if self.state in (*wanted, *ENDED):
                    break
        return self.state

    @property
    def state(self) -> str:
        return str(self.states[-1]["state"]) if self.states else ""

    @property
    def problem(self) -> str:
        """The code of the last state's problem."""
        found = self.states[-1]["problem"] if self.states else None
        return str(found["code"]) if found else ""

    def _take(self, line: Message) -> None:
        match line.get("event"):
            case "state":
                self.states.append(line)
            case "prompt":
                self.prompts.append(line)
                fields = self._answer(line)
                about = {"connection": line["connection"], "prompt": line["prompt"]}
                if fields is None:
                    self.send("answer", cancel=True, **about)
                else:
                    self.send("answer", fields=fields, **about)

    def _lines(self, deadline: float) -> Any:
        while True:
            line, found, rest = self._received.partition(b"\n")
            if found:
                self._received = rest
                yield json.loads(line)
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(1 << 16)
            except TimeoutError:
                return
            if not chunk:
                raise LabError("the service hung up")
            self._received += chunk
