"""`lockgate user …`: local users, with the server running or stopped.

Every change is made in the database, with the user's sessions ended in the same transaction. A
running server is told afterwards, so that the packets of those sessions stop at once; it would
notice by itself within a second.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, warn
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server import control_client
from lockgate.server.audit import Audit
from lockgate.server.auth.names import MAX_LENGTH, canonical
from lockgate.server.auth.passwords import MAX_PASSWORD_BYTES, hash_password, prepare
from lockgate.server.config.load import load_configuration
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory, become_owner, open_directory
from lockgate.server.logs import configure_logs
from lockgate.server.store import Store, open_store
from lockgate.server.store.interface import UserRecord
from lockgate.server.store.users import new_serial

SHORT_PASSWORD = 8  # characters; fewer are accepted with a warning

name_argument = click.argument("name")
password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)


@dataclass(frozen=True, slots=True)
class _Gateway:
    """An opened data directory."""

    directory: DataDirectory
    configuration: Configuration
    actor: str  # for the audit: who runs this command


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate user add alice --dir /var/lib/lockgate",
        "lockgate user add alice --dir D --password-stdin < password-file",
    ),
)
@name_argument
@dir_option
@password_option
@json_option
def add(name: str, path: Path, password_stdin: bool, as_json: bool) -> None:
    """Add the user NAME. Without --password-stdin the password is asked for."""
    gateway, user = _open(path), _canonical(name)
    password, warnings = _password(user, password_stdin)
    now = time.time()
    hashed = hash_password(gateway.configuration.sign_in.argon2, password)
    record = UserRecord(user, hashed, enabled=True, serial=new_serial(), created=now, changed=now)

    async def work(store: Store, audit: Audit) -> None:
        if not await store.users.add(record):
            raise ProblemError(
                Problem(
                    code="user-exists",
                    summary=f"There is a user {user} already.",
                    fix=f"`lockgate user passwd {user}` gives a new password.",
                )
            )
        await audit.record("user-add", ok=True, user=user, source="local", text=gateway.actor)

    _run(gateway, work)
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
@password_option
@json_option
def passwd(name: str, path: Path, password_stdin: bool, as_json: bool) -> None:
    """Give the user NAME a new password and end the user's sessions."""
    gateway, user = _open(path), _canonical(name)
    password, warnings = _password(user, password_stdin)
    hashed = hash_password(gateway.configuration.sign_in.argon2, password)
    ended = _change(
        gateway,
        user,
        "user-passwd",
        lambda store, now, free: store.users.set_password(user, hashed, now, free),
    )
    _report(
        as_json,
        {"user": user, "ended_sessions": ended, "warnings": warnings},
        f"User {user} has a new password{_and_ended(ended)}.",
    )


@click.command(cls=Command, epilog=examples("lockgate user disable alice --dir /var/lib/lockgate"))
@name_argument
@dir_option
@json_option
def disable(name: str, path: Path, as_json: bool) -> None:
    """Keep the user NAME from signing in and end the user's sessions."""
    gateway, user = _open(path), _canonical(name)
    ended = _change(
        gateway,
        user,
        "user-disable",
        lambda store, now, free: store.users.set_enabled(user, False, now, free),
    )
    _report(as_json, {"user": user, "ended_sessions": ended}, f"User {user} is disabled{_and_ended(ended)}.")


@click.command(cls=Command, epilog=examples("lockgate user enable alice --dir /var/lib/lockgate"))
@name_argument
@dir_option
@json_option
def enable(name: str, path: Path, as_json: bool) -> None:
    """Let the disabled user NAME sign in again."""
    gateway, user = _open(path), _canonical(name)
    _change(
        gateway, user, "user-enable", lambda store, now, free: store.users.set_enabled(user, True, now, free)
    )
    _report(as_json, {"user": user}, f"User {user} is enabled.")


@click.command(cls=Command, epilog=examples("lockgate user delete alice --dir /var/lib/lockgate"))
@name_argument
@dir_option
@json_option
def delete(name: str, path: Path, as_json: bool) -> None:
    """Delete the user NAME and end the user's sessions."""
    gateway, user = _open(path), _canonical(name)
    ended = _change(
        gateway, user, "user-delete", lambda store, now, free: store.users.delete(user, now, free)
    )
    _report(as_json, {"user": user, "ended_sessions": ended}, f"User {user} is deleted{_and_ended(ended)}.")


@click.command("list", cls=Command, epilog=examples("lockgate user list --dir /var/lib/lockgate --json"))
@dir_option
@json_option
def list_users(path: Path, as_json: bool) -> None:
    """List all users."""

    async def work(store: Store, _: Audit) -> list[UserRecord]:
        return await store.users.all()

    users = _run(_open(path), work)
    if as_json:
        print_json(
            [
                {"user": user.name, "enabled": user.enabled, "created": user.created, "changed": user.changed}
                for user in users
            ]
        )
        return
    for user in users:
        state = "enabled" if user.enabled else "disabled"
        click.echo(
            f"{user.name:<24} {state:<9} changed {datetime.fromtimestamp(user.changed, UTC):%Y-%m-%d %H:%M} UTC"
        )


def _open(path: Path) -> _Gateway:
    actor = f"by uid {os.getuid()}"
    # First of all: until then root could leave files of its own in the directory.
    become_owner(DataDirectory(path))
    directory = open_directory(path)
    return _Gateway(directory, load_configuration(directory.config), actor)


def _canonical(name: str) -> str:
    user = canonical(name)
    if user is None:
        raise ProblemError(
            Problem(
                code="bad-user-name",
                summary=f"{name!r} cannot be a user name.",
                fix=f"Use 1 to {MAX_LENGTH} characters that can be printed.",
            )
        )
    return user


def _password(user: str, from_stdin: bool) -> tuple[Secret, list[str]]:
    """The new password, and what is to be said about it. Never from the command line: others see that."""
    if from_stdin:
        # One byte more than any allowed password and its line end.
        line = sys.stdin.buffer.readline(4 * MAX_PASSWORD_BYTES)
        password = Secret(line.removesuffix(b"\n").removesuffix(b"\r"))
    elif sys.stdin.isatty():
        password = Secret.of_text(
            click.prompt(f"Password for {user}", hide_input=True, confirmation_prompt=True)
        )
    else:
        raise ProblemError(
            Problem("no-password", "There is no terminal to ask for the password.", "Use --password-stdin.")
        )
    size = len(prepare(password))
    if not 1 <= size <= MAX_PASSWORD_BYTES:
        raise ProblemError(
            Problem(
                code="bad-password",
                summary="The password is empty." if size == 0 else "The password is too long for clients.",
                fix=f"Use 1 to {MAX_PASSWORD_BYTES} bytes.",
            )
        )
    try:
        characters = len(password.reveal_text())
    except ValueError:
        raise ProblemError(Problem("bad-password", "The password is not UTF-8.", "Use UTF-8 text.")) from None
    if characters >= SHORT_PASSWORD:
        return password, []
    warning = f"the password is shorter than {SHORT_PASSWORD} characters"
    warn(warning)
    return password, [warning]


def _change(
    gateway: _Gateway,
    user: str,
    event: str,
    statement: Callable[[Store, float, float], Awaitable[list[int] | None]],
) -> list[str]:
    """Changes an account and lets the server know; the numbers of the sessions that this ended."""

    async def work(store: Store, audit: Audit) -> list[str]:
        now = time.time()
        ended = await statement(store, now, now + gateway.configuration.sessions.address_quarantine_seconds)
        if ended is None:
            raise ProblemError(
                Problem("no-such-user", f"There is no user {user}.", "`lockgate user list` shows all users.")
            )
        await audit.record(event, ok=True, user=user, source="local", text=gateway.actor)
        for session in ended:
            await audit.record(
                "session-end",
                ok=True,
                reason=event,
                user=user,
                source="local",
                session=session,
                text=gateway.actor,
            )
        return [str(session) for session in ended]

    ended: list[str] = _run(gateway, work)
    try:
        control_client.call(gateway.directory, {"op": "user-changed", "user": user})
    except ProblemError as error:
        if error.problem.code != "server-not-running":
            warn(f"the server was not told, and will notice by itself: {error.problem.summary}")
    return ended


def _run(gateway: _Gateway, work: Callable[[Store, Audit], Awaitable[Any]]) -> Any:
    # The audit's log lines belong to the server's log; here its rows are enough.
    configure_logs("error")

    async def body() -> Any:
        store = await open_store(gateway.directory.database)
        try:
            return await work(store, Audit(store.audit))
        finally:
            await store.close()

    return asyncio.run(body())


def _report(as_json: bool, document: dict[str, object], text: str) -> None:
    if as_json:
        print_json(document)
    else:
        click.echo(text)


def _and_ended(sessions: list[str]) -> str:
    return f", {len(sessions)} session{'s' if len(sessions) != 1 else ''} ended" if sessions else ""
