import dataclasses
from ipaddress import IPv4Address, IPv4Network, IPv6Interface, IPv6Network

import pytest

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.config import (
    MAX_ROUTES,
    EspCipher,
    EspHmac,
    EspOffer,
    TunnelConfig,
    decode_config,
    encode_config,
)
from lockgate.protocol.pulse.config_blocks import decode_blocks, encode_blocks
from tests.transcripts.configurations import CONFIGURATIONS

CAPTURED = CONFIGURATIONS["captured"]

# Bodies of the configuration frames of both captured conversations.
CAPTURED_BODY = bytes.fromhex(
    "000000000000000000000000000000002c20f00000000000000000f92e00002802000000070000100000ffff0a4d0000"
    "0a4dfffff10000100000ffff0a4d09000a4d09ff000000b50300000040000001004001000100401f0001004020000100"
    "40210001004005000400000578000300040a4d003540060013636f72702e746573742c6c61622e746573740000040004"
    "0a4d0036400f0002000040100002000540110002000340120004000004b0401300040000000040140004000000014015"
    "000400000000401600021194401700040000000f401800040000003c401a000100000100040a58000a00020004ffffff"
    "ff400b00040ac8c8c8"
)
NO_ESP_BODY = bytes.fromhex(
    "000000000000000000000000000000002c20f00000000000000000ac2e00002802000000070000100000ffff0a4d0000"
    "0a4dfffff10000100000ffff0a4d09000a4d09ff000000680300000040000001004001000100401f0001004020000100"
    "40210001004005000400000578000300040a4d003540060013636f72702e746573742c6c61622e746573740000040004"
    "0a4d0036000100040a58000a00020004ffffffff400b00040ac8c8c8"
)


def test_the_captured_configurations_byte_for_byte() -> None:
    assert encode_config(CAPTURED) == CAPTURED_BODY
    assert encode_config(CONFIGURATIONS["captured without ESP"]) == NO_ESP_BODY


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_decoding_undoes_encoding(name: str) -> None:
    assert decode_config(encode_config(CONFIGURATIONS[name])) == CONFIGURATIONS[name]


def test_too_many_networks_are_refused_with_their_number() -> None:
    networks = tuple(IPv4Network((i << 16, 16)) for i in range(MAX_ROUTES + 1))
    decode_config(encode_config(dataclasses.replace(CAPTURED, include=networks[1:], exclude=())))
    with pytest.raises(UsageError, match=r"257 .* at most 255"):
        encode_config(dataclasses.replace(CAPTURED, include=networks))


def test_what_does_not_fit_one_frame_is_refused() -> None:
    networks = tuple(IPv6Network((i << 64, 64)) for i in range(1000))
    with pytest.raises(UsageError, match="at most 16384"):
        encode_config(dataclasses.replace(CAPTURED, include=networks))


@pytest.mark.parametrize(
    "config",
    [
        TunnelConfig(mtu=1400),
        TunnelConfig(mtu=0, address4=IPv4Address("10.0.0.1")),
        TunnelConfig(mtu=16369, address4=IPv4Address("10.0.0.1")),
        dataclasses.replace(CAPTURED, search_domains=("a,b",)),
        dataclasses.replace(CAPTURED, search_domains=("a b",)),
        dataclasses.replace(CAPTURED, search_domains=("",)),
        dataclasses.replace(CAPTURED, search_domains=("bücher.test",)),
        dataclasses.replace(CAPTURED, search_domains=("x" * 20000,)),
        dataclasses.replace(CAPTURED, esp=dataclasses.replace(CAPTURED.esp, port=0)),
        dataclasses.replace(CAPTURED, esp=EspOffer(EspCipher.AES256_CBC, EspHmac.NONE, 4500)),
        dataclasses.replace(CAPTURED, esp=EspOffer(EspCipher.AES256_GCM, EspHmac.SHA256, 4500)),
        dataclasses.replace(CAPTURED, proxy="a\nb"),
        dataclasses.replace(CAPTURED, proxy="\udc80"),
        dataclasses.replace(CAPTURED, pac_url="x" * 2049),
        dataclasses.replace(CAPTURED, pac_script=bytes(70000)),
    ],
)
def test_nonsense_is_not_sent(config: TunnelConfig) -> None:
    with pytest.raises(UsageError):
        encode_config(config)


@pytest.mark.parametrize(
    ("at", "byte"),
    [
        (0x0F, 1),  # zeros in front
        (0x10, 0x2E),  # magic
        (0x1B, 0xFA),  # total length
        (0x1C, 0x2C),  # tag of the route block
        (0x1F, 0x38),  # length of the route block
        (0x20, 3),  # number of routes
        (0x24, 8),  # kind of the first route
        (0x27, 0x11),  # its fixed bytes
        (0x2E, 0x40),  # its lowest address: no network any more
        (0x47, 0xB6),  # length of the attribute block
        (0x4E, 0xFF),  # length of its first attribute
    ],
)
def test_a_byte_off_is_refused(at: int, byte: int) -> None:
    body = bytearray(CAPTURED_BODY)
    assert body[at] != byte
    body[at] = byte
    with pytest.raises(PeerError):
        decode_config(bytes(body))


def test_an_ipv6_address_keeps_its_prefix() -> None:
    config = TunnelConfig(mtu=1400, address6=IPv6Interface("fd00::5/112"))
    assert decode_config(encode_config(config)).address6 == IPv6Interface("fd00::5/112")


def with_attributes(**changed: bytes | None) -> TunnelConfig:
    """The captured configuration with other values for some attributes (`a4010`), or without them."""
    routes, attributes = decode_blocks(CAPTURED_BODY)
    values = {int(name[1:], 16): value for name, value in changed.items()}
    kept = [(kind, data) for kind, data in attributes if kind not in values]
    return decode_config(encode_blocks(routes, kept + [(k, v) for k, v in values.items() if v is not None]))


@pytest.mark.parametrize(
    ("cipher", "hmac", "offer"),
    [
        ("0002", "0002", (EspCipher.AES128_CBC, EspHmac.SHA1)),
        ("0005", "0003", (EspCipher.AES256_CBC, EspHmac.SHA256)),
        ("4c01", "0000", (EspCipher.AES128_GCM, EspHmac.NONE)),
        ("4c02", "0000", (EspCipher.AES256_GCM, EspHmac.NONE)),
        ("4c02", "0003", None),
        ("0005", "0000", None),
        ("0005", "0001", None),  # MD5
        ("0000", "0000", None),
        ("0007", "0003", None),
        ("4c03", "0000", None),
    ],
)
def test_algorithms_that_go_together(cipher: str, hmac: str, offer: tuple[EspCipher, EspHmac] | None) -> None:
    esp = with_attributes(a4010=bytes.fromhex(cipher), a4011=bytes.fromhex(hmac)).esp
    assert (esp and (esp.cipher, esp.hmac)) == offer


def test_an_incomplete_offer_of_esp_is_none() -> None:
    assert with_attributes().esp is not None
    assert with_attributes(a4010=None).esp is None
    assert with_attributes(a4011=None).esp is None
    assert with_attributes(a4016=None).esp is None
    assert with_attributes(a4016=b"\0\0").esp is None


def test_proxies_are_taken_as_text_or_not_at_all() -> None:
    assert with_attributes(a4008=b"proxy:3128\0").proxy == "proxy:3128"
    assert with_attributes(a4023=b"http://proxy/").pac_url == "http://proxy/"
    assert with_attributes(a4009=b"\xff\0").pac_script == b"\xff\0"
    for broken in (b"a\nb", b"\xff", b"x" * 2049):
        with pytest.raises(PeerError):
            with_attributes(a4008=broken)
        with pytest.raises(PeerError):
            with_attributes(a4023=broken)


@pytest.mark.parametrize(
    ("attribute", "field"),
    [
        ("a4000", "disconnect_on_route_change"),
        ("a4001", "tunnel_routes_first"),
        ("a401f", "local_subnet_access"),
        ("a4020", "enforce4"),
        ("a4021", "enforce6"),
        ("a4c01", "extended"),
        ("a4c03", "password_caching"),
    ],
)
def test_switches(attribute: str, field: str) -> None:
    assert with_attributes(**{attribute: b"\1"}) == dataclasses.replace(CAPTURED, **{field: True})
    assert with_attributes(**{attribute: None}) == CAPTURED
    with pytest.raises(PeerError):
        with_attributes(**{attribute: b""})


def test_a_reminder_is_a_number_of_seconds() -> None:
    assert with_attributes(a4c02=bytes.fromhex("00015180")) == dataclasses.replace(CAPTURED, reminder=86400)
    for wrong in (b"", b"\1", bytes(8)):
        with pytest.raises(PeerError):
            with_attributes(a4c02=wrong)
    with pytest.raises(UsageError):
        encode_config(dataclasses.replace(CAPTURED, reminder=1 << 32))


@pytest.mark.parametrize("changed", [{"a4005": b"\0\0\0\0"}, {"a4005": b"\xff" * 4}, {"a4006": b"a b\0"}])
def test_values_nobody_could_use(changed: dict[str, bytes]) -> None:
    with pytest.raises(PeerError):
        with_attributes(**changed)
