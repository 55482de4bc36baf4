"""`lockgate config check`"""

from __future__ import annotations

from pathlib import Path

import click

from lockgate.cli.output import Command, examples, json_option, print_json
from lockgate.server.config.seed.load import Message, check_file


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate config check /var/lib/lockgate/config.toml", "lockgate config check new.toml --json"
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Check the configuration FILE: every error with file, line, key and what is allowed.

    Exit status 0 means that the server would take the file, 1 that it would not. Warnings name what
    will not work as somebody probably hopes.
    """
    checked = check_file(file)
    if as_json:
        print_json(
            {
                "file": str(file),
                "ok": not checked.errors,
                "errors": [message.as_dict() for message in checked.errors],
                "warnings": [message.as_dict() for message in checked.warnings],
            }
        )
    else:
        _print("error", checked.errors)
        _print("warning", checked.warnings)
        if not checked.errors:
            click.echo(f"{file}: the configuration is valid")
    ctx.exit(1 if checked.errors else 0)


def _print(kind: str, messages: tuple[Message, ...]) -> None:
    for message in messages:
        click.echo(f"{kind}: {message}", err=True)
