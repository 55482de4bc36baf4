"""What the gateway takes from the configuration, in the form the wire wants."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Interface

from lockgate.model.access_rule import RuleSet
from lockgate.model.session import Session
from lockgate.protocol import edge_link
from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.server.config.tree import Configuration
from lockgate.server.config.values import Network
from lockgate.server.gateway.tunnel import EspChoice

_SUITES = {
    ("aes-128-cbc", "sha1"): edge_link.Suite.AES128_CBC_SHA1,
    ("aes-128-cbc", "sha256"): edge_link.Suite.AES128_CBC_SHA256,
    ("aes-256-cbc", "sha1"): edge_link.Suite.AES256_CBC_SHA1,
    ("aes-256-cbc", "sha256"): edge_link.Suite.AES256_CBC_SHA256,
}
_CIPHERS = {"aes-128-cbc": EspCipher.AES128_CBC, "aes-256-cbc": EspCipher.AES256_CBC}
_HMACS = {"sha1": EspHmac.SHA1, "sha256": EspHmac.SHA256}


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
                suite=_SUITES[esp.cipher, esp.hmac], fallback=esp.fallback_seconds, rekey=esp.rekey_seconds
            )
            if esp.enabled
            else None,
        )

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

    def tunnel_config(self, session: Session) -> TunnelConfig:
        """What the client is told about its tunnel."""
        network, esp = self.configuration.network, self.configuration.esp
        return TunnelConfig(
            address4=session.address4,
            address6=IPv6Interface((session.address6, 128)) if session.address6 else None,
            mtu=network.mtu,
            dns=tuple(network.dns),
            search_domains=tuple(network.search_domains),
            include=self._includes(),
            exclude=tuple(network.split_exclude),
            esp=EspOffer(
                cipher=_CIPHERS[esp.cipher],
                hmac=_HMACS[esp.hmac],
                port=esp.port,
                fallback=esp.fallback_seconds,
                lifetime=esp.rekey_seconds,
            )
            if esp.enabled
            else None,
        )
