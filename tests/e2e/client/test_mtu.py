"""Paths that take less than 1500 bytes, with and without a word about it: whatever the size, it arrives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest

from tests.e2e.client.conftest import Connected
from tests.lab import Gateway, Lab, wait_for
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY4, GATEWAY6, INTRANET4, INTRANET6
from tests.lab.transfer import download, upload

SIZE = 3_000_000
FLOOR = 1280
"""Inner packets of this size always pass: in pieces, where they must."""
CONFIGURED = 1400

OUTSIDE = {"over IPv4": GATEWAY4, "over IPv6": GATEWAY6}
CASES = [
    *(("spoken", *case) for case in itertools.product((1280, 1400), OUTSIDE, ("gcm", "cbc", "tls"))),
    ("muted", 1280, "over IPv4", "tls"),
    ("muted", 1280, "over IPv6", "gcm"),
    ("muted", 1400, "over IPv4", "gcm"),
    ("muted", 1400, "over IPv6", "cbc"),
    ("muted", 1400, "over IPv6", "tls"),
]


@pytest.fixture(scope="module")
def without_gcm(another_gateway: Callable[..., Gateway]) -> Gateway:
    return another_gateway({"esp": {"own_cipher": '"off"'}})


def effective(path: int, outside: str, kind: str) -> range:
    """What `details` may show as the MTU. Outside come IP and UDP, the ESP header of 8 bytes, and with GCM an IV
    of 8, padding to 4, a tag of 16; with CBC an IV of 16, padding to 16, a sum of 16. The client's search is
    exact to 8 bytes."""
    if kind == "tls":
        return range(CONFIGURED, CONFIGURED + 1)
    if path == 1280:
        return range(FLOOR, FLOOR + 1)
    room = path - (48 if outside == "over IPv6" else 28) - (8 + 8 + 16 if kind == "gcm" else 8 + 16 + 16)
    most = room // (4 if kind == "gcm" else 16) * (4 if kind == "gcm" else 16) - 2
    return range(max(FLOOR, most - 16), most + 1)


def everything_passes(lab: Lab) -> None:
    for inside in (INTRANET4, INTRANET6):
        download(lab.client, lab.intranet, inside, SIZE)
        upload(lab.client, lab.intranet, inside, SIZE)
        for size in (1200, 1372, 1500, 4000):  # there and back
            lab.client.run(lab.client.python("tests.lab.probe", "udp", inside, "7", str(size), "3"))


@pytest.mark.parametrize(("router", "path", "outside", "kind"), CASES)
def test_a_narrow_path(
    lab: Lab,
    gateway: Gateway,
    without_gcm: Gateway,
    connected: Connected,
    router: str,
    path: int,
    outside: str,
    kind: str,
) -> None:
    lab.impair.narrow(path)
    lab.impair.mute(router == "muted")
    client = connected(
        without_gcm if kind == "cbc" else gateway,
        host=OUTSIDE[outside],
        transport="tls" if kind == "tls" else "esp",
        **({"esp": False} if kind == "tls" else {}),
    )
    if (router, path, outside) == ("muted", 1280, "over IPv6"):
        # IPv6 is cut by its sender alone, which hears nothing of the need: ESP cannot carry the least packet.
        kind = "tls"
        client.wait_state("connected", transport="tls", deadline=30)
    everything_passes(lab)
    wait_for(
        lambda: client.live()["mtu"] in effective(path, outside, kind),
        "the MTU is known",
        deadline=30,
        explain=lambda: f"{client.live()['mtu']}, not in {effective(path, outside, kind)}",
    )
    assert client.live()["transport"] == ("tls" if kind == "tls" else "esp")
    [link] = lab.client.ip_json("link", "show", client.tun)
    assert link["mtu"] == client.live()["mtu"]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_who_sends_too_large_from_inside_hears_of_it(
    lab: Lab, gateway: Gateway, connected: Connected, outside: str
) -> None:
    lab.impair.narrow(1400)
    client = connected(gateway, host=OUTSIDE[outside])
    wait_for(lambda: client.live()["mtu"] in effective(1400, outside, "gcm"), "the MTU is known", deadline=30)
    live = client.live()
    for inner, head in ((live["ipv4"], 28), (live["ipv6"], 48)):
        # The search may still be about the last bytes.
        wait_for(
            lambda inner=inner, head=head: _told(lab, inner, CONFIGURED - head) == client.live()["mtu"],
            "the gateway says so",
            deadline=20,
        )
        size = str(client.live()["mtu"] - head)
        lab.intranet.run(["ping", "-n", "-q", "-c", "1", "-M", "do", "-s", size, inner])


def _told(lab: Lab, address: str, size: int) -> int | None:
    """The MTU that comes back as the answer to a packet that must not be cut."""
    for family in ("-4", "-6"):  # what it heard while the client was still trying sizes
        lab.intranet.run(["ip", family, "route", "flush", "cache"])
    line = ["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(size), address]
    said = lab.intranet.run(line, check=False).stdout
    found = re.search(r"(?:too big|Frag needed).*mtu ?= ?(\d+)", said)
    return int(found[1]) if found else None


@pytest.mark.parametrize("router", ["spoken", "muted"])
@pytest.mark.parametrize("kind", ["gcm", "tls"])
def test_a_path_that_narrows_while_connected(
    lab: Lab, gateway: Gateway, connected: Connected, router: str, kind: str
) -> None:
    client: OwnClient = connected(
        gateway, transport="esp" if kind == "gcm" else "tls", **({} if kind == "gcm" else {"esp": False})
    )
    download(lab.client, lab.intranet, INTRANET4, SIZE)
    lab.impair.mute(router == "muted")
    lab.impair.narrow(1280)
    for inside in (INTRANET4, INTRANET6):
        upload(lab.client, lab.intranet, inside, SIZE)
        download(lab.client, lab.intranet, inside, SIZE)
    lab.impair.narrow(0)
    everything_passes(lab)
    assert client.connections()[0]["state"] == "connected"
