"""openvpn over UDP with AES-256-GCM, certificates at both ends, on the lab's gateway host."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.latency import watch
from tests.bench.way import Way
from tests.lab import Host, Lab, LabError, Program
from tests.lab.topology import GATEWAY4, INTRANET_NET4

_PORT = 1194
_DEVICE = "ovpn0"

_BOTH = """\
dev {device}
dev-type tun
proto udp
port {port}
cert {directory}/{name}.pem
key {directory}/{name}.key
peer-fingerprint {peer}
data-ciphers AES-256-GCM
tun-mtu 1400
verb 3
"""
_SERVER = """\
local {address}
server 10.96.0.0 255.255.255.0
topology subnet
dh none
keepalive 10 60
push "route 10.77.0.0 255.255.0.0"
"""
_CLIENT = """\
client
remote {address}
nobind
"""


class OpenVpn:
    """The running server; `way` signs a client in."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.directory = lab.gateway.directory / "openvpn"
        self.directory.mkdir()
        prints = {name: _certificate(lab.gateway, self.directory, name) for name in ("server", "client")}
        for name, peer, own in (("server", "client", _SERVER), ("client", "server", _CLIENT)):
            text = _BOTH.format(
                device=_DEVICE, port=_PORT, directory=self.directory, name=name, peer=prints[peer]
            )
            (self.directory / f"{name}.conf").write_text(text + own.format(address=GATEWAY4))
        self.program = self._start(lab.gateway, "server")
        self.program.wait_log("Initialization Sequence Completed")

    def _start(self, host: Host, name: str) -> Program:
        return host.start(["openvpn", "--config", str(self.directory / f"{name}.conf")], f"openvpn-{name}")

    @contextmanager
    def way(self) -> Iterator[Way]:
        client = None
        try:
            with watch(self.lab.client) as echo:
                client = self._start(self.lab.client, "client")
                try:
                    seconds = echo.first_after(echo.begun)
                except LabError as error:
                    raise LabError(f"{error}\n{client.tail()}") from None
            # A name from another start of this log cannot be there: each client has its own.
            client.wait_log("Data Channel: using negotiated cipher 'AES-256-GCM'|cipher 'AES-256-GCM'")
            routes = self.lab.client.ip_json("route", "show", INTRANET_NET4, "dev", _DEVICE)
            if not routes:
                raise LabError(f"openvpn has set no route\n{client.tail()}")
            pid = client.pid
            program = client

            def check() -> None:
                if not program.running:
                    raise LabError(f"openvpn has ended\n{program.tail()}")

            yield Way(_DEVICE, lambda: [self.program.pid], lambda: [pid], check, seconds)
        finally:
            if client is not None:
                client.stop(signal.SIGTERM)


def _certificate(host: Host, directory: object, name: str) -> str:
    """A key and a certificate signed with it; its SHA-256 fingerprint as openvpn wants it."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    usage = f"extendedKeyUsage={'serverAuth' if name == 'server' else 'clientAuth'}"
    files = ["-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.pem"]
    host.run(["openssl", "req", "-x509", *key, "-subj", f"/CN={name}", "-addext", usage, *files])
    shown = host.run(
        ["openssl", "x509", "-in", f"{directory}/{name}.pem", "-noout", "-fingerprint", "-sha256"]
    )
    return shown.stdout.strip().rpartition("=")[2]
