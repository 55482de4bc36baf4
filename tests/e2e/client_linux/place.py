"""The client host, what it sends where, and the agent that puts plans in place on it."""

from __future__ import annotations

import itertools
import json
import signal
import socket
from pathlib import Path
from typing import Any

from tests.lab import Lab
from tests.lab.program import Program
from tests.lab.waiting import wait_for

_captures = itertools.count(1)
_SENTINEL = bytes.fromhex("45000014 00000000 40fd0000 c00002f9 c00002fa")
"""An IPv4 header, 192.0.2.249 to 192.0.2.250, protocol 253 (for experiments, RFC 3692), nothing in it."""


class Place:
    """state: the agent's state directory."""

    def __init__(self, lab: Lab, state: Path) -> None:
        self.lab, self.host, self.state = lab, lab.client, state
        self.before = self.snapshot()
        self.agent = self.start_agent()
        self.tun = ""

    def start_agent(self) -> Program:
        self._number, self._asked = 0, 0
        command = self.host.python("tests.e2e.client_linux.agent", str(self.state))
        agent = self.host.start(command, "agent", hold=True)
        agent.wait_log("ready")
        return agent

    def ask(self, command: str, argument: Any = None) -> Any:
        self.begin(command, argument)
        return self.answer()

    def begin(self, command: str, argument: Any = None) -> None:
        self._number += 1
        assert self.agent.process.stdin is not None
        self.agent.process.stdin.write(f"{command} {json.dumps(argument)}\n".encode())
        self.agent.process.stdin.flush()

    def answer(self) -> Any:
        line = self.agent.wait_log(rf'^{{"answer": {self._number}, .*$', deadline=40).group()
        return json.loads(line)["result"]

    def apply(self, **configuration: Any) -> None:
        result = self.ask("apply", configuration)
        assert isinstance(result, str), result
        self.tun = result

    def kill(self) -> None:
        self.agent.send(signal.SIGKILL)
        self.agent.wait()

    def reset(self) -> list[str]:
        command = self.host.python("tests.e2e.client_linux.agent", "--reset", str(self.state))
        return json.loads(self.host.run(command).stdout)

    def snapshot(self) -> str:
        """Everything a tunnel changes, in words: what `reset` must give back."""
        commands = (
            ["ip", "-o", "address"],
            ["ip", "rule"],
            ["ip", "-6", "rule"],
            ["ip", "route", "show", "table", "all"],
            ["ip", "-6", "route", "show", "table", "all"],
            ["nft", "list", "ruleset"],
            ["sysctl", "net.ipv4.conf.all.src_valid_mark"],
        )
        return "\n".join(self.host.run(command, check=False).stdout for command in commands)

    def way(self, address: str, mark: int = 0) -> str:
        """The device that the kernel's routes choose, or "" for none."""
        marked = ["mark", str(mark)] if mark else []
        found = self.host.ip_json("route", "get", address, *marked)
        return found[0].get("dev", "") if found and found[0].get("type") != "unreachable" else ""

    def in_tun(self) -> list[str]:
        """Destinations of what went into the tunnel since the last time."""
        return self.ask("in-tun")

    def send(self, *addresses: str, port: int = 9999, interface: str = "", mark: int = 0) -> None:
        """A UDP packet to each; refusals count as not sent. interface: bind to that device, as a program can."""
        program = (
            "import socket, sys\n"
            "interface, mark, port, *addresses = sys.argv[1:]\n"
            "for a in addresses:\n"
            "    s = socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET, socket.SOCK_DGRAM)\n"
            "    if interface: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())\n"
            "    if int(mark): s.setsockopt(socket.SOL_SOCKET, 36, int(mark))\n"
            "    try: s.sendto(b'leak', (a, int(port)))\n"
            "    except OSError as error: print(a, error)\n"
        )
        self.host.run(["python3", "-c", program, interface, str(mark), str(port), *addresses])

    def leaks(self, name: str = "eth0") -> Leaks:
        return Leaks(self, name)

    def close(self) -> None:
        self.agent.stop()
        self.reset()
        after = self.snapshot()
        assert after == self.before, f"not as before:\n{after}\n--- before:\n{self.before}"


class Leaks:
    """A sniffer outside the tunnel: `with place.leaks() as leaks: …`, then `leaks.to(address)`."""

    def __init__(self, place: Place, interface: str) -> None:
        self._place, self._interface, self._name = place, interface, f"leaks{next(_captures)}"

    def __enter__(self) -> Leaks:
        self._program = self._place.host.capture(self._interface, self._name)
        return self

    def __exit__(self, *_: object) -> None:
        # A packet past routes and firewall: when the sniffer has seen it, it has seen all before it.
        program = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)\n"
            "s.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 0x0800, 0, 0, b'\\2\\0\\0\\0\\0\\1'))\n"
        )
        self._place.host.run(["python3", "-c", program, self._interface, _SENTINEL.hex()])
        wait_for(
            lambda: _SENTINEL in self._place.host.packets(self._name), "the sniffer has seen the last packet"
        )
        self._program.stop()

    def to(self, *addresses: str) -> list[bytes]:
        wanted = [
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            for address in addresses
        ]
        return [
            packet
            for packet in self._place.host.packets(self._name)
            if (packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]) in wanted
            and not _finds_neighbours(packet)
        ]


def _finds_neighbours(packet: bytes) -> bool:
    """Whether the kernel asks about a neighbour (RFC 4861, section 4): for IPv6 what ARP is, whenever it likes."""
    return packet[0] >> 4 == 6 and packet[6] == 58 and packet[7] == 255 and packet[40] in range(133, 138)
