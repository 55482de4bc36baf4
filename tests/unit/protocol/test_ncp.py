"""Network Connect payloads: those captured with openconnect 9.01, byte for byte, and what is refused."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.ncp import server
from lockgate.protocol.ncp.config import decode_config, encode_config
from lockgate.protocol.ncp.messages import KmpKind, Options, decode_keys, decode_options, encode_keys
from lockgate.protocol.ncp.server import HostNameTold
from lockgate.protocol.ncp.tlv import HEADER, MAX_SAID, decode
from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.pulse.events import EspKeysAnswered, EspReady
from lockgate.protocol.secret import Secret

# A configuration that openconnect 9.01 took, without record length and KMP header.
GOLDEN = bytes.fromhex(
    "00060000000a00020000000400000578"
    "00020000002c0001000000040a4d00350001000000040a4d003700020000001263"
    "6f72702e746573742c6c61622e74657374"
    "0001000000140001000000040a58000a000200000004ffffffff"
    "00030000001c0003000000080a4d0000ffff00000004000000080a4d0900ffffff00"
    "00040000000a0001000000040a4d0036"
    "0008000000450001000000010500020000000102000300000001000004000000021194"
    "00050000000400000000000600000004000004b00009000000040000000f000a00000004"
    "00000001"
    "000700000050000100000004" "24f729ef" "000200000040"
    "1a2e2d6bfa8217a405f6308829a85e0fa240418b"
    "ee29d36f69596ac045e6255d8e624b18143e6b9a1034052210756fd57466ff5097"
    "ee7529c6eb573ab8d1b0cd"
)  # fmt: skip
CONFIG = TunnelConfig(
    mtu=1400,
    address4=IPv4Address("10.88.0.10"),
    dns=(IPv4Address("10.77.0.53"), IPv4Address("10.77.0.55")),
    wins=(IPv4Address("10.77.0.54"),),
    search_domains=("corp.test", "lab.test"),
    include=(IPv4Network("10.77.0.0/16"),),
    exclude=(IPv4Network("10.77.9.0/24"),),
    esp=EspOffer(EspCipher.AES256_CBC, EspHmac.SHA1, port=4500),
)
KEYS = EspKeys(0x24F729EF, Secret(GOLDEN[-64:]))
# What it answered: its own keys, and the MTU.
ANSWER = bytes.fromhex(
    "000700000050000100000004" "13b49b5c" "000200000040"
    "ec7c6677fc092c268b0e4ebf50927cfefcbde72f1b8b5caada727d17579eb77f"
    "077cdbe959863daeae1d9f7be0923342082d8bb8000000000000000000000000"
)  # fmt: skip
MTU = bytes.fromhex("00060000000a00020000000400000578")


def test_the_configuration_that_was_seen_to_work() -> None:
    assert encode_config(CONFIG, KEYS) == GOLDEN
    assert decode_config(GOLDEN) == (CONFIG, KEYS)


def test_what_this_protocol_has_no_words_for_is_left_out() -> None:
    richer = TunnelConfig(
        mtu=1400,
        address4=CONFIG.address4,
        address6=IPv6Interface("fd88::10/128"),
        dns=(IPv6Address("fd77::53"), *CONFIG.dns, IPv4Address("10.77.0.56"), IPv4Address("10.77.0.57")),
        wins=CONFIG.wins,
        search_domains=CONFIG.search_domains,
        include=(IPv6Network("fd77::/64"), *CONFIG.include),
        exclude=CONFIG.exclude,
        proxy="proxy:3128",
        enforce4=True,
    )
    told, keys = decode_config(encode_config(richer, None))
    assert keys is None
    assert told.dns == (*CONFIG.dns, IPv4Address("10.77.0.56"))  # clients keep three
    assert (told.include, told.exclude) == (CONFIG.include, CONFIG.exclude)
    assert (told.address6, told.proxy, told.esp) == (None, "", None)


@pytest.mark.parametrize("keys", [None, KEYS])
@pytest.mark.parametrize(
    "left_out",
    [(), ("dns", "search_domains"), ("wins",), ("dns", "search_domains", "wins", "include", "exclude")],
)
def test_no_group_begins_where_openconnect_does_not_look(
    left_out: tuple[str, ...], keys: EspKeys | None
) -> None:
    fields = {name: getattr(CONFIG, name) for name in TunnelConfig.__slots__} | dict.fromkeys(left_out, ())
    if keys is None:
        fields["esp"] = None
    payload = encode_config(TunnelConfig(**fields), keys)
    at = 0
    while at < len(payload):
        assert at <= len(payload) - 26
        at += HEADER.size + HEADER.unpack_from(payload, at)[1]


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"address4": None, "address6": IPv6Interface("fd88::10/128")}, KEYS),
        ({"esp": EspOffer(EspCipher.AES256_CBC, EspHmac.SHA256, port=4500)}, KEYS),
        ({"esp": EspOffer(EspCipher.AES256_GCM, EspHmac.NONE, port=4500)}, KEYS),
        ({"esp": None}, KEYS),
        ({}, None),
        ({"mtu": 0}, KEYS),
        ({"search_domains": ("a b",)}, KEYS),
        ({"include": tuple(IPv4Network((number << 8, 24)) for number in range(5000))}, KEYS),
    ],
)
def test_what_a_client_could_not_use_is_not_said(changes: dict[str, object], keys: EspKeys | None) -> None:
    fields = {name: getattr(CONFIG, name) for name in TunnelConfig.__slots__} | changes
    with pytest.raises(UsageError):
        encode_config(TunnelConfig(**fields), keys)


def _with(payload: bytes, group: int, number: int, data: bytes) -> bytes:
    return payload + HEADER.pack(group, HEADER.size + len(data)) + HEADER.pack(number, len(data)) + data


@pytest.mark.parametrize(
    "payload",
    [
        GOLDEN[:-1],
        GOLDEN + b"\0",
        MTU,
        _with(GOLDEN, 1, 1, bytes(5)),
        _with(GOLDEN, 2, 1, bytes(3)),
        _with(GOLDEN, 2, 2, b"a b"),
        _with(GOLDEN, 3, 3, bytes.fromhex("0a4d0000000000ff")),
        _with(GOLDEN, 3, 3, bytes.fromhex("0a4d0000ff00ff00")),
        _with(GOLDEN, 6, 2, bytes(4)),
        _with(GOLDEN, 7, 1, bytes(4)),
        _with(GOLDEN, 8, 1, b""),
    ],
)
def test_a_configuration_of_another_shape(payload: bytes) -> None:
    with pytest.raises(PeerError):
        decode_config(payload)


@pytest.mark.parametrize(("number", "data"), [(1, b"\7"), (2, b"\1"), (2, b"\3"), (4, bytes(2))])
def test_an_offer_of_what_is_not_built_here_is_none(number: int, data: bytes) -> None:
    config, keys = decode_config(_with(GOLDEN, 8, number, data))
    assert (config.esp, keys) == (None, None)
    assert config.address4 == CONFIG.address4


def test_the_clients_keys() -> None:
    keys = decode_keys(ANSWER)
    assert (keys.spi, keys.secret.reveal()) == (0x13B49B5C, ANSWER[-64:])
    assert encode_keys(keys) == ANSWER
    assert decode_keys(_with(ANSWER, 9, 1, b"later")) == keys
    short = decode_keys(encode_keys(EspKeys(256, Secret(b"x" * 36))))
    assert short.secret.reveal() == b"x" * 36 + bytes(28)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        MTU,
        ANSWER[:-1],
        ANSWER + ANSWER,
        ANSWER[:12] + bytes(4) + ANSWER[16:],
        HEADER.pack(7, 10) + HEADER.pack(1, 4) + b"abcd",
        _with(b"", 7, 2, bytes(64)),
        HEADER.pack(7, 1 << 31) + ANSWER[6:],
    ],
)
def test_keys_of_another_shape(payload: bytes) -> None:
    with pytest.raises(PeerError):
        decode_keys(payload)
    with pytest.raises(UsageError):
        encode_keys(EspKeys(0, KEYS.secret))


def test_options() -> None:
    assert decode_options(MTU) == Options(mtu=1400)
    assert decode_options(bytes.fromhex("00060000000700010000000101")) == Options(uses_esp=True)
    assert decode_options(bytes.fromhex("00060000000700010000000100")) == Options(uses_esp=False)
    with pytest.raises(PeerError):
        decode_options(bytes.fromhex("0006000000080001000000020101"))


def test_an_attributes_repr_has_no_key() -> None:
    assert [repr(each) for each in decode(ANSWER)] == ["Attribute(7.1, 4 bytes)", "Attribute(7.2, 64 bytes)"]


# -- the conversation ------------------------------------------------------------------------------


def _ready() -> server.ServerConversation:
    wire = server.ServerConversation()
    wire.accept()
    assert wire.receive(Frame(0, 0, b"lap\xfftop")) == [HostNameTold("lap\N{REPLACEMENT CHARACTER}top")]
    assert wire.take_frames() == [Frame(0, 0, b"")]
    return wire


def test_a_tunnel_from_its_start_to_a_rekey() -> None:
    wire = _ready()
    wire.configure(CONFIG)
    wire.offer_esp(KEYS.spi, KEYS.secret)
    assert wire.take_frames() == []  # keys are part of the configuration
    wire.end_configuration()
    assert wire.take_frames() == [Frame(0, KmpKind.CONFIG, GOLDEN)]
    assert wire.receive(Frame(0, KmpKind.OPTIONS, MTU)) == []
    answered = [EspKeysAnswered(0x13B49B5C, Secret(ANSWER[-64:]))]
    assert wire.receive(Frame(0, KmpKind.KEYS, ANSWER)) == answered
    use = bytes.fromhex("00060000000700010000000101")
    assert wire.receive(Frame(0, KmpKind.OPTIONS, use)) == [EspReady()]
    with pytest.raises(PeerError):
        wire.receive(Frame(0, KmpKind.KEYS, ANSWER))
    wire.offer_esp(KEYS.spi, KEYS.secret)
    [rekey] = wire.take_frames()
    assert (rekey.kind, rekey.body) == (KmpKind.KEYS, GOLDEN[-86:])
    assert wire.receive(Frame(0, KmpKind.KEYS, ANSWER)) == answered
    assert wire.receive(Frame(0, 307, b"")) == []
    assert wire.ignored == 1


def test_long_speeches_of_clients_are_refused_unread() -> None:
    nothings = bytes.fromhex("0006 00000102" + "0009 00000000" * 43)
    assert len(nothings) > MAX_SAID
    assert len(decode(nothings)) == 43
    for read in (decode_options, decode_keys):
        with pytest.raises(PeerError, match="a KMP payload of 264 bytes"):
            read(nothings)


def test_without_esp_an_answer_to_keys_is_refused() -> None:
    wire = _ready()
    wire.configure(TunnelConfig(mtu=1400, address4=CONFIG.address4))
    wire.end_configuration()
    with pytest.raises(PeerError):
        wire.receive(Frame(0, KmpKind.KEYS, ANSWER))


def test_a_conversation_that_is_taken_up_lets_one_answer_through() -> None:
    wire = server.ServerConversation.in_tunnel()
    assert len(wire.receive(Frame(0, KmpKind.KEYS, ANSWER))) == 1
    with pytest.raises(PeerError):
        wire.receive(Frame(0, KmpKind.KEYS, ANSWER))


def test_out_of_turn() -> None:
    for frame in (Frame(0, KmpKind.KEYS, ANSWER), Frame(0, KmpKind.HOST_NAME, b"x"), Frame(0xA4C, 0x89, b"")):
        with pytest.raises(PeerError):
            server.ServerConversation().receive(frame)
    with pytest.raises(PeerError):
        _ready().receive(Frame(0, KmpKind.OPTIONS, MTU))
    for early in (
        lambda wire: wire.configure(CONFIG),
        lambda wire: wire.offer_esp(KEYS.spi, KEYS.secret),
        lambda wire: wire.end_configuration(),
    ):
        with pytest.raises(UsageError):
            early(server.ServerConversation())
    with pytest.raises(UsageError):
        _ready().end_configuration()
    with pytest.raises(UsageError):
        _ready().accept()
