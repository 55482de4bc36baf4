"""Names through the whole product: the tunnel's servers for all names, or with split for the corporate ones.

Two name servers give different answers to the same public name, so an address tells who was asked.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.e2e.client.conftest import Connected, url, user_of
from tests.e2e.client_dns.machines import ResolvedMachine, check_unpacked
from tests.lab import Gateway, Host, Lab, Program, wait_for
from tests.lab.own_client import OwnClient
from tests.lab.topology import INTRANET4, INTRANET6, INTRANET_NET4, INTRANET_NET6

OUTSIDE4 = "198.51.100.1"
PUBLIC_OUTSIDE, PUBLIC_INSIDE = "198.51.100.80", "10.77.0.99"
SPLIT, FULL = (INTRANET_NET4, INTRANET_NET6), ()
NETWORK = {"search_domains": '["corp.test", "eu.corp.test"]'}

# Odd on purpose: blanks, a comment, no end of the last line.
BEFORE = f"# home\n\nnameserver\t{OUTSIDE4}\nsearch lan \noptions  timeout:1 attempts:1"


def name_server(host: Host, name: str, addresses: tuple[str, ...], *answers: str) -> Program:
    program = host.start(
        [
            # --no-daemon, because else it changes its account, which a user namespace does not allow.
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--pid-file=", "--log-queries"),
            *("--no-resolv", "--no-hosts", "--bind-interfaces"),
            *(f"--listen-address={address}" for address in addresses),
            *(f"--{answer}" for answer in answers),
        ],
        name,
    )
    program.wait_log("started")
    return program


class Names:
    """Both name servers, and what the client's programs find out."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.inside = name_server(
            lab.intranet,
            "dns-inside",
            (INTRANET4, INTRANET6),
            f"address=/public.test/{PUBLIC_INSIDE}",
            f"address=/intranet.corp.test/{INTRANET4}",
            f"address=/printer.eu.corp.test/{INTRANET4}",
            "local=/corp.test/",
        )
        self.outside = name_server(
            lab.internet, "dns-outside", (OUTSIDE4,), f"address=/public.test/{PUBLIC_OUTSIDE}", "local=/lan/"
        )
        self._fresh = (f"www{number}.public.test" for number in itertools.count(1))

    def resolve(self, name: str) -> str | None:
        """As any program on the client asks."""
        done = self.lab.client.run(["getent", "ahostsv4", name], check=False, deadline=90)
        return done.stdout.split()[0] if done.returncode == 0 else None

    def public(self) -> str | None:
        """A name that nobody has asked for yet."""
        return self.resolve(next(self._fresh))

    def write(self, text: str) -> None:
        self.lab.client.run(["sh", "-c", 'printf %s "$0" > /etc/resolv.conf', text])

    def read(self) -> str:
        return self.lab.client.run(["cat", "/etc/resolv.conf"]).stdout

    def asked_outside(self, start: int = 0) -> str:
        return self.outside.log()[start:]

    def corporate_ones_stay_inside(self) -> None:
        """Two by their full name and by the search list, and some that are not there: those are tried hardest."""
        start = len(self.outside.log())
        assert self.resolve("intranet.corp.test") == INTRANET4
        assert self.resolve("intranet") == INTRANET4
        assert self.resolve("printer") == INTRANET4
        assert self.resolve("nowhere.corp.test") is None
        assert self.resolve("secret.eu.corp.test") is None
        for part in ("corp", "nowhere", "secret"):
            assert part not in self.asked_outside(start)

    def close(self) -> None:
        for program in (self.inside, self.outside):
            program.stop()


@pytest.fixture(scope="module")
def _names(lab: Lab) -> Iterator[Names]:
    names = Names(lab)
    yield names
    names.close()


@pytest.fixture
def names(_names: Names) -> Iterator[Names]:
    before = _names.read()
    _names.write(BEFORE)
    assert _names.public() == PUBLIC_OUTSIDE
    yield _names
    _names.write(before)


@pytest.fixture(scope="module")
def with_domains(another_gateway: Callable[..., Gateway]) -> Callable[[tuple[str, ...]], Gateway]:
    made: dict[tuple[str, ...], Gateway] = {}

    def make(include: tuple[str, ...]) -> Gateway:
        if include not in made:
            made[include] = another_gateway(
                {"network": NETWORK}, split_include=include, dns=(INTRANET6, INTRANET4)
            )
        return made[include]

    return make


WithDomains = Callable[[tuple[str, ...]], Gateway]


@pytest.mark.parametrize("include", [SPLIT, FULL], ids=["split", "full"])
def test_names_go_where_they_belong(
    names: Names, with_domains: WithDomains, connected: Connected, include: tuple[str, ...]
) -> None:
    client = connected(with_domains(include))
    live = client.live()
    assert (live["dns"], live["dns_driver"]) == ([INTRANET6, INTRANET4], "file")
    assert live["search_domains"] == ["corp.test", "eu.corp.test"]
    wait_for(lambda: client.live()["dns_silent"] == [], "the servers answer", deadline=30)
    names.corporate_ones_stay_inside()
    start, start_inside = len(names.outside.log()), len(names.inside.log())
    assert names.public() == (PUBLIC_OUTSIDE if include else PUBLIC_INSIDE)
    if include:
        assert "public.test" not in names.inside.log()[start_inside:]
    else:
        assert names.asked_outside(start) == ""
    client.disconnect()
    assert names.read() == BEFORE
    assert names.public() == PUBLIC_OUTSIDE


@pytest.mark.parametrize("include", [SPLIT, FULL], ids=["split", "full"])
@pytest.mark.parametrize("how", ["reset", "next start", "next start, session over"])
def test_kill_9_gives_names_back(
    names: Names, with_domains: WithDomains, connected: Connected, include: tuple[str, ...], how: str
) -> None:
    gateway = with_domains(include)
    client = connected(gateway)
    assert names.read() != BEFORE
    client.kill_service()
    client.kill_edge()
    match how:
        case "reset":
            client.reset()
        case "next start":
            client.start()
            client.wait_state("connected")
            wait_for(lambda: names.resolve("intranet") == INTRANET4, "corporate names are back")
            client.disconnect()
        case _:
            gateway.disconnect(user_of(client))
            client.start()
            client.wait_state("failed")
    assert names.read() == BEFORE
    assert names.public() == PUBLIC_OUTSIDE


def test_the_service_alone_dies_and_comes_back(
    names: Names, with_domains: WithDomains, connected: Connected
) -> None:
    """Split names are divided by the service: without it there are none; the next one goes on."""
    client = connected(with_domains(SPLIT))
    client.kill_service()
    client.start()
    client.wait_state("connected")
    wait_for(lambda: names.resolve("intranet") == INTRANET4, "names are divided again")
    assert names.public() == PUBLIC_OUTSIDE
    client.disconnect()
    assert names.read() == BEFORE


def test_silent_servers_of_the_tunnel_freeze_nothing(
    lab: Lab, names: Names, with_domains: WithDomains, connected: Connected
) -> None:
    client = connected(with_domains(SPLIT))
    lab.intranet.nft(
        "table inet silent { chain input { type filter hook input priority 0;"
        " meta l4proto { tcp, udp } th dport 53 drop; }; }"
    )
    try:
        asked = lab.client.start(["getent", "hosts", "intranet.corp.test"], "getent-silent")
        begin = time.monotonic()
        assert names.public() == PUBLIC_OUTSIDE
        assert time.monotonic() - begin < 5  # those who wait for the tunnel's server are others
        wait_for(
            lambda: client.live()["dns_silent"] == [INTRANET6, INTRANET4], "the user can see why", deadline=30
        )
        assert f"DNS, silent     {INTRANET6} {INTRANET4}\n" in client.command("details").stdout
        assert client.connections()[0]["state"] == "connected"
        assert lab.client.ping(INTRANET4)
        assert asked.wait(deadline=60) != 0
    finally:
        lab.intranet.nft("delete table inet silent")
    wait_for(lambda: client.live()["dns_silent"] == [], "the user can see that they are back", deadline=30)
    assert names.resolve("intranet.corp.test") == INTRANET4


class _BusClient(OwnClient):
    """With a system bus of its machine's own."""

    bus: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.bus}


@pytest.fixture
def resolved() -> Iterator[SimpleNamespace]:
    """A lab of its own, where systemd-resolved manages the client's names."""
    check_unpacked()
    with Lab() as lab:
        names = Names(lab)
        machine = ResolvedMachine(SimpleNamespace(client=lab.client))  # type: ignore[arg-type]
        gateway = Gateway(lab.gateway).initialise(dns=(INTRANET6, INTRANET4), split_include=SPLIT)
        for key, value in NETWORK.items():
            gateway.set_config("network", key, value)
        gateway.add_user("alice")
        gateway.start()
        client = _BusClient(lab.client)
        client.bus = machine.environment
        client.start()
        yield SimpleNamespace(lab=lab, names=names, machine=machine, gateway=gateway, client=client)
        client.stop()
        client.reset()
        gateway.stop()


@pytest.mark.parametrize("end", ["disconnect", "reset"])
def test_systemd_resolved_divides_names(resolved: SimpleNamespace, end: str) -> None:
    names, client, gateway, machine = resolved.names, resolved.client, resolved.gateway, resolved.machine
    # Nothing goes from this network's list, it is only searched no more.
    machine.control("domain", "eth0", "lan")
    before = machine.state()
    client.connect(url(gateway), ca=gateway.ca_file)
    client.wait_state("connected", transport="esp")
    assert client.live()["dns_driver"] == "systemd-resolved"
    names.corporate_ones_stay_inside()
    assert names.public() == PUBLIC_OUTSIDE
    if end == "disconnect":
        client.disconnect()
    else:
        client.kill_service()
        client.kill_edge()
        client.reset()
    assert machine.state() == before
    assert names.public() == PUBLIC_OUTSIDE
