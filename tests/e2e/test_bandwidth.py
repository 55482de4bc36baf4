"""A bandwidth limit of a role holds in the edge, for the sessions it is for and no others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab
from tests.lab.topology import INTRANET4
from tests.lab.transfer import download, upload

KBIT = 800
BURST = 64 << 10  # bytes that pass at once at so low a rate
SIZE = 250_000

ROLE: list[dict[str, Any]] = [
    {"op": "insert", "path": "roles/Slow", "value": {}},
    {
        "op": "insert",
        "path": "realms/Users/rules/slow ones",
        "before": "Everybody",
        "value": {"condition": {"kind": "user", "values": ["slow*"]}, "roles": ["Slow"], "stop": True},
    },
]
LIMIT: dict[str, Any] = {
    "op": "insert",
    "path": "bandwidth/slow",
    "value": {"up_kbit": KBIT, "down_kbit": KBIT, "applies": {"to": "selected", "roles": ["Slow"]}},
}


@pytest.fixture(scope="module")
def gateway_with_slow_users(another_gateway: Callable[..., Gateway]) -> Gateway:
    gateway = another_gateway()
    gateway.add_user("slow")
    gateway.commit(*ROLE)
    return gateway


@pytest.mark.parametrize("transport", ["ESP", "TLS"])
def test_a_limited_session_gets_its_rate_and_others_theirs(
    lab: Lab, gateway_with_slow_users: Gateway, connect: Connect, transport: str
) -> None:
    gateway = gateway_with_slow_users
    gateway.commit(LIMIT)
    options = ["--no-dtls"] if transport == "TLS" else []
    slow = connect(gateway, user="slow", options=options).wait_configured()
    fast = connect(gateway, host=lab.guest, options=options).wait_configured()
    for client in (slow, fast):
        if transport == "ESP":
            client.wait_esp()
    for move in (download, upload):
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(move, lab.client, lab.intranet, INTRANET4, SIZE)
            # At the other's rate this would take minutes.
            download(lab.guest, lab.intranet, INTRANET4, 20_000_000, deadline=60)
            # It can only have taken longer than the limit makes it.
            assert moving.result().seconds >= (SIZE - BURST) * 8 / (KBIT * 1000)
    assert gateway.status()["counters"]["rate"] > 0
    assert gateway.session_of("slow")["dropped"] == 0

    # Who is connected follows a change at once; at the old rate this would take minutes too.
    gateway.commit({"op": "remove", "path": "bandwidth/slow"})
    download(lab.client, lab.intranet, INTRANET4, 20_000_000, deadline=60)
