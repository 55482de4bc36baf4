"""Ways over our own gateway and over ocserv."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.bench.latency import watch
from tests.bench.ocserv import Ocserv
from tests.bench.way import Way
from tests.lab import Gateway, Lab, LabError, OpenConnect, OwnClient
from tests.lab.gateway import PASSWORD
from tests.lab.topology import GATEWAY4, INTRANET_NET4


def edge_of(gateway: Gateway) -> list[int]:
    """The edge process, which carries every packet."""
    return [pid for pid, command in gateway.processes().items() if _is_edge(command)]


def control_of(gateway: Gateway) -> list[int]:
    """Everything else of the gateway: supervisor and control plane."""
    return [pid for pid, command in gateway.processes().items() if not _is_edge(command)]


def _is_edge(command: str) -> bool:
    return command.split()[0].rpartition("/")[2] == "lockgate-edge"


@contextmanager
def raw(lab: Lab) -> Iterator[Way]:
    """Plain routing over the same hosts: what the machine could do without a gateway."""
    lab.internet.ip(f"route add {INTRANET_NET4} via {GATEWAY4}")
    try:
        yield Way()
    finally:
        lab.internet.ip(f"route del {INTRANET_NET4}")


@contextmanager
def own(lab: Lab, gateway: Gateway, user: str, *, esp: bool, suite: str = "") -> Iterator[Way]:
    """Our gateway, which runs already, and our client. suite: what the name of the ESP suite must contain."""
    wanted = "esp" if esp else "tls"
    client = OwnClient(lab.client)
    try:
        client.start()
        with watch(lab.client) as echo:
            client.connect(user=user, ca=gateway.ca_file, esp=None if esp else False)
            try:
                seconds = echo.first_after(echo.begun)
            except LabError as error:
                raise LabError(f"{error}\n{client.tail()}") from None
        client.wait_state("connected", transport=wanted)

        def check() -> None:
            details = client.live()
            if details["transport"] != wanted or suite.lower() not in str(details["esp_suite"]).lower():
                found = f"{details['transport']}, {details['esp_suite']}"
                raise LabError(f"traffic does not go over {wanted} {suite}: {found}\n{client.tail()}")

        yield Way(
            client.tun,
            lambda: sorted(gateway.processes()),
            client.processes,
            check,
            seconds,
            transport=lambda: str(client.connections()[0]["transport"]),
        )
        client.disconnect()
    finally:
        client.stop()


@contextmanager
def lockgate(lab: Lab, gateway: Gateway, user: str, *, esp: bool) -> Iterator[Way]:
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

        yield _way(client, lambda: sorted(gateway.processes()), check, seconds)


@contextmanager
def ocserv(lab: Lab, server: Ocserv, *, dtls: bool) -> Iterator[Way]:
    """ocserv and the same client in its own protocol."""
    options = [] if dtls else ["--no-dtls"]
    with _connected(lab, lambda: server.connect(lab.client, *options)) as (client, seconds):
        if dtls:
            client.program.wait_log("^Established DTLS connection")

        def check() -> None:
            state = client.statistics().state
            if bool(re.search("DTLS (connected|established)", state)) != dtls:
                raise LabError(f"traffic does not go over {'DTLS' if dtls else 'TLS'}: {state}")

        yield _way(client, server.processes, check, seconds)


def _way(
    client: OpenConnect, gateway: Callable[[], list[int]], check: Callable[[], None], seconds: float
) -> Way:
    return Way(client.tun, gateway, lambda: [client.program.pid], check, seconds)


@contextmanager
def _connected(lab: Lab, start: Callable[[], OpenConnect]) -> Iterator[tuple[OpenConnect, float]]:
    """A client, and the seconds from its start to the intranet's first answer. It logs out at the end."""
    with watch(lab.client) as echo:
        client = start()
        try:
            seconds = echo.first_after(echo.begun)
        except BaseException as error:
            client.log_out()
            if isinstance(error, LabError):
                raise LabError(f"{error}\n{client.program.tail()}") from None
            raise
    try:
        client.wait_configured()
        yield client, seconds
    finally:
        client.log_out()
