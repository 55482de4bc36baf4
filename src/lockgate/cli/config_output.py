"""How the `lockgate config` commands show changes, findings, drafts and values."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from lockgate.cli.output import print_json, warn
from lockgate.cli.plain import plain, plain_lines
from lockgate.cli.rest import Rest, part

F = TypeVar("F", bound=Callable[..., Any])
Document = Mapping[str, Any]

MAX_VALUE = 200  # characters of a value in a line of a diff
MANY_LINES = 100_000


def reason_option(command: F) -> F:
    return click.option("-m", "--reason", default="", metavar="TEXT", help="Why; kept with the revision.")(
        command
    )


def when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def show_value(value: Any) -> None:
    """Texts and numbers as they are, everything else as JSON."""
    if isinstance(value, str):
        for line in plain_lines(value, MANY_LINES):
            click.echo(line)
    else:
        print_json(value)


def show_changes(changes: Iterable[Document]) -> None:
    """One line for each change: + added, - removed, ~ changed, > moved."""
    changes = list(changes)
    if not changes:
        click.echo("no changes")
    for change in changes:
        path, before, after = plain(change["path"]), change["before"], change["after"]
        match change["kind"]:
            case "added":
                click.echo(f"+ {path}{_inside(after)}")
            case "removed":
                click.echo(f"- {path}")
            case "moved":
                click.echo(f"> {path}: place {before} -> {after}")
            case _:
                click.echo(f"~ {path}: {_short(before)} -> {_short(after)}")


def show_findings(findings: Iterable[Document]) -> None:
    for finding in findings:
        kind = "warning" if finding["warning"] else "error"
        allowed = f"; allowed: {finding['allowed']}" if finding["allowed"] else ""
        place = f"{finding['path']}: " if finding["path"] else ""
        click.echo(plain(f"{kind}: {place}{finding['wrong']}{allowed}"), err=True)


def show_committed(revision: Document) -> None:
    for finding in revision["warnings"]:
        place = f"{finding['path']}: " if finding["path"] else ""
        warn(plain(f"{place}{finding['wrong']}"))
    click.echo(f"revision {revision['number']} committed")


def show_conflicts(conflicts: Iterable[Document]) -> None:
    for conflict in conflicts:
        theirs, mine = conflict["theirs"], conflict["mine"]
        click.echo(f"! {plain(conflict['path'])}: both sides changed it")
        click.echo(f"    mine:   {mine['kind']} {_short(mine['after'])}")
        click.echo(f"    theirs: {plain(theirs['path'])} {theirs['kind']} {_short(theirs['after'])}")


def show_draft(rest: Rest, draft: Document, as_json: bool) -> None:
    """What a draft changes, what is wrong with it, and how to go on."""
    name = draft["id"]
    judged = rest.get(f"/config/drafts/{part(name)}/validate")
    found = rest.get(f"/config/drafts/{part(name)}/diff")
    if as_json:
        print_json({"draft": name, "version": draft["version"], **judged, **found})
        return
    show_changes(found["changes"])
    show_conflicts(found["conflicts"])
    show_findings(judged["findings"])
    click.echo(f"draft {name}: nothing is in force yet; `lockgate config commit {name}` commits it")


def _inside(value: Any) -> str:
    """What an added object says, without what is long."""
    if not isinstance(value, dict):
        return ""
    said = {
        key: each
        for key, each in value.items()
        if key != "name" and not isinstance(each, dict) and each not in ("", [], None)
    }
    return f" {_short(said)}" if said else ""


def _short(value: Any) -> str:
    return plain(json.dumps(value, ensure_ascii=False), MAX_VALUE)
