"""The file `config.toml`: what an administrator writes before the first start.

The first start makes revision 1 of the configuration tree of it (`convert`); from then on the tree counts. What no
single setting can judge is in `checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from lockgate.server.config.tree.authentication import Argon2, Guard
from lockgate.server.config.tree.fields import DAY, Section, number, setting
from lockgate.server.config.tree.system import Esp, Gateway, Limits
from lockgate.server.config.values import (
    AddressText,
    DomainName,
    FromList,
    NetworkText,
    PortsText,
    ProtocolText,
    TunName,
    parse_network,
)


class Network(Section):
    """What clients get: addresses, name servers, and which networks go through the tunnel."""

    pools: Annotated[tuple[NetworkText, ...], FromList] = setting(
        (parse_network("10.88.0.0/16"),),
        "Networks that client addresses come from; the first host of each is the gateway's own.",
        "a list of 1 to 16 networks such as 10.88.0.0/16 or fd12:3456:789a::/64; "
        "at least a /30 (IPv4) or /126 (IPv6) each",
        min_length=1,
        max_length=16,
    )
    dns: Annotated[tuple[AddressText, ...], FromList] = setting(
        (), "Name servers for clients, best first.", "a list of at most 8 IP addresses", max_length=8
    )
    search_domains: Annotated[tuple[DomainName, ...], FromList] = setting(
        (), "Domains that clients complete names with.", "a list of at most 32 DNS names", max_length=32
    )
    split_include: Annotated[tuple[NetworkText, ...], FromList] = setting(
        (),
        "Networks that go through the tunnel; empty sends everything through it.",
        "a list of networks such as 10.77.0.0/16, at most 255 IPv4 ones together with split_exclude",
        max_length=1024,
    )
    split_exclude: Annotated[tuple[NetworkText, ...], FromList] = setting(
        (),
        "Networks that stay outside the tunnel.",
        "a list of networks such as 10.77.5.0/24, at most 255 IPv4 ones together with split_include",
        max_length=1024,
    )
    local_subnet_access: bool = setting(
        False,
        "When everything goes through the tunnel: clients still reach the private network they are in.",
        "true or false",
    )
    route_precedence: Literal["tunnel", "endpoint"] = setting(
        "tunnel",
        "Whose routes win where both have one: the tunnel's or the client machine's own.",
        '"tunnel" or "endpoint"',
    )
    route_monitor: bool = setting(
        False,
        "Clients disconnect when something else changes their tunnel's routes; without this they put them back.",
        "true or false",
    )
    traffic_enforcement: bool = setting(
        True,
        "Packets for tunnelled networks leave a client through the tunnel or not at all, whatever its routes say.",
        "true or false",
    )
    mtu: int = number(
        1400, "Largest packet inside the tunnel; at least 1280 with an IPv6 pool.", 576, 9000, "bytes"
    )
    tun_name: TunName = setting(
        "lockgate0",
        "Name of the gateway's tunnel interface.",
        "1 to 15 letters, digits, dots, dashes or underscores",
    )


class Sessions(Section):
    """How long a sign-in lasts and how many a user may have."""

    max_per_user: int = number(
        5, "Sessions of one user at a time; at the limit the user chooses one to end.", 1, 100_000
    )
    length_seconds: int = number(12 * 3600, "Length of a session from its sign-in.", 5, 30 * DAY, "seconds")
    idle_seconds: int = number(
        1800,
        "Time without traffic after which a session ends, also while its client is away; 0 is never.",
        0,
        30 * DAY,
        "seconds",
    )
    address_quarantine_seconds: int = number(
        30, "Time before a client address is given to somebody else.", 0, DAY, "seconds"
    )


class SignIn(Section):
    """How users sign in."""

    attempts: int = number(3, "Passwords that may be tried in one sign-in.", 1, 10)
    notice: str = setting(
        "",
        "Text to agree to before signing in; empty shows none.",
        "a text of at most 2000 characters",
        max_length=2000,
    )
    argon2: Argon2 = Argon2()
    guard: Guard = Guard()


class Access(Section):
    """One access rule. The first rule that matches decides; what no rule allows is dropped.

    Without any rule users reach the networks of split_include, or everything behind the gateway
    when there are none. Rules speak of the far end in both directions: a machine and port that users
    may reach may also send to them from there. Other sessions and the gateway itself are reached only by a rule that
    names their network.
    """

    name: str = setting(
        ...,
        "Name in logs and explanations.",
        "a text of 1 to 64 characters, used once",
        min_length=1,
        max_length=64,
    )
    action: Literal["allow", "deny"] = setting(..., "What happens to matching packets.", '"allow" or "deny"')
    to: Annotated[tuple[NetworkText, ...], FromList] = setting(
        ...,
        "Destinations.",
        "a list of 1 to 1024 networks such as 10.77.0.0/16 or 10.77.0.80/32",
        min_length=1,
        max_length=1024,
    )
    protocol: ProtocolText = setting(
        "any", "IP protocol.", '"any", "tcp", "udp", "icmp" or a protocol number from 0 to 255'
    )
    ports: Annotated[tuple[PortsText, ...], FromList] = setting(
        (),
        "Destination ports, for tcp and udp; empty is any.",
        'a list of at most 64 ports or ranges such as "443" or "8000-8100"',
        max_length=64,
    )


class Log(Section):
    """What is written to the log (standard error, JSON lines). The audit is always complete."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least important messages that are written.", '"debug", "info", "warning" or "error"'
    )


class Seed(Section):
    """The whole file."""

    gateway: Gateway
    esp: Esp = Esp()
    network: Network = Network()
    sessions: Sessions = Sessions()
    sign_in: SignIn = SignIn()
    access: Annotated[tuple[Access, ...], FromList] = setting(
        (), "Access rules, in order.", "at most 1024 [[access]] tables", max_length=1024
    )
    limits: Limits = Limits()
    log: Log = Log()
