"""What the commands about local users share: the opened store, passwords typed or piped, the running server told."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from lockgate.cli.gateway_option import enter
from lockgate.cli.output import warn
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server import control_client
from lockgate.server.audit import Audit
from lockgate.server.auth.names import MAX_LENGTH, canonical
from lockgate.server.auth.passwords import MAX_PASSWORD_BYTES, hash_password, unfit
from lockgate.server.config.current import bring_up
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.store import Store, open_store
from lockgate.server.store.interface import LOCAL_SERVER

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accounts:
    """An opened store with the configuration in force, for one command.

    server: auth server whose users the command is about.
    """

    store: Store
    audit: Audit
    tree: Configuration
    directory: DataDirectory
    server: str
    actor: str

    def hash(self, password: Secret) -> str:
        return hash_password(self.tree.sign_in.argon2, password)

    def doubts(self, password: Secret) -> list[str]:
        """What is to be said about a password that users of the server could not choose themselves, said already."""
        servers = {each.name: each.minimum_length for each in self.tree.auth_servers}
        problem = unfit(password, servers.get(self.server, 0))
        if problem is None:
            return []
        said = f"{problem.summary} {problem.fix}"
        warn(said)
        return [said]

    async def note(self, event: str, user: str) -> None:
        """One line in the audit about what this command did."""
        await self.audit.record(
            event, ok=True, user=user, source="local", text=self.server, log="admin", actor=self.actor
        )

    async def change(
        self, event: str, user: str, statement: Callable[[float, float], Awaitable[list[int] | None]]
    ) -> list[str]:
        """Changes an account; the numbers of the sessions that this ended.

        statement: gets now, and when the addresses of those sessions are free again.
        """
        now = time.time()
        ended = await statement(now, now + self.tree.network.address_quarantine_seconds)
        if ended is None:
            raise no_such_user(user)
        await self.note(event, user)
        for session in ended:
            await self.audit.record(
                "session-end",
                ok=True,
                reason=event,
                user=user,
                source="local",
                session=session,
                log="user",
                actor=self.actor,
            )
        return [str(session) for session in ended]


def with_accounts(path: Path, server: str | None, work: Callable[[Accounts], Awaitable[T]]) -> T:
    """Runs `work` on the opened store of a data directory. Raises ProblemError."""
    # First of all: until then root could leave files of its own in the directory.
    actor = f"uid {os.getuid()}"
    directory = enter(path)

    async def body() -> T:
        store = await open_store(directory)
        try:
            tree = await bring_up(store, directory)
            return await work(
                Accounts(store, Audit(store.audit), tree, directory, _server(tree, server), actor)
            )
        finally:
            await store.close()

    return asyncio.run(body())


def tell_server(directory: DataDirectory, server: str, user: str) -> None:
    """A running server cuts off what has ended; it would notice by itself within a second."""
    try:
        control_client.call(directory, {"op": "user-changed", "server": server, "user": user})
    except ProblemError as error:
        if error.problem.code != "server-not-running":
            warn(f"the server was not told, and will notice by itself: {error.problem.summary}")


def _server(tree: Configuration, wanted: str | None) -> str:
    """The auth server of that name; without one the gateway's own users."""
    names = [each.name for each in tree.auth_servers]
    if wanted is None:
        administrators = {realm.server for realm in tree.admin_realms}
        others = [name for name in names if name not in administrators]
        return LOCAL_SERVER if LOCAL_SERVER in names else (others or names or [LOCAL_SERVER])[0]
    if wanted not in names:
        raise ProblemError(
            Problem(
                code="no-such-server",
                summary=f"There is no auth server {wanted!r}.",
                fix=f"These are there: {', '.join(names)}.",
            )
        )
    return wanted


def no_such_user(user: str) -> ProblemError:
    return ProblemError(
        Problem("no-such-user", f"There is no user {user}.", "`lockgate user list` shows all users.")
    )


def canonical_name(name: str) -> str:
    """The one form of a user name. Raises ProblemError."""
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


def read_password(user: str, from_stdin: bool) -> Secret:
    """The new password, which may be shorter than the server lets users choose. Never from the command line: others
    see that."""
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
    problem = unfit(password, 1)
    if problem is not None:
        raise ProblemError(problem)
    return password
