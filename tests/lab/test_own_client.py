"""How the lab speaks to our client's service; the real service is used in tests/e2e."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.lab.host import Host
from tests.lab.own_client import OwnClient, _connect_line
from tests.lab.waiting import HopelessError, LabError

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def client() -> Iterator[OwnClient]:
    # A socket's path has 107 bytes at most (unix(7)); folders of the runner may be longer than that.
    with tempfile.TemporaryDirectory(prefix="lg-", dir="/tmp") as folder:
        yield OwnClient(cast(Host, SimpleNamespace(directory=Path(folder))), "c")


@pytest.fixture
def serve(client: OwnClient) -> Iterator[Callable[[Answer], None]]:
    """A service of canned answers; an event comes before each of them, as it may."""
    client.run_dir.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(client.socket_path))
    listener.listen()

    def work(answer: Answer) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with caller, caller.makefile("rwb") as lines:
                request = json.loads(lines.readline())
                lines.write(b'{"event": "state", "connection": "9"}\n')
                lines.write(json.dumps({"id": request["id"], **answer(request)}).encode() + b"\n")

    threads: list[threading.Thread] = []

    def start(answer: Answer) -> None:
        threads.append(threading.Thread(target=work, args=(answer,)))
        threads[-1].start()

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join()


def connections(*states: tuple[str, str | None]) -> dict[str, Any]:
    return {
        "result": {
            "connections": [
                {"connection": str(number), "state": state, "transport": transport}
                for number, (state, transport) in enumerate(states, 1)
            ]
        }
    }


def test_waiting_for_a_state_and_a_transport(client: OwnClient, serve: Callable[[Answer], None]) -> None:
    told = iter([("connecting", None), ("connected", "tls"), ("connected", "esp")])
    serve(lambda _: connections(("failed", None), next(told)))
    assert client.wait_state("connected", transport="esp")["connection"] == "2"


def test_a_connection_that_ended_is_not_waited_for(
    client: OwnClient, serve: Callable[[Answer], None]
) -> None:
    serve(lambda _: connections(("failed", None), ("connected", "tls")))
    with pytest.raises(HopelessError, match="no connection can become connected"):
        client.wait_state("connected", connection="1")
    assert client.wait_state("failed")["connection"] == "1"
    assert client.wait_state("connected")["connection"] == "2"


def test_a_problem_is_an_error(client: OwnClient, serve: Callable[[Answer], None]) -> None:
    serve(lambda request: {"error": {"code": "no-connection", "op": request["op"]}})
    with pytest.raises(LabError, match=r"details.*no-connection"):
        client.live()


def test_options_of_the_command() -> None:
    line = _connect_line(
        "https://gw/", "alice", Path("/ca.pem"), background=True, esp=False, realm="staff", pin=None
    )
    assert line == [
        *("connect", "https://gw/", "--user", "alice", "--password-stdin", "--ca", "/ca.pem"),
        *("--background", "--no-esp", "--realm", "staff"),
    ]
