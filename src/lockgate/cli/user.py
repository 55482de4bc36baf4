"""`lockgate user …`: local users, with the server running or stopped.

Every change is made in the database, with the user's sessions ended in the same transaction. A
running server is told afterwards, so that the packets of those sessions stop at once; it would
notice by itself within a second.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.local_users import (
    Accounts,
    canonical_name,
    no_such_user,
    read_password,
    tell_server,
    with_accounts,
)
from lockgate.cli.output import Command, examples, json_option, print_json
from lockgate.model.problem import Problem, ProblemError
from lockgate.server.store.interface import UserRecord
from lockgate.server.store.users import new_serial

name_argument = click.argument("name")
password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)
server_option = click.option(
    "--server", help="Auth server that the user belongs to; without it the gateway's own users."
)
must_change_option = click.option(
    "--must-change", is_flag=True, help="The user has to choose another password at the next sign-in."
)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate user add alice --dir /var/lib/lockgate",
        "lockgate user add alice --dir D --password-stdin < password-file",
        "lockgate user add carol --dir D --server Administrators",
        "lockgate user add bob --dir D --group Staff --group Berlin",
    ),
)
@name_argument
@dir_option
@server_option
@click.option("--group", "groups", multiple=True, help="A group of the user; may be given several times.")
@click.option("--full-name", default="", help="Full name.")
@click.option("--email", default="", help="Mail address.")
@must_change_option
@password_option
@json_option
def add(
    name: str,
    path: Path,
    server: str | None,
    groups: tuple[str, ...],
    full_name: str,
    email: str,
    must_change: bool,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Add the user NAME. Without --password-stdin the password is asked for."""
    user = canonical_name(name)
    password = read_password(user, password_stdin)
    now = time.time()
    draft = UserRecord(
        user,
        "",
        enabled=True,
        serial=new_serial(),
        created=now,
        changed=now,
        full_name=full_name,
        email=email,
        groups=groups,
        must_change=must_change,
    )

    async def work(accounts: Accounts) -> list[str]:
        record = replace(draft, password_hash=accounts.hash(password), server=accounts.server)
        if not await accounts.store.users.add(record):
            raise ProblemError(
                Problem(
                    code="user-exists",
                    summary=f"There is a user {user} already.",
                    fix=f"`lockgate user passwd {user}` gives a new password.",
                )
            )
        await accounts.note("user-add", user)
        return accounts.doubts(password)

    warnings = with_accounts(path, server, work)
    _report(as_json, {"user": user, "warnings": warnings}, f"User {user} added.")


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate user passwd alice --dir /var/lib/lockgate",
        "lockgate user passwd alice --dir D --password-stdin < password-file",
    ),
)
@name_argument
@dir_option
@server_option
@must_change_option
@password_option
@json_option
def passwd(
    name: str, path: Path, server: str | None, must_change: bool, password_stdin: bool, as_json: bool
) -> None:
    """Give the user NAME a new password and end the user's sessions."""
    user = canonical_name(name)
    password = read_password(user, password_stdin)

    warnings: list[str] = []

    def statement(accounts: Accounts, now: float, free: float) -> Awaitable[list[int] | None]:
        warnings.extend(accounts.doubts(password))
        return accounts.store.users.set_password(
            accounts.server, user, accounts.hash(password), now, free, must_change=must_change
        )

    ended = _change(path, server, user, "user-passwd", statement)
    _report(
        as_json,
        {"user": user, "ended_sessions": ended, "warnings": warnings},
        f"User {user} has a new password{_and_ended(ended)}.",
    )


@click.command(
    "set",
    cls=Command,
    epilog=examples(
        "lockgate user set alice --dir /var/lib/lockgate --group Staff",
        "lockgate user set alice --dir D --no-groups --attribute department=sales",
    ),
)
@name_argument
@dir_option
@server_option
@click.option("--group", "groups", multiple=True, help="A group; all that are given replace those there are.")
@click.option("--no-groups", is_flag=True, help="The user is in no group.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="An attribute; all that are given replace those there are.",
)
@click.option("--full-name", help="Full name.")
@click.option("--email", help="Mail address.")
@click.option("--must-change/--keep-password", default=None, help="Another password at the next sign-in.")
@json_option
def set_user(
    name: str,
    path: Path,
    server: str | None,
    groups: tuple[str, ...],
    no_groups: bool,
    attributes: tuple[str, ...],
    full_name: str | None,
    email: str | None,
    must_change: bool | None,
    as_json: bool,
) -> None:
    """Change what is known about the user NAME; live sessions get the roles that follow from it."""
    user = canonical_name(name)
    pairs = _attributes(attributes) if attributes else None

    async def work(accounts: Accounts) -> tuple[UserRecord, Accounts]:
        record = await accounts.store.users.update(
            accounts.server,
            user,
            full_name=full_name,
            email=email,
            groups=groups if groups or no_groups else None,
            attributes=pairs,
            must_change=must_change,
        )
        if record is None:
            raise no_such_user(user)
        await accounts.note("user-set", user)
        return record, accounts

    record, accounts = with_accounts(path, server, work)
    tell_server(accounts.directory, accounts.server, user)
    _report(as_json, _as_dict(record), f"User {user} is changed.")


@click.command(cls=Command, epilog=examples("lockgate user disable alice --dir /var/lib/lockgate"))
@name_argument
@dir_option
@server_option
@json_option
def disable(name: str, path: Path, server: str | None, as_json: bool) -> None:
    """Keep the user NAME from signing in and end the user's sessions."""
    user = canonical_name(name)
    ended = _change(
        path,
        server,
        user,
        "user-disable",
        lambda accounts, now, free: accounts.store.users.set_enabled(accounts.server, user, False, now, free),
    )
    _report(as_json, {"user": user, "ended_sessions": ended}, f"User {user} is disabled{_and_ended(ended)}.")


@click.command(cls=Command, epilog=examples("lockgate user enable alice --dir /var/lib/lockgate"))
@name_argument
@dir_option
@server_option
@json_option
def enable(name: str, path: Path, server: str | None, as_json: bool) -> None:
    """Let the disabled user NAME sign in again."""
    user = canonical_name(name)
    _change(
        path,
        server,
        user,
        "user-enable",
        lambda accounts, now, free: accounts.store.users.set_enabled(accounts.server, user, True, now, free),
    )
    _report(as_json, {"user": user}, f"User {user} is enabled.")


@click.command(cls=Command, epilog=examples("lockgate user delete alice --dir /var/lib/lockgate"))
@name_argument
@dir_option
@server_option
@json_option
def delete(name: str, path: Path, server: str | None, as_json: bool) -> None:
    """Delete the user NAME and end the user's sessions."""
    user = canonical_name(name)
    ended = _change(
        path,
        server,
        user,
        "user-delete",
        lambda accounts, now, free: accounts.store.users.delete(accounts.server, user, now, free),
    )
    _report(as_json, {"user": user, "ended_sessions": ended}, f"User {user} is deleted{_and_ended(ended)}.")


@click.command("list", cls=Command, epilog=examples("lockgate user list --dir /var/lib/lockgate --json"))
@dir_option
@server_option
@json_option
def list_users(path: Path, server: str | None, as_json: bool) -> None:
    """List the users of an auth server."""

    async def work(accounts: Accounts) -> list[UserRecord]:
        return await accounts.store.users.all(accounts.server)

    users = with_accounts(path, server, work)
    if as_json:
        print_json([_as_dict(user) for user in users])
        return
    for user in users:
        state = "enabled" if user.enabled else "disabled"
        click.echo(
            f"{user.name:<24} {state:<9} changed {datetime.fromtimestamp(user.changed, UTC):%Y-%m-%d %H:%M} UTC"
        )


def _change(
    path: Path,
    server: str | None,
    user: str,
    event: str,
    statement: Callable[[Accounts, float, float], Awaitable[list[int] | None]],
) -> list[str]:
    """Changes an account and lets the server know; the numbers of the sessions that this ended."""

    async def work(accounts: Accounts) -> tuple[list[str], Accounts]:
        ended = await accounts.change(event, user, lambda now, free: statement(accounts, now, free))
        return ended, accounts

    ended, accounts = with_accounts(path, server, work)
    tell_server(accounts.directory, accounts.server, user)
    return ended


def _attributes(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--attribute")
        found.setdefault(name.strip(), []).append(value)
    return found


def _as_dict(user: UserRecord) -> dict[str, Any]:
    return {
        "user": user.name,
        "server": user.server,
        "enabled": user.enabled,
        "created": user.created,
        "changed": user.changed,
        "full_name": user.full_name,
        "email": user.email,
        "groups": list(user.groups),
        "attributes": {name: list(values) for name, values in user.attributes.items()},
        "must_change": user.must_change,
    }


def _report(as_json: bool, document: dict[str, Any], text: str) -> None:
    if as_json:
        print_json(document)
    else:
        click.echo(text)


def _and_ended(sessions: list[str]) -> str:
    return f", {len(sessions)} session{'s' if len(sessions) != 1 else ''} ended" if sessions else ""
