"""What all commands about a gateway begin with: its data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lockgate.server.datadir import DataDirectory

F = TypeVar("F", bound=Callable[..., Any])


def dir_option(command: F) -> F:
    return click.option(
        "--dir",
        "path",
        type=click.Path(path_type=Path),
        required=True,
        metavar="D",
        help="The gateway's data directory.",
    )(command)


def enter(path: Path) -> DataDirectory:
    """The data directory, for a command that works on what is in it. Raises ProblemError.

    As root this process becomes its owner, for good: files that belong to the caller are opened before.
    """
    # `lockgate connect` is not to pay for these.
    from lockgate.server.datadir import DataDirectory, become_owner, open_directory
    from lockgate.server.logs import configure_logs

    # What a command did is for it to say; its log lines belong to the server's log.
    configure_logs("error")
    become_owner(DataDirectory(path))
    return open_directory(path)
