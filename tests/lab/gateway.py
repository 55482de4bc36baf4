"""Lockgate's gateway on the lab's gateway host, driven by its own commands as an administrator would."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockgate.server.datadir import DataDirectory
from lockgate.server.web.local import call
from tests.lab.host import Host
from tests.lab.program import Program
from tests.lab.topology import (
    GATEWAY4,
    GATEWAY6,
    GATEWAY_NAME,
    INTRANET4,
    INTRANET_NET4,
    INTRANET_NET6,
)
from tests.lab.waiting import HopelessError, LabError, wait_for

PASSWORD = "correct horse battery staple"
WEB_AND_ECHO = """
[[access]]
name = "web"
action = "allow"
to = ["10.77.0.10/32", "fd77::10/128"]
protocol = "tcp"
ports = ["80"]

[[access]]
name = "echo"
action = "allow"
to = ["10.77.0.10/32", "fd77::10/128"]
protocol = "udp"
ports = ["7"]
"""
"""Access rules, as of the file of a first start: the intranet's web server and its echo, nothing else."""

_LOCKGATE = str(Path(sys.executable).with_name("lockgate"))


class Gateway:
    """A data directory and the `lockgate server run` that serves it.

    `initialise` makes the directory, `add_user` and `set_config` fill it, `start` runs the server.
    place: gateways of different places share a host: each has its own ports, pools and tunnel interface.
    """

    def __init__(self, host: Host, name: str = "gateway", *, place: int = 0) -> None:
        self.host = host
        self.directory = host.directory / name
        self.program: Program | None = None
        self.init_output = ""
        self.place = place
        self.port = 443 if place == 0 else 10443 + place
        self.admin_port = 8443 + place
        self.esp_port = 4500 + place
        self.tun = f"lockgate{place}"
        self.pool4, self.pool6 = f"10.{88 + place}.0.0/24", f"fd88:{place + 1:x}::/112"

    def initialise(
        self,
        *,
        listen: Sequence[str] | None = None,
        pools: Sequence[str] | None = None,
        dns: Sequence[str] = (INTRANET4,),
        split_include: Sequence[str] = (INTRANET_NET4, INTRANET_NET6),
        store: str | None = None,
    ) -> Gateway:
        """store: how PostgreSQL is reached (`postgresql.PostgreSQL`); None is SQLite."""
        options = ["--hostname", GATEWAY_NAME, "--admin-listen", f"127.0.0.1:{self.admin_port}"]
        if listen is None:
            listen = (f"{GATEWAY4}:{self.port}", f"[{GATEWAY6}]:{self.port}")
        if pools is None:
            pools = (self.pool4, self.pool6)
        for option, values in (
            ("--listen", listen),
            ("--pool", pools),
            ("--dns", dns),
            ("--split-include", split_include),
        ):
            for value in values:
                options += [option, value]
        if store is not None:
            options += ["--store", store]
        self.init_output = self.server("init", *options)
        if self.place:
            self.set_config("esp", "port", str(self.esp_port))
            self.set_config("network", "tun_name", f'"{self.tun}"')
        return self

    @property
    def console_url(self) -> str:
        """The administrators' console, for a browser on the gateway's host."""
        return f"https://127.0.0.1:{self.admin_port}/admin/"

    @property
    def admin_password(self) -> str:
        """Of the administrator "admin", as `initialise` was told."""
        told = re.search(r"Password:\s+(\S+)", self.init_output)
        assert told, self.init_output
        return told[1]

    def add_user(self, name: str, password: str = PASSWORD) -> None:
        self.user("add", name, "--password-stdin", input=password + "\n")

    def user(self, command: str, *arguments: str, input: str | None = None) -> str:
        line = [_LOCKGATE, "user", command, "--dir", str(self.directory), *arguments]
        return self.host.run(line, input=input).stdout

    def set_config(self, table: str, key: str, value: str) -> None:
        """Set one key of config.toml; value in TOML's own notation. The file's other lines stay as they are.

        Before the first start the file is the configuration; later it is imported.
        """
        path = self.directory / "config.toml"
        lines = path.read_text().splitlines()
        header = f"[{table}]"
        if header not in (line.strip() for line in lines):
            lines += ["", header]
        start = next(number for number, line in enumerate(lines) if line.strip() == header) + 1
        end = next((n for n in range(start, len(lines)) if re.match(r"\s*\[", lines[n])), len(lines))
        pattern = re.compile(rf"\s*{re.escape(key)}\s*=")
        found = [number for number in range(start, end) if pattern.match(lines[number])]
        if found:
            # A value may run over several lines: up to the line that closes its bracket.
            last = found[0]
            while lines[found[0] : last + 1] and _open_brackets(lines[found[0] : last + 1]) > 0:
                last += 1
            lines[found[0] : last + 1] = [f"{key} = {value}"]
        else:
            lines.insert(start, f"{key} = {value}")
        path.write_text("\n".join(lines) + "\n")
        self._import_config()

    def append_config(self, text: str) -> None:
        """Add tables to config.toml; see `set_config`."""
        path = self.directory / "config.toml"
        path.write_text(f"{path.read_text().rstrip()}\n\n{text.strip()}\n")
        self._import_config()

    def _import_config(self) -> None:
        if self.program is not None:
            self.config("import", str(self.directory / "config.toml"), "--commit")

    def config(self, command: str, *arguments: str, input: str | None = None) -> str:
        """What a `lockgate config` command prints."""
        line = [_LOCKGATE, "config", command, "--dir", str(self.directory), *arguments]
        return self.host.run(line, input=input).stdout

    def rest(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """What REST answers on the gateway's own machine. path: below /api/v1. Raises ProblemError for a no."""
        return call(DataDirectory(self.directory), method, f"/api/v1{path}", body=body, query=query).body

    def commit(self, *edits: Mapping[str, Any], reason: str = "test") -> None:
        """One revision more."""
        self.rest("POST", "/config/apply", body={"edits": list(edits), "reason": reason})

    def start(self, *, deadline: float = 30.0) -> Gateway:
        """Run the server; returns when it listens for TLS and answers `server status`."""
        self.program = self.host.start([_LOCKGATE, "server", "run", "--dir", str(self.directory)], "lockgate")
        wait_for(self._ready, "the gateway listens and answers", deadline=deadline, explain=self.program.tail)
        return self

    def _answers(self) -> bool:
        line = [_LOCKGATE, "server", "status", "--dir", str(self.directory), "--json"]
        answer = self.host.run(line, check=False)
        return answer.returncode == 0 and json.loads(answer.stdout)["edge"] == "up"

    def stop(self) -> int:
        assert self.program is not None
        return self.program.stop(signal.SIGTERM, deadline=20.0)

    def log(self) -> str:
        assert self.program is not None
        return self.program.log()

    def events(self, name: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The log's entries, oldest first; those of one event and with these values, if given."""
        entries = [
            json.loads(line)
            for line in self.log().splitlines()
            if line.startswith("{") and line.endswith("}")
        ]
        return [
            entry
            for entry in entries
            if (name is None or entry.get("event") == name)
            and all(entry.get(key) == value for key, value in fields.items())
        ]

    def wait_event(
        self, name: str, *, deadline: float = 15.0, count: int = 1, **fields: Any
    ) -> dict[str, Any]:
        """The newest of at least `count` such entries."""
        assert self.program is not None
        found = wait_for(
            lambda: entries if len(entries := self.events(name, **fields)) >= count else None,
            f"the gateway logs {name} {fields or ''}",
            deadline=deadline,
            explain=self.program.tail,
        )
        return found[-1]

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def trust(self) -> list[str]:
        """Options that make openconnect believe this gateway."""
        return ["--cafile", str(self.ca_file)]

    def pin(self) -> str:
        """The server key's pin as openconnect wants it."""
        pipeline = (
            'openssl x509 -in "$0" -pubkey -noout | openssl pkey -pubin -outform der'
            " | openssl dgst -sha256 -binary | base64"
        )
        certificate = str(self.directory / "tls" / "server.pem")
        return "pin-sha256:" + self.host.run(["sh", "-c", pipeline, certificate]).stdout.strip()

    def status(self) -> dict[str, Any]:
        return json.loads(self.server("status", "--json"))

    def sessions(self) -> list[dict[str, Any]]:
        return json.loads(self.server("sessions", "--json"))

    def session_of(self, user: str) -> dict[str, Any]:
        """The one session of this user; LabError when there is not exactly one."""
        found = [session for session in self.sessions() if session["user"] == user]
        if len(found) != 1:
            raise LabError(f"{user} has {len(found)} sessions: {found}")
        return found[0]

    def sessions_of(self, user: str) -> list[dict[str, Any]]:
        return [session for session in self.sessions() if session["user"] == user]

    def wait_no_sessions(self, user: str | None = None, *, deadline: float = 20.0) -> None:
        """Until nobody, or not this user, has a session."""
        wait_for(
            lambda: not (self.sessions() if user is None else self.sessions_of(user)),
            f"the sessions of {user or 'everybody'} have ended",
            deadline=deadline,
        )

    def disconnect(self, user: str) -> None:
        self.server("disconnect", "--user", user)

    def processes(self) -> dict[int, str]:
        """Process id → command line of the server and everything it started."""
        assert self.program is not None
        listing = self.host.run(["ps", "-e", "-o", "pid=,ppid=,args="]).stdout
        rows = [line.split(None, 2) for line in listing.splitlines()]
        family = {self.program.pid}
        while grown := {int(pid) for pid, parent, _ in rows if int(parent) in family} - family:
            family |= grown
        return {int(pid): command for pid, _, command in rows if int(pid) in family}

    def pid(self, name: str) -> int:
        """The process the supervisor runs as "edge" or "control" at this moment."""
        return int(self.events("process-started", process=name)[-1]["pid"])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal one of the gateway's processes; its number, which is not that of its successor."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_successor(self, name: str, killed: int, *, deadline: float = 20.0) -> int:
        """The process that took the place of a killed one."""
        return wait_for(
            lambda: pid if (pid := self.pid(name)) != killed else None,
            f"the supervisor starts {name} again",
            deadline=deadline,
        )

    def server(self, command: str, *arguments: str) -> str:
        line = [_LOCKGATE, "server", command, "--dir", str(self.directory), *arguments]
        return self.host.run(line).stdout

    def audit(self, command: str, *arguments: str, check: bool = True) -> str:
        """check: it has to succeed."""
        line = [_LOCKGATE, "audit", command, "--dir", str(self.directory), *arguments]
        return self.host.run(line, check=check).stdout

    def _ready(self) -> bool:
        if self.program is not None and not self.program.running:
            raise HopelessError(f"the gateway ended\n{self.program.tail()}")
        listening = self.host.run(["ss", "-Hltn", f"sport = :{self.port}"]).stdout.strip()
        return bool(listening) and self.status()["edge"] == "up"


def _open_brackets(lines: Sequence[str]) -> int:
    text = "\n".join(lines)
    return text.count("[") - text.count("]")
