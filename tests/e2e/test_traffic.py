"""A signed-in client reaches the intranet and is reached from it: both transports, both families, all protocols."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, OpenConnect, intranet
from tests.lab.topology import GATEWAY4, GATEWAY6, INTRANET4, INTRANET6
from tests.lab.transfer import download, upload

SIZE = 5_000_000


@pytest.fixture(params=["ESP", "TLS"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[GATEWAY4, GATEWAY6], ids=["over-ipv4", "over-ipv6"])
def outside(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(connect: Connect, gateway: Gateway, transport: str, outside: str) -> OpenConnect:
    client = connect(gateway, address=outside, options=["--no-dtls"] if transport == "TLS" else [])
    client.wait_configured()
    return client.wait_esp() if transport == "ESP" else client


def test_everything_passes_both_ways(lab: Lab, gateway: Gateway, client: OpenConnect, transport: str) -> None:
    for inside in (INTRANET4, INTRANET6):
        assert lab.client.ping(inside, count=5)
        lab.client.run(lab.client.python("tests.lab.probe", "udp", inside, "7", "1200", "20"))
        lab.client.run(lab.client.python("tests.lab.probe", "tcp", inside, "7", "300000"))
        download(lab.client, lab.intranet, inside, SIZE)
        upload(lab.client, lab.intranet, inside, SIZE)
    here = intranet.serve(lab.client, 1000)
    for address in (client.address4, client.address6):
        assert lab.intranet.ping(address, count=5)
        lab.intranet.run(lab.intranet.python("tests.lab.probe", "udp", address, "7", "1200", "20"))
        lab.intranet.run(lab.intranet.python("tests.lab.probe", "tcp", address, "7", "300000"))
    here.stop()
    assert client.transport() == transport
    session = gateway.session_of(client.user)
    assert session["addresses"] == client.addresses()
    assert session["transport"] == transport.lower()


def test_datagrams_larger_than_the_tunnel_are_fragmented_and_arrive(lab: Lab, client: OpenConnect) -> None:
    for inside in (INTRANET4, INTRANET6):
        lab.client.run(lab.client.python("tests.lab.probe", "udp", inside, "7", "8000", "5"))


def test_loss_outside_is_only_loss(lab: Lab, client: OpenConnect) -> None:
    lab.impair.lose(1)
    download(lab.client, lab.intranet, INTRANET4, 2_000_000)
    assert lab.impair.dropped("loss")


def test_client_behind_nat(lab: Lab, connect: Connect, gateway: Gateway, outside: str) -> None:
    lab.impair.nat()
    client = connect(gateway, address=outside).wait_configured().wait_esp()
    assert lab.client.ping(INTRANET4)
    assert lab.client.ping(INTRANET6)
    assert gateway.session_of(client.user)["source"] in ("203.0.113.1", "2001:db8:2::1")


def test_long_round_trips(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    lab.impair.delay(40)
    connect(gateway).wait_configured().wait_esp()
    download(lab.client, lab.intranet, INTRANET4, 1_000_000)


def test_two_users_at_once_each_on_a_host(lab: Lab, connect: Connect, gateway: Gateway) -> None:
    first = connect(gateway).wait_configured()
    second = connect(gateway, host=lab.guest).wait_configured()
    assert set(first.addresses()).isdisjoint(second.addresses())
    for host in (lab.client, lab.guest):
        assert host.ping(INTRANET4)
        assert host.ping(INTRANET6)
