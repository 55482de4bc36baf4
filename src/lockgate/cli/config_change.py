"""`lockgate config set|add|remove|move|rename|edit|commit|rebase|rollback|discard`: drafts and revisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lockgate.cli.config_output import (
    reason_option,
    show_committed,
    show_draft,
)
from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json
from lockgate.cli.rest import Rest, part
from lockgate.model.problem import Problem, ProblemError

F = TypeVar("F", bound=Callable[..., Any])

MAX_EDITED = 64 << 20  # bytes of a file that comes back from an editor


def change_options(command: F) -> F:
    """Where a change goes: a draft of its own, a named one, or a commit at once."""
    for option in (
        json_option,
        reason_option,
        click.option("--commit", is_flag=True, help="Commit at once, as one revision."),
        click.option("--draft", metavar="ID", help="Change this draft instead of a new one."),
        dir_option,
    ):
        command = option(command)
    return command


@click.command(
    "set",
    cls=Command,
    epilog=examples(
        "lockgate config set roles/Users/session/idle_seconds 600 --dir D --commit -m 'shorter'",
        "lockgate config set gateway/listen '[\"192.0.2.1:443\"]' --dir D",
        "lockgate config set push_targets/Berlin/token - --dir D --draft ID < token-file",
    ),
)
@click.argument("setting", metavar="PATH")
@click.argument("value")
@change_options
def set_(
    setting: str, value: str, path: Path, draft: str | None, commit: bool, reason: str, as_json: bool
) -> None:
    """Set what stands at PATH to VALUE: JSON, or else a text. "-" reads the text from standard input, for secrets."""
    edit = {"op": "set", "path": setting, "value": _value(value)}
    _change(Rest(path), [edit], draft, commit, reason, as_json)


@click.command(
    cls=Command,
    epilog=examples(
        'lockgate config add roles/Staff \'{"description": "Employees"}\' --dir D',
        'lockgate config add access_control/Web \'{"action": "allow", "to": ["10.77.0.80/32"]}\' \\',
        '    --before "Initial open policy" --dir D --commit',
    ),
)
@click.argument("setting", metavar="PATH")
@click.argument("value", default="{}", metavar="[VALUE]")
@click.option("--before", metavar="NAME", help="Put it before this entry; without, at the end.")
@change_options
def add(
    setting: str,
    value: str,
    before: str | None,
    path: Path,
    draft: str | None,
    commit: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Add an object to a collection: PATH ends in its name, VALUE is JSON with what is not the default."""
    edit = {"op": "insert", "path": setting, "value": _value(value), "before": before}
    _change(Rest(path), [edit], draft, commit, reason, as_json)


@click.command(cls=Command, epilog=examples("lockgate config remove roles/Staff --dir D"))
@click.argument("setting", metavar="PATH")
@change_options
def remove(setting: str, path: Path, draft: str | None, commit: bool, reason: str, as_json: bool) -> None:
    """Remove the object at PATH, or give a setting its default back."""
    _change(Rest(path), [{"op": "remove", "path": setting}], draft, commit, reason, as_json)


@click.command(
    cls=Command, epilog=examples("lockgate config move access_control/Web --before Everything --dir D")
)
@click.argument("setting", metavar="PATH")
@click.option("--before", metavar="NAME", help="Before this entry; without, to the end.")
@change_options
def move(
    setting: str, before: str | None, path: Path, draft: str | None, commit: bool, reason: str, as_json: bool
) -> None:
    """Move the object at PATH in its collection."""
    edit = {"op": "move", "path": setting, "before": before}
    _change(Rest(path), [edit], draft, commit, reason, as_json)


@click.command(cls=Command, epilog=examples("lockgate config rename roles/Staff Employees --dir D"))
@click.argument("setting", metavar="PATH")
@click.argument("name")
@change_options
def rename(
    setting: str, name: str, path: Path, draft: str | None, commit: bool, reason: str, as_json: bool
) -> None:
    """Rename the object at PATH to NAME; what refers to it follows."""
    _change(Rest(path), [{"op": "rename", "path": setting, "name": name}], draft, commit, reason, as_json)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate config edit roles/Users --dir D", "EDITOR=nano lockgate config edit --dir D --commit"
    ),
)
@click.argument("setting", default="", metavar="[PATH]")
@change_options
def edit(setting: str, path: Path, draft: str | None, commit: bool, reason: str, as_json: bool) -> None:
    """Edit the configuration, or what stands at PATH, as JSON in $EDITOR.

    What you save becomes a draft, which is judged and shown as a diff; --commit commits it when nothing is wrong.
    """
    from lockgate.server.config.paths import get, parse_path

    rest = Rest(path)
    found = _draft(rest, draft)
    try:
        before = get(found["data"], parse_path(setting))
        text = click.edit(json.dumps(before, indent=2, ensure_ascii=False) + "\n", extension=".json")
        after = before if text is None else _read(text)
    except (ProblemError, click.ClickException):
        _forget(rest, found, draft)
        raise
    if after == before:
        _forget(rest, found, draft)
        click.echo("nothing has been changed", err=True)
        return
    if setting.strip("/"):
        edits = [{"op": "set", "path": setting, "value": after}]
        found = rest.post(
            f"/config/drafts/{part(found['id'])}/edits", {"version": found["version"], "edits": edits}
        )
    else:
        body = {"version": found["version"], "data": after}
        found = rest.call("PUT", f"/config/drafts/{part(found['id'])}", body=body)
    _finish(rest, found, commit, reason, as_json)


@click.command(
    cls=Command,
    epilog=examples("lockgate config commit 4f0c2a9be1d37786 -m 'new role for guests' --dir D"),
)
@click.argument("draft")
@dir_option
@reason_option
@json_option
def commit(draft: str, path: Path, reason: str, as_json: bool) -> None:
    """Make DRAFT the configuration in force."""
    rest = Rest(path)
    found = rest.get(f"/config/drafts/{part(draft)}")
    _commit(rest, found, reason, as_json)


@click.command(cls=Command, epilog=examples("lockgate config rebase 4f0c2a9be1d37786 --prefer mine --dir D"))
@click.argument("draft")
@dir_option
@click.option(
    "--prefer",
    type=click.Choice(["mine", "theirs"]),
    help="Whose value counts where both changed the same; without, that is an error.",
)
@json_option
def rebase(draft: str, path: Path, prefer: str | None, as_json: bool) -> None:
    """Make the changes of DRAFT to the current revision instead of an older one."""
    rest = Rest(path)
    found = rest.get(f"/config/drafts/{part(draft)}")
    body = {"version": found["version"], "prefer": prefer or "neither"}
    found = rest.post(f"/config/drafts/{part(draft)}/rebase", body)
    _finish(rest, found, False, "", as_json)


@click.command(cls=Command, epilog=examples("lockgate config rollback 3 -m 'the new rule was wrong' --dir D"))
@click.argument("revision", type=click.IntRange(1))
@dir_option
@reason_option
@json_option
def rollback(revision: int, path: Path, reason: str, as_json: bool) -> None:
    """Commit what REVISION said as a new revision."""
    made = Rest(path).post(f"/config/revisions/{revision}/rollback", {"reason": reason})
    if as_json:
        print_json(made)
    else:
        show_committed(made)


@click.command(cls=Command, epilog=examples("lockgate config discard 4f0c2a9be1d37786 --dir D"))
@click.argument("draft")
@dir_option
@json_option
def discard(draft: str, path: Path, as_json: bool) -> None:
    """Throw DRAFT away."""
    Rest(path).delete(f"/config/drafts/{part(draft)}")
    if as_json:
        print_json({"discarded": draft})
    else:
        click.echo("the draft has been discarded")


def _change(
    rest: Rest, edits: list[dict[str, Any]], draft: str | None, commit: bool, reason: str, as_json: bool
) -> None:
    if commit and draft is None:
        made = rest.post("/config/apply", {"edits": edits, "reason": reason})
        if as_json:
            print_json(made)
        else:
            show_committed(made)
        return
    found = _draft(rest, draft)
    try:
        found = rest.post(
            f"/config/drafts/{part(found['id'])}/edits", {"version": found["version"], "edits": edits}
        )
    except ProblemError:
        _forget(rest, found, draft)
        raise
    _finish(rest, found, commit, reason, as_json)


def _draft(rest: Rest, name: str | None) -> dict[str, Any]:
    """A named draft, or a new one."""
    found: dict[str, Any] = (
        rest.post("/config/drafts") if name is None else rest.get(f"/config/drafts/{part(name)}")
    )
    return found


def _forget(rest: Rest, found: dict[str, Any], named: str | None) -> None:
    """Leaves no draft behind that nobody asked for."""
    if named is None:
        rest.delete(f"/config/drafts/{part(found['id'])}")


def _finish(rest: Rest, draft: dict[str, Any], commit: bool, reason: str, as_json: bool) -> None:
    """Commits a draft, or shows what it changes and how to go on."""
    if commit:
        _commit(rest, draft, reason, as_json)
        return
    show_draft(rest, draft, as_json)


def _commit(rest: Rest, draft: dict[str, Any], reason: str, as_json: bool) -> None:
    made = rest.post(
        f"/config/drafts/{part(draft['id'])}/commit", {"version": draft["version"], "reason": reason}
    )
    if as_json:
        print_json(made)
    else:
        show_committed(made)


def _value(text: str) -> Any:
    """JSON where it is JSON, else a text; what follows "-" is a text always."""
    if text == "-":
        with click.open_file("-") as file:
            return file.read(MAX_EDITED).rstrip("\n")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ProblemError(
            Problem("not-json", f"What came back from the editor is not JSON{where}.", "Edit it once more.")
        ) from None
