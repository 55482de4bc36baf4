"""What a plan decides, against a model that asks for each address by itself."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.plan import LocalFacts, LocalInterface, NetworkPlan, Peer, Way, make_plan
from lockgate.client.segments import Address, Network
from lockgate.model.problem import ProblemError
from lockgate.protocol.pulse.config import TunnelConfig

GATEWAY = ip_address("203.0.113.2")
HOME = LocalInterface(
    "eth0",
    2,
    (ip_address("192.168.1.5"), ip_address("fe80::5")),
    (ip_network("192.168.1.0/24"), ip_network("fe80::/64"), ip_network("fd00:1::/64")),
)
FACTS = LocalFacts("lockgate0", 7, (Peer(GATEWAY, 443, "tcp"), Peer(GATEWAY, 4500, "udp")), (HOME,))
BOTH = TunnelConfig(1400, IPv4Address("10.8.0.2"), address6=IPv6Interface("fd88::2/128"))
ONLY4 = TunnelConfig(1400, IPv4Address("10.8.0.2"))


def nets(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


def ways(plan: NetworkPlan, *addresses: str) -> list[Way | None]:
    return [plan.way(ip_address(address)) for address in addresses]


def fenced(plan: NetworkPlan, address: str, interface: str = "eth0") -> bool:
    """Whether the firewall keeps packets for the address from leaving by the interface, by its networks."""
    number, version = int(ip_address(address)), ip_address(address).version

    def holds(segment: object) -> bool:
        return segment.version == version and segment.first <= number <= segment.last  # type: ignore[attr-defined]

    wish = plan.firewall
    if not wish.full:
        return any(map(holds, wish.enclosed))
    return not any(holds(s) and (not names or interface in names) for s, names in wish.outside)


T, O, N = Way.TUNNEL, Way.OUTSIDE, Way.NOWHERE  # noqa: E741

# configuration, address, where it goes, whether the firewall keeps it from eth0
CASES = [
    ("no includes: all IPv4 is in the tunnel", BOTH, "8.8.8.8", T, True),
    ("and all IPv6", BOTH, "2001:db8::1", T, True),
    ("a version that the tunnel does not carry is blocked", ONLY4, "2001:db8::1", N, True),
    ("the gateway itself too, for packets without mark", BOTH, "203.0.113.2", T, True),
    ("the local network is closed", BOTH, "192.168.1.9", T, True),
    ("link-local is never routed into a tunnel, nor open for it", BOTH, "fe80::1", O, True),
    ("an exclude is outside", replace(BOTH, exclude=nets("8.8.0.0/16")), "8.8.8.8", O, False),
    ("an exclude of all there is, is ignored", replace(BOTH, exclude=nets("0.0.0.0/0")), "8.8.8.8", T, True),
    ("split: the include", replace(BOTH, include=nets("10.77.0.0/16")), "10.77.1.1", T, True),
    ("split: the rest is not ours", replace(BOTH, include=nets("10.77.0.0/16")), "8.8.8.8", None, False),
    ("split: another version is not ours", replace(BOTH, include=nets("10.77.0.0/16")), "2001::1", None, False),
    ("split: an include without a tunnel for it", replace(ONLY4, include=nets("fd77::/64")), "fd77::1", N, True),
    ("split: the inner address", replace(BOTH, include=nets("10.77.0.0/16")), "10.8.0.2", T, True),
    ("0.0.0.0/0 with split on is a full tunnel", replace(BOTH, include=nets("0.0.0.0/0")), "8.8.8.8", T, True),
    ("for the other version too", replace(BOTH, include=nets("0.0.0.0/0")), "2001:db8::1", T, True),
    ("also in two halves", replace(ONLY4, include=nets("0.0.0.0/1", "128.0.0.0/1")), "2001:db8::1", N, True),
    ("and by IPv6", replace(BOTH, include=nets("::/0", "10.77.0.0/16")), "8.8.8.8", T, True),
    (
        "the smaller network decides, include or exclude",
        replace(BOTH, include=nets("10.77.0.0/16", "10.77.5.0/28"), exclude=nets("10.77.5.0/24")),
        "10.77.5.1",
        T,
        True,
    ),
    (
        "a DNS server in an exclude is asked through the tunnel all the same",
        replace(BOTH, exclude=nets("8.8.0.0/16"), dns=(ip_address("8.8.8.8"),)),
        "8.8.8.8",
        T,
        True,
    ),
    (
        "split: a DNS server outside the includes is in the tunnel",
        replace(BOTH, include=nets("10.77.0.0/16"), dns=(ip_address("10.99.0.1"),)),
        "10.99.0.1",
        T,
        True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "address", "way", "kept"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_where_an_address_goes(config: TunnelConfig, address: str, way: Way | None, kept: bool) -> None:
    plan = make_plan(config, FACTS)
    assert plan.way(ip_address(address)) is way
    assert fenced(plan, address) is kept


def local(*networks: str, name: str = "eth0") -> LocalFacts:
    return replace(FACTS, interfaces=(LocalInterface(name, 2, (), nets(*networks)),))


OPEN = replace(BOTH, local_subnet_access=True)


@pytest.mark.parametrize(
    ("config", "network", "address", "open_"),
    [
        (OPEN, "192.168.1.0/24", "192.168.1.9", True),
        (OPEN, "172.17.0.0/16", "172.17.0.2", True),
        (OPEN, "169.254.0.0/16", "169.254.3.3", True),
        (OPEN, "fd00:1::/64", "fd00:1::9", True),
        (OPEN, "fe80::/64", "fe80::9", True),
        (BOTH, "192.168.1.0/24", "192.168.1.9", False),
        # TunnelCrack: the access point says that the bank is on the local network.
        (OPEN, "203.0.113.0/24", "203.0.113.9", False),
        (OPEN, "2001:db8:5::/64", "2001:db8:5::9", False),
        (OPEN, "0.0.0.0/1", "8.8.8.8", False),
        # A range of providers, not of homes.
        (OPEN, "100.64.0.0/24", "100.64.0.9", False),
        # One answer of a DHCP server must not take all that companies use.
        (OPEN, "10.0.0.0/8", "10.1.2.3", False),
        (OPEN, "fc00::/7", "fd00:1::9", False),
        # What the tunnel owns stays its own.
        (replace(OPEN, netmask4=IPv4Address("255.255.255.0")), "10.8.0.0/24", "10.8.0.9", False),
        (replace(OPEN, dns=(ip_address("192.168.1.9"),)), "192.168.1.0/24", "192.168.1.9", False),
        (replace(OPEN, gateway4=IPv4Address("192.168.1.9")), "192.168.1.0/24", "192.168.1.9", False),
        (replace(OPEN, include=nets("0.0.0.0/0", "192.168.0.0/16")), "192.168.1.0/24", "192.168.1.9", False),
        # Split: the include is the tunnel's, whatever the local network is called.
        (replace(OPEN, include=nets("192.168.0.0/16")), "192.168.1.0/24", "192.168.1.9", False),
    ],
)
def test_local_subnet_access(config: TunnelConfig, network: str, address: str, open_: bool) -> None:
    plan = make_plan(replace(config, tunnel_routes_first=True), local(network))
    assert (plan.way(ip_address(address)) is Way.OUTSIDE) is open_
    assert fenced(plan, address) is not open_
    assert fenced(plan, address, "wlan0"), "open through another interface"


@pytest.mark.parametrize(
    ("change", "route", "address", "way"),
    [
        ({}, "10.77.5.0/24", "10.77.5.6", Way.OUTSIDE),
        ({}, "10.77.0.0/16", "10.77.5.5", Way.TUNNEL),  # the same network: the tunnel's
        ({}, "10.0.0.0/8", "10.77.5.5", Way.TUNNEL),  # less specific
        ({}, "10.77.5.0/24", "10.77.6.6", Way.TUNNEL),
        ({}, "10.77.5.5/32", "10.77.5.5", Way.TUNNEL),  # the tunnel's DNS server
        ({"tunnel_routes_first": True}, "10.77.5.0/24", "10.77.5.6", Way.TUNNEL),
        ({"enforce4": True}, "10.77.5.0/24", "10.77.5.6", Way.TUNNEL),
        ({"enforce6": True}, "10.77.5.0/24", "10.77.5.6", Way.OUTSIDE),
        ({"include": ()}, "10.77.5.0/24", "10.77.5.6", Way.TUNNEL),  # a full tunnel has no such precedence
    ],
)
def test_precedence_of_local_routes(change: dict[str, object], route: str, address: str, way: Way) -> None:
    config = replace(BOTH, include=nets("10.77.0.0/16"), dns=(ip_address("10.77.5.5"),))
    facts = replace(FACTS, routes=((ip_network(route), "eth0"),))
    plan = make_plan(replace(config, **change), facts)  # type: ignore[arg-type]
    assert plan.way(ip_address(address)) is way
    assert fenced(plan, address) is (way is not Way.OUTSIDE)


LOW = st.integers(0, 255)
NETWORKS = st.lists(
    st.builds(
        lambda low, prefix: IPv4Network((10 << 24 | low, prefix), strict=False), LOW, st.integers(24, 32)
    )
    | st.builds(
        lambda low, prefix: IPv6Network((0xFD << 120 | low, 96 + prefix), strict=False),
        LOW,
        st.integers(24, 32),
    ),
    max_size=5,
)


@given(NETWORKS, NETWORKS, NETWORKS, NETWORKS, LOW, st.booleans(), st.booleans(), st.booleans())
def test_what_is_included_and_not_excluded_is_always_in_the_tunnel(
    include: list[Network],
    exclude: list[Network],
    hostile_routes: list[Network],
    hostile_links: list[Network],
    server: int,
    carries6: bool,
    open_: bool,
    full: bool,
) -> None:
    """Whatever the machine is told by others about its local networks and routes."""
    config = replace(
        BOTH if carries6 else ONLY4,
        include=() if full else tuple(include or nets("10.0.0.0/24")),
        exclude=tuple(exclude),
        dns=(IPv4Address(10 << 24 | server),),
        tunnel_routes_first=True,
        # In a full tunnel, local networks may be opened: that is another property.
        local_subnet_access=open_ and not full,
    )
    facts = replace(
        FACTS,
        interfaces=(LocalInterface("eth0", 2, (), tuple(hostile_links)),),
        routes=tuple((network, "eth0") for network in hostile_routes),
    )
    plan = make_plan(config, facts)
    for base in ("10.0.0.0", "fd00::"):
        for low in range(256):
            address = ip_address(base) + low
            # The model, address by address: in some include and in no exclude.
            belongs = full or any(_in(address, network) for network in config.include)
            if belongs and not any(_in(address, network) for network in exclude):
                carried = address.version == 4 or carries6
                assert plan.way(address) is (Way.TUNNEL if carried else Way.NOWHERE)
                assert fenced(plan, str(address))
            elif not belongs and address not in config.dns:
                assert plan.way(address) in (None, Way.OUTSIDE)


def _in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


@pytest.mark.parametrize(
    ("mtu", "config", "result"),
    [(1400, BOTH, 1400), (65000, BOTH, 9000), (1000, ONLY4, 1000), (576, BOTH, 1280), (1279, BOTH, 1280)],
)
def test_mtu(mtu: int, config: TunnelConfig, result: int) -> None:
    plan = make_plan(replace(config, mtu=mtu), FACTS)
    assert plan.mtu == result
    assert [warning.code for warning in plan.warnings] == ([] if mtu == result else ["mtu-clamped"])


@pytest.mark.parametrize(
    ("code", "config", "facts"),
    [
        ("mtu-absurd", replace(BOTH, mtu=575), FACTS),
        ("no-inner-address", TunnelConfig(1400), FACTS),
        ("no-inner-address", replace(BOTH, address4=None), replace(FACTS, ipv6=False)),
        ("gateway-inside-tunnel", replace(BOTH, address4=IPv4Address("203.0.113.2")), FACTS),
        (
            "gateway-inside-tunnel",
            replace(BOTH, address4=IPv4Address("203.0.113.9"), netmask4=IPv4Address("255.255.255.0")),
            FACTS,
        ),
        (
            "gateway-inside-tunnel",
            replace(BOTH, address6=IPv6Interface("2001:db8:2::9/64")),
            replace(FACTS, peers=(Peer(ip_address("2001:db8:2::2"), 443, "tcp"),)),
        ),
    ],
)
def test_what_is_refused(code: str, config: TunnelConfig, facts: LocalFacts) -> None:
    with pytest.raises(ProblemError) as refusal:
        make_plan(config, facts)
    assert refusal.value.problem.code == code


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.1.1", "169.254.169.254"),
        *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:10.8.0.2", "fe80::1", "febf::1", "ff02::1"),
    ],
)
def test_an_inner_address_that_no_machine_can_have_is_refused(address: str) -> None:
    found = ip_address(address)
    config = (
        replace(BOTH, address4=found)
        if found.version == 4
        else replace(BOTH, address6=IPv6Interface(address))
    )
    with pytest.raises(ProblemError) as refusal:
        make_plan(config, FACTS)
    assert refusal.value.problem.code == "inner-address-absurd"


@pytest.mark.parametrize("field", ["include", "exclude"])
@pytest.mark.parametrize(
    "network",
    [
        *(
            "127.0.0.0/8",
            "127.0.0.53/32",
            "0.0.0.0/8",
            "169.254.169.254/32",
            "224.0.0.0/4",
            "255.255.255.255/32",
        ),
        *("::1/128", "::/128", "fe80::/10", "fe80::/64", "ff00::/8", "ff02::1:2/128"),
    ],
)
def test_networks_of_no_host_are_left_out_with_a_word(field: str, network: str) -> None:
    others: dict[str, tuple[Network, ...]] = {"include": nets("10.77.0.0/16"), "exclude": ()}
    others[field] += nets(network)
    plan = make_plan(replace(BOTH, **others), FACTS)
    assert [warning.code for warning in plan.warnings] == [f"{field}-ignored"]
    assert plan == replace(
        make_plan(replace(BOTH, include=nets("10.77.0.0/16")), FACTS), warnings=plan.warnings
    )


def test_everything_cannot_be_excluded_in_pieces_either() -> None:
    plan = make_plan(replace(BOTH, exclude=nets("0.0.0.0/1", "128.0.0.0/1", "2001:db8::/32")), FACTS)
    assert ways(plan, "8.8.8.8", "2001:db8::1") == [Way.TUNNEL, Way.OUTSIDE]
    assert [warning.code for warning in plan.warnings] == ["exclude-ignored", "exclude-ignored"]


def test_an_include_may_cover_the_gateway() -> None:
    plan = make_plan(replace(BOTH, include=nets("203.0.113.0/24")), FACTS)
    assert plan.peers == FACTS.peers
    assert plan.way(GATEWAY) is Way.TUNNEL


@pytest.mark.parametrize("mask", ["0.0.0.0", "255.0.255.0", "254.0.0.0"])
def test_an_absurd_inner_mask_makes_no_route(mask: str) -> None:
    plan = make_plan(replace(BOTH, netmask4=IPv4Address(mask), include=nets("10.77.0.0/16")), FACTS)
    assert not plan.full_tunnel
    assert ways(plan, "10.8.0.2", "10.8.0.3") == [Way.TUNNEL, None]
    assert [warning.code for warning in plan.warnings] == ["inner-mask"]


def test_servers_and_domains_that_are_none_are_left_out_with_a_word() -> None:
    servers = tuple(map(ip_address, ("127.0.0.53", "10.77.0.10", "fd77::10")))
    plan = make_plan(replace(ONLY4, dns=servers, search_domains=("corp.test", "a\nb")), FACTS)
    assert plan.dns is not None
    assert (plan.dns.servers, plan.dns.domains) == ((ip_address("10.77.0.10"),), ("corp.test",))
    assert [warning.code for warning in plan.warnings] == ["dns-unusable", "dns-unusable", "domains-unusable"]


def test_an_inner_address_that_the_local_network_gave_us_too_is_not_guarded() -> None:
    taken = replace(BOTH, address4=IPv4Address("192.168.1.5"))
    assert make_plan(BOTH, FACTS).firewall.guarded == (ip_address("10.8.0.2"), ip_address("fd88::2"))
    assert make_plan(taken, FACTS).firewall.guarded == (ip_address("fd88::2"),)


def test_every_route_and_warning_has_a_reason_to_show() -> None:
    plan = make_plan(replace(OPEN, exclude=nets("8.8.0.0/16"), include=nets("0.0.0.0/0")), FACTS)
    for route in plan.routes:
        assert any(sentence.startswith(f"{route.network} ") for sentence in plan.decisions), route


def test_without_ipv6_nothing_speaks_of_it() -> None:
    plan = make_plan(BOTH, replace(FACTS, ipv6=False))
    assert {route.network.version for route in plan.routes} == {rule.version for rule in plan.rules} == {4}
