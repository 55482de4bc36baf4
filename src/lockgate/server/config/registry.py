"""The settings pages: where each part of the tree stands in the guides' menus, and whose right it is.

One entry a page. Console, REST, search and command line read it, so that they name a setting alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["section", "collection"]

# Top-level key of the tree → field of `AdminRole` that gives the right to see and change it.
AREAS: dict[str, str] = {
    "cluster": "system",
    "gateway": "system",
    "network": "system",
    "esp": "system",
    "limits": "system",
    "log": "logs",
    "client_logs": "system",
    "metrics": "system",
    "traces": "logs",
    "certificates": "system",
    "sign_in": "authentication",
    "auth_servers": "authentication",
    "realms": "authentication",
    "admin_realms": "administrators",
    "roles": "roles",
    "admin_roles": "administrators",
    "sign_in_policies": "authentication",
    "sign_in_pages": "authentication",
    "sign_in_notifications": "authentication",
    "access_control": "roles",
    "connection_profiles": "roles",
    "split_tunneling_networks": "roles",
    "bandwidth": "roles",
    "connection_sets": "connections",
    "component_sets": "connections",
    "user_records": "system",
    "push_targets": "maintenance",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One tab of the page of an object: the guide's path below the object, and where it is inside it.

    paths: keys inside the object; "" with nothing else is what stands in no other part.
    """

    id: str
    menu: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of settings."""

    id: str
    menu: tuple[str, ...]  # as the guides name it
    path: str  # in the tree
    kind: Kind
    title: str
    help: str
    parts: tuple[Part, ...] = ()  # empty: the object is one page

    @property
    def area(self) -> str:
        """The field of `AdminRole` that decides about it."""
        return area_of(self.path)

    @property
    def menu_text(self) -> str:
        return " > ".join(self.menu)


_REALM_PARTS = (
    Part("general", ("General",), ("",)),
    Part("source", ("Authentication Policy", "Source IP"), ("policy/source",)),
    Part("browser", ("Authentication Policy", "Browser"), ("policy/browser",)),
    Part("certificate", ("Authentication Policy", "Certificate"), ("policy/certificate",)),
    Part("password", ("Authentication Policy", "Password"), ("policy/password",)),
    Part("limits", ("Authentication Policy", "Limits"), ("policy/limits",)),
    Part("role-mapping", ("Role Mapping",), ("rules", "when_several")),
)

_ROLE_PARTS = (
    Part("general", ("General", "Overview"), ("",)),
    Part("source", ("General", "Restrictions", "Source IP"), ("restrictions/source",)),
    Part("browser", ("General", "Restrictions", "Browser"), ("restrictions/browser",)),
    Part("certificate", ("General", "Restrictions", "Certificate"), ("restrictions/certificate",)),
    Part("session", ("General", "Session Options"), ("session",)),
    Part("ui", ("General", "UI Options"), ("ui",)),
    Part("web", ("Web", "Bookmarks"), ("web_options",)),
    Part("vpn", ("VPN Tunneling", "Options"), ("vpn",)),
)

_SET_PARTS = (
    Part("general", ("General",), ("",)),
    Part("settings", ("Options",), ("settings",)),
    Part("connections", ("Connections",), ("connections",)),
)

_VPN = ("Users", "Resource Policies", "VPN Tunneling")
_SIGNING_IN = ("Authentication", "Signing In")
_LOGS = ("System", "Log/Monitoring")
_CERTIFICATES = ("System", "Configuration", "Certificates")

PAGES: tuple[Page, ...] = (
    Page(
        "gateway",
        ("System", "Network", "Gateway"),
        "gateway",
        "section",
        "Gateway",
        "Name, listening addresses and TLS. Changed addresses count from the next start of the server.",
    ),
    Page(
        "client-networks",
        ("System", "Network", "Client Networks"),
        "network",
        "section",
        "Client networks",
        "The address pools behind the tunnel interface, and the interface itself.",
    ),
    Page(
        "cluster",
        ("System", "Clustering", "Properties"),
        "cluster",
        "section",
        "Server and group",
        "What this server and its group are called, and the identity that clients are bound to.",
    ),
    Page(
        "vpn-tunneling",
        ("System", "Configuration", "VPN Tunneling"),
        "esp",
        "section",
        "VPN tunnelling",
        "ESP, the fast path of tunnels: port, ciphers, age of keys.",
    ),
    Page(
        "security",
        ("System", "Configuration", "Security"),
        "limits",
        "section",
        "Limits for strangers",
        "How many connections may wait that have not signed in.",
    ),
    Page(
        "trusted-client-cas",
        (*_CERTIFICATES, "Trusted Client CAs"),
        "certificates/trusted_client_cas",
        "collection",
        "Trusted client CAs",
        "CAs whose certificates users may show.",
    ),
    Page(
        "trusted-server-cas",
        (*_CERTIFICATES, "Trusted Server CAs"),
        "certificates/trusted_server_cas",
        "collection",
        "Trusted server CAs",
        "CAs that vouch for servers which this gateway connects to.",
    ),
    Page(
        "user-record-synchronization",
        ("System", "Configuration", "User Record Synchronization"),
        "user_records",
        "section",
        "User record synchronization",
        "Other gateways at which users have the same bookmarks and preferences.",
    ),
    Page(
        "log-settings",
        (*_LOGS, "Settings"),
        "log",
        "section",
        "Log settings",
        "What is written down, for how long, and which servers get a copy.",
    ),
    Page(
        "client-log-settings",
        (*_LOGS, "Client-Side Log", "Settings"),
        "client_logs",
        "section",
        "Client-side log",
        "Whether clients may send their logs here, how large, and how long they stay.",
    ),
    Page(
        "metrics",
        (*_LOGS, "Metrics"),
        "metrics",
        "section",
        "Metrics",
        "Who may read the figures at /metrics without a token.",
    ),
    Page(
        "traces",
        (*_LOGS, "Traces"),
        "traces",
        "section",
        "Traces",
        "Which collector gets traces of sign-ins, requests and commits, and how many.",
    ),
    Page(
        "auth-servers",
        ("Authentication", "Auth Servers"),
        "auth_servers",
        "collection",
        "Auth servers",
        "Where users and their passwords are kept.",
    ),
    Page(
        "sign-in-policies",
        (*_SIGNING_IN, "Sign-in Policies"),
        "sign_in_policies",
        "collection",
        "Sign-in policies",
        "Which URL leads to which realms and pages. The most exact URL decides.",
    ),
    Page(
        "sign-in-pages",
        (*_SIGNING_IN, "Sign-in Pages"),
        "sign_in_pages",
        "collection",
        "Sign-in pages",
        "What people see when they sign in.",
    ),
    Page(
        "sign-in-notifications",
        (*_SIGNING_IN, "Sign-in Notifications"),
        "sign_in_notifications",
        "collection",
        "Sign-in notifications",
        "Texts to agree to before or after signing in.",
    ),
    Page(
        "sign-in",
        (*_SIGNING_IN, "Settings"),
        "sign_in",
        "section",
        "Sign-in settings",
        "Attempts, protection against guessing, cost of password hashes.",
    ),
    Page(
        "admin-realms",
        ("Administrators", "Admin Realms"),
        "admin_realms",
        "collection",
        "Administrator realms",
        "Who signs in as an administrator, and which delegated roles they get.",
        (*_REALM_PARTS[:-1], Part("role-mapping", ("Role Mapping",), ("rules",))),
    ),
    Page(
        "admin-roles",
        ("Administrators", "Admin Roles"),
        "admin_roles",
        "collection",
        "Delegated administrator roles",
        "What administrators may see and change, area by area.",
    ),
    Page(
        "user-realms",
        ("Users", "User Realms"),
        "realms",
        "collection",
        "User realms",
        "Who signs in where, who may try, and which roles they get.",
        _REALM_PARTS,
    ),
    Page(
        "user-roles",
        ("Users", "User Roles"),
        "roles",
        "collection",
        "User roles",
        "What somebody with a role may use, and how.",
        _ROLE_PARTS,
    ),
    Page(
        "access-control",
        (*_VPN, "Access Control"),
        "access_control",
        "collection",
        "Access control",
        "What tunnels may reach. The first rule that matches decides; what no rule allows is dropped.",
    ),
    Page(
        "connection-profiles",
        (*_VPN, "Connection Profiles"),
        "connection_profiles",
        "collection",
        "Connection profiles",
        "Addresses, transport and name servers of clients. The first profile that applies decides.",
    ),
    Page(
        "split-tunneling-networks",
        (*_VPN, "Split-tunneling Networks"),
        "split_tunneling_networks",
        "collection",
        "Split-tunneling networks",
        "Networks and names that go through the tunnel or stay outside. All entries that apply count.",
    ),
    Page(
        "bandwidth",
        (*_VPN, "Bandwidth"),
        "bandwidth",
        "collection",
        "Bandwidth",
        "How fast one session may be. The first entry that applies decides.",
    ),
    Page(
        "connections",
        ("Users", "Connections"),
        "connection_sets",
        "collection",
        "Connection sets",
        "The connections and machine settings of clients.",
        _SET_PARTS,
    ),
    Page(
        "components",
        ("Users", "Components"),
        "component_sets",
        "collection",
        "Component sets",
        "What is installed on an endpoint, and the connection set that goes with it.",
    ),
    Page(
        "push-targets",
        ("Maintenance", "Push Config", "Targets"),
        "push_targets",
        "collection",
        "Push targets",
        "Other servers that the configuration can be pushed to.",
    ),
)

_BY_ID = {page.id: page for page in PAGES}


def page(id: str) -> Page | None:
    """The page called `id`."""
    return _BY_ID.get(id)


def page_of(path: str | Sequence[str]) -> Page | None:
    """The page on which the setting at `path` stands: the one with the longest path around it."""
    parts = tuple(path.split("/") if isinstance(path, str) else path)
    around = [each for each in PAGES if tuple(each.path.split("/")) == parts[: each.path.count("/") + 1]]
    return max(around, key=lambda each: len(each.path), default=None)


def area_of(path: str | Sequence[str]) -> str:
    """The field of `AdminRole` that decides about the setting at `path`.

    What is no part of the tree belongs to those with full power.
    """
    first = path.partition("/")[0] if isinstance(path, str) else next(iter(path), "")
    return AREAS.get(first, "administrators")
