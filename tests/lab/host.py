"""A host of the lab: a network, mount and host-name namespace held open by one sleeping process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.capture import read_packets
from tests.lab.program import Program
from tests.lab.waiting import LabError

REPOSITORY = Path(__file__).resolve().parents[2]

# IPv6 addresses are usable at once and nothing is sent that no test asked for; addresses may be added and taken
# away in any order; rp_filter off, so that what drops a spoofed packet is the gateway and not the kernel.
_SYSCTLS = {
    "net.ipv4.conf.all.promote_secondaries": 1,
    "net.ipv4.conf.default.promote_secondaries": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv6.conf.all.disable_ipv6": 0,
    "net.ipv6.conf.default.disable_ipv6": 0,
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.default.autoconf": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.conf.default.keep_addr_on_down": 1,
    "net.ipv6.conf.all.keep_addr_on_down": 1,
}


class Host:
    """Programs run on it with `run` (to their end) and `start` (in the background).

    directory: its corner of the lab's tmpfs; logs lie in there, one file per started program.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.programs: list[Program] = []
        # The pipe is how we know that the namespaces exist, and how the holder knows that we are gone.
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--uts",
                "sh",
                "-c",
                'hostname "$0" && echo ready && read _',
                name,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise LabError(f"host {name}: its namespaces could not be made")
        self._names: dict[str, list[str]] = {}
        self._private_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
        self._private_file("/etc/resolv.conf", "")
        self.ip("link set lo up")
        self.sysctl(_SYSCTLS)

    @property
    def namespace_pid(self) -> int:
        """A process inside, for `ip link set … netns PID`."""
        return self._holder.pid

    def command(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `arguments` here, in this process's working directory."""
        # Entering a mount namespace loses the working directory; env goes back to it.
        settings = [f"{key}={value}" for key, value in (environment or {}).items()]
        target = ["nsenter", f"--target={self.namespace_pid}", "--net", "--mount", "--uts"]
        return [*target, "env", f"--chdir={os.getcwd()}", *settings, *arguments]

    def run(
        self,
        arguments: Sequence[str],
        *,
        input: str | None = None,
        deadline: float = 60.0,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, with its output captured.

        raises: LabError with its output on a status other than 0 (unless check is off) and at the deadline.
        """
        line = " ".join(arguments)
        try:
            done = subprocess.run(
                self.command(arguments, environment),
                input="" if input is None else input,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=deadline,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"") + (expired.stderr or b"")
            said = output.decode(errors="replace") if isinstance(output, bytes) else output
            raise LabError(f"{self.name}: {line}: no end after {deadline:g} s\n{said}") from None
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {line}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(
        self,
        arguments: Sequence[str],
        name: str,
        *,
        input: str | None = None,
        hold: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start in the background; ends with the lab at the latest.

        The program reads `input` and then the end of its standard input; with `hold` that end does not come.
        """
        log_path = self.directory / f"{name}.log"
        count = 1
        while log_path.exists():
            count += 1
            log_path = self.directory / f"{name}-{count}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                self.command(arguments, environment),
                stdin=subprocess.DEVNULL if input is None and not hold else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # its log tells why it did not read
                process.stdin.write((input or "").encode())
                process.stdin.flush()
            if not hold:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        program = Program(f"{self.name}/{name}", process, log_path)
        self.programs.append(program)
        return program

    def python(self, module: str, *arguments: str) -> list[str]:
        """The command line of one of the lab's own Python programs."""
        return [sys.executable, "-m", module, *arguments]

    def ip(self, batch: str) -> None:
        """Several `ip` commands in order, one a line, without the leading `ip`; `-6` may open a line."""
        # A batch has one family, so every change of it starts another one.
        for six, lines in itertools.groupby(batch.splitlines(), lambda line: line.startswith("-6 ")):
            body = "".join(line.removeprefix("-6 ") + "\n" for line in lines)
            self.run(["ip", *(["-6"] if six else []), "-batch", "-"], input=body)

    def ip_json(self, *arguments: str) -> list[dict[str, Any]]:
        output = self.run(["ip", "-json", *arguments], check=False).stdout
        return json.loads(output) if output.strip() else []

    def nft(self, rules: str) -> None:
        self.run(["nft", "-f", "-"], input=rules)

    def sysctl(self, settings: Mapping[str, int | str]) -> None:
        self.run(["sysctl", "-q", "-w", *(f"{key}={value}" for key, value in settings.items())])

    def name_address(self, name: str, *addresses: str) -> None:
        """What this host takes `name` to mean (its own /etc/hosts). No address: unknown from now on."""
        self._names[name] = list(addresses)
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        lines += [f"{address} {known}" for known, known_as in self._names.items() for address in known_as]
        (self.directory / "hosts").write_text("\n".join(lines) + "\n")

    def ping(self, address: str, *, count: int = 1, within: float = 1.0, source: str | None = None) -> bool:
        """Whether every one of `count` echo requests was answered. source: an address or an interface."""
        options = ["-n", "-q", "-i", "0.05", "-c", str(count), "-W", f"{within:g}"]
        options += ["-I", source] if source else []
        return (
            self.run(["ping", *options, address], check=False, deadline=within * count + 10).returncode == 0
        )

    def capture(self, interface: str, name: str) -> Program:
        """Record packets into directory/NAME.pcap until stopped; returns when recording."""
        program = self.start(
            self.python("tests.lab.capture", interface, str(self.directory / f"{name}.pcap")),
            f"capture-{name}",
        )
        program.wait_log("^recording")
        return program

    def packets(self, name: str) -> list[bytes]:
        """The IP packets of a capture, from the version nibble on."""
        return read_packets(self.directory / f"{name}.pcap")

    def stop_programs(self) -> None:
        """Ends what is still running, last started first."""
        for program in reversed(self.programs):
            program.send(signal.SIGTERM)
        for program in reversed(self.programs):
            program.stop(deadline=5.0)
        self.programs.clear()

    def forget_ended(self) -> None:
        """Programs that have ended are no part of later error messages."""
        self.programs = [program for program in self.programs if program.running]

    def close(self) -> None:
        self.stop_programs()
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()

    def _private_file(self, path: str, content: str) -> None:
        """Lay a file of our own over a system file, on this host alone."""
        if not Path(path).exists():
            return  # nothing to protect, and nothing to mount over
        own = self.directory / Path(path).name
        own.write_text(content)
        self.run(["mount", "--bind", str(own), path])
