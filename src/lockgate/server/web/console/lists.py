"""Lists of objects: which of them a page shows, and what it says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lockgate.server.config import registry
from lockgate.server.config.paths import format_path
from lockgate.server.config.schema import Names, Node
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.columns import columns

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Table:
    """A list of objects on a page, or the part of it that the page shows."""

    noun: str
    path: Names
    columns: Sequence[str]
    rows: Sequence[Row]
    total: int
    ordered: bool
    text: str
    first: int  # number of the first row, from 1
    before: int | None  # where the page before begins
    after: int | None
    open: bool  # may be changed


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    name: str
    at: str  # below the page
    cells: Sequence[str]


def table(ask: Ask, node: Node, value: Any, path: Names) -> Table:
    """The objects of a collection that the request's filter wants."""
    page = registry.page_of(path)
    assert page is not None
    shown = columns(node.models[0])
    entries = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    text = ask.query("q").strip()[:100]
    wanted = [
        (number, each) for number, each in enumerate(entries, 1) if not text or _matches(each, shown, text)
    ]
    first = ask.number("from", 0, len(wanted), 0)
    below = path[page.path.count("/") + 1 :]
    rows = [
        Row(
            number,
            str(each.get("name", "")),
            format_path((*below, str(each.get("name", "")))),
            [column.text(each) for column in shown],
        )
        for number, each in wanted[first : first + PAGE_SIZE]
    ]
    return Table(
        noun=noun(node),
        path=path,
        columns=[column.title for column in shown],
        rows=rows,
        total=len(wanted),
        ordered=bool(node.hints.get("ordered")),
        text=text,
        first=first + 1,
        before=max(0, first - PAGE_SIZE) if first else None,
        after=first + PAGE_SIZE if first + PAGE_SIZE < len(wanted) else None,
        open=ask.principal.may(page.area, "write"),
    )


def _matches(entry: dict[str, Any], shown: Sequence[Any], text: str) -> bool:
    wanted = text.casefold()
    if wanted in str(entry.get("name", "")).casefold():
        return True
    return wanted in str(entry.get("description", "")).casefold() or any(
        wanted in column.text(entry).casefold() for column in shown
    )


_NOUNS = {
    "AccessControl": "rule",
    "AdminRole": "delegated role",
    "Bandwidth": "entry",
    "ClientConnection": "connection",
    "LocalServer": "auth server",
    "RoleMappingRule": "rule",
    "AdminRoleMappingRule": "rule",
    "SplitTunnelingNetworks": "entry",
    "SignInNotification": "notification",
    "TrustedClientCa": "CA",
    "TrustedServerCa": "CA",
    "SyslogTarget": "syslog server",
    "AdminRealm": "realm",
}


def noun(node: Node) -> str:
    name = node.models[0].__name__
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return _NOUNS.get(name, words)
