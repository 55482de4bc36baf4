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

CLIENT = LazyGroup(
    "client",
    {
        "run": Lazy("lockgate.cli.client:run", "Run the client service in the foreground."),
        "reset": Lazy("lockgate.cli.client:reset", "Undo everything a killed client left behind."),
        "sleep": Lazy("lockgate.cli.client:sleep", "Tell the service that the machine will be suspended."),
        "wake": Lazy("lockgate.cli.client:wake", "Tell the service that the machine has woken up."),
        "stop": Lazy("lockgate.cli.client:stop", "End the service."),
    },
    help="Run the service that owns this machine's connections.",
)

lockgate = LazyGroup(
    "lockgate",
    {
        "connect": Lazy("lockgate.cli.connect:connect", "Connect this machine to a gateway."),
        "status": Lazy("lockgate.cli.connections:status", "List the connections."),
        "details": Lazy(
            "lockgate.cli.connections:details", "Show a connection: addresses, networks, traffic."
        ),
        "disconnect": Lazy("lockgate.cli.connections:disconnect", "End a connection and its session."),
        "suspend": Lazy("lockgate.cli.connections:suspend", "Take a connection down, keep its session."),
        "resume": Lazy("lockgate.cli.connections:resume", "Bring a suspended connection up again."),
        "client": CLIENT,
        "server": SERVER,
        "user": USER,
        "config": CONFIG,
    },
    help="Lockgate: an open secure-access gateway and client.",
)
lockgate = click.version_option(__version__, prog_name="lockgate")(lockgate)


def main() -> None:
    """Entry point of the installed command."""
    lockgate(prog_name="lockgate")
