"""What one connection gets: ESP, and what its client is told about the tunnel, in the form the wire wants."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import IPv6Interface

from lockgate.model.session import Session
from lockgate.policy.effective import Effective
from lockgate.policy.split import Split
from lockgate.protocol.edge_link import Suite
from lockgate.protocol.pulse import extensions
from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.server.config.tree.system import ClientNetworks, Esp

LOWEST_MTU6 = 1280  # RFC 8200, section 5

_SUITES = {
    ("aes-128-cbc", "sha1"): Suite.AES128_CBC_SHA1,
    ("aes-128-cbc", "sha256"): Suite.AES128_CBC_SHA256,
    ("aes-256-cbc", "sha1"): Suite.AES256_CBC_SHA1,
    ("aes-256-cbc", "sha256"): Suite.AES256_CBC_SHA256,
}
_OWN_SUITES = {"aes-128-gcm": Suite.AES128_GCM, "aes-256-gcm": Suite.AES256_GCM}
_ON_WIRE = {
    Suite.AES128_CBC_SHA1: (EspCipher.AES128_CBC, EspHmac.SHA1),
    Suite.AES128_CBC_SHA256: (EspCipher.AES128_CBC, EspHmac.SHA256),
    Suite.AES256_CBC_SHA1: (EspCipher.AES256_CBC, EspHmac.SHA1),
    Suite.AES256_CBC_SHA256: (EspCipher.AES256_CBC, EspHmac.SHA256),
    Suite.AES128_GCM: (EspCipher.AES128_GCM, EspHmac.NONE),
    Suite.AES256_GCM: (EspCipher.AES256_GCM, EspHmac.NONE),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What one connection gets beyond what all get, by its roles and by what its client announced.

    suite:        None without ESP.
    cross_family: ESP carries both inner IP versions.
    extended:     the client may send padded probes and say that it left ESP.
    options:      the client is told what its roles say about the session's end and about passwords.
    split:        the client is told when its split-tunnel networks change.
    """

    suite: Suite | None
    cross_family: bool
    extended: bool
    options: bool = False
    split: bool = False


def suite_of(esp: Esp, capabilities: Set[str]) -> Suite | None:
    """How the ESP packets of a client with these `extensions` are protected; openconnect has none of them."""
    if not esp.enabled:
        return None
    suite = _SUITES[esp.cipher, esp.hmac]
    return _OWN_SUITES.get(esp.own_cipher, suite) if extensions.ESP_GCM in capabilities else suite


def terms_of(esp: Esp, rights: Effective, capabilities: Set[str]) -> Terms:
    """For a client with these capabilities whose roles have these rights."""
    suite = suite_of(esp, capabilities)
    options = extensions.SESSION_OPTIONS in capabilities
    split = extensions.SPLIT_NETWORKS in capabilities
    if suite is None or rights.profile.transport == "ssl":
        return Terms(None, cross_family=False, extended=False, options=options, split=split)
    return Terms(
        suite,
        cross_family=extensions.ESP_CROSS in capabilities,
        extended=extensions.ESP_PROBE in capabilities,
        options=options,
        split=split,
    )


def network_connect_suite(esp: Esp, over6: bool) -> Suite | None:
    """How the ESP packets of a Network Connect client are protected: with SHA-1, the best HMAC it has.

    over6: it came over IPv6. openconnect then would bring ESP up and quit.
    """
    return None if over6 or not esp.enabled else _SUITES[esp.cipher, "sha1"]


def network_connect_terms(esp: Esp, rights: Effective, over6: bool) -> Terms:
    """For a Network Connect client, which announces nothing."""
    suite = None if rights.profile.transport == "ssl" else network_connect_suite(esp, over6)
    return Terms(suite, cross_family=False, extended=False)


def adopted_suite(esp: Esp, rights: Effective, session: Session) -> Suite | None:
    """What a session in the edge was opened with. One that an earlier release opened does not say, and
    then had what all clients have."""
    if not esp.enabled or rights.profile.transport == "ssl":
        return None
    return session.suite or _SUITES[esp.cipher, esp.hmac]


def mtu_of(network: ClientNetworks, rights: Effective, session: Session) -> int:
    """Largest inner packet of the session, in bytes."""
    mtu = min(rights.profile.mtu or network.mtu, network.mtu)
    return max(mtu, LOWEST_MTU6) if session.address6 else mtu


def tunnel_config(
    esp: Esp, network: ClientNetworks, rights: Effective, split: Split, session: Session, terms: Terms
) -> TunnelConfig:
    """What the client is told about its tunnel."""
    vpn, profile = rights.vpn_options, rights.profile
    return TunnelConfig(
        address4=session.address4,
        address6=IPv6Interface((session.address6, 128)) if session.address6 else None,
        mtu=mtu_of(network, rights, session),
        dns=profile.dns,
        search_domains=profile.search_domains,
        include=split.include,
        exclude=split.exclude,
        esp=None if terms.suite is None else _offer(esp, terms.suite, terms.cross_family),
        disconnect_on_route_change=vpn.route_monitor,
        tunnel_routes_first=vpn.route_precedence == "tunnel",
        local_subnet_access=vpn.local_subnet_access,
        enforce4=vpn.traffic_enforcement_ipv4,
        enforce6=vpn.traffic_enforcement_ipv6,
        proxy=profile.proxy.server if profile.proxy.mode == "manual" else "",
        pac_url=profile.proxy.pac_url if profile.proxy.mode == "pac" else "",
        extended=terms.extended,
        reminder=rights.session.reminder_seconds if terms.options else 0,
        password_caching=terms.options and rights.session.persistent_password_caching,
    )


def _offer(esp: Esp, suite: Suite, cross_family: bool) -> EspOffer:
    cipher, hmac = _ON_WIRE[suite]
    return EspOffer(
        cipher=cipher,
        hmac=hmac,
        port=esp.port,
        fallback=esp.fallback_seconds,
        lifetime=esp.rekey_seconds,
        cross_family=cross_family,
    )
