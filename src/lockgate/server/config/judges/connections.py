"""Connection sets: identities, URLs, location rules."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from lockgate.server.config.findings import Finding, Path, shown
from lockgate.server.config.judges.location import LocationError, names_in
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.connections import ClientConnection, LocationRule
from lockgate.server.config.values import parse_address_range, parse_host_name


def judge(tree: Configuration) -> Iterator[Finding]:
    guids: dict[str, str] = {}
    for entry in tree.connection_sets:
        path: Path = ("connection_sets", entry.name)
        yield from _once(guids, entry.guid, f"the set {shown(entry.name)}", (*path, "guid"))
        for connection in entry.connections:
            here = (*path, "connections", connection.name)
            yield from _once(
                guids, connection.guid, f"{shown(connection.name)} of {shown(entry.name)}", (*here, "guid")
            )
            yield from _connection(connection, here)


def _once(guids: dict[str, str], guid: str, what: str, path: Path) -> Iterator[Finding]:
    if guid in guids:
        yield Finding(path, f"{guid} is the identity of {guids[guid]} already", "an identity of its own")
    else:
        guids[guid] = what


def _connection(connection: ClientConnection, path: Path) -> Iterator[Finding]:
    for position, url in enumerate(connection.urls):
        wrong = _wrong_url(url)
        if wrong:
            yield Finding(
                (*path, "urls", position), f"{shown(url)} {wrong}", 'https://host[:port][/page], or ""'
            )
    for rule in connection.location_rules:
        yield from _rule(rule, (*path, "location_rules", rule.name))
    if connection.policy == "location" and not connection.location_rules:
        yield Finding(
            (*path, "location_rules"),
            'the connection never connects: policy = "location" has no rules',
            "at least one rule",
        )
    if connection.location_match == "expression":
        known = {rule.name for rule in connection.location_rules}
        here = (*path, "location_expression")
        try:
            names = names_in(connection.location_expression)
        except LocationError as error:
            yield Finding(here, str(error), "names of rules with AND, OR, NOT and parentheses")
            return
        for name in sorted(names - known):
            yield Finding(here, f"there is no location rule {shown(name)}", "names of the location rules")


def _wrong_url(url: str) -> str:
    """Why it is no URL of a gateway; "" when it is one, or stands for the server an installer comes from."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        if parts.scheme != "https":
            return "is no https:// address"
        if parts.username is not None or parts.query or parts.fragment or not url.isprintable() or " " in url:
            return "has more than a host, a port and a page"
        parse_host_name(parts.hostname or "")
        if parts.port == 0:
            return "has no port that exists"
    except ValueError:
        return "names no host, or no port that exists"
    return ""


def _rule(rule: LocationRule, path: Path) -> Iterator[Finding]:
    if not rule.addresses:
        yield Finding(
            (*path, "addresses"), "the rule never matches: no address is named", "at least one address"
        )
    for position, text in enumerate(rule.addresses):
        try:
            parse_address_range(text)
        except ValueError:
            yield Finding(
                (*path, "addresses", position),
                f"{shown(text)} is no address or range",
                "an address, a network such as 10.0.0.0/8, or a range FIRST-LAST",
            )
    if rule.kind == "resolve-address":
        try:
            parse_host_name(rule.host)
        except ValueError:
            yield Finding((*path, "host"), f"{shown(rule.host)} is no name to resolve", "a DNS name")
    elif rule.host:
        yield Finding(
            (*path, "host"),
            f"the name has no effect with kind = {shown(rule.kind)}",
            "an empty text",
            warning=True,
        )
