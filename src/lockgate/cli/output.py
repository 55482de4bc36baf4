"""What all commands share: the data directory, `--json`, errors without a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lockgate.model.problem import Problem, ProblemError

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """Prints a Problem as a person can use it, or as one JSON object with `--json`; exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ProblemError as error:
            show_problem(error.problem, as_json=bool(ctx.params.get("as_json")))
            ctx.exit(1)


def show_problem(problem: Problem, *, as_json: bool) -> None:
    """The JSON form goes to standard output, where the reader of `--json` looks."""
    if as_json:
        print_json({"error": problem.as_dict()})
    else:
        click.echo(f"error: {problem.text()}", err=True)


def print_json(document: object) -> None:
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def dir_option(command: F) -> F:
    return click.option(
        "--dir",
        "path",
        type=click.Path(path_type=Path),
        required=True,
        metavar="D",
        help="The gateway's data directory.",
    )(command)


def examples(*lines: str) -> str:
    """The end of a command's help: commands to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
