"""A network gone bad, on purpose: loss, cuts, filters, NAT, delay at the internet router, roaming at the client.

The test kernel has no netem: loss is an nftables rule, delay a program (`tests.lab.delay`) that packets are
routed through.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.host import Host
from tests.lab.program import Program
from tests.lab.waiting import wait_for

_TABLE = "inet lab"


class Impairments:
    """Each method replaces what it set before; `heal` takes everything back."""

    def __init__(self, router: Host, client: Host, gateway: Host) -> None:
        self._router, self._client, self._gateway = router, client, gateway
        self._drops: dict[str, str] = {}
        self._nat = False
        self._delay: Program | None = None
        self._away = False
        self._narrow = self._muted = False

    def lose(self, percent: float) -> None:
        """Drop this share of all forwarded packets, in both directions, at random. 0 ends it."""
        per_mille = round(percent * 10)
        self._set("loss", f"numgen random mod 1000 < {per_mille} drop" if per_mille else None)

    def cut(self) -> None:
        """Everything between clients and gateway disappears without a word."""
        self._set("cut", "drop")

    def restore(self) -> None:
        self._set("cut", None)

    def block_udp(self, port: int | None = None) -> None:
        """Drop UDP (to and from one port, or all of it), as many guest networks do."""
        match = "meta l4proto udp" if port is None else f"udp dport {port} drop\nudp sport {port}"
        self._set("udp", f"{match} drop")

    def unblock_udp(self) -> None:
        self._set("udp", None)

    def narrow(self, mtu: int) -> None:
        """Larger packets do not get through between clients and gateway, as if a link behind the router took
        no more; who sent one with DF, or IPv6, hears of it from the router. 0 ends it."""
        # The MTU of a veth device would not do: it drops what is too large on arrival, without a word.
        lock = f"mtu lock {mtu}" if mtu else ""
        self._router.ip(
            "\n".join(
                f"{family}route replace {network} dev {interface} {source} {lock}".rstrip()
                for family, network, interface, source in (
                    ("", "198.51.100.0/24", "to-client", "src 198.51.100.1"),
                    ("", "203.0.113.0/24", "to-gateway", "src 203.0.113.1"),
                    ("-6 ", "2001:db8:1::/64", "to-client", "metric 256"),
                    ("-6 ", "2001:db8:2::/64", "to-gateway", "metric 256"),
                )
            )
        )
        self._narrow = bool(mtu)

    def mute(self, on: bool = True) -> None:
        """The router tells nobody what it could not forward, as many firewalls do not."""
        self._muted = on
        self._apply()

    def nat(self, on: bool = True) -> None:
        """Clients appear behind the router's own address, IPv4 and IPv6."""
        self._nat = on
        self._apply()

    def delay(self, milliseconds: float) -> None:
        """Hold every packet from and to the client this long on each way; adds twice that to a round trip."""
        self._divert(f"{milliseconds:g}")

    def lengthen(self, milliseconds: int, percent: float, relay: Path) -> None:
        """The same for measurements, with this share of all packets lost on each way.

        relay: the program `lockgate-path`. Unlike `lose` it takes single packets out of what the kernel carries
        through the router as one piece, so that a sender of large pieces has no advantage.
        """
        self._divert(str(milliseconds), str(relay), f"{percent:g}")

    def _divert(self, *arguments: str) -> None:
        self._stop_delay()
        program = self._router.start(self._router.python("tests.lab.delay", "delay0", *arguments), "delay")
        program.wait_log("ready")
        rules = [
            f"{family}rule add iif {interface} lookup 100"
            for family in ("", "-6 ")
            for interface in ("to-client", "to-gateway")
        ]
        routes = [f"{family}route replace default dev delay0 table 100" for family in ("", "-6 ")]
        # The queue of the device itself is not to be what overflows.
        self._router.ip("\n".join(["link set delay0 up txqueuelen 20000", *routes, *rules]))
        self._delay = program

    def roam(self) -> None:
        """The client changes network, and with it its addresses: to the other interface and back next time."""
        leave, join = ("wlan0", "eth0") if self._away else ("eth0", "wlan0")
        self._away = not self._away
        via4, via6 = {
            "eth0": ("198.51.100.1", "2001:db8:1::1"),
            "wlan0": ("192.0.2.129", "2001:db8:3::1"),
        }[join]
        self._client.ip(
            f"link set {leave} down\nlink set {join} up\n"
            f"route replace default via {via4} dev {join}\n-6 route replace default via {via6} dev {join}"
        )

    def unplug(self) -> None:
        """The client loses its network with its knowledge: interface down, no route."""
        self._client.ip("link set eth0 down")

    def plug(self) -> None:
        self._client.ip(
            "link set eth0 up\nroute replace default via 198.51.100.1 dev eth0\n"
            "-6 route replace default via 2001:db8:1::1 dev eth0"
        )

    def heal(self) -> None:
        if self._drops or self._nat or self._muted:
            self._drops.clear()
            self._nat = self._muted = False
            self._apply()
        if self._narrow:
            self.narrow(0)
            self._forget_sizes()
        self._stop_delay()
        if self._away:
            self.roam()

    def _forget_sizes(self) -> None:
        """Hosts remember for minutes what a path took."""
        for host in (self._router, self._client, self._gateway):
            for family in ([], ["-6"]):
                host.run(["ip", *family, "route", "flush", "cache"])

    def dropped(self, name: str) -> int:
        """Packets dropped so far by one of "loss", "cut", "udp" since it was set."""
        output = self._router.run(["nft", "list", "counters", "table", *_TABLE.split()]).stdout
        block = output.partition(f"counter by_{name} {{")[2]
        return int(block.split()[1]) if block else 0

    def _set(self, name: str, rule: str | None) -> None:
        self._drops.pop(name, None)
        if rule is not None:
            self._drops[name] = rule
        self._apply()

    def _apply(self) -> None:
        """Replace the whole table in one transaction."""
        counters = "".join(f"counter by_{name} {{ }}\n" for name in self._drops)
        rules = "\n".join(
            line.replace("drop", f'counter name "by_{name}" drop')
            for name, rule in self._drops.items()
            for line in rule.splitlines()
        )
        nat = 'oifname "to-gateway" masquerade' if self._nat else ""
        mute = (
            "icmp type destination-unreachable drop\nicmpv6 type packet-too-big drop" if self._muted else ""
        )
        self._router.nft(
            f"table {_TABLE} {{ }}\ndelete table {_TABLE}\n"
            f"table {_TABLE} {{\n{counters}"
            f"chain forward {{ type filter hook forward priority 0; policy accept;\n{rules}\n}}\n"
            f"chain output {{ type filter hook output priority 0; policy accept;\n{mute}\n}}\n"
            f"chain postrouting {{ type nat hook postrouting priority 100; policy accept;\n{nat}\n}}\n}}\n"
        )

    def _stop_delay(self) -> None:
        if self._delay is None:
            return
        rules = [
            f"{family}rule del iif {interface} lookup 100"
            for family in ("", "-6 ")
            for interface in ("to-client", "to-gateway")
        ]
        self._router.ip("\n".join(rules))
        self._delay.stop()
        self._delay = None
        wait_for(
            lambda: all(link["ifname"] != "delay0" for link in self._router.ip_json("link", "show")),
            "the delay interface is gone",
        )
