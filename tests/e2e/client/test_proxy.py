"""Through a real web proxy where there is one, and directly where it is none.

The proxy is tinyproxy at the router. With the way between client and gateway cut, all that arrives went through it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client.conftest import Connected, url, user_of
from tests.lab import Gateway, Lab, Program, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY4, GATEWAY6, GATEWAY_NAME, GUEST4, INTRANET4, INTRANET6
from tests.lab.transfer import download

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
PROXY4, PORT = "198.51.100.1", 3128
PROXY = f"http://{PROXY4}:{PORT}"
EVERYBODY = f"Allow 0.0.0.0/0\nListen {PROXY4}"

RunProxy = Callable[..., Program]


@pytest.fixture
def proxy(lab: Lab) -> Iterator[RunProxy]:
    """`proxy()` runs tinyproxy; further lines of its configuration may be given."""
    lab.internet.name_address(GATEWAY_NAME, GATEWAY4, GATEWAY6)
    running: list[Program] = []

    def run(lines: str = EVERYBODY) -> Program:
        path = lab.internet.directory / "tinyproxy.conf"
        path.write_text(f"Port {PORT}\nTimeout 600\nLogLevel Connect\nDisableViaHeader Yes\n{lines}\n")
        running.append(lab.internet.start(["tinyproxy", "-d", "-c", str(path)], "tinyproxy"))
        listens = ["ss", "-Hltn", f"sport = :{PORT}"]
        wait_for(lambda: lab.internet.run(listens).stdout, "the proxy listens", explain=running[-1].tail)
        return running[-1]

    yield run
    for program in running:
        program.stop()
    lab.internet.name_address(GATEWAY_NAME)


def last_way(client: OwnClient) -> dict[str, Any]:
    """The newest event that tells how the gateway was reached."""
    lines = (client.state_dir / "events.log").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["id"] in (300, 301)][-1]


def reaches(lab: Lab) -> bool:
    return lab.client.ping(INTRANET4) and lab.client.ping(INTRANET6)


@pytest.mark.parametrize("named", [PROXY4, "proxy.lab.test"])
def test_traffic_passes_through_it(
    lab: Lab, gateway: Gateway, connected: Connected, proxy: RunProxy, named: str
) -> None:
    lab.client.name_address("proxy.lab.test", PROXY4)
    tinyproxy = proxy()
    lab.impair.cut()
    client = connected(gateway, transport="tls", proxy=f"http://{named}:{PORT}")
    assert last_way(client)["id"] == 300
    assert f"{named}:{PORT}" in json.dumps(last_way(client))
    assert f"CONNECT {GATEWAY_NAME}:443" in tinyproxy.log()
    assert reaches(lab)
    download(lab.client, lab.intranet, INTRANET4, 5_000_000)
    details = client.details()
    assert details["via_proxy"] == f"http://{named}:{PORT}/"
    assert (details["transport"], details["peer"]) == ("tls", f"{PROXY4}:{PORT}")
    assert gateway.session_of(user_of(client))["source"] in ("203.0.113.1", "2001:db8:2::1")
    client.disconnect()
    gateway.wait_no_sessions(user_of(client))  # it was told, through the proxy


def test_a_reconnection_goes_through_it_again(
    lab: Lab, gateway: Gateway, connected: Connected, proxy: RunProxy
) -> None:
    tinyproxy = proxy()
    lab.impair.cut()
    client = connected(gateway, transport="tls", proxy=PROXY)
    session = gateway.session_of(user_of(client))["id"]
    tinyproxy.stop()
    client.wait_state("reconnecting", deadline=30)
    again = proxy()
    client.wait_state("connected", deadline=60)
    assert gateway.session_of(user_of(client))["id"] == session
    assert last_way(client)["id"] == 300
    assert f"CONNECT {GATEWAY_NAME}" in again.log()
    wait_for(lambda: reaches(lab), "packets pass again")


NO_USE = {
    "refuses us": f"Listen {PROXY4}\nDeny 0.0.0.0/0\nAllow 192.0.2.77",
    "wants a password": f"{EVERYBODY}\nBasicAuth somebody secret",
    "does not connect to this port": f"{EVERYBODY}\nConnectPort 80",
}


@pytest.mark.parametrize("what", NO_USE)
def test_a_proxy_that_is_no_use(
    lab: Lab, gateway: Gateway, connected: Connected, proxy: RunProxy, what: str
) -> None:
    tinyproxy = proxy(NO_USE[what])
    client = connected(gateway, proxy=PROXY)
    assert last_way(client)["id"] == 301
    assert client.details()["via_proxy"] is None
    assert reaches(lab)
    assert PROXY4 in client.debug_log()  # what became of the proxy is told
    assert tinyproxy.running


def test_a_proxy_that_is_away(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway, proxy=PROXY)
    assert last_way(client)["id"] == 301
    assert reaches(lab)


@pytest.mark.parametrize("what", ["garbage", "close", "hollow", "noisy", "endless", "silent"])
def test_something_else_at_the_proxy_s_place(
    lab: Lab, gateway: Gateway, connected: Connected, what: str
) -> None:
    program = lab.internet.start(
        lab.internet.python("tests.lab.bad_proxy", PROXY4, str(PORT), what), f"bad-proxy-{what}"
    )
    program.wait_log("^ready")
    client = connected(gateway, proxy=PROXY)
    program.stop()
    assert "asked" in program.log()
    assert last_way(client)["id"] == 301
    assert reaches(lab)


def test_a_full_tunnel_through_it_and_then_without(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected, proxy: RunProxy
) -> None:
    full = another_gateway(split_include=())
    tinyproxy = proxy()
    lab.impair.cut()
    client = connected(full, transport="tls", proxy=PROXY)
    assert client.details()["full_tunnel"]
    assert reaches(lab)
    assert not lab.client.ping(PROXY4)  # the way to the proxy is ours alone
    lab.impair.restore()
    tinyproxy.stop()
    # Nobody can be asked for the gateway's address now: it is known from before.
    client.wait_state("connected", transport="esp", deadline=60)
    assert last_way(client)["id"] == 301
    wait_for(lambda: reaches(lab), "packets pass again", explain=client.tail)
    assert not lab.client.ping(GUEST4, source="eth0")


def test_it_is_taken_from_the_environment(
    lab: Lab, gateway: Gateway, client: OwnClient, proxy: RunProxy, new_user: Callable[[Gateway], str]
) -> None:
    proxy()
    line = [
        LOCKGATE,
        "connect",
        url(gateway),
        "--password-stdin",
        "--background",
        "--ca",
        str(gateway.ca_file),
    ]

    def connect(**environment: str) -> int:
        user = new_user(gateway)
        lab.client.run(
            [*line, "--user", user], input=f"{PASSWORD}\n", environment=client.environment | environment
        )
        way = last_way(client)["id"]
        client.disconnect()
        return int(way)

    assert connect(https_proxy=PROXY) == 300
    assert connect(https_proxy=PROXY, no_proxy=".lab.test") == 301
    assert connect(https_proxy="") == 301
