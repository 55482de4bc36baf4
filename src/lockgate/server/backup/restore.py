"""Restores a backup: a whole new data directory beside the old one, then both change places.

There is one moment at which the new state begins: the exchange of the two directories, which the kernel
does in one step. Whatever is interrupted before leaves the old state. PostgreSQL takes part: where the
database has a gateway's tables already, the rows go into a schema of their own, which only the new
directory names; the old tables are dropped afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, delete, func, select, update

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.session import EndCause
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.backup.contents import carry_over, head_of, lines_of
from lockgate.server.backup.sealed_file import SealedReader, damaged, newer
from lockgate.server.datadir import DataDirectory, write_private
from lockgate.server.store import open_store
from lockgate.server.store.choice import conninfo_of, open_database, text_for
from lockgate.server.store.open import SCHEMA
from lockgate.server.store.tables import handles, leases, sessions, web_sessions
from lockgate.server.store.user_records import restored

SQLITE = "sqlite"
_AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCHANGE = -100, 1, 2  # linux/fcntl.h, linux/fs.h


@dataclass(frozen=True, slots=True)
class Restored:
    """What a new data directory was made of."""

    store: str  # what people call its database
    files: int
    rows: int
    made: float  # when the backup was made
    ended: int  # sessions of the backup that do not go on
    warnings: tuple[str, ...]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps servers from starting with the data directory at `path`. ProblemError when one runs."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProblemError(
                Problem(
                    code="server-running",
                    summary=f"A server is running with the data directory {path}.",
                    fix="Stop it first.",
                )
            ) from None
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` for the new state; it is gone afterwards, and with it whatever is at
    its place by then. What an interrupted restore left is removed first."""
    prefix = f".{path.name}.restore-"
    try:
        for left in path.parent.glob(f"{prefix}*"):
            shutil.rmtree(left)
        stage = path.parent / f"{prefix}{secrets.token_hex(4)}"
        stage.mkdir(mode=0o700)
    except OSError as error:
        raise ProblemError(
            Problem(
                code="no-room-beside",
                summary=f"Nothing can be made in {path.parent}, beside the data directory: {error.strerror}.",
                fix="Run the command as root, or restore into a directory in a folder of your own.",
            )
        ) from None
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


async def fill(
    stage: Path,
    file: BinaryIO,
    passphrase: Secret,
    *,
    old: DataDirectory | None,
    store: str | None,
    keep_sessions: bool,
    actor: str,
    clock: Callable[[], float] = time.time,
) -> Restored:
    """Makes a data directory of the backup in the empty folder `stage`, complete but for its place.

    old:    the directory that it will replace. store: "sqlite", or how PostgreSQL is reached; None for
            what `old` has, else for what the backup was made of.
    keep_sessions: live sessions go on; else they are ended, because some of them may have been ended
            for a reason since the backup was made.
    """
    place = DataDirectory(stage)
    lines = lines_of(SealedReader(file, passphrase))
    head = head_of(lines)
    schema, made = _facts(head)
    conninfo = _conninfo(head, old, store)
    for folder in (place.database.parent, place.run):
        folder.mkdir(mode=0o700)
    if conninfo is None:
        write_private(place.database, b"")
    else:
        from lockgate.server.backup.schema import own_schema

        write_private(place.store_choice, text_for(own_schema(conninfo)).encode())

    def load(connection: Connection) -> tuple[int, int, int]:
        from lockgate.server.store.migrate import upgrade

        upgrade(connection, schema)
        files, rows = carry_over(lines, stage, connection)
        upgrade(connection)
        ended = 0 if keep_sessions else _end_sessions(connection, clock())
        restored(connection)
        return files, rows, ended

    database = open_database(place)
    try:
        files, rows, ended = await database.write(load)
    except BaseException:
        await database.close()
        forget(place)
        raise
    await database.close()
    warnings = await _note(place, actor, made, ended, clock)
    name = "SQLite" if conninfo is None else database.name
    return Restored(name, files, rows, made, ended, warnings)


def put_in_place(stage: Path, path: Path) -> bool:
    """Exchanges `stage` and `path`, or moves it there where nothing is; whether there was something.

    On disk when this returns. ProblemError, and nothing has changed, when the kernel refuses.
    """
    _sync_below(stage)  # what the exchange makes valid has to be on disk before it
    replaces = path.exists()
    flag = _RENAME_EXCHANGE if replaces else _RENAME_NOREPLACE
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(_AT_FDCWD, os.fsencode(stage), _AT_FDCWD, os.fsencode(path), flag) != 0:
        number = ctypes.get_errno()
        why = "it is a mount point" if number == errno.EBUSY else os.strerror(number)
        raise ProblemError(
            Problem(
                code="not-exchanged",
                summary=f"{path} cannot be replaced: {why}.",
                fix="Restore into another directory beside it, and use that one.",
            )
        )
    _sync(path.parent)
    return replaces


def forget(place: DataDirectory) -> None:
    """Drops the tables of a data directory that has lost its place, where they are not in its own files."""
    conninfo = conninfo_of(place)
    if conninfo is not None:
        from lockgate.server.backup.schema import drop_tables

        drop_tables(conninfo)


def _sync_below(stage: Path) -> None:
    for folder, _, files in os.walk(stage, topdown=False):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _facts(head: dict[str, Any]) -> tuple[str, float]:
    schema, made = head.get("schema"), head.get("time")
    if not isinstance(schema, str) or not isinstance(made, int | float):
        raise damaged("its first line cannot be read")
    if schema > SCHEMA:
        raise newer()
    return schema, float(made)


def _conninfo(head: dict[str, Any], old: DataDirectory | None, store: str | None) -> str | None:
    if store is not None:
        return None if store == SQLITE else store
    if old is not None:
        return conninfo_of(old)
    given = head.get("postgresql")
    if given is not None and not isinstance(given, str):
        raise damaged("its first line cannot be read")
    return given


def _end_sessions(connection: Connection, now: float) -> int:
    live = select(func.count()).select_from(sessions).where(sessions.c.ended.is_(None))
    count = connection.execute(live).scalar_one()
    over = {"ended": now, "cause": EndCause.DISCONNECTED.value}
    for table in (sessions, web_sessions):
        connection.execute(update(table).where(table.c.ended.is_(None)).values(over))
    connection.execute(update(leases).where(leases.c.session.is_not(None)).values(session=None, free_at=now))
    connection.execute(delete(handles))
    return int(count)


async def _note(
    place: DataDirectory, actor: str, made: float, ended: int, clock: Callable[[], float]
) -> tuple[str, ...]:
    when = datetime.fromtimestamp(made, UTC)
    store = await open_store(place)
    try:
        await Audit(store.audit, clock).record(
            "restore",
            ok=True,
            source="local",
            log="admin",
            actor=actor,
            text=f"backup of {when:%Y-%m-%d %H:%M:%S} UTC, {ended} sessions ended",
        )
    except ProblemError as error:
        if error.problem.code != "audit-damaged":
            raise
        return (error.problem.summary,)
    finally:
        await store.close()
    return ()
