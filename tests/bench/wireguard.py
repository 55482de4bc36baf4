"""wireguard-go between client and gateway: the packaged one, or a build of the pinned current version."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.latency import watch
from tests.bench.way import Way
from tests.lab import Host, Lab, LabError, Program, wait_for
from tests.lab.host import REPOSITORY
from tests.lab.topology import GATEWAY4, INTRANET_NET4

_PORT = 51820
_GATEWAY_INNER, _CLIENT_INNER = "10.97.0.1", "10.97.0.2"
_MTU = 1420  # what wg-quick sets on a path of 1500

CURRENT = REPOSITORY / ".setup" / "bench" / "wireguard-go"
"""Where scripts/bench-peers puts its build, with the version in a file beside it."""


def packaged() -> Path | None:
    found = shutil.which("wireguard-go")
    return Path(found) if found else None


def current() -> Path | None:
    return CURRENT if CURRENT.exists() else None


class _End:
    """One end: its key pair and, while it runs, its process and device."""

    def __init__(self, host: Host, device: str) -> None:
        self.host, self.device = host, device
        self.private = host.run(["wg", "genkey"]).stdout.strip()
        self.public = host.run(["wg", "pubkey"], input=self.private + "\n").stdout.strip()
        self.program: Program | None = None

    def start(self, binary: Path, address: str, configuration: str) -> None:
        # It and `wg` meet at a socket in /run: one of this host's own, so that nothing lies in the machine's.
        self.host.run(["mount", "-t", "tmpfs", "-o", "mode=755", "wireguard", "/run"])
        self.program = self.host.start(
            [str(binary), "--foreground", self.device], self.device, environment={"LOG_LEVEL": "error"}
        )
        program = self.program
        wait_for(
            lambda: self.host.run(["wg", "show", self.device], check=False).returncode == 0 or None,
            "wireguard-go listens to wg",
            explain=program.tail,
            every=0.01,
        )
        text = f"[Interface]\nPrivateKey = {self.private}\n{configuration}"
        self.host.run(["wg", "setconf", self.device, "/dev/stdin"], input=text)
        self.host.ip(
            f"address add {address}/24 dev {self.device}\nlink set {self.device} mtu {_MTU}\nlink set {self.device} up"
        )

    def stop(self) -> None:
        if self.program is not None:
            self.program.stop(signal.SIGTERM)
            self.program = None
        self.host.run(["umount", "--lazy", "/run"], check=False)

    def processes(self) -> list[int]:
        return [] if self.program is None else [self.program.pid]


@contextmanager
def wireguard(lab: Lab, binary: Path) -> Iterator[Way]:
    gateway, client = _End(lab.gateway, "wgserver"), _End(lab.client, "wgclient")
    with ExitStack() as undo:
        undo.callback(gateway.stop)
        gateway.start(
            binary,
            _GATEWAY_INNER,
            f"ListenPort = {_PORT}\n[Peer]\nPublicKey = {client.public}\nAllowedIPs = {_CLIENT_INNER}/32\n",
        )
        with watch(lab.client) as echo:
            undo.callback(client.stop)
            allowed = f"{_GATEWAY_INNER}/32, {INTRANET_NET4}"
            client.start(
                binary,
                _CLIENT_INNER,
                f"[Peer]\nPublicKey = {gateway.public}\nEndpoint = {GATEWAY4}:{_PORT}\nAllowedIPs = {allowed}\n",
            )
            lab.client.ip(f"route add {INTRANET_NET4} dev {client.device}")
            seconds = echo.first_after(echo.begun)

        def check() -> None:
            for end in (gateway, client):
                if end.program is None or not end.program.running:
                    raise LabError("wireguard-go has ended")

        yield Way(client.device, gateway.processes, client.processes, check, seconds)
