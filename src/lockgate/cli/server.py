"""`lockgate server run|status|sessions|extend|disconnect`: run a server, look at a running one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, duration, examples, json_option, print_json, print_table

PAGE = 1000  # sessions asked for at a time
NUMBER = click.IntRange(1, (1 << 63) - 1)  # of a session


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate server run --dir /var/lib/lockgate",
    ),
)
@dir_option
def run(path: Path) -> None:
    """Run the gateway in the foreground until Ctrl-C or SIGTERM.

    Starts the edge (packets) and the control plane (decisions) as two unprivileged processes and starts
    each again when it dies. Needs the right to create a network device and to use the configured ports:
    root, or a network namespace of your own. As root, with an account `lockgate` present, everything
    runs as that account.
    """
    from lockgate.server.datadir import open_directory
    from lockgate.server.logs import configure_logs
    from lockgate.server.supervisor import prepare

    configure_logs()
    data = open_directory(path)
    account = prepare.service_account()
    prepare.check_owner(data, account)
    prepare.check_reachable(data, account)
    plan = prepare.prepare(data, account)
    prepare.become_supervisor(data, plan, account)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate server status --dir /var/lib/lockgate --json",
    ),
)
@dir_option
@json_option
def status(path: Path, as_json: bool) -> None:
    """Show whether the server runs, its processes, and how many sessions it has."""
    from lockgate.server.control_client import call
    from lockgate.server.datadir import open_directory

    answer = call(open_directory(path), {"op": "status"})
    if as_json:
        print_json(answer)
        return
    pids = ", ".join(f"{name} {pid}" for name, pid in answer["pids"].items())
    click.echo(f"running for {duration(answer['uptime'])}, version {answer['version']}")
    click.echo(f"processes: {pids}; edge link {answer['edge']}")
    click.echo(f"sessions: {answer['sessions']}, of them connected: {answer['connected']}")
    for name, count in sorted(answer["counters"].items()):
        if count:
            click.echo(f"  {name}: {count}")


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate server sessions --dir /var/lib/lockgate",
        "lockgate server sessions --dir /var/lib/lockgate --json",
    ),
)
@dir_option
@json_option
def sessions(path: Path, as_json: bool) -> None:
    """List the sessions: user, inner addresses, transport, since when.

    ESP is the cipher a session's fast path has or would have. A BOUND session is resumed only with proof
    of the key its client made; others by their cookie alone.
    """
    from lockgate.cli.rest import Rest

    rest, rows = Rest(path, alone=False), list[dict[str, Any]]()
    page = rest.get("/sessions", {"limit": PAGE, "fresh": True})
    rows += page["sessions"]
    while page["following"]:
        page = rest.get("/sessions", {"limit": PAGE, "after": page["following"]})
        rows += page["sessions"]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("no sessions")
        return
    table = [("SESSION", "USER", "ADDRESSES", "TRANSPORT", "ESP", "BOUND", "SINCE", "LEFT", "FROM")]
    for row in rows:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["since"]))
        table.append(
            (
                row["id"],
                row["user"],
                " ".join(row["addresses"]),
                row["transport"],
                row["suite"] or "-",
                "yes" if row["bound"] else "no",
                since,
                duration(row["remaining"]),
                row["source"],
            )
        )
    print_table(table)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate server extend 8412380213 --dir /var/lib/lockgate",
    ),
)
@click.argument("session", type=NUMBER)
@dir_option
@json_option
def extend(session: int, path: Path, as_json: bool) -> None:
    """Give SESSION the length of its roles anew, from now on.

    Administrators may do so for everybody; users, in the portal, where a role lets them. The roles that the
    user has now decide; without VPN tunnelling among them there is nothing to extend.
    """
    from lockgate.cli.rest import Rest

    told = Rest(path, alone=False).post(f"/sessions/{session}/extend")
    if as_json:
        print_json(told)
    else:
        click.echo(f"the session of {told['user']} ends in {duration(told['remaining'])}")


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate server disconnect --dir /var/lib/lockgate 8412380213",
        "lockgate server disconnect --dir /var/lib/lockgate --user alice",
        "lockgate server disconnect --dir /var/lib/lockgate --all",
    ),
)
@dir_option
@json_option
@click.argument("session", type=NUMBER, nargs=-1, metavar="[SESSION]...")
@click.option("--user", help="End all sessions of this user.")
@click.option("--all", "everyone", is_flag=True, help="End all sessions.")
def disconnect(path: Path, as_json: bool, session: tuple[int, ...], user: str | None, everyone: bool) -> None:
    """End sessions at once; their clients are told and cannot come back without signing in."""
    from lockgate.cli.rest import Rest

    ways: list[dict[str, Any]] = [
        *([{"sessions": [str(each) for each in session]}] if session else []),
        *([{"user": user}] if user is not None else []),
        *([{"all": True}] if everyone else []),
    ]
    if len(ways) != 1:
        raise click.UsageError(
            "Name sessions (see `lockgate server sessions`), or give --user or --all, one of them."
        )
    ended = Rest(path, alone=False).post("/sessions/end", ways[0])["ended"]
    if as_json:
        print_json({"ended": ended})
    else:
        click.echo(f"ended {len(ended)} sessions")
