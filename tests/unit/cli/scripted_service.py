"""A client service whose words a test says itself, and the command line as a real process before it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = "import sys\nfrom lockgate.cli.main import main\nsys.argv[0] = 'lockgate'\nmain()"
DEADLINE = 30.0  # seconds; only reached when something never comes

STATUS = {
    "connection": "c1",
    "name": "gw.example.org",
    "server": "https://gw.example.org/",
    "user": "alice",
    "realm": "Users",
    "state": "connected",
    "transport": "esp",
    "note": "",
    "problem": None,
    "background": False,
    "uid": 0,
    "since": 1_700_000_000,
    "ipv4": "10.88.0.5",
    "ipv6": "fd12::5",
}
DETAILS = STATUS | {
    "vpn_type": "ESP",
    "session_remaining": 2 * 86400 + 3 * 3600 + 4 * 60 + 5,
    "session_duration": 61,
    "mtu": 1400,
    "dns": ["10.77.0.53"],
    "search_domains": ["example.org"],
    "split_include": ["10.77.0.0/16"],
    "split_exclude": [],
    "full_tunnel": False,
    "bytes_in": 1536,
    "bytes_out": 3 << 30,
    "packets_in": 7,
    "packets_out": 8,
    "peer": "192.0.2.1:443",
    "via_proxy": None,
    "interface": "lockgate0",
    "source": "User",
    "tls": {"version": "TLSv1.3", "cipher": "AES-256-GCM", "group": "X25519MLKEM768"},
    "esp_suite": "AES-256-GCM",
    "reconnects": 0,
    "idle_limit": 600,
    "password_caching": False,
}


def state(name: str, **more: object) -> dict[str, object]:
    known = {"transport": None, "note": "", "problem": None, "attempt": 1}
    return {"event": "state", "connection": "c1", "state": name, **known, **more}


class Caller:
    """One connection to the service."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(DEADLINE)
        self._stream = connection.makefile("rwb")

    def request(self, op: str) -> dict[str, object]:
        """The next request, without its number; it must be this one."""
        request = json.loads(self._stream.readline())
        assert request.pop("op") == op, request
        self._number = request.pop("id")
        return request

    def answer(self, result: dict[str, object]) -> None:
        """Answers the last request."""
        self.say({"id": self._number, "result": result})

    def refuse(self, code: str, summary: str = "No.", fix: str = "Do not.") -> None:
        self.say({"id": self._number, "error": {"code": code, "summary": summary, "fix": fix, "details": []}})

    def serve(self, op: str, result: dict[str, object]) -> dict[str, object]:
        request = self.request(op)
        self.answer(result)
        return request

    def prompt(self, kind: str, **fields: object) -> dict[str, object]:
        """Asks, and gives what the answer holds."""
        self.say({"event": "prompt", "connection": "c1", "prompt": 7, "kind": kind, **fields})
        return self.answered()

    def answered(self) -> dict[str, object]:
        answer = self.serve("answer", {})
        assert (answer.pop("connection"), answer.pop("prompt")) == ("c1", 7)
        return answer

    def say(self, *lines: dict[str, object] | bytes) -> None:
        for line in lines:
            self._stream.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        self._stream.flush()

    def is_gone(self) -> bool:
        """Waits for the caller to close its end, without a further word."""
        return self._stream.read() == b""

    def connected(self) -> None:
        """From the beginning to the details."""
        self.serve("connect", {"connection": "c1"})
        self.say(state("connecting"), state("connected", transport="esp"))
        self.serve("details", DETAILS)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        self._connection.close()


class Service:
    """Listens in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.run_dir = directory
        self._callers: list[Caller] = []
        self._processes: list[Process] = []
        self.listen()

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(DEADLINE)
        # The path may be longer than a socket's may be.
        folder = os.open(self.run_dir, os.O_PATH)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("client.sock", dir_fd=folder)
        self._listener.bind(f"/proc/self/fd/{folder}/client.sock")
        os.close(folder)
        self._listener.listen()

    def accept(self) -> Caller:
        caller = Caller(self._listener.accept()[0])
        self._callers.append(caller)
        return caller

    def die(self) -> None:
        for caller in self._callers:
            caller.close()
        self._listener.close()

    def close(self) -> None:
        self.die()
        for process in self._processes:
            process.close()

    def command(self, *words: str, stdin: bytes | None = None, terminal: bool = False) -> Process:
        """Starts `lockgate …` with this service."""
        process = Process(words, self.run_dir, stdin, terminal)
        self._processes.append(process)
        return process


class Process:
    """`lockgate …`, at a terminal or between pipes."""

    def __init__(self, words: tuple[str, ...], run_dir: Path, stdin: bytes | None, terminal: bool) -> None:
        command = [sys.executable, "-c", PROGRAM, *words]
        environment = os.environ | {"LOCKGATE_CLIENT_RUN_DIR": str(run_dir), "COLUMNS": "100", "LINES": "40"}
        environment["https_proxy"] = ""
        self.shown = ""
        self.master = self.slave = -1
        if terminal:
            self.master, self.slave = os.openpty()
            files = dict.fromkeys(("stdin", "stdout", "stderr"), self.slave)
            # With the terminal as its own: typing Ctrl-C and closing it then reach the process.
            command = ["setsid", "--ctty", *command]
        else:
            files = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(command, env=environment, **files)
        if stdin is not None:
            self.process.stdin.write(stdin)
        if not terminal:
            self.process.stdin.close()

    # At a terminal

    def until(self, text: str) -> str:
        """Reads what is shown until `text` is; gives what came since the last call."""
        start = len(self.shown)
        end = time.monotonic() + DEADLINE
        while text not in self.shown[start:]:
            ready = select.select([self.master], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"never shown: {text!r}; but: {self.shown!r}"
            self.shown += os.read(self.master, 4096).decode()
        return self.shown[start:]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def hang_up(self) -> None:
        """Closes the terminal."""
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    # Anywhere

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def output(self) -> tuple[int, str, str]:
        """Exit status, standard output and error of a process between pipes."""
        out = self.process.stdout.read().decode()
        err = self.process.stderr.read().decode()
        return self.wait(), out, err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)
