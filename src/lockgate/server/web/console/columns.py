"""What a list of objects shows of each: the columns of every collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lockgate.server.web.forms import labels
from lockgate.server.web.forms.when import duration

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what stands below it for one object."""

    title: str
    text: Callable[[Entry], str]


def _plain(title: str, *keys: str) -> Column:
    def text(entry: Entry) -> str:
        value: Any = entry
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return shown(value)

    return Column(title, text)


def _count(title: str, key: str) -> Column:
    return Column(title, lambda entry: str(len(entry.get(key) or ())))


def shown(value: Any) -> str:
    """A value in a cell: short."""
    match value:
        case True:
            return "Yes"
        case False:
            return "No"
        case None | "" | []:
            return "–"
        case list():
            texts = [str(one) for one in value]
            return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
        case _:
            return str(value)


def _applies(entry: Entry) -> str:
    applies = entry.get("applies") or {}
    roles = shown(applies.get("roles"))
    match applies.get("to", "all"):
        case "selected":
            return roles
        case "except":
            return f"all but {roles}"
        case _:
            return "all roles"


def _kbit(key: str) -> Callable[[Entry], str]:
    return lambda entry: f"{entry[key]} kbit/s" if entry.get(key) else "no limit"


def _condition(entry: Entry) -> str:
    condition = entry.get("condition") or {}
    if condition.get("kind") == "expression":
        text = str(condition.get("text", ""))
        return text if len(text) <= 80 else text[:79] + "…"
    what = labels.kind(str(condition.get("kind", ""))).lower()
    if condition.get("attribute"):
        what = f"{what} {condition['attribute']}"
    verb = "is not" if condition.get("negate") else "is"
    return f"{what} {verb} {shown(condition.get('values'))}"


_APPLIES = Column("Applies to", _applies)
_DESCRIPTION = _plain("Description", "description")
_REALM = (_plain("Authentication server", "server"), _count("Role mapping rules", "rules"), _DESCRIPTION)
_RULE = (Column("When", _condition), _plain("Roles", "roles"), _plain("Stop", "stop"))

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "LocalServer": (
        Column("Type", lambda e: labels.kind(str(e.get("kind", "")))),
        _plain("User Record Synchronization", "user_record_synchronization"),
        _plain("Logical Auth Server Name", "logical_auth_server_name"),
        _DESCRIPTION,
    ),
    "Realm": _REALM,
    "AdminRealm": _REALM,
    "RoleMappingRule": _RULE,
    "AdminRoleMappingRule": _RULE,
    "Role": (
        _plain("Web", "web"),
        _plain("VPN Tunneling", "vpn_tunneling"),
        Column("Max. length", lambda e: duration((e.get("session") or {}).get("length_seconds", 0))),
        _DESCRIPTION,
    ),
    "SignInPolicy": (
        _plain("URL", "url"),
        Column("For", lambda e: labels.option(str(e.get("user_type", "")))),
        Column(
            "Realms",
            lambda e: shown(e.get("admin_realms" if e.get("user_type") == "administrators" else "realms")),
        ),
        _plain("Enabled", "enabled"),
    ),
    "SignInPage": (Column("Kind", lambda e: labels.option(str(e.get("kind", "")))), _plain("Title", "title")),
    "SignInNotification": (_plain("Text", "text"),),
    "AccessControl": (
        Column("Action", lambda e: labels.option(str(e.get("action", "")))),
        _plain("Destinations", "to"),
        Column("Protocol", lambda e: " ".join(filter(None, (str(e.get("protocol", "any")), _ports(e))))),
        _APPLIES,
    ),
    "ConnectionProfile": (
        Column("Transport", lambda e: str(e.get("transport", "")).upper()),
        _plain("Addresses", "addresses"),
        _plain("DNS", "dns"),
        _APPLIES,
    ),
    "SplitTunnelingNetworks": (
        Column("Action", lambda e: labels.option(str(e.get("action", "")))),
        _plain("Networks", "networks"),
        _APPLIES,
    ),
    "Bandwidth": (
        Column("From the client", _kbit("up_kbit")),
        Column("To the client", _kbit("down_kbit")),
        _APPLIES,
    ),
    "ConnectionSet": (
        _plain("Owner", "owner"),
        _count("Connections", "connections"),
        _plain("Version", "version"),
        _DESCRIPTION,
    ),
    "ClientConnection": (
        Column("Type", lambda e: labels.option(str(e.get("kind", "")))),
        _plain("Server URLs", "urls"),
        Column("Connects", lambda e: labels.option(str(e.get("policy", "")))),
    ),
    "ComponentSet": (
        _plain("Connection set", "connection_set"),
        Column("Components", lambda e: labels.option(str(e.get("components", "")))),
    ),
    "PushTarget": (_plain("URL", "url"), _DESCRIPTION),
    "RecordPeer": (_plain("URL", "url"), _DESCRIPTION),
    "SyslogTarget": (_plain("Address", "address"), _plain("Transport", "transport")),
    "Bookmark": (_plain("URL", "url"),),
    "LocationRule": (
        Column("Kind", lambda e: labels.option(str(e.get("kind", "")))),
        _plain("Addresses", "addresses"),
    ),
}


def _ports(entry: Entry) -> str:
    return shown(entry["ports"]) if entry.get("ports") else ""


def columns(model: type) -> tuple[Column, ...]:
    """Beside the name; the description where nothing else is said."""
    return _COLUMNS.get(model.__name__, (_DESCRIPTION,))
