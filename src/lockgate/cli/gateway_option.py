"""The option of all commands about a gateway: its data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
