"""`lockgate sign-in-pages …`: archives of custom sign-in pages, with the server running or stopped."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import BinaryIO

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, print_table
from lockgate.cli.plain import plain
from lockgate.cli.rest import Rest


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate sign-in-pages upload pages.zip --dir D",
        "lockgate config set 'sign_in_pages/Staff page/templates' SHA256 --dir D --commit -m 'new look'",
    ),
)
@click.argument("file", type=click.File("rb"))
@dir_option
@click.option(
    "--skip-validation", is_flag=True, help="Take pages that may not work. What protects users is checked."
)
@json_option
def upload(file: BinaryIO, path: Path, skip_validation: bool, as_json: bool) -> None:
    """Check and store the ZIP file FILE; print the SHA-256 by which a sign-in page names it."""
    body = {"archive": base64.b64encode(file.read()).decode(), "skip_validation": skip_validation}
    stored = Rest(path).post("/sign-in-page-archives", body)
    if as_json:
        print_json(stored)
    else:
        click.echo(stored["sha256"])


@click.command("list", cls=Command, epilog=examples("lockgate sign-in-pages list --dir D"))
@dir_option
@json_option
def list_archives(path: Path, as_json: bool) -> None:
    """List the archives that sign-in pages use."""
    archives = Rest(path).get("/sign-in-page-archives")["archives"]
    if as_json:
        print_json(archives)
        return
    rows = [
        (each["sha256"], plain(", ".join(each["used_by"])), ", ".join(each["templates"])) for each in archives
    ]
    print_table([("SHA-256", "USED BY", "TEMPLATES"), *rows])
