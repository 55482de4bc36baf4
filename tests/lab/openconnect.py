"""The real client, openconnect, on a host of the lab."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.host import Host
from tests.lab.topology import GATEWAY4, GATEWAY_NAME
from tests.lab.waiting import LabError, wait_for

_NETUP = Path(__file__).with_name("netup.sh")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What SIGUSR1 prints: packets and bytes of the tunnel since the start, and how it is connected."""

    state: str
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int


class OpenConnect:
    """One run of openconnect. It starts at once; `wait_configured` tells when the tunnel is up.

    trust:  options that make it believe the server: ["--cafile", FILE] or ["--servercert", PIN].
    cookie: resumes this session instead of signing in.
    input:  further lines on its standard input after the password: answers to later prompts.
    `tun`:  the tunnel's interface on the client.
    """

    _count = 0

    def __init__(
        self,
        host: Host,
        *,
        user: str,
        password: str = "",
        cookie: str | None = None,
        trust: Sequence[str],
        protocol: str = "pulse",
        address: str = GATEWAY4,
        port: int = 443,
        server: str | None = None,
        input: str = "",
        options: Sequence[str] = (),
    ) -> None:
        OpenConnect._count += 1
        self.host, self.user = host, user
        self.tun = f"tun{OpenConnect._count}"
        self._calls_path = host.directory / f"{self.tun}.calls"
        command = ["openconnect", f"--protocol={protocol}", "--user", user, "--non-inter"]
        command.append("--passwd-on-stdin" if cookie is None else "--cookie-on-stdin")
        command += [*trust, "--interface", self.tun, "--script", f"sh {shlex.quote(str(_NETUP))}"]
        command += ["--resolve", f"{GATEWAY_NAME}:{address}", *options]
        command.append(server or f"https://{GATEWAY_NAME}:{port}/")
        self.program = host.start(
            command,
            f"openconnect-{self.tun}",
            input=f"{password if cookie is None else cookie}\n{input}",
            environment={"NETUP_LOG": str(self._calls_path)},
        )

    def wait_configured(self, *, deadline: float = 20.0) -> OpenConnect:
        """Signed in, and the script has set the interface up."""
        self.program.wait_log(r"^(Configured|Connected) as ", deadline=deadline)
        done = self._calls_path.with_name(self._calls_path.name + ".up")
        wait_for(done.exists, f"the script has set {self.tun} up", explain=self.program.tail)
        return self

    def wait_esp(self, *, deadline: float = 20.0) -> OpenConnect:
        self.program.wait_log("^ESP session established with server", deadline=deadline)
        return self

    def wait_refused(self, *, deadline: float = 20.0) -> int:
        """Its exit status, for sign-ins that must not succeed."""
        status = self.program.wait(deadline=deadline)
        if status == 0:
            raise LabError(f"openconnect should have failed\n{self.program.tail()}")
        return status

    def log(self) -> str:
        return self.program.log()

    def send(self, number: signal.Signals) -> None:
        self.program.send(number)

    def log_out(self) -> int:
        """Ends the session at the gateway; its exit status."""
        return self.program.stop(signal.SIGINT)

    def leave(self) -> int:
        """Goes away without logging out: the session stays."""
        return self.program.stop(signal.SIGHUP)

    def vanish(self) -> None:
        """Dies without a word to anybody."""
        self.program.stop(signal.SIGKILL)

    def addresses(self) -> list[str]:
        """The tunnel's inner addresses at this moment, IPv4 first."""
        links = self.host.ip_json("address", "show", "dev", self.tun)
        entries = [
            entry for link in links for entry in link.get("addr_info", []) if entry.get("scope") == "global"
        ]
        entries.sort(key=lambda entry: entry["family"] != "inet")
        return [entry["local"] for entry in entries]

    @property
    def address4(self) -> str:
        return next(address for address in self.addresses() if ":" not in address)

    @property
    def address6(self) -> str:
        return next(address for address in self.addresses() if ":" in address)

    def calls(self) -> list[dict[str, str]]:
        """The variables of every script call so far, oldest first; `reason` tells which call."""
        if not self._calls_path.exists():
            return []
        records = self._calls_path.read_bytes().split(b"\0\0")
        return [
            dict(pair.decode().split("=", 1) for pair in record.split(b"\0") if pair)
            for record in records
            if record.strip(b"\0")
        ]

    def configuration(self) -> dict[str, str]:
        """The variables of the `connect` call: what the gateway told the client."""
        return next(call for call in self.calls() if call["reason"] == "connect")

    def statistics(self) -> Statistics:
        before = len(self.log())
        self.send(signal.SIGUSR1)
        state = self.program.wait_log(r"^(Configured|Connected) as .*$", after=before).group()
        counts = self.program.wait_log(
            r"RX: (\d+) packets \((\d+) B\); TX: (\d+) packets \((\d+) B\)", after=before
        )
        received_packets, received_bytes, sent_packets, sent_bytes = map(int, counts.groups())
        return Statistics(state, received_packets, received_bytes, sent_packets, sent_bytes)

    def transport(self) -> str:
        """ "ESP" or "TLS": what carries packets at this moment."""
        return "ESP" if re.search(r"ESP\S* established", self.statistics().state) else "TLS"
