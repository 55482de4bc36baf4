"""`lockgate token …`: tokens for the REST interface, with the server running or stopped."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, print_table
from lockgate.cli.plain import plain
from lockgate.cli.rest import Rest, part

DAY = 86400


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate token create monitoring --owner admin --scope system:read --dir D",
        "lockgate token create push --owner admin --scope config:write --days 365 --dir D > token-file",
    ),
)
@click.argument("name")
@dir_option
@click.option("--owner", required=True, metavar="ADMIN", help="Administrator whose rights it has at most.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    metavar="AREA:RIGHT",
    help='What it may do: "logs:read", "config:write", "*:read", or "*" for everything. Repeat for more.',
)
@click.option("--days", type=click.IntRange(1, 3 * 365), default=90, show_default=True, help="How long.")
@json_option
def create(name: str, path: Path, owner: str, scopes: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make the token NAME and print it; it is shown only now."""
    given = {"name": name, "owner": owner, "scopes": list(scopes), "seconds": days * DAY}
    made = Rest(path).post("/tokens", given)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    click.echo(
        f"Token {plain(name)} of {plain(owner)}, good until {_day(made['about']['expires'])}.", err=True
    )


@click.command("list", cls=Command, epilog=examples("lockgate token list --dir D --json"))
@dir_option
@json_option
def list_tokens(path: Path, as_json: bool) -> None:
    """List the tokens; their values cannot be shown."""
    tokens = Rest(path).get("/tokens")["tokens"]
    if as_json:
        print_json(tokens)
        return
    rows = [
        (
            each["id"],
            plain(each["owner"]),
            plain(each["name"]),
            ", ".join(each["scopes"]),
            "revoked" if each["revoked"] else f"until {_day(each['expires'])}",
            "never used" if each["last_used"] is None else f"used {_day(each['last_used'])}",
        )
        for each in tokens
    ]
    print_table([("ID", "OWNER", "NAME", "SCOPES", "STATE", "USE"), *rows])


@click.command(cls=Command, epilog=examples("lockgate token revoke 3f2a9c0b7d1e4f56 --dir D"))
@click.argument("token", metavar="ID")
@dir_option
@json_option
def revoke(token: str, path: Path, as_json: bool) -> None:
    """End the token ID at once."""
    Rest(path).delete(f"/tokens/{part(token)}")
    if as_json:
        print_json({"revoked": token})
    else:
        click.echo(f"Token {plain(token)} is worth nothing any more.")


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
