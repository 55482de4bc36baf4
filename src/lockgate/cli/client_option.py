"""The options of all commands about the client: where its service is, where its state is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def run_dir_option(command: F) -> F:
    return click.option(
        "--run-dir",
        envvar="LOCKGATE_CLIENT_RUN_DIR",
        default="/run/lockgate-client",
        show_default=True,
        show_envvar=True,
        metavar="R",
        help="Where the client service's socket is.",
    )(command)


def state_dir_option(command: F) -> F:
    return click.option(
        "--state-dir",
        envvar="LOCKGATE_CLIENT_STATE_DIR",
        default="/var/lib/lockgate-client",
        show_default=True,
        show_envvar=True,
        metavar="D",
        help="Where the client service keeps what it has changed on this machine.",
    )(command)


connection_argument = click.argument("connection", required=False, metavar="[ID]")
