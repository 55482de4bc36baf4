"""What a machine may do to its client: no TUN, no nft, a full disk, a clock that jumps, networks that overlap."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.client.conftest import Connected, url, user_of
from tests.e2e.client.test_reconnect import Kept, _network
from tests.lab import Gateway, Lab, wait_for
from tests.lab.own_client import OwnClient
from tests.lab.topology import INTRANET4, INTRANET6, INTRANET_NAME
from tests.lab.transfer import download

DAY = 86400
FAKETIME = "*/faketime/libfaketimeMT.so.1"
ITS_SLEEP = Path(__file__).parents[2] / "lab" / "faketime"
"""What Python needs under it."""

NewUser = Callable[[Gateway], str]


@contextmanager
def covered(lab: Lab, path: str, *mount: str) -> Iterator[None]:
    """Something else in the place of a file of the client's machine."""
    lab.client.run(["mount", *mount, path])
    try:
        yield
    finally:
        lab.client.run(["umount", path])


def refused(client: OwnClient, gateway: Gateway, user: str) -> dict[str, object]:
    """The problem that connecting ends with; nothing of it stays."""
    done = client.connect(url(gateway), user, ca=gateway.ca_file, check=False, json=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    gateway.wait_no_sessions(user)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    [problem] = [line["problem"] for line in lines if line.get("state") == "failed"]
    assert client.connections() == []
    return dict(problem)


def works(lab: Lab, client: OwnClient, gateway: Gateway, user: str) -> None:
    client.connect(url(gateway), user, ca=gateway.ca_file)
    wait_for(lambda: lab.client.ping(INTRANET4), "packets pass")
    client.disconnect()


TUN = "/dev/net/tun"


@pytest.mark.parametrize(
    ("path", "mount", "code"),
    [
        (TUN, ("--bind", "/dev/null"), "tun-failed"),
        ("/dev/net", ("-t", "tmpfs", "none"), "tun-missing"),
    ],
    ids=["no TUN device", "no device"],
)
def test_a_tun_is_refused(
    lab: Lab,
    gateway: Gateway,
    client: OwnClient,
    new_user: NewUser,
    path: str,
    mount: tuple[str, ...],
    code: str,
) -> None:
    before, user = _network(lab), new_user(gateway)
    with covered(lab, path, *mount):
        assert refused(client, gateway, user)["code"] == code
        assert _network(lab) == before
    works(lab, client, gateway, user)


def _nft(lab: Lab) -> str:
    return lab.client.run(["sh", "-c", "readlink -f $(command -v nft)"]).stdout.strip()


def test_without_nft_nothing_is_changed(
    lab: Lab, gateway: Gateway, client: OwnClient, new_user: NewUser
) -> None:
    before, user = _network(lab), new_user(gateway)
    with covered(lab, _nft(lab), "--bind", "/dev/null"):
        problem = refused(client, gateway, user)
        assert problem["code"] == "firewall-missing"
        assert "nftables" in str(problem["fix"])
        client.stop()
        client.start()  # and a service that starts has nothing to undo
    assert _network(lab) == before
    works(lab, client, gateway, user)


def test_nft_goes_away_while_connected(lab: Lab, gateway: Gateway, connected: Connected) -> None:
    before = _network(lab)
    client = connected(gateway)
    kept = Kept(lab, gateway, client)
    with covered(lab, _nft(lab), "--bind", "/dev/null"):
        client.wait_edge(client.kill_edge())
        # Without a look at the firewall nobody can say that the way is safe.
        wait_for(lambda: _problem(client) == "firewall-missing", "the user can see why", deadline=30)
    kept.check()
    with covered(lab, _nft(lab), "--bind", "/dev/null"):
        done = client.disconnect(check=False)
        assert done.returncode == 1
        assert "nft" in done.stderr
        gateway.wait_no_sessions(user_of(client))
    client.stop()
    client.start()
    assert _network(lab) == before


def _problem(client: OwnClient) -> str | None:
    problem = client.connections()[0]["problem"]
    return str(problem["code"]) if problem else None


class FullDisk:
    """A small file system in the place of a client's state directory."""

    def __init__(self, lab: Lab, client: OwnClient) -> None:
        self._host, self._path = lab.client, client.state_dir
        client.state_dir.mkdir(mode=0o700)
        self._host.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "none", str(self._path)])

    def fill(self) -> None:
        self._host.run(
            ["sh", "-c", 'cat /dev/zero > "$0"', f"{self._path}/filling"], check=False, deadline=20
        )

    def free(self) -> None:
        self._host.run(["rm", "-f", f"{self._path}/filling"])

    def files(self) -> list[str]:
        return self._host.run(["ls", f"{self._path}/sessions"]).stdout.split()

    def remove(self) -> None:
        self._host.run(["umount", "-l", str(self._path)])


@pytest.fixture
def on_a_small_disk(lab: Lab) -> Iterator[tuple[OwnClient, FullDisk]]:
    client = OwnClient(lab.client)
    disk = FullDisk(lab, client)
    client.start()
    yield client, disk
    lab.impair.heal()
    client.stop()
    client.reset()
    disk.remove()


def test_the_disk_is_full_before(
    lab: Lab, gateway: Gateway, on_a_small_disk: tuple[OwnClient, FullDisk], new_user: NewUser
) -> None:
    client, disk = on_a_small_disk
    before, user = _network(lab), new_user(gateway)
    disk.fill()
    problem = refused(client, gateway, user)
    assert "No space left" in str(problem["summary"])
    assert _network(lab) == before
    assert disk.files() == []
    disk.free()
    works(lab, client, gateway, user)


def test_the_disk_fills_while_connected(
    lab: Lab, gateway: Gateway, on_a_small_disk: tuple[OwnClient, FullDisk], new_user: NewUser
) -> None:
    client, disk = on_a_small_disk
    before, user = _network(lab), new_user(gateway)
    client.connect(url(gateway), user, ca=gateway.ca_file)
    client.user = user  # type: ignore[attr-defined]
    client.wait_state("connected", transport="esp")
    kept = Kept(lab, gateway, client)
    disk.fill()
    download(lab.client, lab.intranet, INTRANET4, 1_000_000)
    for _ in range(3):  # the tunnel goes on with the cookie that is on the disk
        client.wait_edge(client.kill_edge())
        kept.check()
    lab.impair.roam()
    kept.check()
    client.kill_service()
    client.start()
    kept.check()
    lab.impair.roam()
    kept.check()
    client.kill_service()
    client.kill_edge()
    client.start()  # undoes all, and could not write down what it would change
    wait_for(lambda: _problem(client) == "disk-full", "the user can see why", deadline=30)
    # A device may wait there, down and with nothing leading into it: it ends with the service.
    assert {**_network(lab), "links": before["links"]} == before
    disk.free()
    kept.check()
    client.disconnect()
    gateway.wait_no_sessions(user)
    assert _network(lab) == before
    assert disk.files() == []


class JumpingClock(OwnClient):
    """Its service sees another wall clock than everybody else; monotonic clocks and the edge are left alone."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab.client)
        self._stamp = self.directory / "clock"
        self._library = next(Path("/usr/lib").glob(FAKETIME), None)
        assert self._library, "the package libfaketime is missing: see scripts/system-packages.txt"
        self.jump(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._stamp),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(ITS_SLEEP),
        }

    def jump(self, seconds: int) -> None:
        self._stamp.write_text(f"{seconds:+d}\n")

    def offset(self) -> float:
        """How far the service believes to be from the true time, give or take the life of its tunnel."""
        return float(self.connections()[0]["since"]) - time.time()


@pytest.fixture
def jumping(lab: Lab) -> Iterator[JumpingClock]:
    client = JumpingClock(lab)
    client.start()
    yield client
    lab.impair.heal()
    client.stop()
    client.reset()


@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["forward", "back"])
def test_the_clock_jumps_by_a_day(
    lab: Lab, gateway: Gateway, jumping: JumpingClock, new_user: NewUser, seconds: int
) -> None:
    """Longer than a session: half a day."""
    client = jumping
    client.user = new_user(gateway)  # type: ignore[attr-defined]
    client.connect(url(gateway), user_of(client), ca=gateway.ca_file)
    client.wait_state("connected", transport="esp")
    kept = Kept(lab, gateway, client)
    left = client.live()["session_remaining"]
    client.jump(seconds)
    assert abs(client.offset() - seconds) < 300  # the jump is real
    now = client.live()
    assert 0 <= left - now["session_remaining"] < 120
    assert 0 <= now["session_duration"] < 120
    client.wait_edge(client.kill_edge())
    kept.check()
    client.kill_service()  # the next one reads what was written before the jump
    client.start()
    kept.check()
    assert 0 <= left - client.live()["session_remaining"] < 180
    # And while nothing is connected.
    lab.impair.unplug()
    client.wait_state("reconnecting", deadline=30)
    client.jump(0)
    lab.impair.plug()
    kept.check()
    assert 0 <= left - client.live()["session_remaining"] < 240
    client.disconnect()
    gateway.wait_no_sessions(user_of(client))


def test_the_local_network_is_the_tunnel_s_too(
    lab: Lab, another_gateway: Callable[..., Gateway], connected: Connected
) -> None:
    """The client sits in the network that its inner address comes from, and in that of the intranet, with a
    neighbour that has the intranet server's address. The tunnel wins, and the gateway is found all the same."""
    gateway = another_gateway()
    net4, net6 = gateway.pool4.rpartition(".")[0], gateway.pool6.partition("/")[0]
    mine = f"address add {net4}.200/24 dev eth0\naddress add 10.77.0.200/16 dev eth0\n-6 address add {net6}200/112 dev eth0 nodad"
    theirs = f"address add {net4}.201/24 dev to-client\naddress add {INTRANET4}/16 dev to-client"
    lab.client.ip(mine)
    lab.internet.ip(theirs)
    before = _network(lab)
    try:
        client = connected(gateway)
        live = client.live()
        for inside, own in ((INTRANET4, live["ipv4"]), (INTRANET6, live["ipv6"])):
            host = f"[{inside}]" if ":" in inside else inside
            asked = lab.client.run(["curl", "-sS", "--fail", "--max-time", "10", f"http://{host}/whoami"])
            assert asked.stdout.strip() == own
        kept = Kept(lab, gateway, client)
        client.wait_edge(client.kill_edge())
        kept.check()
        client.disconnect()
        assert _network(lab) == before
        assert lab.client.ping(f"{net4}.201")
    finally:
        lab.client.ip(mine.replace(" add ", " del ").replace(" nodad", ""))
        lab.internet.ip(theirs.replace(" add ", " del "))
    assert lab.client.run(["getent", "hosts", INTRANET_NAME]).stdout
