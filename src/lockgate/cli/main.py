"""The `lockgate` command: a list of commands. Their modules are imported when they are called."""

from __future__ import annotations

import click

from lockgate import __version__
from lockgate.cli.lazy import Lazy, LazyGroup

SERVER = LazyGroup(
    "server",
    {
        "init": Lazy("lockgate.cli.init:init", "Make the data directory of a new gateway."),
        "run": Lazy("lockgate.cli.server:run", "Run the gateway in the foreground."),
        "status": Lazy("lockgate.cli.server:status", "Show a running gateway."),
        "sessions": Lazy("lockgate.cli.server:sessions", "List the sessions."),
        "disconnect": Lazy("lockgate.cli.server:disconnect", "End sessions."),
    },
    help="Make and run a gateway.",
)

USER = LazyGroup(
    "user",
    {
        "add": Lazy("lockgate.cli.user:add", "Add a user."),
        "passwd": Lazy("lockgate.cli.user:passwd", "Give a user a new password."),
        "disable": Lazy("lockgate.cli.user:disable", "Keep a user from signing in; end the user's sessions."),
        "enable": Lazy("lockgate.cli.user:enable", "Let a disabled user sign in again."),
        "delete": Lazy("lockgate.cli.user:delete", "Delete a user; end the user's sessions."),
        "list": Lazy("lockgate.cli.user:list_users", "List all users."),
    },
    help="Manage local users, with the server running or stopped.",
)

CONFIG = LazyGroup(
    "config",
    {"check": Lazy("lockgate.cli.config:check", "Check a configuration file.")},
    help="Look at configuration files.",
)

lockgate = LazyGroup(
    "lockgate",
    {"server": SERVER, "user": USER, "config": CONFIG},
    help="Lockgate: an open secure-access gateway.",
)
lockgate = click.version_option(__version__, prog_name="lockgate")(lockgate)


def main() -> None:
    """Entry point of the installed command."""
    lockgate(prog_name="lockgate")
