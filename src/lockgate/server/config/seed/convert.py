"""From the file to revision 1 of the tree: the same behaviour, in the tree's terms."""

from __future__ import annotations

from collections.abc import Callable

from lockgate.server.config import defaults
from lockgate.server.config.seed.access import unwritten
from lockgate.server.config.seed.tree import Access, Seed
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import (
    AuthenticationPolicy,
    SessionLimits,
    SignIn,
    SignInNotification,
)
from lockgate.server.config.tree.system import ClientNetworks, Log
from lockgate.server.config.tree.users import (
    AccessControl,
    ConnectionProfile,
    SessionOptions,
    SplitTunnelingNetworks,
    VpnOptions,
)

NOTICE = "Notice"


def convert(seed: Seed, new_guid: Callable[[], str]) -> Configuration:
    """The tree that behaves as the file says. new_guid: makes 32 random hexadecimal digits."""
    tree = defaults.default_configuration(seed.gateway, new_guid)
    network, sessions = seed.network, seed.sessions
    [realm], [role] = tree.realms, tree.roles
    policies, notifications = tree.sign_in_policies, tree.sign_in_notifications
    if seed.sign_in.notice:
        notifications = (SignInNotification(name=NOTICE, text=seed.sign_in.notice),)
        policies = (policies[0].model_copy(update={"pre_notification": NOTICE}), *policies[1:])
    limits = SessionLimits(max_sessions_per_user=sessions.max_per_user)
    splits = bool(network.split_include or network.split_exclude)
    return tree.model_copy(
        update={
            "esp": seed.esp,
            "limits": seed.limits,
            "log": Log(level=seed.log.level),
            "network": ClientNetworks(
                pools=network.pools,
                mtu=network.mtu,
                tun_name=network.tun_name,
                address_quarantine_seconds=sessions.address_quarantine_seconds,
            ),
            "sign_in": SignIn(
                attempts=seed.sign_in.attempts, argon2=seed.sign_in.argon2, guard=seed.sign_in.guard
            ),
            "realms": (realm.model_copy(update={"policy": AuthenticationPolicy(limits=limits)}),),
            "roles": (
                role.model_copy(
                    update={
                        "session": SessionOptions(
                            length_seconds=sessions.length_seconds, idle_seconds=sessions.idle_seconds
                        ),
                        "vpn": VpnOptions(
                            split_tunneling="enabled" if splits else "disabled",
                            local_subnet_access=network.local_subnet_access,
                            route_precedence=network.route_precedence,
                            route_monitor=network.route_monitor,
                            traffic_enforcement_ipv4=network.traffic_enforcement,
                            traffic_enforcement_ipv6=network.traffic_enforcement,
                        ),
                    }
                ),
            ),
            "sign_in_policies": policies,
            "sign_in_notifications": notifications,
            "access_control": _access_control(seed, tree.access_control),
            "connection_profiles": (
                ConnectionProfile(
                    name="Default",
                    transport="esp" if seed.esp.enabled else "ssl",
                    dns=network.dns,
                    search_domains=network.search_domains,
                ),
            ),
            "split_tunneling_networks": _split_networks(seed),
        }
    )


def _access_control(seed: Seed, otherwise: tuple[AccessControl, ...]) -> tuple[AccessControl, ...]:
    if seed.access:
        names: set[str] = set()
        return tuple(_rule(entry, names) for entry in seed.access)
    networks = unwritten(seed)
    return (otherwise[0].model_copy(update={"to": networks}),) if networks else ()


def _rule(entry: Access, names: set[str]) -> AccessControl:
    return AccessControl(
        name=_name(entry.name, names),
        action=entry.action,
        to=entry.to,
        protocol=entry.protocol,
        ports=entry.ports,
    )


def _name(text: str, taken: set[str]) -> str:
    """A name that the tree takes; the file's names may hold anything, and here become equal."""
    plain = "".join(" " if character < " " or character == "\x7f" else character for character in text)
    plain = plain.replace("/", "-").strip()
    name = plain if plain not in ("", ".", "..") else "rule"
    count = 1
    while name in taken:
        count += 1
        name = f"{plain[:56].strip() or 'rule'} {count}"
    taken.add(name)
    return name


def _split_networks(seed: Seed) -> tuple[SplitTunnelingNetworks, ...]:
    named = (
        ("Tunnelled networks", "include", seed.network.split_include),
        ("Networks outside", "exclude", seed.network.split_exclude),
    )
    return tuple(
        SplitTunnelingNetworks(name=name, action=action, networks=networks)  # type: ignore[arg-type]
        for name, action, networks in named
        if networks
    )
