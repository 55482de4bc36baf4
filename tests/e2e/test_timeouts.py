"""Sessions end by themselves: unused, or at their length, with a client or without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab
from tests.lab.topology import INTRANET4


@pytest.fixture(scope="module")
def idle(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway({"sessions": {"idle_seconds": "6"}})


@pytest.fixture(scope="module")
def short(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway({"sessions": {"length_seconds": "10"}})


def test_an_unused_session_ends(lab: Lab, connect: Connect, idle: Gateway) -> None:
    client = connect(idle).wait_configured()
    address = client.address4
    assert client.program.wait(deadline=60) == 1
    idle.wait_no_sessions(client.user)
    assert idle.wait_event("session-end", user=client.user)["reason"] == "idle"
    assert not lab.intranet.ping(address)


def test_a_used_session_does_not(lab: Lab, connect: Connect, idle: Gateway) -> None:
    client = connect(idle).wait_configured()
    lab.client.run(["ping", "-n", "-q", "-i", "1", "-c", "13", INTRANET4])  # twice the idle time
    assert client.program.running
    assert idle.session_of(client.user)


def test_an_unused_session_ends_while_its_client_is_away(connect: Connect, idle: Gateway) -> None:
    client = connect(idle).wait_configured()
    client.vanish()
    idle.wait_no_sessions(client.user, deadline=60)
    assert idle.wait_event("session-end", user=client.user)["reason"] == "idle"


def test_no_session_outlives_its_length(lab: Lab, connect: Connect, short: Gateway) -> None:
    client = connect(short).wait_configured()
    assert "Session authentication will expire at" in client.log()
    ping = lab.client.start(["ping", "-n", "-q", "-i", "0.2", INTRANET4], "ping")
    assert client.program.wait(deadline=60) == 1
    ping.stop()
    short.wait_no_sessions(client.user)
    assert short.wait_event("session-end", user=client.user)["reason"] == "expired"


def test_the_cookie_of_an_ended_session_is_refused(lab: Lab, connect: Connect, short: Gateway) -> None:
    client = connect(short).wait_configured()
    lab.impair.cut()  # the client cannot be told
    short.wait_no_sessions(client.user, deadline=60)
    lab.impair.restore()
    status = client.program.wait(deadline=120)
    assert status in (1, 2)
    assert client.program.running is False
