"""Which networks clients are told: names as the addresses they have, and who wins where entries overlap."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.access_rule import Address, Network
from lockgate.model.policy import AppliesTo, ConnectionProfile, Role, SplitNetworks, VpnOptions
from lockgate.policy.effective import effective
from lockgate.policy.split import Split, split_of
from lockgate.protocol.pulse.config_blocks import MAX_ROUTES
from tests.unit.policy.people import policy

FILES, CLOUD, GATEWAY = "files.example.org", "cloud.example.org", "gateway.example.org"
POOL4, POOL6 = ip_network("10.88.0.0/16"), ip_network("fd00:88::/64")


def entry(include: bool, *targets: str) -> SplitNetworks:
    networks = tuple(ip_network(each) for each in targets if "/" in each)
    names = tuple(each for each in targets if "/" not in each)
    return SplitNetworks("in" if include else "out", include, networks, AppliesTo(), names)


def told(
    *entries: SplitNetworks, answers: dict[str, list[str]] | None = None, on: bool = True, **rest: Any
) -> Split:
    role = Role("Staff", vpn=VpnOptions(split_tunneling="enabled" if on else "disabled"))
    rules = policy(role, splits=entries, **rest)
    resolved: dict[str, tuple[Address, ...]] = {
        name: tuple(map(ip_address, known)) for name, known in (answers or {}).items()
    }
    return split_of(rules, effective(rules, ["Staff"]), resolved, frozenset(resolved))


def texts(networks: tuple[Network, ...]) -> list[str]:
    return [str(each) for each in networks]


def test_a_name_is_the_addresses_it_has_beside_the_networks() -> None:
    split = told(
        entry(True, "10.77.0.0/16", FILES),
        entry(False, "10.77.9.0/24", CLOUD),
        answers={FILES: ["192.0.2.1", "2001:db8::1"], CLOUD: ["10.77.3.4"]},
    )
    assert texts(split.include) == ["10.77.0.0/16", "192.0.2.1/32", str(POOL6), "2001:db8::1/128"]
    assert texts(split.exclude) == ["10.77.9.0/24", "10.77.3.4/32"]
    assert split.answered


def test_split_tunnelling_that_is_off_tells_nothing() -> None:
    assert told(entry(True, FILES), entry(False, CLOUD), answers={FILES: ["192.0.2.1"]}, on=False) == Split()


def test_names_without_an_answer_do_not_send_everything_through_the_tunnel() -> None:
    split = told(entry(True, FILES), answers={FILES: []})
    assert split == Split((POOL4, POOL6), ())
    assert told(entry(False, CLOUD), answers={CLOUD: []}) == Split()
    assert not told(entry(True, FILES)).answered
    assert not told(entry(True, "10.77.0.0/16"), entry(False, CLOUD)).answered


PRECEDENCE = [
    ("an excluded name in an included network stays outside", ["10.77.0.0/16"], [CLOUD], "10.77.3.4", False),
    ("beside it the network counts", ["10.77.0.0/16"], [CLOUD], "10.77.3.5", True),
    ("an included name in an excluded network goes through", ["10.0.0.0/8", FILES], ["10.77.0.0/16"], "10.77.1.2", True),
    ("beside it the exclude counts", ["10.0.0.0/8", FILES], ["10.77.0.0/16"], "10.77.1.3", False),
    ("an included name and its very address excluded", ["10.0.0.0/8", FILES], ["10.77.1.2/32"], "10.77.1.2", False),
    ("an excluded name and its very address included", ["10.77.3.4/32"], [CLOUD], "10.77.3.4", False),
    ("an address of an included and of an excluded name", [FILES], ["shared.example.org"], "10.77.1.2", False),
    ("everything, but for an excluded name", [], [CLOUD], "10.77.3.4", False),
    ("everything else", [], [CLOUD], "192.0.2.99", True),
    ("what nobody names stays outside", [FILES], [], "192.0.2.99", False),
]  # fmt: skip
ANSWERS = {FILES: ["10.77.1.2"], CLOUD: ["10.77.3.4"], "shared.example.org": ["10.77.1.2"]}


@pytest.mark.parametrize(
    ("include", "exclude", "address", "through"), [c[1:] for c in PRECEDENCE], ids=[c[0] for c in PRECEDENCE]
)
def test_who_wins(include: list[str], exclude: list[str], address: str, through: bool) -> None:
    entries = [entry(True, *include)] if include else []
    split = told(*entries, entry(False, *exclude), answers=ANSWERS)
    assert split.decides(ip_address(address))[0] is through


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.251", "255.255.255.255"),
        *("::", "::1", "fe80::1", "ff02::fb", "::ffff:192.0.2.1"),
        *("10.88.4.5", "fd00:88::5"),  # clients
        *("203.0.113.1", "203.0.113.2"),  # the gateway: by its configuration, and by its name
        "10.77.0.53",  # the tunnel's name server
    ],
)
def test_names_never_move_what_is_not_theirs(address: str) -> None:
    for include in (True, False):
        split = told(
            entry(include, FILES),
            answers={FILES: [address, "192.0.2.7"], GATEWAY: ["203.0.113.2"]},
            profiles=(ConnectionProfile("P", dns=(ip_address("10.77.0.53"),)),),
            reserved=(POOL4, POOL6, ip_network("203.0.113.1/32")),
        )
        hosts = [each for each in (*split.include, *split.exclude) if each not in (POOL4, POOL6)]
        assert texts(tuple(hosts)) == ["192.0.2.7/32"]


def test_a_gateway_without_a_name_is_known_by_its_address() -> None:
    split = told(entry(False, CLOUD), answers={CLOUD: ["203.0.113.9"]}, gateway_name="203.0.113.9")
    assert split.exclude == ()


def test_only_so_many_are_told_and_the_configured_ones_first() -> None:
    included = [f"10.{number}.0.0/16" for number in range(50, 250, 2)]
    excluded = [f"10.1.{number}.0/24" for number in range(0, 100, 2)]
    split = told(
        entry(True, *included, FILES),
        entry(False, *excluded, CLOUD),
        answers={
            CLOUD: [f"192.0.2.{number}" for number in range(1, 60)],
            FILES: [f"198.51.100.{number}" for number in range(1, 60)],
        },
    )
    of4 = [each for each in (*split.include, *split.exclude) if each.version == 4]
    assert len(of4) == MAX_ROUTES
    assert {str(each) for each in of4} >= {*included, *excluded}
    assert split.omitted == 100 + 50 + 59 + 59 - MAX_ROUTES
    # Of the names, those that go through the tunnel come first.
    assert sum(str(each).startswith("198.51.100.") for each in split.include) == 59


hosts = st.integers(0, 2**32 - 1).map(lambda number: str(ip_address(number)))


@given(
    st.lists(hosts, max_size=6), st.lists(hosts, max_size=6), st.sampled_from(["10.0.0.0/8", "128.0.0.0/1"])
)
def test_told_twice_is_told_the_same_and_names_bring_single_addresses_only(
    files: list[str], cloud: list[str], network: str
) -> None:
    answers = {FILES: files, CLOUD: cloud}
    split = told(entry(True, network, FILES), entry(False, CLOUD), answers=answers)
    assert split == told(entry(True, network, FILES), entry(False, CLOUD), answers=answers)
    assert all(
        each.prefixlen == each.max_prefixlen
        for each in (*split.include, *split.exclude)
        if each not in (ip_network(network), POOL6)
    )
    assert not set(split.include) & set(split.exclude)
