"""The lab's network: who is connected to whom, with which addresses.

    client eth0 ──┐
    client wlan0 ─┤ (down until it roams)
    guest eth0 ───┴── internet ── gateway outside │ gateway inside ── intranet eth0

All outer addresses are from the ranges for documentation; the intranet has private ones and sends everything
back through the gateway, so tunnel pools need no route of their own there.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from tests.lab.host import Host
from tests.lab.impair import Impairments
from tests.lab.place import lab_directory


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair between two hosts: interface, IPv4 and IPv6 address with prefix length, at each end."""

    left: tuple[str, str, str, str]  # host, interface, address4/len, address6/len
    right: tuple[str, str, str, str]


GATEWAY_NAME = "gw.lab.test"
INTRANET_NAME = "intranet.lab.test"

CLIENT4, CLIENT6 = "198.51.100.2", "2001:db8:1::2"
ROAMING4, ROAMING6 = "192.0.2.130", "2001:db8:3::2"
GUEST4, GUEST6 = "192.0.2.2", "2001:db8:4::2"
GATEWAY4, GATEWAY6 = "203.0.113.2", "2001:db8:2::2"
INSIDE4, INSIDE6 = "10.77.0.1", "fd77::1"
INTRANET4, INTRANET6 = "10.77.0.10", "fd77::10"
INTRANET_NET4, INTRANET_NET6 = "10.77.0.0/16", "fd77::/64"

CABLES = (
    Cable(("client", "eth0", f"{CLIENT4}/24", f"{CLIENT6}/64"),
          ("internet", "to-client", "198.51.100.1/24", "2001:db8:1::1/64")),
    Cable(("client", "wlan0", f"{ROAMING4}/25", f"{ROAMING6}/64"),
          ("internet", "to-wlan", "192.0.2.129/25", "2001:db8:3::1/64")),
    Cable(("guest", "eth0", f"{GUEST4}/25", f"{GUEST6}/64"),
          ("internet", "to-guest", "192.0.2.1/25", "2001:db8:4::1/64")),
    Cable(("internet", "to-gateway", "203.0.113.1/24", "2001:db8:2::1/64"),
          ("gateway", "outside", f"{GATEWAY4}/24", f"{GATEWAY6}/64")),
    Cable(("gateway", "inside", f"{INSIDE4}/16", f"{INSIDE6}/64"),
          ("intranet", "eth0", f"{INTRANET4}/16", f"{INTRANET6}/64")),
)  # fmt: skip

# Where each host sends what it has no cable for.
DEFAULT_ROUTES = {
    "client": ("198.51.100.1", "2001:db8:1::1"),
    "guest": ("192.0.2.1", "2001:db8:4::1"),
    "gateway": ("203.0.113.1", "2001:db8:2::1"),
    "intranet": (INSIDE4, INSIDE6),
}


class Lab:
    """The hosts and the cables between them; `with Lab() as lab:` takes everything down at the end.

    Several labs may exist at once inside one `enter`.
    """

    _count = 0

    def __init__(self) -> None:
        Lab._count += 1
        self.directory = lab_directory() / f"lab{Lab._count}"
        self.hosts: dict[str, Host] = {}
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        self.impair = Impairments(self.internet, self.client, self.gateway)

    def _build(self) -> None:
        for name in ("client", "guest", "internet", "gateway", "intranet"):
            self.hosts[name] = Host(name, self.directory / name)
        for cable in CABLES:
            self._lay(cable)
        for name, (via4, via6) in DEFAULT_ROUTES.items():
            self.hosts[name].ip(f"route add default via {via4}\n-6 route add default via {via6}")
        for name in ("internet", "gateway"):
            self.hosts[name].sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        self.client.ip("link set wlan0 down")
        for name in ("client", "guest"):
            self.hosts[name].name_address(GATEWAY_NAME, GATEWAY4, GATEWAY6)
            self.hosts[name].name_address(INTRANET_NAME, INTRANET4, INTRANET6)

    def _lay(self, cable: Cable) -> None:
        left, right = (self.hosts[end[0]] for end in (cable.left, cable.right))
        # Ends with the same index look like one device to the kernel, which then reports the carrier up to a
        # second late; until then IPv6 is not ready.
        index = 10 * (CABLES.index(cable) + 1)
        self.internet.ip(
            f"link add index {index} name {cable.left[1]} netns {left.namespace_pid} type veth"
            f" peer index {index + 1} name {cable.right[1]} netns {right.namespace_pid}"
        )
        for host, (_, interface, address4, address6) in ((left, cable.left), (right, cable.right)):
            host.ip(
                f"address add {address4} dev {interface}\n"
                f"address add {address6} dev {interface} nodad\n"
                f"link set {interface} up"
            )

    @property
    def client(self) -> Host:
        return self.hosts["client"]

    @property
    def guest(self) -> Host:
        """A second client, for two users at once."""
        return self.hosts["guest"]

    @property
    def internet(self) -> Host:
        """The router between clients and gateway."""
        return self.hosts["internet"]

    @property
    def gateway(self) -> Host:
        return self.hosts["gateway"]

    @property
    def intranet(self) -> Host:
        return self.hosts["intranet"]

    def tails(self, lines: int = 30) -> str:
        """The end of every started program's log: what a failure message needs."""
        return "\n".join(program.tail(lines) for host in self.hosts.values() for program in host.programs)

    def close(self) -> None:
        for host in self.hosts.values():
            host.stop_programs()
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
