"""`lockgate user record`, `lockgate server peers`: what users keep in the portal, and its exchange with other gateways."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, print_table
from lockgate.cli.plain import plain
from lockgate.cli.rest import Rest, part


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate user record alice --dir /var/lib/lockgate",
        "lockgate user record alice --dir D --delete",
    ),
)
@click.argument("name")
@dir_option
@click.option(
    "--server", default="System Local", show_default=True, help="Auth server that the user belongs to."
)
@click.option("--delete", is_flag=True, help="Delete all of it, at all gateways that have it.")
@json_option
def record(name: str, path: Path, server: str, delete: bool, as_json: bool) -> None:
    """Show the bookmarks and preferences of the user NAME, or delete them."""
    rest, where = Rest(path), f"/users/{part(server)}/{part(name)}/record"
    if delete:
        deleted = rest.call("DELETE", where)
        if as_json:
            print_json(deleted)
        else:
            click.echo(f"{deleted['items']} bookmarks and preferences of {plain(name)} are deleted.")
        return
    told: dict[str, Any] = rest.get(where)
    if as_json:
        print_json(told)
        return
    if told["logical_server"] is not None:
        click.echo(f"synchronised as {plain(told['logical_server'])}")
    for each, value in told["preferences"].items():
        click.echo(f"{each}: {value}")
    if told["bookmarks"]:
        print_table(
            [("NAME", "ADDRESS"), *((plain(each["name"]), plain(each["url"])) for each in told["bookmarks"])]
        )
    else:
        click.echo("no bookmarks")


@click.command(cls=Command, epilog=examples("lockgate server peers --dir /var/lib/lockgate"))
@dir_option
@json_option
def peers(path: Path, as_json: bool) -> None:
    """List the gateways that users' records are exchanged with, and how far that is.

    WAITING are changes that the other gateway has not got yet, REFUSED those that it did not take.
    """
    found = Rest(path).get("/user-records/peers")["peers"]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no peers")
        return
    rows = [
        (
            plain(each["name"]),
            ", ".join(each["names"]) or "-",
            "never"
            if each["succeeded"] is None
            else f"{datetime.fromtimestamp(each['succeeded'], UTC):%Y-%m-%d %H:%M:%S} UTC",
            str(each["waiting"]),
            str(each["refused"]),
            plain(each["error"]) or "-",
        )
        for each in found
    ]
    print_table([("PEER", "LOGICAL SERVERS", "LAST SUCCESS", "WAITING", "REFUSED", "ERROR"), *rows])
