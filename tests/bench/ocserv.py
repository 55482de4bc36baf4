"""ocserv, the packaged peer, on the lab's gateway host."""

from __future__ import annotations

from tests.lab import Host, OpenConnect, Program, wait_for
from tests.lab.topology import GATEWAY4, GATEWAY_NAME, INTRANET_NET4

_PORT = 4443
_USER, _PASSWORD = "alice", "wonderland"

_CONFIGURATION = """\
auth = "plain[passwd={directory}/passwd]"
tcp-port = {port}
udp-port = {port}
listen-host = {address}
run-as-user = root
run-as-group = root
socket-file = {directory}/socket
server-cert = {directory}/cert.pem
server-key = {directory}/key.pem
isolate-workers = false
max-clients = 16
max-same-clients = 16
device = ocs
mtu = 1400
ipv4-network = 10.99.0.0/24
route = {route}
"""


class Ocserv:
    """The running server; `connect` signs a client in."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.directory = host.directory / "ocserv"
        self.directory.mkdir()
        request = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        request += [
            "-subj",
            f"/CN={GATEWAY_NAME}",
            "-addext",
            f"subjectAltName=DNS:{GATEWAY_NAME}",
            "-days",
            "2",
        ]
        request += ["-keyout", str(self.directory / "key.pem"), "-out", str(self.directory / "cert.pem")]
        host.run(request)
        password = ["ocpasswd", "--passwd", str(self.directory / "passwd"), _USER]
        host.run(password, input=f"{_PASSWORD}\n{_PASSWORD}\n")
        configuration = _CONFIGURATION.format(
            directory=self.directory, port=_PORT, address=GATEWAY4, route=INTRANET_NET4
        )
        (self.directory / "ocserv.conf").write_text(configuration)
        command = ["ocserv", "--foreground", "--config", str(self.directory / "ocserv.conf")]
        self.program: Program = host.start(command, "ocserv")
        wait_for(self._listening, "ocserv listens", explain=self.program.tail)

    def _listening(self) -> bool:
        return bool(self.host.run(["ss", "-Hltn", f"sport = :{_PORT}"]).stdout.strip())

    def processes(self) -> list[int]:
        """The server, its security module and a worker for each client: all of them together."""
        listing = self.host.run(["ps", "-e", "-o", "pid=,ppid="]).stdout
        rows = [tuple(map(int, line.split())) for line in listing.splitlines()]
        # nsenter became ocserv by exec, so the program's pid is the main process.
        family = {self.program.pid}
        while grown := {pid for pid, parent in rows if parent in family} - family:
            family |= grown
        return sorted(family)

    def connect(self, client: Host, *options: str) -> OpenConnect:
        return OpenConnect(
            client,
            user=_USER,
            password=_PASSWORD,
            trust=["--cafile", str(self.directory / "cert.pem")],
            protocol="anyconnect",
            server=f"https://{GATEWAY_NAME}:{_PORT}/",
            options=options,
        )
