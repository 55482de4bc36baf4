"""Users: roles and the resource policies for VPN tunnelling."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from lockgate.server.config.tree.authentication import BrowserPolicy, CertificateRequirement, SourcePolicy
from lockgate.server.config.tree.fields import (
    DAY,
    AppliesTo,
    Named,
    Section,
    choice,
    number,
    objects,
    reference,
    setting,
    switch,
    text,
)
from lockgate.server.config.values import (
    AddressRangeText,
    AddressText,
    DomainName,
    FromList,
    Network,
    PortsText,
    ProtocolText,
    parse_domain,
    parse_network,
)

_DIGIT_NAME = re.compile(r"[0-9.:/]+")


def parse_target(value: object) -> Network | str:
    """A network in CIDR form, or a DNS name that the gateway resolves."""
    if not isinstance(value, str) or "/" in value or ":" in value:
        return parse_network(value)
    if _DIGIT_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is neither a network such as 10.77.0.80/32 nor a DNS name")
    return parse_domain(value)


def parse_split_target(value: object) -> Network | str:
    """The same, for routes of clients, which lead to addresses only."""
    if isinstance(value, str) and "*" in value:
        raise ValueError(
            f"{value!r} is a pattern of names, whose addresses nobody can ask for; name each host, "
            "or give the networks that the hosts are in"
        )
    return parse_target(value)


TargetText = Annotated[
    Network | str,
    BeforeValidator(parse_target),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
SplitTargetText = Annotated[
    Network | str,
    BeforeValidator(parse_split_target),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]


class RoleRestrictions(Section):
    """Who can have this role at all; checked whenever roles are assigned, not only at sign-in."""

    source: SourcePolicy = SourcePolicy()
    browser: BrowserPolicy = BrowserPolicy()
    certificate: CertificateRequirement = CertificateRequirement()


class SessionOptions(Section):
    """How long a session of this role lasts and what it may keep."""

    length_seconds: int = number(12 * 3600, "Maximum session length.", 5, 30 * DAY, "seconds")
    idle_seconds: int = number(
        1800,
        "Idle time-out: time without traffic after which a session ends, also while its client is away; 0 is never.",
        0,
        30 * DAY,
        "seconds",
    )
    heartbeat_timeout_seconds: int = number(
        0,
        "Heartbeat time-out: time a client may be away before its session ends; 0 leaves that to the idle time-out.",
        0,
        30 * DAY,
        "seconds",
    )
    reminder_seconds: int = number(
        0, "Reminder: how long before the end a user is told; 0 is never.", 0, DAY, "seconds"
    )
    allow_extension: bool = switch(
        False, "Allow users to extend their sessions: in the portal, each time by the maximum session length."
    )
    extension_limit_seconds: int = number(
        3 * DAY,
        "Extension limit: longest time from the sign-in to the end of a session that its user extends; 0 is no limit.",
        0,
        365 * DAY,
        "seconds",
    )
    persistent_password_caching: bool = switch(False, "Clients may keep the password across sessions.")
    upload_logs: bool = switch(False, "Enable Upload Logs: the user may send client logs to this gateway.")
    flow_records: Literal["system", "none", "denied", "all"] = choice(
        "system",
        "Which connections through the tunnel are written down: as the log settings say, or what this role needs. "
        "Of several roles the one with most counts. The addresses that people visit are personal data.",
        '"system", "none", "denied" or "all"',
    )
    roaming: Literal["enabled", "limit-to-subnet", "disabled"] = choice(
        "enabled",
        "Whether a session may go on from another address: from any, from the same subnet, from none.",
        '"enabled", "limit-to-subnet" or "disabled"',
    )
    roaming_prefix4: int = number(24, "Size of that subnet, IPv4.", 8, 32, "bits")
    roaming_prefix6: int = number(64, "Size of that subnet, IPv6.", 16, 128, "bits")


class UiOptions(Section):
    """What the user portal shows."""

    title: str = text("Title of the home page.", longest=100)
    greeting: str = text("Text at its top.", multiline=True)
    show_client: bool = switch(True, "Shows the client's Start button.")
    show_sessions: bool = switch(True, "Shows the user's active sessions.")


class Bookmark(Named):
    """A link on the portal's home page."""

    url: str = setting(
        ...,
        "Where it leads.",
        "an http:// or https:// address",
        pattern=r"^https?://[^\s\"'<>]+$",
        max_length=1000,
    )
    new_window: bool = switch(True, "Opens in a window of its own.")


class WebOptions(Section):
    """Web access."""

    own_bookmarks: bool = switch(False, "Users may add bookmarks of their own.")
    bookmarks: Annotated[tuple[Bookmark, ...], FromList] = objects(
        "Bookmarks, in order.", most=200, ordered=True
    )


class VpnOptions(Section):
    """VPN tunnelling."""

    split_tunneling: Literal["disabled", "enabled"] = choice(
        "disabled",
        "disabled: everything goes through the tunnel; enabled: the networks of Split-tunneling Networks.",
        '"disabled" or "enabled"',
    )
    local_subnet_access: bool = switch(
        False, "When everything goes through the tunnel: clients still reach the private network they are in."
    )
    route_precedence: Literal["tunnel", "endpoint"] = choice(
        "tunnel",
        "Whose routes win where both have one: the tunnel's or the client machine's own.",
        '"tunnel" or "endpoint"',
    )
    route_monitor: bool = switch(
        False,
        "Clients disconnect when something else changes their tunnel's routes; without this they put them back.",
    )
    traffic_enforcement_ipv4: bool = switch(
        True, "IPv4 packets for tunnelled networks leave a client through the tunnel or not at all."
    )
    traffic_enforcement_ipv6: bool = switch(
        True, "IPv6 packets for tunnelled networks leave a client through the tunnel or not at all."
    )
    auto_launch: bool = switch(False, "The client is launched after signing in to the portal.")
    component_set: str = reference(
        "component_sets", 'What is installed on the endpoint; "" is the default component set.', optional=True
    )


class Role(Named):
    """What somebody with this role may use, and how."""

    restrictions: RoleRestrictions = RoleRestrictions()
    web: bool = switch(True, "Access feature Web: portal and bookmarks.")
    vpn_tunneling: bool = switch(True, "Access feature VPN Tunneling.")
    session: SessionOptions = SessionOptions()
    ui: UiOptions = UiOptions()
    web_options: WebOptions = WebOptions()
    vpn: VpnOptions = VpnOptions()


class AccessControl(Named):
    """One access rule for tunnels. The first rule that matches decides; what no rule allows is dropped.

    Rules speak of the far end in both directions: a machine and port that users may reach may also
    send to them from there. Other sessions and the gateway itself are reached only by a rule that
    names their network.
    """

    action: Literal["allow", "deny"] = choice(..., "What happens to matching packets.", '"allow" or "deny"')
    to: Annotated[tuple[TargetText, ...], FromList] = setting(
        ...,
        "Destinations; names are resolved by the gateway and followed while they change. A name without an answer matches nothing, so deny by network where it counts.",
        "a list of 1 to 1024 networks such as 10.77.0.0/16 and DNS names such as intranet.example.com",
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
    applies: AppliesTo = AppliesTo()


class ClientProxy(Section):
    """Web proxy that clients are told to use inside the tunnel."""

    mode: Literal["none", "pac", "manual"] = choice(
        "none", "none; pac: an automatic configuration file; manual: one server.", '"none", "pac" or "manual"'
    )
    pac_url: str = text("Address of the configuration file.", longest=500)
    server: str = text("host:port of the server.", longest=300)


class ConnectionProfile(Named):
    """What clients get: addresses, transport, name servers. The first profile that applies decides."""

    addresses: Annotated[tuple[AddressRangeText, ...], FromList] = setting(
        (),
        "Client addresses: networks or static ranges inside the client networks; empty is all of them.",
        'a list of at most 64 networks or ranges such as "10.88.4.0/24" or "10.88.1.10-10.88.1.99"',
        max_length=64,
    )
    transport: Literal["esp", "ssl"] = choice(
        "esp", "esp: ESP, and TLS where UDP is blocked; ssl: TLS only.", '"esp" or "ssl"'
    )
    mtu: int = number(
        0, "Largest packet inside the tunnel; 0 is that of the client networks.", 0, 9000, "bytes"
    )
    dns: Annotated[tuple[AddressText, ...], FromList] = setting(
        (), "Name servers for clients, best first.", "a list of at most 8 IP addresses", max_length=8
    )
    search_domains: Annotated[tuple[DomainName, ...], FromList] = setting(
        (), "Domains that clients complete names with.", "a list of at most 32 DNS names", max_length=32
    )
    proxy: ClientProxy = ClientProxy()
    applies: AppliesTo = AppliesTo()


class SplitTunnelingNetworks(Named):
    """Networks and names that go through the tunnel, or stay outside. All entries that apply count.

    Of the networks that hold an address the most specific one decides, and of two for the same network the
    exclude. A name counts as the single addresses it has, so it beats any network around them.
    """

    action: Literal["include", "exclude"] = choice(
        "include", "include: through the tunnel; exclude: outside.", '"include" or "exclude"'
    )
    networks: Annotated[tuple[SplitTargetText, ...], FromList] = setting(
        ...,
        "The networks; names are resolved by the gateway and followed while they change. A name without an answer includes and excludes nothing.",
        "a list of 1 to 1024 networks such as 10.77.0.0/16 and DNS names such as files.example.com, without *",
        min_length=1,
        max_length=1024,
    )
    applies: AppliesTo = AppliesTo()


class Bandwidth(Named):
    """How fast one session may be. The first entry that applies decides."""

    up_kbit: int = number(0, "From the client, at most; 0 is no limit.", 0, 100_000_000, "kbit/s")
    down_kbit: int = number(0, "To the client, at most; 0 is no limit.", 0, 100_000_000, "kbit/s")
    applies: AppliesTo = AppliesTo()
