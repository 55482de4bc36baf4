"""What all commands share: `--json`, errors without a traceback, tables, durations.

Every command pays for what this module imports; `lockgate connect` is to be quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from lockgate.cli.plain import plain
from lockgate.model.problem import Problem, ProblemError

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """Prints a Problem as a person can use it, or as one JSON object with `--json`; exit status 1."""

    json_lines = False  # with --json: one object a line, not one indented document

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ProblemError as error:
            show_problem(error.problem, as_json=bool(ctx.params.get("as_json")), json_lines=self.json_lines)
            ctx.exit(1)


class StreamCommand(Command):
    """A command whose `--json` prints one object a line while it runs."""

    json_lines = True


def show_problem(problem: Problem, *, as_json: bool, json_lines: bool = False) -> None:
    """The JSON form goes to standard output, where the reader of `--json` looks."""
    if as_json:
        document = {"error": problem.as_dict()}
        print_json_line(document) if json_lines else print_json(document)
    else:
        lines = f"error: {problem.text()}".split("\n")
        click.echo("\n".join(map(plain, lines)), err=True)


def print_json(document: object) -> None:
    sys.stdout.write(_json(document, indent=2) + "\n")


def print_json_line(document: object) -> None:
    """One line, visible at once to who reads a pipe."""
    sys.stdout.write(_json(document, indent=None) + "\n")
    sys.stdout.flush()


def _json(document: object, indent: int | None) -> str:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    # Outside of strings JSON text prints; inside them, what a terminal would act on is escaped.
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    # json.dumps leaves U+007F as it is, and knows the surrogate pairs of what lies beyond U+FFFF.
    return f"\\u{code:04x}" if code <= 0xFFFF else json.dumps(character)[1:-1]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def duration(seconds: float) -> str:
    """Days hours:minutes:seconds, as the guides show remaining time."""
    days, rest = divmod(max(0, int(seconds)), 86400)
    clock = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days} day{'s' if days > 1 else ''} {clock}" if days else clock


def warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def examples(*lines: str) -> str:
    """The end of a command's help: commands to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
