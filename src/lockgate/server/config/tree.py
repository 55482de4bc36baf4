"""The configuration tree: every setting with its meaning, unit, default and what is allowed.

The same models are the file format (`load`, `render`), and later the REST schema and the console's
forms. A tree never changes; sessions refer to the one they were opened under. What no single
setting can judge is in `checks`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lockgate.server.config.values import (
    AddressText,
    DomainName,
    EndpointText,
    FromList,
    HostName,
    NetworkText,
    PortsText,
    ProtocolText,
    TunName,
    parse_endpoint,
    parse_network,
)

DAY = 86400  # seconds


def setting(default: Any, text: str, allowed: str, **constraints: Any) -> Any:
    """A setting: its default (`...` for none), its meaning, and what is allowed, in words."""
    return Field(default, description=text, json_schema_extra={"allowed": allowed}, **constraints)


def number(default: int, text: str, low: int, high: int, unit: str = "") -> Any:
    """A whole number from `low` to `high`, both included."""
    allowed = f"a whole number from {low} to {high}{f' ({unit})' if unit else ''}"
    return setting(default, text, allowed, ge=low, le=high)


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values keep their types, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Gateway(Section):
    """Where clients and administrators connect."""

    hostname: HostName = setting(
        ..., "Name under which clients reach this gateway.", "a DNS name or an IP address"
    )
    listen: Annotated[tuple[EndpointText, ...], FromList] = setting(
        (parse_endpoint("0.0.0.0:443"), parse_endpoint("[::]:443")),
        "Where clients connect (TCP; ESP uses the same addresses). 0.0.0.0 and [::] are all addresses.",
        'a list of 1 to 32 texts "ADDRESS:PORT", IPv6 addresses in brackets',
        min_length=1,
        max_length=32,
    )
    admin_listen: EndpointText = setting(
        parse_endpoint("127.0.0.1:8443"),
        "Where the administrators' console and interface listen.",
        '"ADDRESS:PORT", IPv6 addresses in brackets',
    )
    tls_minimum: Literal["1.2", "1.3"] = setting("1.2", "Oldest TLS version accepted.", '"1.2" or "1.3"')
    client_certificates: Literal["off", "ask"] = setting(
        "off", "Whether clients are asked for a certificate when they connect.", '"off" or "ask"'
    )


class Esp(Section):
    """The fast path: ESP in UDP. Without it, or where UDP is blocked, packets use TLS."""

    enabled: bool = setting(True, "Offer ESP to clients.", "true or false")
    port: int = number(4500, "UDP port on every listening address.", 1, 65535)
    cipher: Literal["aes-256-cbc", "aes-128-cbc"] = setting(
        "aes-256-cbc", "Cipher for clients that cannot do AES-GCM.", '"aes-256-cbc" or "aes-128-cbc"'
    )
    hmac: Literal["sha256", "sha1"] = setting(
        "sha256", "Integrity check that goes with it.", '"sha256" or "sha1"'
    )
    own_cipher: Literal["aes-128-gcm", "aes-256-gcm", "off"] = setting(
        "aes-128-gcm",
        "Cipher for Lockgate's own client; off gives it the same as other clients.",
        '"aes-128-gcm", "aes-256-gcm" or "off"',
    )
    rekey_seconds: int = number(1200, "Age at which keys are replaced.", 10, DAY, "seconds")
    fallback_seconds: int = number(
        15, "Silence after which a side goes back to TLS (at twice this).", 1, 3600, "seconds"
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


class Argon2(Section):
    """Cost of password hashes (argon2id). Hashes are renewed at the next sign-in after a change."""

    memory_kib: int = number(19456, "Memory of one hash.", 64, 4 << 20, "KiB")
    time_cost: int = number(2, "Passes over that memory.", 1, 100)
    parallelism: int = number(1, "Lanes of one hash.", 1, 64)
    concurrency: int = number(2, "Hashes worked on at the same time.", 1, 64)
    queue: int = number(256, "Sign-ins that may wait for their hash; more are told to try again.", 1, 10_000)


class Guard(Section):
    """Against password guessing. An address is judged before a user, so that nobody can lock out others."""

    window_seconds: int = number(300, "Time for which a failed attempt counts.", 10, DAY, "seconds")
    failures_per_address: int = number(
        50, "Failures in that time that lock an address (IPv6: a /64 network).", 1, 100_000
    )
    failures_per_user_and_address: int = number(
        10, "Failures in that time that lock one user name for one address.", 1, 100_000
    )
    failures_per_user: int = number(
        100,
        "Failures in that time after which a user name is slowed down for addresses it never signed in from.",
        1,
        100_000,
    )
    lock_seconds: int = number(60, "First lock; each further one is twice as long.", 1, DAY, "seconds")
    lock_seconds_max: int = number(3600, "Longest lock.", 1, DAY, "seconds")
    slow_seconds: int = number(
        10, "Pause between attempts on a user name that is slowed down.", 1, 3600, "seconds"
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


class Limits(Section):
    """What strangers can make the gateway hold."""

    half_open_total: int = number(4096, "Connections that have not signed in, in total.", 16, 1_000_000)
    half_open_per_address: int = number(
        256, "Connections that have not signed in, per address (IPv6: a /64 network).", 1, 1_000_000
    )
    new_connections_per_second: int = number(
        100, "New connections per second and address, in the long run.", 1, 1_000_000
    )
    new_connections_burst: int = number(400, "New connections of an address at once.", 1, 1_000_000)
    sign_in_seconds: int = number(180, "Time to sign in before a connection is closed.", 10, 3600, "seconds")


class Log(Section):
    """What is written to the log (standard error, JSON lines). The audit is always complete."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least important messages that are written.", '"debug", "info", "warning" or "error"'
    )


class Configuration(Section):
    """The whole tree."""

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
