"""The message about split-tunnel networks: what it looks like, and what is refused."""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.client_events import SplitNetworksMoved
from lockgate.protocol.pulse.config import Network
from lockgate.protocol.pulse.extensions import SPLIT_NETWORKS
from lockgate.protocol.pulse.split_networks import (
    MAX_NETWORKS,
    decode_split_networks,
    encode_split_networks,
)
from lockgate.protocol.secret import Secret
from tests.transcripts.configurations import CONFIGURATIONS
from tests.unit.protocol.pair import introduced

NETWORK4, NETWORK6, HOST = IPv4Network("10.77.0.0/16"), IPv6Network("fd77::/64"), IPv4Network("10.77.5.6/32")
GOLDEN = bytes.fromhex(
    "0002 0001"  # two includes, one exclude
    "04 10 0a4d0000"
    "06 40 fd770000000000000000000000000000"
    "04 20 0a4d0506"
)


def networks(kind: type[IPv4Network] | type[IPv6Network], bits: int) -> st.SearchStrategy[Network]:
    return st.builds(
        lambda number, prefix: kind((number >> (bits - prefix) << (bits - prefix) if prefix else 0, prefix)),
        st.integers(0, 2**bits - 1),
        st.integers(0, bits),
    )


LISTS = st.lists(st.one_of(networks(IPv4Network, 32), networks(IPv6Network, 128)), max_size=40)


def test_what_it_looks_like() -> None:
    assert encode_split_networks((NETWORK4, NETWORK6), (HOST,)) == GOLDEN
    assert decode_split_networks(GOLDEN) == ((NETWORK4, NETWORK6), (HOST,))
    assert decode_split_networks(bytes(4)) == ((), ())


@given(LISTS, LISTS)
def test_reading_undoes_writing(include: list[Network], exclude: list[Network]) -> None:
    assert decode_split_networks(encode_split_networks(include, exclude)) == (tuple(include), tuple(exclude))


@pytest.mark.parametrize("length", range(len(GOLDEN)))
def test_what_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(PeerError):
        decode_split_networks(GOLDEN[:length])


@pytest.mark.parametrize(
    "body",
    [
        GOLDEN + b"\0",
        bytes.fromhex("0001 0000 05 20 0a4d0506"),  # no IP version
        bytes.fromhex("0001 0000 04 21 0a4d0506"),  # prefix of 33 bits
        bytes.fromhex("0001 0000 04 10 0a4d0506"),  # bits beyond the prefix
        bytes.fromhex("0001 0000 06 81") + bytes(16),
        (MAX_NETWORKS).to_bytes(2) + b"\0\1" + bytes.fromhex("04 20 0a4d0506") * (MAX_NETWORKS + 1),
        b"\xff\xff\xff\xff",
    ],
)
def test_what_is_no_list_of_networks_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError):
        decode_split_networks(body)
    conversation = ClientConversation.in_tunnel()
    with pytest.raises(PeerError):
        conversation.receive(Frame(0xA4C, 0x4C02, body))


def test_more_than_anybody_takes_is_our_mistake() -> None:
    hosts = [ip_network(("10.0.0.0", 32))] * MAX_NETWORKS
    assert len(decode_split_networks(encode_split_networks(hosts, ()))[0]) == MAX_NETWORKS
    with pytest.raises(UsageError):
        encode_split_networks(hosts, (HOST,))


def test_it_is_told_in_the_tunnel_alone() -> None:
    pair = introduced(capabilities=frozenset([SPLIT_NETWORKS]))
    pair.server.signed_in(Secret(b"cookie"), 3600, 600)
    pair.settle()
    pair.server.configure(CONFIGURATIONS["captured"])
    with pytest.raises(UsageError):
        pair.server.tell_split_networks((NETWORK4,), ())
    # A gateway that says so too early is passed over: the configuration is what counts then.
    assert pair.client.receive(Frame(0xA4C, 0x4C02, GOLDEN)) == []
    pair.server.end_configuration()
    pair.seen()
    pair.server.tell_split_networks((NETWORK4, NETWORK6), (HOST,))
    [frame] = pair.server.take_frames()
    assert (frame.vendor, frame.kind, frame.body) == (0xA4C, 0x4C02, GOLDEN)
    assert pair.client.receive(frame) == [SplitNetworksMoved((NETWORK4, NETWORK6), (HOST,))]
