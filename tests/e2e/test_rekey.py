"""New ESP keys while packets flow: none is lost, and the old keys are no longer used."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab, wait_for
from tests.lab.capture import esp_spis
from tests.lab.topology import GATEWAY4, INTRANET4


@pytest.fixture(scope="module")
def hasty(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway({"esp": {"rekey_seconds": "10"}})


def test_rekeying_loses_nothing(lab: Lab, connect: Connect, hasty: Gateway) -> None:
    connect(hasty).wait_configured().wait_esp()
    capture = lab.internet.capture("to-gateway", "rekey")
    ping = lab.client.start(["ping", "-n", "-i", "0.02", INTRANET4], "ping-rekey")

    def directions() -> tuple[list[bytes], list[bytes]]:
        return tuple(  # type: ignore[return-value]
            esp_spis(lab.internet.packets("rekey"), GATEWAY4, hasty.esp_port, to_gateway=way)
            for way in (True, False)
        )

    wait_for(
        lambda: all(len(spis) >= 3 for spis in directions()),
        "two rekeys in both directions",
        deadline=60,
        every=0.5,
    )
    ping.stop(number=2)  # SIGINT prints its statistics
    capture.stop()
    lost = re.search(r"(\d+) packets transmitted, (\d+) received", ping.log())
    assert lost, ping.log()
    sent, received = map(int, lost.groups())
    # The last request may be on its way when ping ends.
    assert sent - received <= 1
