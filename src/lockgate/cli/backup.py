"""`lockgate backup` and `lockgate restore`: everything a gateway is, in one file."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, warn
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret

SHORT = 12  # characters; a passphrase can be guessed at wherever the file gets to
MAX_PASSPHRASE = 1024  # bytes

passphrase_file_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Read the passphrase from the first line of FILE.",
)
passphrase_stdin_option = click.option(
    "--passphrase-stdin", is_flag=True, help="Read the passphrase from the first line of standard input."
)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate backup --dir /var/lib/lockgate --out gateway.backup",
        "lockgate backup --dir D --out F --passphrase-file P --json",
    ),
)
@dir_option
@click.option(
    "--out", "out", type=click.Path(path_type=Path), required=True, metavar="F", help="File to write."
)
@passphrase_file_option
@passphrase_stdin_option
@click.option("--force", is_flag=True, help="Replace F if it exists.")
@json_option
def backup(
    path: Path, out: Path, passphrase_file: Path | None, passphrase_stdin: bool, force: bool, as_json: bool
) -> None:
    """Write the whole gateway to F: configuration with history, users, sessions, audit, certificates, keys.

    The server may be running or stopped. F is encrypted by a passphrase; whoever has both has the gateway.
    Without an option the passphrase is asked for.
    """
    from lockgate.server.backup import Made, make_backup
    from lockgate.server.backup.account import as_account
    from lockgate.server.datadir import open_directory

    directory = open_directory(path)
    out = Path(os.path.realpath(out))
    if out.exists() and not force:
        raise ProblemError(
            Problem(
                "file-exists", f"{out} is there already.", "Name another file, or replace it with --force."
            )
        )
    passphrase = _passphrase(passphrase_file, passphrase_stdin, new=True)
    actor = f"uid {os.getuid()}"
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    owner = directory.path.stat()
    try:
        with _create(partial) as file:

            def work() -> dict[str, Any]:
                _quiet()
                made = asyncio.run(make_backup(directory, file, passphrase, actor=actor))
                file.flush()
                return asdict(made)

            made = Made(**as_account(owner.st_uid, owner.st_gid, work))
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    if as_json:
        print_json({"file": str(out), "bytes": size, "files": made.files, "rows": made.rows})
    else:
        click.echo(f"{out}: {made.files} files and {made.rows} rows in {size} bytes.")


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate restore --dir /var/lib/lockgate gateway.backup",
        "lockgate restore --dir D F --store sqlite --passphrase-file P",
    ),
)
@dir_option
@click.argument("backup_file", metavar="F", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@passphrase_file_option
@passphrase_stdin_option
@click.option(
    "--store",
    metavar="STORE",
    help='Database to restore into: "sqlite", or postgresql://…; else the one D has, else that of the backup.',
)
@click.option(
    "--keep-sessions",
    is_flag=True,
    help="Let sessions of the backup go on. Some may have been ended for a reason since.",
)
@json_option
def restore(
    path: Path,
    backup_file: Path,
    passphrase_file: Path | None,
    passphrase_stdin: bool,
    store: str | None,
    keep_sessions: bool,
    as_json: bool,
) -> None:
    """Make D what it was when the backup F was written. D may be missing; what is in it is replaced.

    The server must be stopped. Everything is prepared beside D first and then takes its place in one step:
    a restore that fails or is interrupted leaves D as it was.
    """
    from lockgate.server import backup as backups
    from lockgate.server.backup.account import as_account
    from lockgate.server.datadir import DataDirectory
    from lockgate.server.store.choice import conninfo_of

    path = Path(os.path.realpath(path))
    with backup_file.open("rb") as file, backups.locked(path):
        old = _existing(path)
        passphrase = _passphrase(passphrase_file, passphrase_stdin, new=False)
        actor = f"uid {os.getuid()}"
        uid, gid = _owner(path)
        with backups.staged(path) as stage:
            if os.geteuid() == 0:
                os.chown(stage, uid, gid)

            def work() -> dict[str, Any]:
                _quiet()
                return asdict(
                    asyncio.run(
                        backups.fill(
                            stage,
                            file,
                            passphrase,
                            old=old,
                            store=store,
                            keep_sessions=keep_sessions,
                            actor=actor,
                        )
                    )
                )

            done = as_account(uid, gid, work)
            new = conninfo_of(DataDirectory(stage))
            try:
                replaced = backups.put_in_place(stage, path)
            except ProblemError:
                as_account(uid, gid, lambda: _forget(stage))
                raise
            if replaced:
                _remove_old_tables(stage, new, uid, gid)
    _report(path, done, as_json)


def _remove_old_tables(stage: Path, new: str | None, uid: int, gid: int) -> None:
    """Of the directory that has just been replaced, and is at the stage's place now."""
    from lockgate.server.backup.account import as_account
    from lockgate.server.datadir import DataDirectory
    from lockgate.server.store.choice import conninfo_of

    before = conninfo_of(DataDirectory(stage))
    if before is None:
        return
    if new is not None and "search_path=lockgate_" not in new:
        # It may be the same database, written in another way.
        warn("the tables of the former database were left where they are")
        return
    try:
        as_account(uid, gid, lambda: _forget(stage))
    except ProblemError as error:
        warn(f"the tables of the former database were left where they are: {error.problem.summary}")


def _forget(stage: Path) -> dict[str, Any]:
    from lockgate.server.backup import forget
    from lockgate.server.datadir import DataDirectory

    forget(DataDirectory(stage))
    return {}


def _report(path: Path, done: dict[str, Any], as_json: bool) -> None:
    for warning in done["warnings"]:
        warn(warning)
    if as_json:
        print_json({"directory": str(path), **done})
        return
    when = datetime.fromtimestamp(done["made"], UTC)
    click.echo(f"{path}: restored the state of {when:%Y-%m-%d %H:%M:%S} UTC into {done['store']}.")
    click.echo(
        f"{done['files']} files, {done['rows']} rows; {done['ended']} sessions of the backup were ended."
    )


def _existing(path: Path) -> Any:
    from lockgate.server.datadir import DataDirectory

    if not path.exists():
        return None
    directory = DataDirectory(path)
    if directory.config.exists():
        return directory
    if any(path.iterdir()):
        raise ProblemError(
            Problem(
                code="no-data-directory",
                summary=f"{path} holds other things than a gateway.",
                fix="Name an empty or a new directory.",
            )
        )
    return None


def _owner(path: Path) -> tuple[int, int]:
    """Whose the new directory will be: the old one's owner, for root the service account, else ours."""
    from lockgate.server.supervisor.prepare import service_account

    if path.exists():
        status = path.stat()
        return status.st_uid, status.st_gid
    return service_account() or (os.geteuid(), os.getegid())


def _create(path: Path) -> BinaryIO:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ProblemError(
            Problem(
                code="cannot-write",
                summary=f"No file can be made in {path.parent}: {error.strerror}.",
                fix="Name a file in a folder that is there and yours.",
            )
        ) from None
    return os.fdopen(fd, "wb")


def _passphrase(file: Path | None, stdin: bool, *, new: bool) -> Secret:
    if file is not None and stdin:
        raise click.UsageError("Give --passphrase-file or --passphrase-stdin, not both.")
    if file is not None:
        with file.open("rb") as source:
            passphrase = _first_line(source)
    elif stdin:
        passphrase = _first_line(sys.stdin.buffer)
    elif sys.stdin.isatty():
        passphrase = Secret.of_text(click.prompt("Passphrase", hide_input=True, confirmation_prompt=new))
    else:
        raise ProblemError(
            Problem(
                code="no-passphrase",
                summary="There is no terminal to ask for the passphrase.",
                fix="Use --passphrase-file or --passphrase-stdin.",
            )
        )
    size = len(passphrase.reveal())
    if not 1 <= size <= MAX_PASSPHRASE:
        raise ProblemError(
            Problem(
                code="bad-passphrase",
                summary="The passphrase is empty." if size == 0 else "The passphrase is too long.",
                fix=f"Use 1 to {MAX_PASSPHRASE} bytes.",
            )
        )
    if new and size < SHORT:
        warn(f"the passphrase is shorter than {SHORT} characters")
    return passphrase


def _first_line(source: BinaryIO) -> Secret:
    return Secret(source.readline(2 * MAX_PASSPHRASE).removesuffix(b"\n").removesuffix(b"\r"))


def _quiet() -> None:
    from lockgate.server.logs import configure_logs

    # The audit's log lines belong to the server's log; here its rows are enough.
    configure_logs("error")
