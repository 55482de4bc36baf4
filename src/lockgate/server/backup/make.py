"""Makes a backup, with the server running or stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import Connection

from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.backup.contents import CONTENTS, file_lines, line, table_lines
from lockgate.server.backup.sealed_file import SealedWriter
from lockgate.server.datadir import DataDirectory
from lockgate.server.store import open_store
from lockgate.server.store.choice import conninfo_of
from lockgate.server.store.open import SCHEMA


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup."""

    files: int
    rows: int


async def make_backup(
    directory: DataDirectory,
    file: BinaryIO,
    passphrase: Secret,
    *,
    actor: str,
    clock: Callable[[], float] = time.time,
) -> Made:
    """Writes everything a gateway is to `file`: one state of its database, and its files.

    actor: who asked, for the audit; that somebody did is in the backup too. The file counts once this
    returns; nobody else sees the content of D in between. ProblemError as for opening the store.
    """
    store = await open_store(directory)
    try:
        audit = Audit(store.audit, clock)
        await audit.record("backup", ok=True, source="local", log="admin", actor=actor)
        sealed = SealedWriter(file, passphrase)
        head = {"lockgate": CONTENTS, "schema": SCHEMA, "time": clock(), "postgresql": conninfo_of(directory)}
        sealed.write(line(head))
        files = 0
        for document in file_lines(directory):
            sealed.write(line(document))
            files += 1

        def tables(connection: Connection) -> int:
            rows = 0
            for document in table_lines(connection):
                sealed.write(line(document))
                rows += isinstance(document, list)
            return rows

        rows = await store.database.read_aside(tables)
        sealed.finish()
    finally:
        await store.close()
    return Made(files, rows)
