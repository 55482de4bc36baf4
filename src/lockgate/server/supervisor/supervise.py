"""Stage two of `lockgate server run`: the unprivileged supervisor of edge and control plane."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import structlog

from lockgate.policy.access import reserved_networks
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.logs import configure_logs
from lockgate.server.supervisor import confinement
from lockgate.server.supervisor.child import Child, Recipe
from lockgate.server.supervisor.plan import Plan

log = structlog.get_logger("supervisor")


def _unix_listener(path: Path) -> socket.socket:
    """A listening Unix socket that only this account can connect to; a left-over one is replaced."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)
    sock.listen(256)
    sock.setblocking(False)
    return sock


def _edge_bootstrap(
    directory: DataDirectory, configuration: Configuration, plan: Plan, link: socket.socket
) -> bytes:
    """The document that the edge reads from its standard input; it holds the server's private key."""
    gateway, limits = configuration.gateway, configuration.limits
    reserved = reserved_networks(configuration.network.pools, gateway.addresses)
    document = {
        "listeners": [{"fd": fd, "role": "gateway"} for fd in plan.gateway]
        + [{"fd": fd, "role": "admin"} for fd in plan.admin],
        "udp": [{"fd": fd} for fd in plan.udp],
        "tun_fd": plan.tun,
        "tun_takes_udp": plan.tun_takes_udp,
        "link_fd": link.fileno(),
        "http_socket": str(directory.http_socket),
        "certificates": [
            {
                "names": [gateway.hostname],
                "chain": directory.server_certificate.read_text(),
                "key": directory.server_key.read_text(),
            }
        ],
        "tls_minimum": gateway.tls_minimum,
        "client_certificates": "request" if gateway.client_certificates == "ask" else "off",
        "reserved": [str(network) for network in reserved],
        "limits": {
            "half_open_total": limits.half_open_total,
            "half_open_per_address": limits.half_open_per_address,
            "sign_in_total": limits.half_open_total,
            "sign_in_per_address": limits.half_open_per_address,
            "new_per_second": limits.new_connections_per_second,
            "new_burst": limits.new_connections_burst,
            "sign_in_seconds": limits.sign_in_seconds,
        },
        "control_uid": os.getuid(),
    }
    return json.dumps(document).encode()


def _certificates(pem: str) -> str:
    """The certificates of a PEM file, and nothing else that somebody put there."""
    found = re.findall("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]*-----END CERTIFICATE-----", pem)
    return "".join(f"{each}\n" for each in found)


class Supervisor:
    """Edge and control plane of one data directory."""

    def __init__(self, directory: DataDirectory, plan: Plan) -> None:
        self._directory = directory
        self._pids: dict[str, int] = {"supervisor": os.getpid()}
        configuration = Configuration.model_validate(json.loads(plan.configuration))
        # The control plane cannot read tls/: it shows administrators what clients see anyway.
        directory.write_run_file("certificate.pem", _certificates(directory.server_certificate.read_text()))
        self._link = _unix_listener(directory.edge_socket)
        self._http = _unix_listener(directory.http_socket)
        self._api = _unix_listener(directory.control_socket)
        edge = Recipe(
            name="edge",
            arguments=[str(confinement.edge_binary()), "run"],
            descriptors=[plan.tun, *plan.gateway, *plan.admin, *plan.udp, self._link.fileno()],
            standard_input=_edge_bootstrap(directory, configuration, plan, self._link),
        )
        command = confinement.python_command(
            "lockgate.server.control",
            *("--dir", str(directory.path)),
            *("--http-fd", str(self._http.fileno())),
            *("--api-fd", str(self._api.fileno())),
            *("--started", str(time.time())),
        )
        control = Recipe(
            name="control",
            arguments=confinement.confined(
                "control",
                command,
                read=confinement.control_reads(directory),
                write=confinement.control_writes(directory),
                connect=confinement.control_connects(directory),
            ),
            descriptors=[self._http.fileno(), self._api.fileno()],
            # The tree at the start of the server. A control plane loads the newest one itself; what takes effect
            # at a start only (addresses, pools, MTU) must stay as edge and TUN device have it.
            standard_input=plan.configuration.encode(),
        )
        self._edge = Child(edge, self._record_pid)
        self._control = Child(control, self._record_pid)

    def _record_pid(self, name: str, pid: int) -> None:
        self._pids[name] = pid
        self._directory.write_run_file("pids.json", json.dumps(self._pids))

    async def run(self) -> None:
        """Returns after SIGTERM or SIGINT, when both processes are gone."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._edge.run(), name="edge")
            group.create_task(self._control.run(), name="control")
            await stop.wait()
            log.info("stopping")
            await self._control.stop()
            await self._edge.stop()
        for path in (
            self._directory.edge_socket,
            self._directory.http_socket,
            self._directory.control_socket,
        ):
            path.unlink(missing_ok=True)
        (self._directory.run / "pids.json").unlink(missing_ok=True)
        log.info("stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="lockgate.server.supervisor.supervise")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--plan-fd", type=int, required=True)
    arguments = parser.parse_args()
    directory = DataDirectory(Path(arguments.dir))
    configure_logs()
    asyncio.run(Supervisor(directory, Plan.read(arguments.plan_fd)).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
