"""The flat list against looking at every network for every address."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.segments import Network, Segment, deciding, flatten

# Few bits, so that networks meet: within 10.0.0.0/24 and 2001:db8::/120.
NETWORKS = st.builds(
    lambda six, low, prefix: (
        IPv6Network((0x20010DB8 << 96 | low, 96 + prefix), strict=False)
        if six
        else IPv4Network((10 << 24 | low, prefix), strict=False)
    ),
    st.booleans(),
    st.integers(0, 255),
    st.integers(24, 32),
)


@given(st.dictionaries(NETWORKS, st.sampled_from("ab"), max_size=8))
def test_every_address_has_the_value_of_the_smallest_network_around_it(entries: dict[Network, str]) -> None:
    found = flatten(entries)
    for base in ("10.0.0.0", "2001:db8::"):
        for low in range(256):
            address = ip_address(base) + low
            around = deciding(entries, address)
            expected = [] if around is None else [entries[around]]
            number, version = int(address), address.version
            values = [value for s, value in found if s.version == version and s.first <= number <= s.last]
            assert values == expected


@given(st.dictionaries(NETWORKS, st.sampled_from("ab"), max_size=8))
def test_neighbours_with_the_same_value_are_one(entries: dict[Network, str]) -> None:
    found = flatten(entries)
    for (before, old), (after, new) in pairwise(found):
        assert (before.version, before.last) < (after.version, after.first)
        assert before.version != after.version or before.last + 1 < after.first or old != new


def test_as_nftables_writes_them() -> None:
    assert Segment(4, 0, 2**32 - 1).text() == "0.0.0.0-255.255.255.255"
    assert Segment(6, 1, 1).text() == "::1"
