"""A real program running on a host of the lab, with what it said."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from tests.lab.waiting import HopelessError, LabError, wait_for


class Program:
    """One started process: its log file, its end. Standard output and error go to the same log."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.name, self.process, self.log_path = name, process, log_path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """The log's end, headed by the program's name and state; made for error messages."""
        state = "running" if self.running else f"ended with status {self.process.returncode}"
        body = "\n".join("    " + line for line in self.log().splitlines()[-lines:])
        return f"--- {self.name} ({state}), end of its log:\n{body}"

    def wait_log(self, pattern: str, *, deadline: float = 15.0, after: int = 0) -> re.Match[str]:
        """The first match of a regular expression in the log beyond character `after`.

        raises: LabError at the deadline, or at once when the program has ended without saying it.
        """

        def said() -> re.Match[str] | None:
            ended = not self.running  # before reading: what it said last must be seen
            match = re.compile(pattern, re.MULTILINE).search(self.log(), after)
            if match is None and ended:
                raise HopelessError(f"{self.name} ended and never said {pattern!r}\n{self.tail()}")
            return match

        return wait_for(said, f"{self.name} says {pattern!r}", deadline=deadline, explain=self.tail)

    def send(self, number: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(number)

    def wait(self, *, deadline: float = 15.0) -> int:
        """Its exit status, negative for a signal. raises: LabError when it is still running at the deadline."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {deadline:g} s\n{self.tail()}") from None
        if self.process.stdin is not None:
            self.process.stdin.close()  # also when the test that held it fails now
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM, *, deadline: float = 10.0) -> int:
        """End it: politely, by force at the deadline."""
        self.send(number)
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(deadline)
