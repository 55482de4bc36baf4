"""The types that settings are made of. Each parser takes what a TOML file can hold.

Parsers raise ValueError with what is wrong; what is allowed stands at the setting (`tree`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from lockgate.model.access_rule import AddressRange, PortRange
from lockgate.server.config.findings import shown

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_TUN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)  # IFNAMSIZ is 16 with its final NUL
_DIGITS = re.compile(r"[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port to listen on."""

    address: Address
    port: int  # 1 .. 65535

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


def parse_endpoint(value: object) -> Endpoint:
    """ "192.0.2.1:443", "[2001:db8::1]:443", "0.0.0.0:443", "[::]:443"."""
    if isinstance(value, Endpoint):
        return value
    text = _text(value)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        if _is_address(text.strip("[]")):
            shown = f"[{text.strip('[]')}]" if ":" in text else text
            raise ValueError(f"{text} names no port; write {shown}:443")
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    address = parse_address(host[1:-1] if bracketed else host)
    if (address.version == 6) != bracketed:
        raise ValueError(f"{text!r}: brackets belong around IPv6 addresses only")
    return Endpoint(address, _port(port))


def parse_address(value: object) -> Address:
    """An IPv4 or IPv6 address without a zone."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    text = _text(value)
    if not _is_address(text):
        raise ValueError(f"{text!r} is not an IP address")
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} names a zone, which addresses here cannot have")
    return address


def parse_network(value: object) -> Network:
    """A network in canonical CIDR form: no bits set outside the prefix."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network") from None
    if str(network) != text:
        raise ValueError(f"{text!r} is not in canonical form; this network is written {network}")
    return network


def parse_address_range(value: object) -> Network | AddressRange:
    """A network in CIDR form, one address, or "FIRST-LAST"."""
    if isinstance(value, AddressRange):
        return value
    if not isinstance(value, str) or "/" in value:
        return parse_network(value)
    low, dash, high = value.partition("-")
    first = parse_address(low.strip())
    last = parse_address(high.strip()) if dash else first
    if first.version != last.version:
        raise ValueError(f"{value!r} mixes IPv4 and IPv6")
    if int(first) > int(last):
        raise ValueError(f"{value!r} ends before it begins")
    return AddressRange(first, last)


def parse_ports(value: object) -> PortRange:
    """443, "443" or "8000-8100"."""
    if isinstance(value, PortRange):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return PortRange(_port(str(value)), value)
    text = _text(value)
    low, dash, high = text.partition("-")
    ports = PortRange(_port(low), _port(high if dash else low))
    if ports.low > ports.high:
        raise ValueError(f"{text!r} ends before it begins")
    return ports


def parse_protocol(value: object) -> int | str:
    """ "any", "tcp", "udp", "icmp" or an IP protocol number."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if value in ("any", "tcp", "udp", "icmp"):
        return str(value)
    raise ValueError(f"{shown(value)} is not a protocol")


def parse_host_name(value: object) -> str:
    """A DNS name or an IP address, in lower case, without a final dot."""
    text = _text(value).lower().removesuffix(".")
    return text if _is_address(text) else parse_domain(text)


def parse_domain(value: object) -> str:
    """A DNS name in its ASCII form, in lower case, without a final dot."""
    text = _text(value).lower().removesuffix(".")
    if not text.isascii():
        raise ValueError(f"{text!r}: write international names in their ASCII form (xn--…)")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(f"{text!r} is not a DNS name")
    return text


def parse_tun_name(value: object) -> str:
    """A name the kernel takes for a network interface."""
    text = _text(value)
    if not _TUN_NAME.fullmatch(text) or text in (".", ".."):
        raise ValueError(f"{text!r} is not an interface name")
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text in quotes")  # pydantic reports ValueError only
    return value


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    if not _DIGITS.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _written_as_text(parser: Any) -> tuple[Any, ...]:
    """Validation by `parser`, shown and exported as text."""
    return (
        BeforeValidator(parser),
        PlainSerializer(str, return_type=str, when_used="json"),
        WithJsonSchema({"type": "string"}),
    )


EndpointText = Annotated[Endpoint, *_written_as_text(parse_endpoint)]
AddressText = Annotated[Address, *_written_as_text(parse_address)]
NetworkText = Annotated[Network, *_written_as_text(parse_network)]
AddressRangeText = Annotated[Network | AddressRange, *_written_as_text(parse_address_range)]
PortsText = Annotated[PortRange, *_written_as_text(parse_ports)]
ProtocolText = Annotated[int | str, BeforeValidator(parse_protocol)]
HostName = Annotated[str, BeforeValidator(parse_host_name)]
DomainName = Annotated[str, BeforeValidator(parse_domain)]
TunName = Annotated[str, BeforeValidator(parse_tun_name)]
# TOML has lists; the tree holds tuples, because it never changes.
FromList = BeforeValidator(_as_tuple)
