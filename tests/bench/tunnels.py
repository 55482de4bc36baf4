"""The peers a TCP stream runs through, and one round over all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from tests.bench.accounting import CpuMeter
from tests.bench.ocserv import Ocserv
from tests.bench.results import Results
from tests.bench.traffic import DOWN, UP, first_reply, interface_bytes, transfer
from tests.lab import Gateway, Lab, LabError, OpenConnect
from tests.lab.gateway import PASSWORD
from tests.lab.topology import GATEWAY4, INTRANET_NET4

RAW = "raw veth"
ESP_256 = "Lockgate, ESP AES-256-CBC SHA-256"
ESP_128 = "Lockgate, ESP AES-128-CBC SHA-1"
TLS = "Lockgate, TLS"
OCSERV_DTLS = "ocserv, DTLS"
OCSERV_TLS = "ocserv, TLS"

ORDER = (RAW, ESP_256, ESP_128, TLS, OCSERV_DTLS, OCSERV_TLS)
SAME_MODE = {ESP_256: OCSERV_DTLS, ESP_128: OCSERV_DTLS, TLS: OCSERV_TLS}
"""Row of ours → the row of ocserv it is compared with."""

Processes = Callable[[], list[int]]


@dataclass(frozen=True, slots=True)
class Path:
    """An open way from client to intranet.

    groups:   processes of the gateway whose CPU time counts, by column.
    check:    raises LabError when packets do not go the way the row says.
    """

    groups: dict[str, Processes] = field(default_factory=dict)
    client: OpenConnect | None = None
    check: Callable[[], None] = lambda: None
    connect_seconds: float | None = None


Opener = Callable[[], AbstractContextManager[Path]]


def edge_of(gateway: Gateway) -> list[int]:
    """The edge process, which carries every packet."""
    return [pid for pid, command in gateway.processes().items() if _is_edge(command)]


def control_of(gateway: Gateway) -> list[int]:
    """Everything else of the gateway: supervisor and control plane."""
    return [pid for pid, command in gateway.processes().items() if not _is_edge(command)]


def _is_edge(command: str) -> bool:
    return command.split()[0].rpartition("/")[2] == "lockgate-edge"


@contextmanager
def raw(lab: Lab) -> Iterator[Path]:
    """Plain routing over the same hosts: what the machine could do without a gateway."""
    lab.internet.ip(f"route add {INTRANET_NET4} via {GATEWAY4}")
    try:
        yield Path()
    finally:
        lab.internet.ip(f"route del {INTRANET_NET4}")


@contextmanager
def lockgate(lab: Lab, gateway: Gateway, user: str, *, esp: bool) -> Iterator[Path]:
    """Our gateway, which runs already, and openconnect."""
    options = [] if esp else ["--no-dtls"]
    wanted = "ESP" if esp else "TLS"

    def start() -> OpenConnect:
        return OpenConnect(lab.client, user=user, password=PASSWORD, trust=gateway.trust, options=options)

    with _connected(lab, start) as (client, seconds):
        if esp:
            client.wait_esp()

        def check() -> None:
            if client.transport() != wanted:
                raise LabError(f"traffic does not go over {wanted}: {client.statistics().state}")

        groups = {"edge": lambda: edge_of(gateway), "control": lambda: control_of(gateway)}
        yield Path(groups, client, check, seconds)


@contextmanager
def ocserv(lab: Lab, server: Ocserv, *, dtls: bool) -> Iterator[Path]:
    """ocserv and the same client in its own protocol."""
    options = [] if dtls else ["--no-dtls"]
    with _connected(lab, lambda: server.connect(lab.client, *options)) as (client, seconds):
        if dtls:
            client.program.wait_log("^Established DTLS connection")

        def check() -> None:
            state = client.statistics().state
            if bool(re.search("DTLS (connected|established)", state)) != dtls:
                raise LabError(f"traffic does not go over {'DTLS' if dtls else 'TLS'}: {state}")

        yield Path({"edge": server.processes}, client, check, seconds)


@contextmanager
def _connected(lab: Lab, start: Callable[[], OpenConnect]) -> Iterator[tuple[OpenConnect, float]]:
    """A client, and the seconds from its start to the intranet's first answer. It logs out at the end."""
    with first_reply(lab.client) as reply:
        client = start()
        try:
            seconds = reply()
        except LabError as error:
            client.log_out()
            raise LabError(f"{error}\n{client.program.tail()}") from None
    try:
        client.wait_configured()
        yield client, seconds
    finally:
        client.log_out()


def measure(lab: Lab, results: Results, row: str, opener: Opener, seconds: int) -> None:
    """Open one path and send one TCP stream each way through it."""
    with results.attempt(row), opener() as path:
        path.check()
        if path.connect_seconds is not None:
            results.add(row, "connect s", path.connect_seconds)
        for direction in (UP, DOWN):
            with results.attempt(f"{row}, {direction}"):
                _one_way(lab, results, row, path, direction, seconds)
        path.check()


def _one_way(lab: Lab, results: Results, row: str, path: Path, direction: str, seconds: int) -> None:
    before = interface_bytes(lab.client, path.client.tun) if path.client else 0
    with CpuMeter(path.groups) as meter:
        moved = transfer(lab.client, lab.intranet, direction, seconds)
    if path.client and interface_bytes(lab.client, path.client.tun) - before < moved.received:
        raise LabError("the stream did not go through the tunnel")
    results.add(row, direction, moved.gbit)
    gigabytes = moved.received / 1e9
    for column, used in meter.used.items():
        results.add(row, f"{column} s/GB {direction}", used / gigabytes)
    print(f"  {row:<36} {direction:<5} {moved.gbit:7.2f} Gbit/s", flush=True)
