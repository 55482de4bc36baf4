"""What the gateway takes from the configuration, in the form the wire wants."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import IPv6Interface

from lockgate.model.access_rule import RuleSet
from lockgate.model.session import Session
from lockgate.protocol import edge_link
from lockgate.protocol.edge_link import Suite
from lockgate.protocol.pulse import extensions
from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.server.config.tree import Configuration
from lockgate.server.config.values import Network

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
class EspChoice:
    """What the configuration says about ESP.

    suite:     for clients of every kind.
    own_suite: for clients that can do AES-GCM.
    fallback:  seconds of silence. rekey: age of keys in seconds.
    """

    suite: Suite
    own_suite: Suite
    fallback: int
    rekey: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What one connection gets beyond what all get, by what its client announced.

    suite:        None without ESP.
    cross_family: ESP carries both inner IP versions.
    extended:     the client may send padded probes and say that it left ESP.
    """

    suite: Suite | None
    cross_family: bool
    extended: bool


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One immutable snapshot; sessions are opened from it."""

    configuration: Configuration
    rules: tuple[edge_link.Rule, ...]
    revision: int
    esp: EspChoice | None

    @classmethod
    def compile(cls, configuration: Configuration, rules: RuleSet, revision: int) -> GatewaySettings:
        esp = configuration.esp
        return cls(
            configuration=configuration,
            rules=tuple(
                edge_link.Rule(
                    allow=rule.allow,
                    protocol=rule.protocol,
                    address=rule.address,
                    prefix=rule.prefix,
                    port_low=rule.port_low,
                    port_high=rule.port_high,
                    reserved=rule.reserved,
                )
                for rule in rules.rules
            ),
            revision=revision,
            esp=EspChoice(
                suite=(suite := _SUITES[esp.cipher, esp.hmac]),
                own_suite=_OWN_SUITES.get(esp.own_cipher, suite),
                fallback=esp.fallback_seconds,
                rekey=esp.rekey_seconds,
            )
            if esp.enabled
            else None,
        )

    def terms(self, capabilities: Set[str]) -> Terms:
        """For a client with these `extensions`; openconnect has none of them."""
        if self.esp is None:
            return Terms(None, cross_family=False, extended=False)
        return Terms(
            suite=self.esp.own_suite if extensions.ESP_GCM in capabilities else self.esp.suite,
            cross_family=extensions.ESP_CROSS in capabilities,
            extended=extensions.ESP_PROBE in capabilities,
        )

    def adopted_suite(self, session: Session) -> Suite | None:
        """What a session in the edge was opened with. One that an earlier release opened does not say, and
        then had what all clients have."""
        return None if self.esp is None else session.suite or self.esp.suite

    def _includes(self) -> tuple[Network, ...]:
        """The networks that clients send through the tunnel; empty is everything.

        A client that is told of no network of an IP version sends all of that version through the
        tunnel. Where only the other version is split, it is told of our own pool instead.
        """
        network = self.configuration.network
        if not network.split_include:
            return ()
        told = {entry.version for entry in network.split_include}
        return (*network.split_include, *(pool for pool in network.pools if pool.version not in told))

    def tunnel_config(self, session: Session, terms: Terms) -> TunnelConfig:
        """What the client is told about its tunnel."""
        network = self.configuration.network
        return TunnelConfig(
            address4=session.address4,
            address6=IPv6Interface((session.address6, 128)) if session.address6 else None,
            mtu=network.mtu,
            dns=tuple(network.dns),
            search_domains=tuple(network.search_domains),
            include=self._includes(),
            exclude=tuple(network.split_exclude),
            esp=None if terms.suite is None else self._offer(terms.suite, terms.cross_family),
            disconnect_on_route_change=network.route_monitor,
            tunnel_routes_first=network.route_precedence == "tunnel",
            local_subnet_access=network.local_subnet_access,
            enforce4=network.traffic_enforcement,
            enforce6=network.traffic_enforcement,
            extended=terms.extended,
        )

    def _offer(self, suite: Suite, cross_family: bool) -> EspOffer:
        esp = self.configuration.esp
        cipher, hmac = _ON_WIRE[suite]
        return EspOffer(
            cipher=cipher,
            hmac=hmac,
            port=esp.port,
            fallback=esp.fallback_seconds,
            lifetime=esp.rekey_seconds,
            cross_family=cross_family,
        )
