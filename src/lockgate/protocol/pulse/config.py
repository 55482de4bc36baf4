"""The main configuration of a tunnel: addresses, routes, DNS, MTU and the ESP offer.

    head | route block: 2e00, length (2), count (1), zeros (3), count * 16 bytes
         | attribute block: length (4), 03000000, then type (2), length (2), data …

The order of the attributes is that of gateways in the field, except that the IPv6 ones, which have no
captured precedent, follow their IPv4 relatives.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, TypeAlias

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import HEADER, MAX_FRAME
from lockgate.protocol.pulse.config_frame import unwrap, wrap

MAGIC = 0x2C20F000

MAX_ROUTES = 255
"""IPv4 routes in one configuration: their count is one byte. IPv6 routes are limited by the frame."""

HOST_MASK = IPv4Address("255.255.255.255")

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_ROUTE_BLOCK = struct.Struct("!HHB3x")
_ROUTE_BLOCK_TAG = 0x2E00
_ROUTE = struct.Struct("!B7sII")  # kind, fixed bytes, lowest address, highest address
_ROUTE_FIXED = bytes.fromhex("0000100000ffff")
_INCLUDE, _EXCLUDE = 0x07, 0xF1
_ATTRIBUTE_BLOCK = struct.Struct("!I4s")
_ATTRIBUTE_BLOCK_TAG = bytes.fromhex("03000000")
_ATTRIBUTE = struct.Struct("!HH")


class EspCipher(IntEnum):
    AES128_CBC = 2
    AES256_CBC = 5


class EspHmac(IntEnum):
    SHA1 = 2
    SHA256 = 3


class _Attribute(IntEnum):
    ADDRESS4 = 0x0001
    NETMASK4 = 0x0002
    DNS4 = 0x0003
    WINS = 0x0004
    ADDRESS6 = 0x0008
    DNS6 = 0x000A
    INCLUDE6 = 0x000F
    EXCLUDE6 = 0x0010
    DISCONNECT_ON_ROUTE_CHANGE = 0x4000
    TUNNEL_ROUTES_FIRST = 0x4001
    MTU = 0x4005
    SEARCH_DOMAINS = 0x4006
    GATEWAY4 = 0x400B
    UNKNOWN_400F = 0x400F
    ESP_CIPHER = 0x4010
    ESP_HMAC = 0x4011
    ESP_LIFETIME = 0x4012
    ESP_LIFETIME_BYTES = 0x4013
    ESP_REPLAY = 0x4014
    ESP_COPY_TOS = 0x4015
    ESP_PORT = 0x4016
    ESP_FALLBACK = 0x4017
    UNKNOWN_4018 = 0x4018
    ESP_ONLY = 0x401A
    LOCAL_SUBNET_ACCESS = 0x401F
    ENFORCE4 = 0x4020
    ENFORCE6 = 0x4021
    ESP_CROSS_FAMILY = 0x4024


@dataclass(frozen=True, slots=True)
class EspOffer:
    """ESP as the server wants it.

    port:          UDP port on the address of the TLS server.
    fallback:      seconds of silence after which the client probes; twice that and it uses TLS.
    lifetime:      seconds between rekeys; the client only logs it, the server starts rekeys.
    replay:        the client drops repeated packets.
    cross_family:  ESP carries the inner IP version that differs from the outer one (clients from
                   9.10 on honour it).
    """

    cipher: EspCipher
    hmac: EspHmac
    port: int
    fallback: int = 15
    lifetime: int = 1200
    replay: bool = True
    cross_family: bool = False


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """What a client is told about its tunnel; at least one address is needed.

    dns:             in order of preference; openconnect keeps the first three, both families together.
    include/exclude: split-tunnel networks; on the wire, and so after decoding, IPv4 stands before
                     IPv6. Without includes openconnect's stock script routes everything.
    gateway4:        inner address of the gateway, only informative.
    """

    mtu: int
    address4: IPv4Address | None = None
    netmask4: IPv4Address = HOST_MASK
    address6: IPv6Interface | None = None
    dns: tuple[Address, ...] = ()
    wins: tuple[IPv4Address, ...] = ()
    search_domains: tuple[str, ...] = ()
    include: tuple[Network, ...] = ()
    exclude: tuple[Network, ...] = ()
    gateway4: IPv4Address | None = None
    esp: EspOffer | None = None


def encode_config(config: TunnelConfig) -> bytes:
    """Body of the configuration frame; UsageError, naming what is too large, if it does not fit."""
    if not 0 < config.mtu <= MAX_FRAME - HEADER:
        raise UsageError(f"MTU {config.mtu} is not within 1 to {MAX_FRAME - HEADER}")
    if config.address4 is None and config.address6 is None:
        raise UsageError("a tunnel needs an inner address")
    body = wrap(MAGIC, _encode_routes(config) + _encode_attributes(config))
    if HEADER + len(body) > MAX_FRAME:
        raise UsageError(
            f"the tunnel configuration takes {HEADER + len(body)} bytes of at most {MAX_FRAME}: "
            "summarise the split-tunnel networks or search domains"
        )
    return body


def _encode_routes(config: TunnelConfig) -> bytes:
    routes = [
        (kind, network)
        for kind, networks in ((_INCLUDE, config.include), (_EXCLUDE, config.exclude))
        for network in networks
        if isinstance(network, IPv4Network)
    ]
    if len(routes) > MAX_ROUTES:
        raise UsageError(
            f"{len(routes)} IPv4 split-tunnel networks, but a client can be told at most {MAX_ROUTES}: "
            "summarise them"
        )
    length = _ROUTE_BLOCK.size + _ROUTE.size * len(routes)
    return _ROUTE_BLOCK.pack(_ROUTE_BLOCK_TAG, length, len(routes)) + b"".join(
        _ROUTE.pack(kind, _ROUTE_FIXED, int(network.network_address), int(network.broadcast_address))
        for kind, network in routes
    )


def _encode_attributes(config: TunnelConfig) -> bytes:
    out: list[tuple[_Attribute, bytes]] = [
        (_Attribute.DISCONNECT_ON_ROUTE_CHANGE, b"\0"),
        (_Attribute.TUNNEL_ROUTES_FIRST, b"\0"),
        (_Attribute.LOCAL_SUBNET_ACCESS, b"\0"),
        (_Attribute.ENFORCE4, b"\0"),
        (_Attribute.ENFORCE6, b"\0"),
        (_Attribute.MTU, struct.pack("!I", config.mtu)),
    ]
    out += [
        (_Attribute.DNS4 if isinstance(server, IPv4Address) else _Attribute.DNS6, server.packed)
        for server in config.dns
    ]
    if config.search_domains:
        out.append((_Attribute.SEARCH_DOMAINS, _encode_domains(config.search_domains)))
    out += [(_Attribute.WINS, server.packed) for server in config.wins]
    if config.esp is not None:
        out += _encode_esp(config.esp)
    if config.address4 is not None:
        out += [
            (_Attribute.ADDRESS4, config.address4.packed),
            (_Attribute.NETMASK4, config.netmask4.packed),
        ]
    if config.gateway4 is not None:
        out.append((_Attribute.GATEWAY4, config.gateway4.packed))
    if config.address6 is not None:
        inner = config.address6
        out.append((_Attribute.ADDRESS6, inner.packed + bytes([inner.network.prefixlen])))
    for kind, networks in ((_Attribute.INCLUDE6, config.include), (_Attribute.EXCLUDE6, config.exclude)):
        out += [
            (kind, network.network_address.packed + bytes([network.prefixlen]))
            for network in networks
            if isinstance(network, IPv6Network)
        ]
    content = b"".join(_ATTRIBUTE.pack(kind, len(data)) + data for kind, data in out)
    return _ATTRIBUTE_BLOCK.pack(_ATTRIBUTE_BLOCK.size + len(content), _ATTRIBUTE_BLOCK_TAG) + content


def _encode_domains(domains: tuple[str, ...]) -> bytes:
    for domain in domains:
        if not domain.isascii() or not domain.isprintable() or not domain or {",", " "} & set(domain):
            raise UsageError("a search domain is not a name of ASCII letters")
    data = ",".join(domains).encode() + b"\0"
    if len(data) > MAX_FRAME:
        raise UsageError(f"search domains of {len(data)} bytes do not fit one frame")
    return data


def _encode_esp(esp: EspOffer) -> list[tuple[_Attribute, bytes]]:
    if not 0 < esp.port <= 0xFFFF:
        raise UsageError(f"UDP port {esp.port}")
    out = [
        (_Attribute.UNKNOWN_400F, bytes(2)),  # this and 4018: as gateways in the field send them
        (_Attribute.ESP_CIPHER, struct.pack("!H", esp.cipher)),
        (_Attribute.ESP_HMAC, struct.pack("!H", esp.hmac)),
        (_Attribute.ESP_LIFETIME, struct.pack("!I", esp.lifetime)),
        (_Attribute.ESP_LIFETIME_BYTES, bytes(4)),
        (_Attribute.ESP_REPLAY, struct.pack("!I", esp.replay)),
        (_Attribute.ESP_COPY_TOS, bytes(4)),
        (_Attribute.ESP_PORT, struct.pack("!H", esp.port)),
        (_Attribute.ESP_FALLBACK, struct.pack("!I", esp.fallback)),
        (_Attribute.UNKNOWN_4018, struct.pack("!I", 60)),
        (_Attribute.ESP_ONLY, b"\0"),
    ]
    if esp.cross_family:
        out.append((_Attribute.ESP_CROSS_FAMILY, b"\1"))
    return out


def decode_config(body: bytes) -> TunnelConfig:
    """The configuration in a frame's body; PeerError if it has another shape.

    Attributes unknown here are passed over; a known one of the wrong length or value is refused.
    """
    rest = unwrap(body, MAGIC)
    if len(rest) < _ROUTE_BLOCK.size:
        raise PeerError("the route block is cut short")
    tag, length, count = _ROUTE_BLOCK.unpack_from(rest)
    if tag != _ROUTE_BLOCK_TAG or length != _ROUTE_BLOCK.size + _ROUTE.size * count or length > len(rest):
        raise PeerError("the route block has a wrong tag or length")
    include: list[Network] = []
    exclude: list[Network] = []
    for kind, fixed, low, high in _ROUTE.iter_unpack(rest[_ROUTE_BLOCK.size : length]):
        if fixed != _ROUTE_FIXED or kind not in (_INCLUDE, _EXCLUDE):
            raise PeerError("a route of unknown kind")
        (include if kind == _INCLUDE else exclude).append(_network4(low, high))
    return _decode_attributes(_cut_attributes(rest[length:]), include, exclude)


def _network4(low: int, high: int) -> IPv4Network:
    size = high - low + 1
    if size <= 0 or size & (size - 1) or low & (size - 1):
        raise PeerError("a route that is not one network")
    return IPv4Network((low, 33 - size.bit_length()))


def _cut_attributes(block: bytes) -> list[tuple[int, bytes]]:
    if len(block) < _ATTRIBUTE_BLOCK.size or _ATTRIBUTE_BLOCK.unpack_from(block) != (
        len(block),
        _ATTRIBUTE_BLOCK_TAG,
    ):
        raise PeerError("the attribute block has a wrong tag or length")
    attributes = []
    at = _ATTRIBUTE_BLOCK.size
    while at < len(block):
        if len(block) - at < _ATTRIBUTE.size:
            raise PeerError("an attribute header is cut short")
        kind, length = _ATTRIBUTE.unpack_from(block, at)
        at += _ATTRIBUTE.size
        if length > len(block) - at:
            raise PeerError(f"attribute {kind:#x} declares {length} bytes, {len(block) - at} are left")
        attributes.append((kind, block[at : at + length]))
        at += length
    return attributes


def _decode_attributes(
    attributes: list[tuple[int, bytes]], include: list[Network], exclude: list[Network]
) -> TunnelConfig:
    single: dict[str, Any] = {}
    esp: dict[str, Any] = {}
    dns: list[Address] = []
    wins: list[IPv4Address] = []
    for kind, data in attributes:
        match kind:
            case _Attribute.MTU:
                single["mtu"] = _number(kind, data, 4)
            case _Attribute.ADDRESS4:
                single["address4"] = IPv4Address(_exactly(kind, data, 4))
            case _Attribute.NETMASK4:
                single["netmask4"] = IPv4Address(_exactly(kind, data, 4))
            case _Attribute.GATEWAY4:
                single["gateway4"] = IPv4Address(_exactly(kind, data, 4))
            case _Attribute.ADDRESS6:
                single["address6"] = IPv6Interface(_prefixed6(kind, data))
            case _Attribute.DNS4:
                dns.append(IPv4Address(_exactly(kind, data, 4)))
            case _Attribute.DNS6:
                dns.append(IPv6Address(_exactly(kind, data, 16)))
            case _Attribute.WINS:
                wins.append(IPv4Address(_exactly(kind, data, 4)))
            case _Attribute.SEARCH_DOMAINS:
                single["search_domains"] = _domains(data)
            case _Attribute.INCLUDE6:
                include.append(IPv6Network(_prefixed6(kind, data), strict=False))
            case _Attribute.EXCLUDE6:
                exclude.append(IPv6Network(_prefixed6(kind, data), strict=False))
            case _Attribute.ESP_CIPHER:
                esp["cipher"] = _one_of(EspCipher, kind, data)
            case _Attribute.ESP_HMAC:
                esp["hmac"] = _one_of(EspHmac, kind, data)
            case _Attribute.ESP_PORT:
                esp["port"] = _number(kind, data, 2)
            case _Attribute.ESP_LIFETIME:
                esp["lifetime"] = _number(kind, data, 4)
            case _Attribute.ESP_FALLBACK:
                esp["fallback"] = _number(kind, data, 4)
            case _Attribute.ESP_REPLAY:
                esp["replay"] = _number(kind, data, 4) != 0
            case _Attribute.ESP_CROSS_FAMILY:
                esp["cross_family"] = _number(kind, data, 1) != 0
    if not single.get("mtu") or not single.keys() & {"address4", "address6"}:
        raise PeerError("a configuration without MTU or address")
    if "address4" not in single:
        single.pop("netmask4", None)  # means nothing without
    # ESP needs all three of these; otherwise the client stays on TLS.
    offer = EspOffer(**esp) if esp.keys() >= {"cipher", "hmac", "port"} else None
    return TunnelConfig(
        **single, dns=tuple(dns), wins=tuple(wins), include=tuple(include), exclude=tuple(exclude), esp=offer
    )


def _exactly(kind: int, data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise PeerError(f"attribute {kind:#x} has {len(data)} bytes instead of {length}")
    return data


def _number(kind: int, data: bytes, length: int) -> int:
    return int.from_bytes(_exactly(kind, data, length))


def _prefixed6(kind: int, data: bytes) -> tuple[bytes, int]:
    address, prefix = _exactly(kind, data, 17)[:16], data[16]
    if prefix > 128:
        raise PeerError(f"attribute {kind:#x} has a prefix of {prefix} bits")
    return address, prefix


def _one_of(choices: type[IntEnum], kind: int, data: bytes) -> IntEnum:
    value = _number(kind, data, 2)
    try:
        return choices(value)
    except ValueError:
        raise PeerError(f"attribute {kind:#x} has the unknown value {value}") from None


def _domains(data: bytes) -> tuple[str, ...]:
    try:
        text = data.removesuffix(b"\0").decode("ascii")
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise PeerError("search domains are not printable ASCII text")
    return tuple(filter(None, (name.strip() for name in text.split(","))))
