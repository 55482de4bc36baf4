"""Where UDP does not pass, packets go over TLS; when it passes again, ESP comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, wait_for
from tests.lab.topology import INTRANET4, INTRANET6


@pytest.fixture(scope="module")
def quick(another_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway that gives up on ESP after a few seconds of silence."""
    return another_gateway({"esp": {"fallback_seconds": "2"}})


def _reaches(lab: Lab) -> bool:
    return lab.client.ping(INTRANET4) and lab.client.ping(INTRANET6)


def test_esp_never_comes_up_where_udp_is_blocked(lab: Lab, connect: Connect, quick: Gateway) -> None:
    lab.impair.block_udp()
    client = connect(quick).wait_configured()
    wait_for(lambda: _reaches(lab), "packets pass over TLS", deadline=20)
    assert client.transport() == "TLS"


def test_esp_dies_and_comes_back(lab: Lab, connect: Connect, quick: Gateway) -> None:
    client = connect(quick).wait_configured().wait_esp()
    assert _reaches(lab)
    lab.impair.block_udp()
    client.program.wait_log("ESP detected dead peer", deadline=60)
    wait_for(lambda: _reaches(lab), "packets pass over TLS", deadline=30)
    wait_for(
        lambda: quick.session_of(client.user)["transport"] == "tls", "the gateway uses TLS too", deadline=30
    )
    before = len(client.log())
    lab.impair.unblock_udp()
    client.program.wait_log("ESP session established with server", after=before, deadline=100)
    wait_for(lambda: _reaches(lab), "packets pass again")
    wait_for(lambda: quick.session_of(client.user)["transport"] == "esp", "the gateway uses ESP again")


def test_a_gateway_without_esp(lab: Lab, connect: Connect, another_gateway: Callable[..., Gateway]) -> None:
    client = connect(another_gateway({"esp": {"enabled": "false"}})).wait_configured()
    assert _reaches(lab)
    assert client.transport() == "TLS"
