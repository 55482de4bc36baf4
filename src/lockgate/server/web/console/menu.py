"""The console's menu: the guides' paths, with settings pages from the registry and the pages beyond settings."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from lockgate.server.config.registry import PAGES
from lockgate.server.config.registry import Page as SettingsPage
from lockgate.server.web.principal import Principal

BASE = "/admin/"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the menu.

    path:  where it stands, the line itself last. area: whose right it asks for ("" is any).
    words: what search finds it by, beside its path.
    """

    id: str
    path: tuple[str, ...]
    url: str
    area: str
    help: str = ""
    words: str = ""

    @property
    def title(self) -> str:
        return self.path[-1]

    @property
    def text(self) -> str:
        return " > ".join(self.path)

    def visible(self, principal: Principal) -> bool:
        return principal.may(self.area) if self.area else principal.may_anywhere()


@dataclass(frozen=True, slots=True)
class Group:
    """One of the menu's great parts. sections: heading ("" for none) → its entries, in order."""

    title: str
    icon: str
    sections: tuple[tuple[str, tuple[Entry, ...]], ...]

    def holds(self, id: str) -> bool:
        return any(entry.id == id for _, entries in self.sections for entry in entries)


def page_of_ours(url: str, below: str = BASE) -> bool:
    """Whether a browser that is sent to `url`, wherever it comes from, ends on a page below that one."""
    return url.startswith(below) and "\\" not in url and url.isprintable()


def settings_url(page: str, at: str = "", **more: str) -> str:
    """A settings page, or what stands `at` below it."""
    query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in {"at": at, **more}.items() if value)
    return f"{BASE}settings/{page}" + (f"?{query}" if query else "")


_LOGS = ("System", "Log/Monitoring")

BEYOND: tuple[Entry, ...] = (
    Entry(
        "overview",
        ("System", "Status", "Overview"),
        BASE,
        "",
        "What the gateway is doing now, and did in the past.",
        "graphs throughput cpu memory health concurrent users ssl connections csv",
    ),
    Entry(
        "sessions",
        ("System", "Status", "Active Users"),
        BASE + "sessions",
        "sessions",
        "Everybody who is connected.",
        "live sessions disconnect end tunnel",
    ),
    Entry(
        "browsers",
        ("System", "Status", "Active Browsers"),
        BASE + "browsers",
        "sessions",
        "Everybody who is signed in at the portal or at this console.",
        "web sessions portal console sign out",
    ),
    Entry(
        "record-peers",
        ("System", "Status", "User Record Synchronization"),
        BASE + "record-peers",
        "system",
        "How far bookmarks and preferences of users are exchanged with other gateways.",
        "bookmarks preferences peers synchronisation logical auth server",
    ),
    Entry(
        "device-certificate",
        ("System", "Configuration", "Certificates", "Device Certificate"),
        BASE + "certificate",
        "system",
        "The certificate that this gateway shows.",
        "tls server key renew upload pem chain expiry",
    ),
    Entry(
        "about",
        ("System", "Configuration", "About"),
        BASE + "about",
        "",
        "Versions, components and their licences.",
        "license version build python",
    ),
    Entry(
        "log-events",
        (*_LOGS, "Events"),
        BASE + "logs/events",
        "logs",
        "What happened to the gateway itself.",
        "audit export filter verify",
    ),
    Entry(
        "log-user",
        (*_LOGS, "User Access"),
        BASE + "logs/user-access",
        "logs",
        "What users did and tried.",
        "audit sign-in failed export filter",
    ),
    Entry(
        "log-admin",
        (*_LOGS, "Admin Access"),
        BASE + "logs/admin-access",
        "logs",
        "What administrators did and tried.",
        "audit changes export filter",
    ),
    Entry(
        "log-flows",
        (*_LOGS, "Flows"),
        BASE + "logs/flows",
        "logs",
        "Connections through tunnels, as far as they are written down: by default those that were denied.",
        "audit traffic connections denied address port export filter",
    ),
    Entry(
        "uploaded-logs",
        (*_LOGS, "Client-Side Log", "Uploaded Logs"),
        BASE + "uploaded-logs",
        "system",
        "Logs that clients have sent.",
        "client logs download diagnostics",
    ),
    Entry(
        "users",
        ("Authentication", "Local Users"),
        BASE + "users",
        "users",
        "Users and administrators kept by this gateway.",
        "accounts password disable groups attributes administrators",
    ),
    Entry(
        "upload-sign-in-pages",
        ("Authentication", "Signing In", "Upload Custom Sign-In Pages"),
        BASE + "upload-sign-in-pages",
        "authentication",
        "Templates of your own for the pages that people see when they sign in.",
        "custom sign-in page zip templates branding upload",
    ),
    Entry(
        "tokens",
        ("Administrators", "API Tokens"),
        BASE + "tokens",
        "",
        "Tokens for programs that use the REST interface.",
        "rest api scope bearer",
    ),
    Entry(
        "import-export",
        ("Maintenance", "Import/Export"),
        BASE + "import-export",
        "maintenance",
        "The configuration as a file, whole or in parts.",
        "backup json download upload passphrase",
    ),
    Entry(
        "push",
        ("Maintenance", "Push Config", "Push"),
        BASE + "push",
        "maintenance",
        "Sends the configuration to other servers.",
        "targets copy servers",
    ),
    Entry(
        "revisions",
        ("Maintenance", "Revisions"),
        BASE + "revisions",
        "maintenance",
        "Every configuration there was: who, when, why, what; and back.",
        "history diff compare rollback author reason",
    ),
    Entry(
        "installers",
        ("Maintenance", "Installers"),
        BASE + "installers",
        "connections",
        "Configuration files for clients, one for each component set.",
        "download installer configuration pulsepreconfig client deploy",
    ),
    Entry(
        "tracing",
        ("Maintenance", "Troubleshooting", "Policy Tracing"),
        BASE + "tracing",
        "logs",
        "Why somebody may reach something, or may not.",
        "explain policy simulation try a user realm roles access",
    ),
    Entry(
        "what-if",
        ("Maintenance", "Troubleshooting", "What-if"),
        BASE + "what-if",
        "logs",
        "What a draft would have changed for those who were here.",
        "replay decisions draft gains loses",
    ),
)

_GROUPS = (
    ("System", "server"),
    ("Authentication", "shield-lock"),
    ("Administrators", "key"),
    ("Users", "users"),
    ("Maintenance", "adjustments"),
)
# What people look for first stands first; the rest keeps the order of the registry.
_FIRST = ("Status", "Log/Monitoring")


def _settings(page: SettingsPage) -> Entry:
    return Entry(page.id, page.menu, settings_url(page.id), page.area, page.help, page.path.replace("_", " "))


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All lines of the menu."""
    return (*BEYOND, *(_settings(page) for page in PAGES))


def entry(id: str) -> Entry | None:
    """The line called `id`; None for a page that stands in no menu."""
    return next((each for each in entries() if each.id == id), None)


def groups(principal: Principal) -> list[Group]:
    """The menu of somebody: what they may see."""
    mine = [each for each in entries() if each.visible(principal)]
    made = []
    for title, icon in _GROUPS:
        inside = [each for each in mine if each.path[0] == title]
        if inside:
            made.append(Group(title, icon, tuple(_sections(inside))))
    return made


def _sections(inside: list[Entry]) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    headings: dict[str, list[Entry]] = {}
    for each in inside:
        headings.setdefault(" › ".join(each.path[1:-1]), []).append(each)
    # Stable: pages keep their order, those that people look for first come first.
    for name in sorted(headings, key=lambda name: not name.startswith(_FIRST)):
        yield name, tuple(headings[name])
