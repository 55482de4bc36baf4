"""What a gateway says about split-tunnel networks, as a client reads it and plans with it."""

from ipaddress import IPv4Address, IPv6Interface, ip_address

from lockgate.client.network_plan import LocalFacts, Peer, Way
from lockgate.client.plan import make_plan
from lockgate.model.reserved import is_reserved
from lockgate.protocol.errors import PeerError
from lockgate.protocol.pulse.config import TunnelConfig
from lockgate.protocol.pulse.split_networks import (
    MAX_NETWORKS,
    decode_split_networks,
    encode_split_networks,
)
from tests.fuzz import harness

FACTS = LocalFacts("lockgate0", 7, (Peer(ip_address("203.0.113.2"), 443, "tcp"),))
INNER4, INNER6 = IPv4Address("10.8.0.2"), IPv6Interface("fd88::2/128")


def one_input(data: bytes) -> None:
    try:
        include, exclude = decode_split_networks(data)
    except PeerError:
        return
    assert len(include) + len(exclude) <= MAX_NETWORKS
    assert encode_split_networks(include, exclude) == data
    plan = make_plan(TunnelConfig(1400, INNER4, address6=INNER6, include=include, exclude=exclude), FACTS)
    for network in (*include, *exclude):
        first = network.network_address
        if network.prefixlen == network.max_prefixlen and is_reserved(first) and not plan.full_tunnel:
            assert plan.way(first) is not Way.TUNNEL or any(
                first in wider for wider in include if wider.version == first.version and wider != network
            )
    # Nobody is cut off from the tunnel's own address.
    assert plan.way(INNER4) is Way.TUNNEL or INNER4 in {
        each.network_address for each in exclude if each.version == 4 and each.prefixlen == 32
    }


if __name__ == "__main__":
    harness.main("split_networks")
