"""Connection sets and component sets: what clients are configured with."""

from __future__ import annotations

from typing import Annotated, Literal

from lockgate.server.config.tree.fields import (
    Guid,
    Named,
    Section,
    Texts,
    choice,
    number,
    objects,
    reference,
    setting,
    switch,
    text,
)
from lockgate.server.config.values import FromList


class MachineSettings(Section):
    """Options of a connection set (machine settings)."""

    allow_save: bool = switch(True, "Allow saving logon information.")
    user_connection: bool = switch(True, "Allow user connections: users may add their own.")
    always_on: bool = switch(
        False,
        "Always-on client: hides every way for the user to disable or remove connections, services, software.",
    )
    splashscreen_display: bool = switch(True, "Display the splash screen.")
    dynamic_trust: bool = switch(True, "Dynamic certificate trust: users may accept a certificate.")
    dynamic_connection: bool = switch(True, "Dynamic connections: portals may add connections.")
    eap_fragment_size: int = number(1400, "EAP fragment size.", 450, 3000, "bytes")
    captive_portal_detection: bool = switch(True, "Captive-portal detection.")
    embedded_browser_auth: bool = switch(True, "Embedded browser for authentication.")
    embedded_browser_captive_portal: bool = switch(True, "Embedded browser for captive portals.")
    fips_mode: bool = switch(False, "FIPS mode.")
    prevent_caching_pin: bool = switch(False, "Prevent caching the smart-card PIN.")
    vpn_only_access: bool = switch(
        False, "VPN-only access: no traffic unless a locked-down connection is connected."
    )
    wireless_suppression: bool = switch(
        False, "Wireless suppression: wireless interfaces are off while a wired one is up."
    )
    fido2: bool = switch(False, "FIDO2 U2F for SAML authentication.")


class LocationRule(Named):
    """A fact about the network the endpoint is in."""

    kind: Literal["dns-server", "resolve-address", "endpoint-address"] = choice(
        "dns-server",
        "dns-server: a name server in use; resolve-address: what a name resolves to; endpoint-address: its own address.",
        '"dns-server", "resolve-address" or "endpoint-address"',
    )
    interface: Literal["physical", "tunnel", "any"] = choice(
        "physical", "Interface that counts.", '"physical", "tunnel" or "any"'
    )
    host: str = text("Name to resolve, for resolve-address.", longest=253)
    addresses: Texts = setting(
        (), "Addresses or ranges that match.", "a list of at most 64 addresses or ranges", max_length=64
    )
    negate: bool = switch(False, "Turns the rule round.")


class ClientConnection(Named):
    """One connection of a set."""

    guid: Guid = setting(..., "Identity of the connection on clients.", "32 hexadecimal digits")
    kind: Literal["connect-secure", "policy-secure", "802.1x", "zero-trust"] = choice(
        "connect-secure",
        "Connect Secure or Policy Secure (VPN, UAC), Policy Secure (802.1X), Zero Trust Access.",
        '"connect-secure", "policy-secure", "802.1x" or "zero-trust"',
    )
    urls: Texts = setting(
        (),
        'Server URLs, best first; "" in an installer means the server it comes from.',
        "a list of at most 32 URLs",
        max_length=32,
    )
    url_mode: Literal["top-first", "most-recent", "random"] = choice(
        "top-first", "Order in which the URLs are tried.", '"top-first", "most-recent" or "random"'
    )
    allow_override: bool = switch(True, "Allow the user to override the connection policy.")
    policy: Literal["manual", "automatic", "location", "machine-start"] = choice(
        "manual",
        "When it connects: by hand, when the user signs in, by its location rules, at machine start.",
        '"manual", "automatic", "location" or "machine-start"',
    )
    identity: Literal["user", "machine", "machine-or-user"] = choice(
        "user", "With whose credentials it connects.", '"user", "machine" or "machine-or-user"'
    )
    location_rules: Annotated[tuple[LocationRule, ...], FromList] = objects("Location rules.", most=32)
    location_match: Literal["all", "any", "expression"] = choice(
        "all", "Which rules must match.", '"all", "any" or "expression"'
    )
    location_expression: str = text("Names of rules with AND, OR, NOT and parentheses.", longest=500)
    lock_down: bool = switch(False, "Locked-down connection, for VPN-only access.")
    use_for_connect: bool = switch(True, "Connect to this server for VPN.")
    client_certificate_location_system: bool = switch(
        False, "Client certificates are in the machine's store."
    )
    adapter_type: Literal["wired", "wireless"] = choice(
        "wired", "Adapter, for 802.1X.", '"wired" or "wireless"'
    )
    outer_username: str = text("Outer user name, for 802.1X.", default="anonymous", longest=64)
    scan_list: Texts = setting(
        (), "Network names in order, for 802.1X.", "a list of at most 64 texts", max_length=64
    )
    non_broadcast_ssid: bool = switch(False, "Also networks that hide their name, for 802.1X.")


class ConnectionSet(Named):
    """The connections and machine settings of a client."""

    guid: Guid = setting(..., "Identity of the set.", "32 hexadecimal digits")
    version: int = number(
        1, "Counts the changes; clients take only a higher one. Raised by itself.", 1, 1 << 31
    )
    owner: str = text("Who is responsible for it.", longest=64)
    settings: MachineSettings = MachineSettings()
    connections: Annotated[tuple[ClientConnection, ...], FromList] = objects(
        "Connections, in order.", most=200, ordered=True
    )


class ComponentSet(Named):
    """What is installed on an endpoint, and the connection set that goes with it."""

    connection_set: str = reference("connection_sets", "Connection set that is deployed.", default=...)
    components: Literal["all", "none", "minimal"] = choice(
        "minimal",
        "all components; no components: updates configurations only; minimal: those that the connections need.",
        '"all", "none" or "minimal"',
    )
