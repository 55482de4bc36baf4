"""Groups of commands that import a command's module when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that lives elsewhere."""

    target: str  # "module:attribute"
    help: str  # its line in the group's help


class LazyGroup(click.Group):
    """A group over a table of name → `Lazy` or ready group, in the order of the table."""

    def __init__(self, name: str, table: Mapping[str, Lazy | click.Command], help: str) -> None:
        super().__init__(name=name, help=help)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._table.get(cmd_name)
        if not isinstance(entry, Lazy):
            return entry
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, entry.help or "") for name, entry in self._table.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
