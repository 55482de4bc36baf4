"""Connections as callers of the local API see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockgate.client import machine

if TYPE_CHECKING:
    from lockgate.client.service.connection import Connection
    from lockgate.client.service.network import TunnelNetwork


def _transport(connection: Connection) -> str | None:
    return connection.state.via.value if isinstance(connection.state, machine.Connected) else None


def _problem(connection: Connection) -> dict[str, object] | None:
    problem = machine.problem_of(connection.state)
    return problem.as_dict() if problem is not None else None


def state_line(connection: Connection) -> dict[str, Any]:
    """The `state` event."""
    return {
        "event": "state",
        "connection": connection.id,
        "state": machine.progress(connection.state).value,
        "transport": _transport(connection),
        "note": machine.note(connection.state),
        "problem": _problem(connection),
        "attempt": machine.attempt_of(connection.state),
    }


def status(connection: Connection) -> dict[str, Any]:
    """STATUS of the local API."""
    config, saved = connection.config, connection.saved
    clock, since = connection.services.clock, connection.figures.connected_since
    return {
        "connection": connection.id,
        "name": connection.settings.name,
        "server": str(connection.settings.server),
        "user": saved.user if saved else connection.settings.user,
        "realm": saved.realm if saved else connection.settings.realm,
        "state": machine.progress(connection.state).value,
        "transport": _transport(connection),
        "note": machine.note(connection.state),
        "problem": _problem(connection),
        "background": connection.background,
        "uid": connection.uid,
        "since": clock.on_wall(since) if since is not None else None,
        "ipv4": str(config.address4) if config and config.address4 else None,
        "ipv6": str(config.address6.ip) if config and config.address6 else None,
    }


def details(connection: Connection, network: TunnelNetwork) -> dict[str, Any]:
    """DETAILS of the local API: a snapshot."""
    config, saved, figures = connection.config, connection.saved, connection.figures
    now, traffic, transport = connection.services.clock.now(), figures.total(), _transport(connection)
    tunnel = connection.tunnel
    version, cipher, group = figures.tls
    owner = (
        network.owner == connection.id
    )  # else what is in place is another connection's, perhaps another user's
    return {
        **status(connection),
        "vpn_type": {"esp": "ESP", "tls": "SSL"}.get(transport or ""),
        "session_remaining": max(0, int(saved.deadline - now)) if saved and saved.deadline else None,
        "session_duration": max(0, int(now - saved.started)) if saved else 0,
        "mtu": min(config.mtu, figures.path_mtu or config.mtu) if config else None,
        "dns": [str(server) for server in config.dns] if config else [],
        "search_domains": list(config.search_domains) if config else [],
        "split_include": [str(entry) for entry in config.include] if config else [],
        "split_exclude": [str(entry) for entry in config.exclude] if config else [],
        "full_tunnel": bool(config and not config.include),
        # Seen from this machine: what the tunnel brought, what was sent into it.
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
        "packets_in": traffic.packets_in,
        "packets_out": traffic.packets_out,
        "packets_dropped": traffic.dropped,
        "peer": figures.peer,
        "via_proxy": f"http://{figures.proxy}/" if figures.proxy else None,
        "interface": (network.interface or None) if owner else None,
        "source": "User",
        "tls": {"version": version, "cipher": cipher, "group": group},
        "esp_suite": tunnel.suite.value if tunnel and tunnel.suite and tunnel.esp_started else None,
        "reconnects": figures.reconnects,
        "idle_limit": saved.idle if saved else None,
        "password_caching": bool(config and config.password_caching),
        "decisions": network.decisions if owner else [],
        "dns_driver": network.dns_driver if owner else None,
        "dns_silent": [str(server) for server in network.silent_name_servers] if transport and owner else [],
    }
