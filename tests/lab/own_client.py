"""Lockgate's own client on a host of the lab: its service, and the commands a user gives it.

A host has room for one at a time: routes, rules and tables of the client have fixed numbers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.lab.gateway import PASSWORD
from tests.lab.host import Host
from tests.lab.program import Program
from tests.lab.topology import GATEWAY_NAME
from tests.lab.waiting import HopelessError, LabError, wait_for

_LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
_ENDED = ("failed", "disconnected")
_ANSWER = 60.0
"""Seconds an answer of the service may take; `disconnect` says goodbye to a gateway first."""


class OwnClient:
    """`start` runs the service, `connect` signs in; the directories stay for the next start.

    run_dir, state_dir: as given to `lockgate client run`. A new instance has new ones.
    service:            the running service, None before the first start.
    """

    _numbers = itertools.count(1)

    def __init__(self, host: Host, name: str | None = None) -> None:
        self.host = host
        self.name = name or f"client{next(OwnClient._numbers)}"
        self.directory = host.directory / self.name
        self.run_dir, self.state_dir = self.directory / "run", self.directory / "state"
        # Everybody may go through to the socket; what is in the state directory is the service's business.
        self.directory.mkdir(mode=0o755)
        self.service: Program | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find this client."""
        return {
            "LOCKGATE_CLIENT_RUN_DIR": str(self.run_dir),
            "LOCKGATE_CLIENT_STATE_DIR": str(self.state_dir),
            "https_proxy": "",  # of the network around the lab; `lockgate connect` would take it for ours
        }

    @property
    def socket_path(self) -> Path:
        return self.run_dir / "client.sock"

    # The service and its edge

    def start(self, *options: str, deadline: float = 20.0) -> OwnClient:
        """Run the service; returns when it answers."""
        if self.service is not None and self.service.running:
            raise LabError(f"{self.name}: its service runs already")
        directories = ["--state-dir", str(self.state_dir), "--run-dir", str(self.run_dir)]
        self.service = self.host.start(
            [_LOCKGATE, "client", "run", *directories, *options],
            f"{self.name}-service",
            environment=self.environment,
        )
        wait_for(self._answers, "the client service answers", deadline=deadline, explain=self.tail)
        return self

    def _answers(self) -> bool:
        if self.service is not None and not self.service.running:
            raise HopelessError(f"the client service ended\n{self.tail()}")
        return int(self.ask("hello")["pid"]) > 0

    def edges(self) -> list[int]:
        """Client edges of this host, also one whose service is gone. One at most, unless something is wrong."""
        network = os.stat(f"/proc/{self.host.namespace_pid}/ns/net").st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                ours = command[0].endswith(b"lockgate-edge") and b"client" in command[1:]
                if ours and os.stat(entry / "ns/net").st_ino == network and not _is_zombie(entry):
                    found.append(int(entry.name))
        return sorted(found)

    def processes(self) -> list[int]:
        """Service and edge: what the client costs."""
        service = [self.service.pid] if self.service is not None and self.service.running else []
        return [*service, *self.edges()]

    def kill_service(self) -> None:
        """The service dies without a word; its edge lives on."""
        assert self.service is not None
        self.service.process.kill()
        self.service.wait()

    def kill_edge(self) -> int:
        """Its edge dies without a word; the number of the process, which is not that of its successor."""
        edges = self.edges()
        if not edges:
            raise LabError(f"{self.name} has no edge\n{self.tail()}")
        for pid in edges:
            _kill(pid)
        self._wait_no_edge(edges)
        return edges[-1]

    def wait_edge(self, killed: int = 0, *, deadline: float = 20.0) -> int:
        """The edge that runs, or that took the place of a killed one."""
        return wait_for(
            lambda: next((pid for pid in self.edges() if pid != killed), None),
            "a client edge runs",
            deadline=deadline,
            explain=self.tail,
        )

    def leave(self) -> None:
        """`lockgate client stop --keep`: the service ends, tunnels and edge stay for the next start."""
        assert self.service is not None
        self.command("client", "stop", "--keep")
        self.service.wait(deadline=20.0)

    def stop(self) -> int | None:
        """End the service politely and whatever is left of its edge by force; the service's exit status."""
        status = self.service.stop(signal.SIGTERM, deadline=20.0) if self.service is not None else None
        left = self.edges()
        for pid in left:
            _kill(pid)
        self._wait_no_edge(left)
        return status

    def _wait_no_edge(self, pids: Sequence[int]) -> None:
        wait_for(lambda: not set(pids) & set(self.edges()), "the client edge has ended", explain=self.tail)

    def reset(self) -> CompletedProcess[str]:
        """`lockgate client reset`, which undoes everything with nothing running."""
        return self.command("client", "reset", "--state-dir", str(self.state_dir))

    # Commands

    def command(
        self, *arguments: str, input: str | None = None, check: bool = True, deadline: float = 60.0
    ) -> CompletedProcess[str]:
        """`lockgate …` as a user on this host gives it, to its end."""
        line = [_LOCKGATE, *arguments]
        try:
            return self.host.run(
                line, input=input, check=check, deadline=deadline, environment=self.environment
            )
        except LabError as error:
            raise LabError(f"{error}\n{self.tail()}") from None

    def connect(
        self,
        server: str = f"https://{GATEWAY_NAME}/",
        user: str = "alice",
        password: str = PASSWORD,
        ca: Path | None = None,
        *,
        check: bool = True,
        deadline: float = 60.0,
        **options: str | int | bool | None,
    ) -> CompletedProcess[str]:
        """`lockgate connect … --background`: signed in when it returns with status 0.

        options: further ones of the command: realm="staff" is `--realm staff`, esp=False is `--no-esp`, trust_new=True
                 is `--trust-new`; None leaves one out.
        raises:  LabError with the end of all logs when it failed, unless check is off.
        """
        line = _connect_line(server, user, ca, background=True, **options)
        return self.command(*line, input=f"{password}\n", check=check, deadline=deadline)

    def connect_in_terminal(
        self,
        server: str = f"https://{GATEWAY_NAME}/",
        user: str = "alice",
        password: str = PASSWORD,
        ca: Path | None = None,
        **options: str | int | bool | None,
    ) -> Program:
        """The same without `--background`: the tunnel lives as long as the command; SIGINT ends both."""
        line = [_LOCKGATE, *_connect_line(server, user, ca, **options)]
        name = f"{self.name}-connect"
        return self.host.start(line, name, input=f"{password}\n", environment=self.environment)

    def details(self, connection: str | None = None) -> dict[str, Any]:
        """What `lockgate details --json` says of the only, or of one, connection."""
        answer: dict[str, Any] = json.loads(self.command("details", "--json", *_one(connection)).stdout)
        return answer

    def status(self) -> list[dict[str, Any]]:
        """What `lockgate status --json` says: all connections."""
        answer: list[dict[str, Any]] = json.loads(self.command("status", "--json").stdout)["connections"]
        return answer

    def disconnect(self, connection: str | None = None, *, check: bool = True) -> CompletedProcess[str]:
        return self.command("disconnect", *_one(connection), check=check)

    def suspend(self, connection: str | None = None) -> CompletedProcess[str]:
        return self.command("suspend", *_one(connection))

    def resume(self, connection: str | None = None) -> CompletedProcess[str]:
        return self.command("resume", *_one(connection))

    # The local API, for what is asked often

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """One request to the service, as root. raises: LabError with the problem; OSError when nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(_ANSWER)
            caller.connect(str(self.socket_path))
            caller.sendall(json.dumps({"id": 1, "op": operation, **fields}).encode() + b"\n")
            with caller.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if answer.get("id") != 1:
                        continue  # an event
                    if "error" in answer:
                        raise LabError(f"{self.name}: {operation}: {answer['error']}")
                    result: dict[str, Any] = answer["result"]
                    return result
        raise LabError(f"{self.name}: {operation}: the service hung up\n{self.tail()}")

    def connections(self) -> list[dict[str, Any]]:
        """All connections with their states, asked over the local API: quick, and without a process."""
        answer: list[dict[str, Any]] = self.ask("status")["connections"]
        return answer

    def live(self, connection: str | None = None) -> dict[str, Any]:
        """The details over the local API."""
        return self.ask("details", **({} if connection is None else {"connection": connection}))

    def wait_state(
        self,
        state: str = "connected",
        *,
        connection: str | None = None,
        transport: str | None = None,
        deadline: float = 30.0,
        every: float = 0.05,
    ) -> dict[str, Any]:
        """The status of a connection that has this state, and this transport ("esp" or "tls") if given.

        connection: its number; without, any connection will do.
        raises:     LabError at the deadline, or at once when all that could still get there have ended.
        """

        def reached() -> dict[str, Any] | None:
            known = [one for one in self.connections() if connection in (None, one["connection"])]
            for one in known:
                if one["state"] == state and transport in (None, one["transport"]):
                    return one
            if known and state not in _ENDED and all(one["state"] in _ENDED for one in known):
                raise HopelessError(f"{self.name}: no connection can become {state}: {known}\n{self.tail()}")
            return None

        what = f"{self.name} is {state}{f' over {transport}' if transport else ''}"
        return wait_for(reached, what, deadline=deadline, every=every, explain=self._explain)

    def wait_gone(self, *, deadline: float = 30.0) -> None:
        """Until no connection is left that has not ended."""
        wait_for(
            lambda: all(one["state"] in _ENDED for one in self.connections()),
            f"{self.name} has no connection left",
            deadline=deadline,
            explain=self._explain,
        )

    @property
    def tun(self) -> str:
        """The tunnel's interface."""
        return str(self.live()["interface"])

    def log(self) -> str:
        """The service's log since its last start."""
        return "" if self.service is None else self.service.log()

    def events(self, **fields: Any) -> list[dict[str, Any]]:
        """The log's entries with these values, oldest first."""
        entries = [json.loads(line) for line in self.log().splitlines() if _is_object(line)]
        return [entry for entry in entries if all(entry.get(key) == value for key, value in fields.items())]

    def debug_log(self) -> str:
        """What the service wrote into its state directory, over all its starts."""
        path = self.state_dir / "debuglog.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def tail(self) -> str:
        if self.service is None:
            return f"{self.name} has not been started"
        debug = "\n".join("    " + line for line in self.debug_log().splitlines()[-30:])
        return f"{self.service.tail()}\n--- {self.name}, end of debuglog.log:\n{debug}"

    def _explain(self) -> str:
        try:
            known: object = self.connections()
        except (OSError, LabError) as error:
            known = error
        return f"connections: {known}\n{self.tail()}"


def _connect_line(server: str, user: str, ca: Path | None, **options: str | int | bool | None) -> list[str]:
    line = ["connect", server, "--user", user, "--password-stdin"]
    if ca is not None:
        line += ["--ca", str(ca)]
    for name, value in options.items():
        option = name.replace("_", "-")
        match value:
            case None:
                continue
            case True:
                line.append(f"--{option}")
            case False:
                line.append(f"--no-{option}")
            case _:
                line += [f"--{option}", str(value)]
    return line


def _one(connection: str | None) -> list[str]:
    return [] if connection is None else [connection]


def _is_object(line: str) -> bool:
    return line.startswith("{") and line.endswith("}")


def _is_zombie(process: Path) -> bool:
    return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
