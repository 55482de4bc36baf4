"""`lockgate status|disconnect|suspend|resume|details`: the connections of this machine, as they are."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from typing import Any

import click

from lockgate.cli.client_option import connection_argument, run_dir_option
from lockgate.cli.details import TRANSPORTS, details_lines, state_line
from lockgate.cli.output import (
    Command,
    StreamCommand,
    examples,
    json_option,
    print_json,
    print_json_line,
    print_table,
)
from lockgate.cli.plain import plain
from lockgate.client.local_client import LocalClient, call

WORK = 60.0  # seconds: the end of a connection is told to its gateway and every change is undone
INTERVAL = 1.0  # seconds between two pictures of `details --watch`


@click.command(cls=Command, epilog=examples("lockgate status", "lockgate status --json"))
@run_dir_option
@json_option
def status(run_dir: str, as_json: bool) -> None:
    """List the connections: state, transport, since when, addresses."""
    answer = call(run_dir, "status")
    if as_json:
        print_json(answer)
        return
    rows: list[dict[str, Any]] = answer["connections"]
    if not rows:
        click.echo("no connections")
        return
    table = [("ID", "NAME", "USER", "STATE", "TRANSPORT", "SINCE", "ADDRESSES")]
    for row in rows:
        since = row.get("since")
        table.append(
            (
                plain(row["connection"], 20),
                plain(row.get("name") or row.get("server"), 40),
                plain(row.get("user") or "", 30),
                plain(row["state"], 20),
                TRANSPORTS.get(row.get("transport") or "", ""),
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since)) if since else "",
                plain(" ".join(filter(None, (row.get("ipv4"), row.get("ipv6")))), 80),
            )
        )
    print_table(table)
    for row in rows:
        if row.get("note") or row.get("problem"):
            click.echo(f"{plain(row['connection'], 20)}: {state_line(row)}")


def _steer(op: str, run_dir: str, connection: str | None, as_json: bool, done: str) -> None:
    chosen: dict[str, Any] = {} if connection is None else {"connection": connection}
    answer = call(run_dir, op, timeout=WORK, **chosen)
    if as_json:
        print_json(answer)
    else:
        click.echo(done)


@click.command(cls=Command, epilog=examples("lockgate disconnect", "lockgate disconnect 3 --json"))
@connection_argument
@run_dir_option
@json_option
def disconnect(connection: str | None, run_dir: str, as_json: bool) -> None:
    """End a connection and its session. ID may be left out when there is only one.

    Returns when routes, DNS and firewall are as they were before.
    """
    _steer("disconnect", run_dir, connection, as_json, "disconnected")


@click.command(cls=Command, epilog=examples("lockgate suspend", "lockgate suspend 3 --json"))
@connection_argument
@run_dir_option
@json_option
def suspend(connection: str | None, run_dir: str, as_json: bool) -> None:
    """Take a connection down but keep its session, for `lockgate resume`."""
    _steer("suspend", run_dir, connection, as_json, "suspended")


@click.command(cls=Command, epilog=examples("lockgate resume", "lockgate resume 3 --json"))
@connection_argument
@run_dir_option
@json_option
def resume(connection: str | None, run_dir: str, as_json: bool) -> None:
    """Bring a suspended connection up again, without signing in."""
    _steer("resume", run_dir, connection, as_json, "resumed")


@click.command(
    cls=StreamCommand,
    epilog=examples("lockgate details", "lockgate details --watch", "lockgate details 3 --json"),
)
@connection_argument
@click.option("--watch", is_flag=True, help="Show them again every second, until Ctrl-C.")
@run_dir_option
@json_option
def details(connection: str | None, watch: bool, run_dir: str, as_json: bool) -> None:
    """Show a connection: addresses, VPN type, DNS, networks, time left, traffic.

    With --watch, --json prints one object a line.
    """
    chosen: dict[str, Any] = {} if connection is None else {"connection": connection}
    with LocalClient(run_dir) as client:
        if not watch:
            document = client.call("details", **chosen)
            if as_json:
                print_json(document)
            else:
                click.echo("\n".join(details_lines(document, time.time())))
            return
        with suppress(KeyboardInterrupt):  # how watching ends
            _watch(client, chosen, as_json)


def _watch(client: LocalClient, chosen: dict[str, Any], as_json: bool) -> None:
    in_place = not as_json and sys.stdout.isatty()
    drawn = 0
    while True:
        document = client.call("details", **chosen)
        # The only connection, named from now on: another must not take its place on the screen.
        chosen = {"connection": str(document["connection"])}
        if as_json:
            print_json_line(document)
        else:
            lines = details_lines(document, time.time())
            if in_place:
                # A line that wraps, or a block that scrolls, could not be overwritten.
                width, height = shutil.get_terminal_size()
                lines = [line[: width - 1] for line in lines[: height - 1]]
                click.echo((f"\x1b[{drawn}A" if drawn else "") + "\x1b[J" + "\n".join(lines))
                drawn = len(lines)
            else:
                click.echo("\n".join([*lines, ""]))
            sys.stdout.flush()
        client.take(INTERVAL)  # nothing comes but the end of the service
