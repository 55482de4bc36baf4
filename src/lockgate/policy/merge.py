"""One set of options out of those of several roles.

From the guides' permissive merging: an access feature that one role enables is enabled, times are the
longest, roaming the widest, and the portal looks as the first role says. What they leave open goes to the
person's favour, except for protections (traffic enforcement, route monitor, the tunnel's routes first):
those hold when one role asks for them, because two roles must not undo what each of them demands. So do
records of flows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lockgate.model.decision import Reason
from lockgate.model.policy import Bookmark, Role, SessionOptions, UiOptions, VpnOptions

T = TypeVar("T")
_FLOWS = ("none", "denied", "all")
_ROAMING = ("disabled", "limit-to-subnet", "enabled")


class Chooser:
    """Takes one role's value for each setting and says whose it was."""

    def __init__(self, roles: Sequence[Role], section: str, notes: list[Reason]) -> None:
        self._roles, self._section, self._notes = roles, section, notes

    def best(self, setting: str, of: Callable[[Role], T], better: Callable[[T], object], why: str) -> T:
        """The value that `better` makes the greatest; among equals that of the first role.

        A reason is written down where roles differ.
        """
        chosen = max(self._roles, key=lambda role: better(of(role)))  # type: ignore[arg-type,return-value]
        value = of(chosen)
        if any(of(role) != value for role in self._roles):
            shown = f"{value!r}" if isinstance(value, str) else _word(value)
            self._notes.append(
                Reason(
                    f"{setting} is {shown}: {why} (role {chosen.name!r})",
                    f"roles/{chosen.name}/{self._section}/{setting}",
                )
            )
        return value


def _word(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def as_limit(value: int) -> tuple[bool, int]:
    """What limits are compared by: 0 is none and so the greatest."""
    return (value == 0, value)


def session(roles: Sequence[Role], notes: list[Reason]) -> SessionOptions:
    """roles: at least one."""
    pick = Chooser(roles, "session", notes).best
    limited = [role for role in roles if role.session.roaming == "limit-to-subnet"]
    prefixes = Chooser(limited or roles, "session", notes).best
    extending = [role for role in roles if role.session.allow_extension]
    limits = Chooser(extending or roles, "session", notes).best
    return SessionOptions(
        length_seconds=pick("length_seconds", lambda role: role.session.length_seconds, int, "the longest"),
        idle_seconds=pick("idle_seconds", lambda role: role.session.idle_seconds, as_limit, "the longest"),
        heartbeat_timeout_seconds=pick(
            "heartbeat_timeout_seconds",
            lambda role: role.session.heartbeat_timeout_seconds,
            as_limit,
            "the longest",
        ),
        reminder_seconds=pick(
            "reminder_seconds", lambda role: role.session.reminder_seconds, int, "the earliest"
        ),
        allow_extension=pick(
            "allow_extension", lambda role: role.session.allow_extension, bool, "one role is enough"
        ),
        extension_limit_seconds=limits(
            "extension_limit_seconds",
            lambda role: role.session.extension_limit_seconds,
            as_limit,
            "the longest",
        ),
        persistent_password_caching=pick(
            "persistent_password_caching",
            lambda role: role.session.persistent_password_caching,
            bool,
            "one role is enough",
        ),
        upload_logs=pick("upload_logs", lambda role: role.session.upload_logs, bool, "one role is enough"),
        flow_records=pick("flow_records", lambda role: role.session.flow_records, _FLOWS.index, "the most"),
        roaming=pick("roaming", lambda role: role.session.roaming, _ROAMING.index, "the widest"),
        roaming_prefix4=prefixes(
            "roaming_prefix4",
            lambda role: role.session.roaming_prefix4,
            lambda bits: -bits,
            "the largest subnet",
        ),
        roaming_prefix6=prefixes(
            "roaming_prefix6",
            lambda role: role.session.roaming_prefix6,
            lambda bits: -bits,
            "the largest subnet",
        ),
    )


def vpn(roles: Sequence[Role], notes: list[Reason]) -> VpnOptions:
    """roles: those with VPN tunnelling, at least one."""
    pick = Chooser(roles, "vpn", notes).best
    any_role, demanded = "one role is enough", "one role demands it"
    return VpnOptions(
        split_tunneling=pick(
            "split_tunneling", lambda role: role.vpn.split_tunneling, "enabled".__eq__, any_role
        ),
        local_subnet_access=pick(
            "local_subnet_access", lambda role: role.vpn.local_subnet_access, bool, any_role
        ),
        route_precedence=pick(
            "route_precedence", lambda role: role.vpn.route_precedence, "tunnel".__eq__, demanded
        ),
        route_monitor=pick("route_monitor", lambda role: role.vpn.route_monitor, bool, demanded),
        traffic_enforcement_ipv4=pick(
            "traffic_enforcement_ipv4", lambda role: role.vpn.traffic_enforcement_ipv4, bool, demanded
        ),
        traffic_enforcement_ipv6=pick(
            "traffic_enforcement_ipv6", lambda role: role.vpn.traffic_enforcement_ipv6, bool, demanded
        ),
        auto_launch=pick("auto_launch", lambda role: role.vpn.auto_launch, bool, any_role),
        component_set=pick(
            "component_set", lambda role: role.vpn.component_set, bool, "of the first role that names one"
        ),
    )


def ui(roles: Sequence[Role], notes: list[Reason]) -> UiOptions:
    """The first role's. roles: at least one."""
    first = roles[0]
    if any(role.ui != first.ui for role in roles):
        notes.append(
            Reason(f"the portal looks as the first role {first.name!r} says", f"roles/{first.name}/ui")
        )
    return first.ui


def own_bookmarks(roles: Sequence[Role], notes: list[Reason]) -> bool:
    """Whether users may add some. roles: those with Web, at least one."""
    pick = Chooser(roles, "web_options", notes).best
    return pick("own_bookmarks", lambda role: role.own_bookmarks, bool, "one role is enough")


def bookmarks(roles: Sequence[Role]) -> tuple[Bookmark, ...]:
    """Those of all roles with Web, in order; of two with the same name and address the first."""
    found: dict[tuple[str, str], Bookmark] = {}
    for role in roles:
        for each in role.bookmarks:
            found.setdefault((each.name, each.url), each)
    return tuple(found.values())
