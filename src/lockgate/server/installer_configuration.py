"""The `.pulsepreconfig` of a component set: what Download Installer Configuration gives.

Keys that the guides show come in their order; the others have the names that files in the field use, or, where
the field has none (location rules, kinds of connections), names in the same style.
"""

from __future__ import annotations

import re
import uuid

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url
from lockgate.protocol.host_name import Host, canonical_host
from lockgate.protocol.preconfig import VPN, WIRED_OR_WIRELESS, Block, Document, PreconfigError, document
from lockgate.server.config import defaults
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.connections import (
    ClientConnection,
    ConnectionSet,
    LocationRule,
    MachineSettings,
)

SUFFIX = ".pulsepreconfig"
SOURCE = "preconfig"

_IDENTITIES = {"user": "user", "machine": "machine-only", "machine-or-user": "machine-or-user"}
_UNSAFE_IN_FILE_NAME = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|]+')

Entries = list[tuple[str, str]]


def file_name(component_set: str) -> str:
    """The name that the downloaded file has by default: that of the component set."""
    return (_UNSAFE_IN_FILE_NAME.sub("_", component_set).strip(". ") or "connections") + SUFFIX


def installer_configuration(tree: Configuration, component_set: str, *, server: str = "") -> Document:
    """What clients are installed with that belong to a component set.

    server: another server, for the connections that name none; without it they name this gateway.
    ProblemError when there is no such set, or `server` is no address.
    """
    found = {each.name: each for each in tree.component_sets}.get(component_set)
    if found is None:
        raise ProblemError(
            Problem(
                "no-such-component-set",
                f"There is no component set {component_set!r}.",
                "Choose one of the list.",
                tuple(each.name for each in tree.component_sets),
            )
        )
    connections = {each.name: each for each in tree.connection_sets}[found.connection_set]
    return connection_set_document(tree, connections, server=server)


def connection_set_document(tree: Configuration, connections: ConnectionSet, *, server: str = "") -> Document:
    """The document of one connection set."""
    this = _target(server) if server else this_server(tree)
    try:
        return document(
            _machine(tree, connections),
            [_connection(tree, connections, each, this) for each in connections.connections],
        )
    except PreconfigError as error:
        raise ProblemError(
            Problem(
                "not-in-preconfig",
                f"The connection set {connections.name!r} cannot be written: {error.reason}.",
                "Remove characters that cannot be printed from its names and texts.",
            )
        ) from None


def this_server(tree: Configuration) -> GatewayUrl:
    """The URL under which clients reach this gateway."""
    host: Host = canonical_host(tree.gateway.hostname)
    return GatewayUrl(host.text, tree.gateway.listen[0].port, "/", host.is_address)


def _target(server: str) -> GatewayUrl:
    try:
        return parse_gateway_url(server)
    except ValueError as error:
        raise ProblemError(Problem("bad-server", str(error), "Type it like vpn.example.org.")) from None


def _machine(tree: Configuration, connections: ConnectionSet) -> Entries:
    settings: MachineSettings = connections.settings
    return [
        ("version", str(connections.version)),
        ("guid", _guid(connections.guid)),
        ("connection-source", SOURCE),
        ("server-id", tree.cluster.server_id),
        ("connection-set-owner", connections.owner),
        ("connection-set-name", connections.name),
        ("allow-save", _switch(settings.allow_save)),
        ("user-connection", _switch(settings.user_connection)),
        ("lock-down", _switch(settings.always_on)),
        ("splashscreen-display", _switch(settings.splashscreen_display)),
        ("dynamic-trust", _switch(settings.dynamic_trust)),
        ("dynamic-connection", _switch(settings.dynamic_connection)),
        ("eap-fragment-size", str(settings.eap_fragment_size)),
        ("captive-portal-detection", _switch(settings.captive_portal_detection)),
        ("embedded-browser-saml", _switch(settings.embedded_browser_auth)),
        ("enable-browser", _switch(settings.embedded_browser_captive_portal)),
        ("embedded-cef-browser-saml", _switch(settings.fido2)),
        ("FIPSClient", _switch(settings.fips_mode)),
        ("clear-smart-card-pin-cache", _switch(settings.prevent_caching_pin)),
        ("block-traffic-on-vpn-disconnect", _switch(settings.vpn_only_access)),
        ("wireless-suppression", _switch(settings.wireless_suppression)),
    ]


def _connection(
    tree: Configuration, connections: ConnectionSet, each: ClientConnection, this: GatewayUrl
) -> Block:
    guid = _guid(each.guid)
    entries: Entries = [
        ("friendly-name", each.name),
        ("version", str(connections.version)),
        ("guid", guid),
        ("server-id", tree.cluster.server_id),
        ("connection-source", SOURCE),
    ]
    if each.kind == "802.1x":
        entries += [
            ("adapter-type", each.adapter_type),
            ("outer-username", each.outer_username),
            ("scan-list", ",".join(each.scan_list)),
            ("non-broadcast-ssid", _switch(each.non_broadcast_ssid)),
        ]
        return Block(WIRED_OR_WIRELESS, guid, (*entries, *_when(each)))
    urls = [url or _short(this) for url in each.urls] or [_short(this)]
    if each.kind != "connect-secure":
        entries.append(("connection-type", each.kind))
    entries += [
        ("factory-default", _switch(connections.name == defaults.SET)),
        ("uri", urls[0]),
        ("connection-policy-override", _switch(each.allow_override)),
        ("connection-lock-down", _switch(each.lock_down)),
        ("use-for-secure-meetings", "false"),
        ("use-for-connect", _switch(each.use_for_connect)),
    ]
    if len(urls) > 1:
        entries += [
            ("uri-list", ",".join(urls)),
            ("uri-list-use-last-connected", _switch(each.url_mode == "most-recent")),
            ("uri-list-randomize", _switch(each.url_mode == "random")),
        ]
    location = ("client-certificate-location-system", _switch(each.client_certificate_location_system))
    return Block(VPN, guid, (*entries, *_when(each), location))


def _when(each: ClientConnection) -> Entries:
    """With whose credentials and when it connects."""
    entries = [
        ("connection-identity", _IDENTITIES[each.identity]),
        ("connection-policy", each.policy),
    ]
    if each.policy == "location":
        entries.append(("location-match", each.location_match))
        if each.location_match == "expression":
            entries.append(("location-expression", each.location_expression))
        for number, rule in enumerate(each.location_rules, 1):
            entries += _rule(f"location-rule-{number}", rule)
    return entries


def _rule(prefix: str, rule: LocationRule) -> Entries:
    return [
        (f"{prefix}-name", rule.name),
        (f"{prefix}-kind", rule.kind),
        (f"{prefix}-interface", rule.interface),
        (f"{prefix}-host", rule.host),
        (f"{prefix}-addresses", ",".join(rule.addresses)),
        (f"{prefix}-negate", _switch(rule.negate)),
    ]


def _short(url: GatewayUrl) -> str:
    """A server as people would type it: its name alone where that is enough."""
    return url.authority if url.path == "/" else str(url)


def _guid(digits: str) -> str:
    return str(uuid.UUID(hex=digits))


def _switch(value: bool) -> str:
    return "true" if value else "false"
