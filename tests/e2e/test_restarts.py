"""Parts of the gateway die: the control plane under load, the edge, the whole of it."""

from __future__ import annotations

import re
import signal

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, Program, wait_for
from tests.lab.topology import INTRANET4, INTRANET6


def _lost(ping: Program) -> int:
    """Ends a ping; how many of its requests went unanswered, the very last one excepted."""
    ping.stop(signal.SIGINT)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", ping.log())
    assert found, ping.log()
    return max(0, int(found.group(1)) - int(found.group(2)) - 1)


@pytest.fixture(params=["ESP", "TLS"])
def client(request: pytest.FixtureRequest, connect: Connect, gateway: Gateway) -> OpenConnect:
    client = connect(gateway, options=["--no-dtls"] if request.param == "TLS" else []).wait_configured()
    return client.wait_esp() if request.param == "ESP" else client


def test_control_plane_killed_under_load(
    lab: Lab, connect: Connect, gateway: Gateway, client: OpenConnect
) -> None:
    session = gateway.session_of(client.user)
    pings = [
        lab.client.start(["ping", "-n", "-q", "-i", "0.01", address], f"ping-kill-{client.tun}")
        for address in (INTRANET4, INTRANET6)
    ]
    # Steady, and in small steps: openconnect's own UDP buffer overflows in the bursts of a large window,
    # whoever is alive at the gateway.
    lab.client.run(["sysctl", "-qw", "net.ipv4.tcp_rmem=4096 16384 16384"])
    url = f"http://{INTRANET4}/bytes/20000000"
    load = ["curl", "-sS", "--fail", "--limit-rate", "4M", "-o", "/dev/null", url]
    transfer = lab.client.start(load, f"load-{client.tun}")
    killed = gateway.kill("control")
    gateway.wait_successor("control", killed)
    newcomer = connect(gateway, host=lab.guest).wait_configured()
    assert transfer.wait(deadline=60) == 0
    assert [_lost(ping) for ping in pings] == [0, 0]

    after = wait_for(lambda: gateway.session_of(client.user), "the session is known again")
    assert (after["id"], after["addresses"]) == (session["id"], session["addresses"])
    assert client.log_out() == 0
    gateway.wait_no_sessions(client.user)
    assert not lab.intranet.ping(session["addresses"][0])
    assert newcomer.log_out() == 0


def test_a_logout_while_the_control_plane_is_away(lab: Lab, gateway: Gateway, client: OpenConnect) -> None:
    address = gateway.session_of(client.user)["addresses"][0]
    before = len(gateway.events("link-down"))
    killed = gateway.kill("control")
    gateway.wait_event("link-down", count=before + 1)
    assert client.log_out() == 0
    assert not lab.intranet.ping(address)
    gateway.wait_successor("control", killed)
    gateway.wait_no_sessions(client.user)


def test_a_client_reconnects_after_the_control_plane_was_killed(
    lab: Lab, gateway: Gateway, client: OpenConnect
) -> None:
    before = client.addresses()
    gateway.wait_successor("control", gateway.kill("control"))
    client.send(signal.SIGUSR2)
    gateway.wait_event("session-resume", user=client.user, outcome="ok", deadline=60)
    wait_for(lambda: lab.client.ping(INTRANET4), "packets pass again", deadline=60)
    assert client.addresses() == before


def test_edge_killed(lab: Lab, gateway: Gateway, client: OpenConnect) -> None:
    before, session = client.addresses(), gateway.session_of(client.user)["id"]
    gateway.wait_successor("edge", gateway.kill("edge"))
    wait_for(
        lambda: lab.client.ping(INTRANET4) and lab.client.ping(INTRANET6),
        "the client is back by its cookie",
        deadline=90,
        explain=client.program.tail,
    )
    assert client.addresses() == before
    assert gateway.session_of(client.user)["id"] == session
    assert not gateway.events("sign-in", user=client.user)[1:]  # nobody typed a password again


def test_the_whole_gateway_restarts(lab: Lab, connect: Connect, another_gateway: object) -> None:
    gateway: Gateway = another_gateway()  # type: ignore[operator]
    client = connect(gateway).wait_configured()
    before = client.addresses()
    gateway.stop()
    assert gateway.program is not None
    assert gateway.program.process.returncode == 0
    gateway.start()
    wait_for(lambda: lab.client.ping(INTRANET4), "the client is back by its cookie", deadline=90)
    assert client.addresses() == before
