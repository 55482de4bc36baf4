"""A thousand connections one after the other leave nothing behind, neither here nor at the gateway."""

from __future__ import annotations

import json
import os
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.bench.signins import CHEAP
from tests.e2e.client.conftest import url
from tests.lab import Gateway, Lab, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.own_client import OwnClient
from tests.lab.topology import INTRANET4

CYCLES = int(os.environ.get("CYCLES", 1000))
WARM_UP = 20


class Caller:
    """One socket of the local API that stays open, as a program with a window has it."""

    def __init__(self, client: OwnClient) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        self._socket.connect(str(client.socket_path))
        self._lines = self._socket.makefile("rb")
        self._number = 0

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def _send(self, operation: str, fields: dict[str, Any]) -> int:
        self._number += 1
        self._socket.sendall(json.dumps({"id": self._number, "op": operation, **fields}).encode() + b"\n")
        return self._number

    def _next(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self._lines.readline())
        assert "error" not in line, line
        return line

    def connect(self, server: str, user: str, ca: str) -> None:
        """Returns when the tunnel is there."""
        self._send("connect", {"server": server, "user": user, "ca": ca})
        while (line := self._next()).get("state") != "connected":
            assert line.get("state") != "failed", line
            if line.get("event") == "prompt":
                fields = {"username": user, "password": PASSWORD}
                number = {"connection": line["connection"], "prompt": line["prompt"]}
                self._send("answer", {**number, "fields": fields})

    def disconnect(self) -> None:
        """Returns when the machine is as before."""
        number = self._send("disconnect", {})
        while self._next().get("id") != number:
            pass


@pytest.fixture(scope="module")
def quick(another_gateway: Callable[..., Gateway]) -> Gateway:
    """Its password hash costs nothing, and it lets one client in as often as it likes."""
    cost = {"memory_kib": str(CHEAP.memory), "time_cost": str(CHEAP.passes), "parallelism": str(CHEAP.lanes)}
    limits = {"new_connections_per_second": "1000000", "new_connections_burst": "1000000"}
    return another_gateway({"sign_in.argon2": cost, "limits": limits})


class Footprint:
    """What the programs hold on to."""

    def __init__(self, lab: Lab, gateway: Gateway, client: OwnClient) -> None:
        self.pids = [*client.processes(), *gateway.processes()]
        self.descriptors = {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids}
        self.memory = {pid: _resident(pid) for pid in self.pids}
        self.machine = {
            "client": _network(lab.client.run),
            "gateway": _network(lab.gateway.run),
        }
        self.threads = {pid: len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.pids}


def _resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _network(run: Callable[..., Any]) -> dict[str, str]:
    commands = {
        "links": ["ip", "-o", "-br", "link"],
        "addresses": ["ip", "-o", "-br", "address"],
        "routes": ["ip", "route", "show", "table", "all"],
        "routes6": ["ip", "-6", "route", "show", "table", "all"],
        "rules": ["ip", "rule"],
        "rules6": ["ip", "-6", "rule"],
        "firewall": ["nft", "list", "tables"],
        "names": ["cat", "/etc/resolv.conf"],
    }
    return {what: run(command).stdout for what, command in commands.items()}


def test_cycles(lab: Lab, quick: Gateway, client: OwnClient, new_user: Callable[[Gateway], str]) -> None:
    user, ca = new_user(quick), quick.ca_file.read_text()
    connects, disconnects = [], []
    with Caller(client) as caller:
        for number in range(WARM_UP + CYCLES):
            if number == WARM_UP:
                quick.wait_no_sessions(user)
                before = Footprint(lab, quick, client)
            begin = time.monotonic()
            caller.connect(url(quick), user, ca)
            between = time.monotonic()
            caller.disconnect()
            connects.append(between - begin)
            disconnects.append(time.monotonic() - between)
    for times in (connects, disconnects):
        print("median", statistics.median(times), "max", max(times), "sum", sum(times))
    quick.wait_no_sessions(user)
    after = Footprint(lab, quick, client)
    print(before.memory, after.memory, before.threads, after.threads, before.descriptors, after.descriptors)
    assert after.pids == before.pids
    assert after.machine == before.machine
