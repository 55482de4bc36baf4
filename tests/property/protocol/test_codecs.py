"""Decoding undoes encoding, for everything with a binary form."""

import dataclasses
import ipaddress
import types
import typing
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.protocol import edge_link, edge_link_codec
from lockgate.protocol.avp import MAX_AVPS, Avp, decode_avps, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.if_t import Frame, FrameReader, Received, encode_frame
from lockgate.protocol.ncp import config as ncp_config
from lockgate.protocol.ncp import messages as ncp_messages
from lockgate.protocol.pulse.config import (
    EspCipher,
    EspHmac,
    EspOffer,
    TunnelConfig,
    decode_config,
    encode_config,
)
from lockgate.protocol.pulse.esp_keys import EspKeys, decode_answer, decode_offer, encode_answer, encode_offer
from lockgate.protocol.secret import Secret
from lockgate.protocol.strict_msgpack import Bits, Length

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
frames = st.builds(Frame, st.integers(0, 2**24 - 1), u32, st.binary(max_size=64))
avps = st.builds(Avp, u32, st.binary(max_size=40), u32, st.booleans())


@given(st.lists(st.builds(Received, frames, u32)), st.integers(1, 40))
def test_frames_do_not_depend_on_how_the_stream_is_cut(sent: list[Received], size: int) -> None:
    wire = b"".join(encode_frame(received.frame, received.sequence) for received in sent)
    reader, found = FrameReader(), []
    for at in range(0, len(wire), size):
        reader.feed(wire[at : at + size])
        while (received := reader.next_frame()) is not None:
            found.append(received)
    assert found == sent


@given(st.lists(avps, max_size=MAX_AVPS))
def test_avps(sent: list[Avp]) -> None:
    assert decode_avps(encode_avps(sent)) == sent


@given(
    st.one_of(
        st.builds(EapPacket, st.sampled_from([EapCode.SUCCESS, EapCode.FAILURE]), u8),
        st.builds(
            EapPacket,
            st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE]),
            u8,
            st.integers(0, 253),
            st.binary(max_size=64),
        ),
        st.builds(
            EapPacket,
            st.sampled_from([EapCode.REQUEST, EapCode.RESPONSE]),
            u8,
            st.just(int(EapType.EXPANDED)),
            st.binary(max_size=64),
            st.integers(0, 2**24 - 1),
            u32,
        ),
    )
)
def test_eap(packet: EapPacket) -> None:
    assert decode_eap(encode_eap(packet)) == packet


secrets = st.builds(Secret, st.binary(min_size=64, max_size=64))
keys = st.builds(EspKeys, st.integers(1, 2**32 - 1), secrets)


@given(keys, keys)
def test_esp_keys(client: EspKeys, server: EspKeys) -> None:
    assert decode_offer(encode_offer(server)) == server
    assert decode_answer(encode_answer(client, server)) == client


def network_lists() -> st.SearchStrategy[tuple[typing.Any, ...]]:
    """IPv4 before IPv6, as the wire has them."""
    four = st.builds(
        lambda address, prefix: ipaddress.IPv4Network((address, prefix), strict=False),
        u32,
        st.integers(0, 32),
    )
    six = st.builds(
        lambda address, prefix: ipaddress.IPv6Network((address, prefix), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    )
    return st.builds(lambda a, b: (*a, *b), st.lists(four, max_size=120), st.lists(six, max_size=120))


address4 = st.ip_addresses(v=4)
address6 = st.builds(
    lambda address, prefix: ipaddress.IPv6Interface((address, prefix)),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)
esp_offers = st.builds(
    lambda algorithms, *rest: EspOffer(*algorithms, *rest),
    st.sampled_from([(c, h) for c in EspCipher for h in EspHmac if c.gcm == (h is EspHmac.NONE)]),
    st.integers(1, 65535),
    u32,
    u32,
    st.booleans(),
    st.booleans(),
)
shown = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=40)
tunnels = st.builds(
    TunnelConfig,
    mtu=st.integers(1, 16368),
    address4=address4,
    netmask4=address4,
    address6=st.none() | address6,
    dns=st.lists(st.ip_addresses(), max_size=5).map(tuple),
    wins=st.lists(address4, max_size=3).map(tuple),
    search_domains=st.lists(st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True), max_size=5).map(tuple),
    include=network_lists(),
    exclude=network_lists(),
    gateway4=st.none() | address4,
    esp=st.none() | esp_offers,
    disconnect_on_route_change=st.booleans(),
    tunnel_routes_first=st.booleans(),
    local_subnet_access=st.booleans(),
    enforce4=st.booleans(),
    enforce6=st.booleans(),
    extended=st.booleans(),
    reminder=st.integers(0, (1 << 32) - 1),
    password_caching=st.booleans(),
    proxy=shown,
    pac_script=st.binary(max_size=200),
    pac_url=shown,
) | st.builds(TunnelConfig, mtu=st.integers(1, 16368), address6=address6)


@given(tunnels)
def test_tunnel_configurations(config: TunnelConfig) -> None:
    assert decode_config(encode_config(config)) == config


ncp_tunnels = st.builds(
    TunnelConfig,
    mtu=st.integers(1, 16368),
    address4=address4,
    netmask4=address4,
    dns=st.lists(address4, max_size=3).map(tuple),
    wins=st.lists(address4, max_size=3).map(tuple),
    search_domains=st.lists(st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True), max_size=5).map(tuple),
    include=network_lists().map(lambda networks: tuple(each for each in networks if each.version == 4)),
    exclude=network_lists().map(lambda networks: tuple(each for each in networks if each.version == 4)),
    gateway4=st.none() | address4,
)
ncp_offers = st.builds(
    EspOffer,
    st.sampled_from([EspCipher.AES128_CBC, EspCipher.AES256_CBC]),
    st.just(EspHmac.SHA1),
    st.integers(1, 65535),
    u32,
    u32,
    st.booleans(),
)


@given(ncp_tunnels, st.none() | st.tuples(ncp_offers, keys))
def test_network_connect_configurations(config: TunnelConfig, esp: tuple[EspOffer, EspKeys] | None) -> None:
    offer, offered = esp or (None, None)
    config = dataclasses.replace(config, esp=offer)
    assert ncp_config.decode_config(ncp_config.encode_config(config, offered)) == (config, offered)


@given(keys, st.none() | st.booleans(), st.none() | u32)
def test_network_connect_messages(key: EspKeys, uses_esp: bool | None, mtu: int | None) -> None:
    assert ncp_messages.decode_keys(ncp_messages.encode_keys(key)) == key
    options = ncp_messages.Options(uses_esp, mtu)
    assert ncp_messages.decode_options(ncp_messages.encode_options(options)) == options


def values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of a field of the edge link, from its annotation."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, limit = typing.get_args(hint)
        if isinstance(limit, Bits):
            return st.integers(0, 2**limit.width - 1)
        return sized(kind, limit)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return st.none() | values(typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        return st.tuples(*map(values, typing.get_args(hint)))
    if hint is bool:
        return st.booleans()
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    return messages(hint)


def sized(kind: typing.Any, limit: Length) -> st.SearchStrategy[typing.Any]:
    most = min(limit.most, 300)
    if kind is str:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=most // 4)
    if kind in (bytes, Secret):
        if limit.exactly:
            data = st.one_of(*(st.binary(min_size=n, max_size=n) for n in limit.exactly))
        else:
            data = st.binary(max_size=most)
        return data.map(kind)
    return st.lists(values(typing.get_args(kind)[0]), max_size=min(most, 4)).map(tuple)


def messages(cls: type) -> st.SearchStrategy[typing.Any]:
    if cls is edge_link.Rule:
        return rules()
    hints = typing.get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in dataclasses.fields(cls)})


@st.composite
def rules(draw: st.DrawFn) -> edge_link.Rule:
    address = draw(st.sampled_from([bytes(4), bytes(range(16))]))
    low, high = sorted([draw(u16), draw(u16)])
    prefix = draw(st.integers(0, 8 * len(address)))
    return edge_link.Rule(
        draw(st.booleans()), draw(st.none() | u8), address, prefix, low, high, draw(st.booleans())
    )


@pytest.mark.parametrize("cls", typing.get_args(edge_link.ToEdge), ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_messages_to_the_edge(cls: type, data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    assert edge_link_codec.decode_to_edge(edge_link_codec.encode(message)) == message


@pytest.mark.parametrize("cls", typing.get_args(edge_link.FromEdge), ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_messages_from_the_edge(cls: type, data: st.DataObject) -> None:
    message = data.draw(messages(cls))
    assert edge_link_codec.decode_from_edge(edge_link_codec.encode(message)) == message


@given(st.lists(messages(edge_link.SetDeadline)), st.integers(1, 40))
def test_records_do_not_depend_on_how_the_stream_is_cut(sent: list[edge_link.SetDeadline], size: int) -> None:
    wire = b"".join(map(edge_link_codec.encode_record, sent))
    reader, found = edge_link_codec.RecordReader(), []
    for at in range(0, len(wire), size):
        reader.feed(wire[at : at + size])
        while (record := reader.next_record()) is not None:
            found.append(edge_link_codec.decode_to_edge(record))
    assert found == sent
