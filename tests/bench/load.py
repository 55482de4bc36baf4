"""`lockgate-load` on a host of the lab. The tool is described in dataplane/load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Host, LabError, Program
from tests.lab.gateway import PASSWORD
from tests.lab.host import REPOSITORY
from tests.lab.topology import GATEWAY4, GATEWAY_NAME


def binary(name: str = "lockgate-load") -> Path:
    """The release build of one of the tools; compiles them when that has not been done."""
    found = os.environ.get(name.upper().replace("-", "_"))
    if found:
        return Path(found)
    manifest = REPOSITORY / "dataplane" / "Cargo.toml"
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "dataplane" / "target"))
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(manifest)]
    done = subprocess.run(
        [*command, "--package", "lockgate-load"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"{name} does not build\n{done.stderr[-4000:]}")
    return target / "release" / name


class LoadTool:
    """Runs commands of the tool against the lab's gateway.

    ca_file: the gateway's CA certificate. password: that of every user.
    """

    def __init__(
        self, host: Host, ca_file: Path, *, password: str = PASSWORD, program: Path | None = None
    ) -> None:
        self.host, self._ca_file, self._password = host, ca_file, password
        self._program = program or binary()

    def _line(self, command: str, options: Sequence[str]) -> list[str]:
        line = [str(self._program), command, "--server", f"{GATEWAY4}:443", "--name", GATEWAY_NAME]
        return [*line, "--ca", str(self._ca_file), "--json", *options]

    def run(self, command: str, *options: str, deadline: float = 120.0) -> dict[str, Any]:
        """One command to its end; its report. raises: LabError when it made none."""
        done = self.host.run(
            self._line(command, options), input=f"{self._password}\n", deadline=deadline, check=False
        )
        return _report(done.stdout, done.stderr)

    def must_run(self, command: str, *options: str, deadline: float = 120.0) -> dict[str, Any]:
        """The same, but a single failure is a LabError that names the step."""
        report = self.run(command, *options, deadline=deadline)
        if report["failed"]:
            raise LabError(f"lockgate-load {command}: {report['failed']} failed: {report['errors']}")
        return report

    def hold(self, sessions: int, seconds: int, *options: str, deadline: float = 120.0) -> Holding:
        """Sessions that are up when this returns; they end with `Holding.release`, at the latest after `seconds`."""
        options = ("--sessions", str(sessions), "--seconds", str(seconds), *options)
        line = self._line("hold", options)
        program = self.host.start(line, "load-hold", input=f"{self._password}\n")
        match = program.wait_log(r"^holding (\d+)$", deadline=deadline)
        if "--esp" in options:
            program.wait_log(r"^over esp \d+$", deadline=30)
        return Holding(program, int(match.group(1)))


@dataclass(frozen=True, slots=True)
class Holding:
    """A running `hold`: how many sessions came up."""

    program: Program
    up: int

    def release(self) -> dict[str, Any]:
        """Log all sessions out; the report."""
        self.program.stop(signal.SIGTERM, deadline=60.0)
        return _report(self.program.log(), "")


def _report(output: str, errors: str) -> dict[str, Any]:
    last = output.strip().rpartition("\n")[2]
    try:
        report: dict[str, Any] = json.loads(last)
    except ValueError:
        raise LabError(f"lockgate-load made no report\n{output}{errors}") from None
    return report
