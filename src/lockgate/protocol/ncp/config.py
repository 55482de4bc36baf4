"""KMP 301: what a client is told about its tunnel, and the first keys.

Sizes are fixed: a client gives up at a known attribute of another length.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.ncp.messages import MTU, Group, keys_group, keys_in
from lockgate.protocol.ncp.tlv import (
    MAX_PAYLOAD,
    Attribute,
    decode,
    encode_group,
    exactly,
    number_in,
)
from lockgate.protocol.pulse.config import MAX_MTU, EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.pulse.text import join_domains, split_domains

MOST_SERVERS = 3
"""DNS or WINS servers that clients keep."""

CIPHERS = frozenset([EspCipher.AES128_CBC, EspCipher.AES256_CBC])
HMAC = EspHmac.SHA1
"""The one of ours that clients of this protocol have; with SHA-256 they mistake the length of its key."""

_ADDRESS, _NETMASK, _GATEWAY = 1, 2, 3
_DNS, _DOMAINS = 1, 2
_INCLUDE, _EXCLUDE = 3, 4
_WINS = 1


class _Esp(IntEnum):
    CIPHER = 1
    HMAC = 2
    LZO = 3
    PORT = 4
    LIFETIME_BYTES = 5
    LIFETIME = 6
    FALLBACK = 9
    REPLAY = 10


_ESP_NUMBERS = {
    _Esp.CIPHER: ("cipher", 1),
    _Esp.HMAC: ("hmac", 1),
    _Esp.PORT: ("port", 2),
    _Esp.LIFETIME: ("lifetime", 4),
    _Esp.FALLBACK: ("fallback", 4),
    _Esp.REPLAY: ("replay", 4),
}


def encode_config(config: TunnelConfig, keys: EspKeys | None) -> bytes:
    """The payload of KMP 301. What this protocol has no words for is left out: all of IPv6, the proxy, options.

    keys: for packets from the client; with an ESP offer, and only then.

    openconnect 9.01 overlooks a group that begins within the last 20 bytes, and stumbles over one that begins up
    to 5 before: the last one has at least 26 bytes. Keys have 86, and the address 26.
    """
    if config.address4 is None:
        raise UsageError("this protocol has no tunnel without an IPv4 address")
    if not 0 < config.mtu <= MAX_MTU:
        raise UsageError(f"MTU {config.mtu} is not within 1 to {MAX_MTU}")
    if (config.esp is None) != (keys is None):
        raise UsageError("an ESP offer goes with keys")
    mtu = encode_group(Group.OPTIONS, [(MTU, struct.pack("!I", config.mtu))])
    address = encode_group(Group.ADDRESS, _address(config, config.address4))
    dns, routes, wins = _dns(config), _routes(config), _wins(config)
    if config.esp is None or keys is None:
        payload = mtu + dns + routes + wins + address
    else:
        esp = encode_group(Group.ESP, _esp(config.esp))
        payload = mtu + dns + address + routes + wins + esp + keys_group(keys)
    if len(payload) > MAX_PAYLOAD:
        raise UsageError(
            f"the tunnel configuration takes {len(payload)} bytes of at most {MAX_PAYLOAD}: "
            "summarise the split-tunnel networks or search domains"
        )
    return payload


def _address(config: TunnelConfig, address: IPv4Address) -> list[tuple[int, bytes]]:
    found = [(_ADDRESS, address.packed), (_NETMASK, config.netmask4.packed)]
    return found if config.gateway4 is None else [*found, (_GATEWAY, config.gateway4.packed)]


def _dns(config: TunnelConfig) -> bytes:
    servers = [server for server in config.dns if isinstance(server, IPv4Address)][:MOST_SERVERS]
    attributes = [(_DNS, server.packed) for server in servers]
    if config.search_domains:
        attributes.append((_DOMAINS, join_domains(config.search_domains)))
    return _group(Group.DNS, attributes)


def _routes(config: TunnelConfig) -> bytes:
    return _group(
        Group.ROUTES,
        (
            (kind, network.network_address.packed + network.netmask.packed)
            for kind, networks in ((_INCLUDE, config.include), (_EXCLUDE, config.exclude))
            for network in networks
            if isinstance(network, IPv4Network)
        ),
    )


def _wins(config: TunnelConfig) -> bytes:
    return _group(Group.WINS, ((_WINS, server.packed) for server in config.wins[:MOST_SERVERS]))


def _esp(esp: EspOffer) -> list[tuple[int, bytes]]:
    if esp.cipher not in CIPHERS or esp.hmac is not HMAC:
        raise UsageError(f"ESP with {esp.cipher.name} and {esp.hmac.name} is nothing for this protocol")
    if not 0 < esp.port <= 0xFFFF:
        raise UsageError(f"UDP port {esp.port}")
    return [
        (_Esp.CIPHER, bytes([esp.cipher])),
        (_Esp.HMAC, bytes([esp.hmac])),
        (_Esp.LZO, b"\0"),  # clients could only unpack
        (_Esp.PORT, struct.pack("!H", esp.port)),
        (_Esp.LIFETIME_BYTES, bytes(4)),
        (_Esp.LIFETIME, struct.pack("!I", esp.lifetime)),
        (_Esp.FALLBACK, struct.pack("!I", esp.fallback)),
        (_Esp.REPLAY, struct.pack("!I", esp.replay)),
    ]


def _group(number: Group, attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """Nothing where there are none."""
    listed = list(attributes)
    return encode_group(number, listed) if listed else b""


def decode_config(payload: bytes) -> tuple[TunnelConfig, EspKeys | None]:
    """Configuration and keys in KMP 301, as a client reads them; PeerError if it has another shape.

    Attributes unknown here are passed over. An offer of ESP that is incomplete or of other algorithms is none,
    and its keys are none either.
    """
    single: dict[str, Any] = {}
    dns: list[IPv4Address] = []
    wins: list[IPv4Address] = []
    include: list[IPv4Network] = []
    exclude: list[IPv4Network] = []
    esp: dict[str, int] = {}
    attributes = decode(payload)
    for each in attributes:
        match each.group, each.number:
            case (Group.OPTIONS, 2):
                single["mtu"] = number_in(each, 4)
            case (Group.ADDRESS, 1):
                single["address4"] = IPv4Address(exactly(each, 4))
            case (Group.ADDRESS, 2):
                single["netmask4"] = IPv4Address(exactly(each, 4))
            case (Group.ADDRESS, 3):
                single["gateway4"] = IPv4Address(exactly(each, 4))
            case (Group.DNS, 1):
                dns.append(IPv4Address(exactly(each, 4)))
            case (Group.DNS, 2):
                single["search_domains"] = split_domains(each.data)
            case (Group.ROUTES, 3):
                include.append(_network(each))
            case (Group.ROUTES, 4):
                exclude.append(_network(each))
            case (Group.WINS, 1):
                wins.append(IPv4Address(exactly(each, 4)))
            case (Group.ESP, number) if number in _ESP_NUMBERS:
                name, length = _ESP_NUMBERS[_Esp(number)]
                esp[name] = number_in(each, length)
    if not 0 < single.get("mtu", 0) <= MAX_MTU or "address4" not in single:
        raise PeerError("a configuration without usable MTU or address")
    keys, offer = keys_in(attributes), _offer(esp)
    config = TunnelConfig(
        **single,
        dns=tuple(dns),
        wins=tuple(wins),
        include=tuple(include),
        exclude=tuple(exclude),
        esp=offer if keys is not None else None,
    )
    return config, keys if offer is not None else None


def _offer(found: dict[str, int]) -> EspOffer | None:
    if found.get("hmac") != HMAC or found.get("cipher") not in CIPHERS or not found.get("port"):
        return None
    return EspOffer(
        cipher=EspCipher(found["cipher"]),
        hmac=HMAC,
        port=found["port"],
        fallback=found.get("fallback", 0),
        lifetime=found.get("lifetime", 0),
        replay=found.get("replay", 0) != 0,
    )


def _network(attribute: Attribute) -> IPv4Network:
    data = exactly(attribute, 8)
    mask = int.from_bytes(data[4:])
    length = mask.bit_count()
    if mask != (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:
        raise PeerError("a split network whose mask has holes")
    return IPv4Network((data[:4], length), strict=False)
