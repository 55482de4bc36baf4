"""The main configuration of a tunnel: addresses, routes, DNS, MTU, proxy and the ESP offer.

The order of the attributes is that of gateways in the field, except that the IPv6 ones, which have no
captured precedent, follow their IPv4 relatives, and that our own come last. `config_blocks` is the
form around them.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, TypeAlias

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import HEADER, MAX_FRAME
from lockgate.protocol.pulse.config_blocks import MAX_ROUTES as MAX_ROUTES
from lockgate.protocol.pulse.config_blocks import Route, decode_blocks, encode_blocks
from lockgate.protocol.pulse.text import exact_text, join_domains, split_domains

HOST_MASK = IPv4Address("255.255.255.255")

MAX_MTU = MAX_FRAME - HEADER
"""Largest inner packet: the body of one frame."""

MAX_PROXY = 2048
"""Bytes of a proxy, or of the URL of a proxy script: what URLs in the field keep to."""

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class EspCipher(IntEnum):
    """Numbers of the field, and from 0x4C00 on ours, sent only to clients that named `esp-gcm`.

    GCM: 64-bit sequence numbers (RFC 4303, section 2.2.1), HMAC NONE, and as secret the key and 4
    bytes of salt (RFC 4106, section 8.1).
    """

    AES128_CBC = 2
    AES256_CBC = 5
    AES128_GCM = 0x4C01
    AES256_GCM = 0x4C02

    @property
    def gcm(self) -> bool:
        """Authenticates by itself."""
        return self in (EspCipher.AES128_GCM, EspCipher.AES256_GCM)


class EspHmac(IntEnum):
    NONE = 0
    """With GCM, and only there."""
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
    PROXY = 0x4008
    PAC_SCRIPT = 0x4009
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
    PAC_URL = 0x4023
    ESP_CROSS_FAMILY = 0x4024
    EXTENDED = 0x4C01
    REMINDER = 0x4C02
    PASSWORD_CACHING = 0x4C03


_FLAGS = {
    _Attribute.DISCONNECT_ON_ROUTE_CHANGE: "disconnect_on_route_change",
    _Attribute.TUNNEL_ROUTES_FIRST: "tunnel_routes_first",
    _Attribute.LOCAL_SUBNET_ACCESS: "local_subnet_access",
    _Attribute.ENFORCE4: "enforce4",
    _Attribute.ENFORCE6: "enforce6",
}
_OWN_FLAGS = {
    _Attribute.EXTENDED: "extended",
    _Attribute.PASSWORD_CACHING: "password_caching",
}
"""Sent only when they are on: to clients that understand them."""


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
    disconnect_on_route_change: end the tunnel when somebody else changes routes.
    tunnel_routes_first: routes of the tunnel win over those of the machine;
    local_subnet_access: except, then, those of the networks the machine is connected to.
    enforce4/enforce6: packets of that IP version leave through the tunnel or not at all.
    extended:        the gateway understands padded probes and `ncmo=0`.
    reminder:        seconds before the end of the session from which its user is told of it; 0 is never.
    password_caching: the user's password may be kept for later sessions.
    proxy:           host and port for programs behind the tunnel; pac_script is a proxy
                     auto-configuration script, pac_url where one is found. Empty: none. A client
                     must not believe any of the three to be well-formed.
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
    disconnect_on_route_change: bool = False
    tunnel_routes_first: bool = False
    local_subnet_access: bool = False
    enforce4: bool = False
    enforce6: bool = False
    extended: bool = False
    reminder: int = 0
    password_caching: bool = False
    proxy: str = ""
    pac_script: bytes = b""
    pac_url: str = ""


def encode_config(config: TunnelConfig) -> bytes:
    """Body of the configuration frame; UsageError, naming what is too large, if it does not fit."""
    if not 0 < config.mtu <= MAX_MTU:
        raise UsageError(f"MTU {config.mtu} is not within 1 to {MAX_MTU}")
    if config.address4 is None and config.address6 is None:
        raise UsageError("a tunnel needs an inner address")
    routes = [
        (kind, network)
        for kind, networks in ((Route.INCLUDE, config.include), (Route.EXCLUDE, config.exclude))
        for network in networks
        if isinstance(network, IPv4Network)
    ]
    attributes = _encode_attributes(config)
    for kind, data in attributes:
        if len(data) > MAX_FRAME:
            raise UsageError(f"attribute {kind:#x} of {len(data)} bytes does not fit one frame")
    body = encode_blocks(routes, attributes)
    if HEADER + len(body) > MAX_FRAME:
        raise UsageError(
            f"the tunnel configuration takes {HEADER + len(body)} bytes of at most {MAX_FRAME}: "
            "summarise the split-tunnel networks or search domains"
        )
    return body


def _encode_attributes(config: TunnelConfig) -> list[tuple[_Attribute, bytes]]:
    out = [(kind, bytes([getattr(config, name)])) for kind, name in _FLAGS.items()]
    out.append((_Attribute.MTU, struct.pack("!I", config.mtu)))
    out += [
        (_Attribute.DNS4 if isinstance(server, IPv4Address) else _Attribute.DNS6, server.packed)
        for server in config.dns
    ]
    if config.search_domains:
        out.append((_Attribute.SEARCH_DOMAINS, join_domains(config.search_domains) + b"\0"))
    out += [(_Attribute.WINS, server.packed) for server in config.wins]
    out += _encode_proxy(config)
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
    if config.reminder:
        if not 0 < config.reminder < 1 << 32:
            raise UsageError(f"a reminder of {config.reminder} seconds")
        out.append((_Attribute.REMINDER, struct.pack("!I", config.reminder)))
    out += [(kind, b"\1") for kind, name in _OWN_FLAGS.items() if getattr(config, name)]
    return out


def _encode_proxy(config: TunnelConfig) -> list[tuple[_Attribute, bytes]]:
    out = []
    for kind, text in ((_Attribute.PROXY, config.proxy), (_Attribute.PAC_URL, config.pac_url)):
        if text:
            try:
                exact_text(text.encode(), MAX_PROXY, "proxy")
            except (PeerError, UnicodeEncodeError):
                raise UsageError(f"a proxy that is not printable text of at most {MAX_PROXY} bytes") from None
            out.append((kind, text.encode()))
    if config.pac_script:
        out.append((_Attribute.PAC_SCRIPT, config.pac_script))
    return out


def _encode_esp(esp: EspOffer) -> list[tuple[_Attribute, bytes]]:
    if not 0 < esp.port <= 0xFFFF:
        raise UsageError(f"UDP port {esp.port}")
    if not _fit(esp.cipher, esp.hmac):
        raise UsageError(f"ESP cipher {esp.cipher.name} does not go with HMAC {esp.hmac.name}")
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


def _fit(cipher: EspCipher, hmac: EspHmac) -> bool:
    """CBC without an HMAC would be open to forgery; GCM with one is nothing anybody defined."""
    return cipher.gcm == (hmac is EspHmac.NONE)


def decode_config(body: bytes) -> TunnelConfig:
    """The configuration in a frame's body; PeerError if it has another shape.

    Attributes unknown here are passed over; a known one of the wrong length or value is refused. An
    ESP offer that is incomplete, or names algorithms that are unknown or do not go together, is no offer:
    the tunnel then runs on TLS, as with openconnect.
    """
    routes, attributes = decode_blocks(body)
    include: list[Network] = [network for kind, network in routes if kind is Route.INCLUDE]
    exclude: list[Network] = [network for kind, network in routes if kind is Route.EXCLUDE]
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
                single["search_domains"] = split_domains(data)
            case _Attribute.PROXY:
                single["proxy"] = exact_text(data.removesuffix(b"\0"), MAX_PROXY, "proxy")
            case _Attribute.PAC_URL:
                single["pac_url"] = exact_text(data.removesuffix(b"\0"), MAX_PROXY, "URL of a proxy script")
            case _Attribute.PAC_SCRIPT:
                single["pac_script"] = data
            case _Attribute.INCLUDE6:
                include.append(IPv6Network(_prefixed6(kind, data), strict=False))
            case _Attribute.EXCLUDE6:
                exclude.append(IPv6Network(_prefixed6(kind, data), strict=False))
            case _Attribute.ESP_CIPHER:
                esp["cipher"] = _number(kind, data, 2)
            case _Attribute.ESP_HMAC:
                esp["hmac"] = _number(kind, data, 2)
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
            case _Attribute.REMINDER:
                single["reminder"] = _number(kind, data, 4)
            case _ if kind in _FLAGS:
                single[_FLAGS[_Attribute(kind)]] = _number(kind, data, 1) != 0
            case _ if kind in _OWN_FLAGS:
                single[_OWN_FLAGS[_Attribute(kind)]] = _number(kind, data, 1) != 0
    if not 0 < single.get("mtu", 0) <= MAX_MTU or not single.keys() & {"address4", "address6"}:
        raise PeerError("a configuration without usable MTU or address")
    if "address4" not in single:
        single.pop("netmask4", None)  # means nothing without
    return TunnelConfig(
        **single,
        dns=tuple(dns),
        wins=tuple(wins),
        include=tuple(include),
        exclude=tuple(exclude),
        esp=_offer(esp),
    )


def _offer(found: dict[str, Any]) -> EspOffer | None:
    if not found.get("port"):
        return None
    try:
        cipher, hmac = EspCipher(found.get("cipher", 0)), EspHmac(found.get("hmac", 0))
    except ValueError:
        return None
    return EspOffer(**{**found, "cipher": cipher, "hmac": hmac}) if _fit(cipher, hmac) else None


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
