"""`lockgate config show|schema|log|diff|drafts|validate`: look, change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lockgate.cli.config_output import show_changes, show_conflicts, show_findings, show_value, when
from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, print_table
from lockgate.cli.plain import plain
from lockgate.cli.rest import Rest, part


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate config show --dir /var/lib/lockgate",
        "lockgate config show roles/Users/session --dir D",
        "lockgate config show access_control --dir D --revision 3",
    ),
)
@click.argument("setting", default="", metavar="[PATH]")
@dir_option
@click.option("--revision", type=click.IntRange(1), help="Of an older revision.")
@click.option("--draft", metavar="ID", help="Of a draft.")
@json_option
def show(setting: str, path: Path, revision: int | None, draft: str | None, as_json: bool) -> None:
    """Show the configuration, or what stands at PATH: roles/NAME/session/idle_seconds.

    Secrets that are set show as "(secret)".
    """
    rest = Rest(path)
    if draft is not None:
        from lockgate.server.config.paths import get, parse_path

        if revision is not None:
            raise click.UsageError("--draft and --revision do not go together.")
        value = get(rest.get(f"/config/drafts/{part(draft)}")["data"], parse_path(setting))
    else:
        value = rest.get("/config", {"path": setting, "revision": revision})["value"]
    if as_json:
        print_json(value)
    else:
        show_value(value)


@click.command(cls=Command, epilog=examples("lockgate config schema --dir D --json"))
@dir_option
@json_option
def schema(path: Path, as_json: bool) -> None:
    """List the pages of settings, or print the schema of the configuration with --json."""
    found = Rest(path).get("/config/schema")
    if as_json:
        print_json(found)
        return
    rows = [(page["path"], " > ".join(page["menu"]), page["area"]) for page in found["pages"]]
    print_table([("PATH", "PAGE", "AREA"), *rows])


@click.command(
    cls=Command,
    epilog=examples("lockgate config log --dir D", "lockgate config log --dir D --limit 5 --json"),
)
@dir_option
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--before", type=click.IntRange(1), help="Only those with smaller numbers.")
@json_option
def log(path: Path, limit: int, before: int | None, as_json: bool) -> None:
    """List the revisions, newest first: when, by whom, why."""
    found = Rest(path).get("/config/revisions", {"limit": limit, "before": before})
    if as_json:
        print_json(found)
        return
    rows = [
        (str(each["number"]), when(each["time"]), plain(each["author"]), plain(each["reason"]))
        for each in found["revisions"]
    ]
    print_table([("REVISION", "TIME", "AUTHOR", "REASON"), *rows])


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate config diff 3 --dir D",
        "lockgate config diff 3 5 --dir D",
        "lockgate config diff 4f0c2a9be1d37786 --dir D",
    ),
)
@click.argument("a", metavar="REVISION|DRAFT")
@click.argument("b", required=False, type=click.IntRange(1), metavar="[REVISION]")
@dir_option
@json_option
def diff(a: str, b: int | None, path: Path, as_json: bool) -> None:
    """Show what changed from one revision to another (or to the current one), or what a draft changes.

    + added, - removed, ~ changed, > moved, ! in conflict with what others committed since.
    """
    rest = Rest(path)
    found: dict[str, Any]
    if _is_revision(a):
        current = b if b is not None else rest.get("/config/revisions", {"limit": 1})["current"]
        found = rest.get("/config/compare", {"a": int(a), "b": current})
    elif b is not None:
        raise click.UsageError("A draft is compared with the revision it was made from; name it alone.")
    else:
        found = rest.get(f"/config/drafts/{part(a)}/diff")
    if as_json:
        print_json(found)
        return
    show_changes(found["changes"])
    show_conflicts(found.get("conflicts", ()))


def _is_revision(text: str) -> bool:
    # The id of a draft has 16 hexadecimal digits, which may all be decimal ones.
    return text.isascii() and text.isdigit() and len(text) < 16


@click.command(cls=Command, epilog=examples("lockgate config drafts --dir D"))
@dir_option
@json_option
def drafts(path: Path, as_json: bool) -> None:
    """List the drafts, those changed last first."""
    found = Rest(path).get("/config/drafts")["drafts"]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no drafts")
        return
    rows = [
        (each["id"], plain(each["author"]), str(each["base"]), str(each["version"]), when(each["changed"]))
        for each in found
    ]
    print_table([("DRAFT", "AUTHOR", "BASE", "VERSION", "CHANGED"), *rows])


@click.command(cls=Command, epilog=examples("lockgate config validate 4f0c2a9be1d37786 --dir D"))
@click.argument("draft")
@dir_option
@json_option
@click.pass_context
def validate(ctx: click.Context, draft: str, path: Path, as_json: bool) -> None:
    """Say everything that is wrong or odd about DRAFT; exit status 1 when it cannot be committed."""
    found = Rest(path).get(f"/config/drafts/{part(draft)}/validate")
    if as_json:
        print_json(found)
    else:
        show_findings(found["findings"])
        if found["valid"]:
            click.echo("the draft can be committed")
    ctx.exit(0 if found["valid"] else 1)
