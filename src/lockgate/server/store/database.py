"""SQLite on a thread of its own.

One connection, used by one thread, so that the event loop never waits for the disk and no two
statements of this process meet. Other processes meet in SQLite's own locks.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from lockgate.model.problem import Problem, ProblemError

T = TypeVar("T")

BUSY_TIMEOUT = 5000  # milliseconds to wait for another process that writes
# Callers that may wait for the thread; at a quarter of a millisecond each this is half a second.
MAX_WAITING = 2000


class Database:
    """Reads and writes as functions of a connection; each is one transaction."""

    def __init__(self, path: Path) -> None:
        """path: an existing database file."""
        self._path = path
        self._engine = _engine(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._connection: Connection | None = None
        self._waiting = 0
        self._data_version: int | None = None
        self._synced = True

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on one consistent state. Raises ProblemError when the database cannot be used."""
        return await self._run(lambda connection: self._transaction(connection, "BEGIN", work))

    async def write(self, work: Callable[[Connection], T], *, sync: bool = True) -> T:
        """Runs `work` alone among all writers; committed when this returns, undone when it raises.

        sync: on disk as well, so that it outlives a power failure and not only this process. Writes
        that take a right away need that; one that gives a right may be lost with the power, which
        costs a new sign-in and saves milliseconds for everybody.
        """

        def synchronised(connection: Connection) -> T:
            if sync != self._synced:
                connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
                connection.rollback()
                self._synced = sync
            return self._transaction(connection, "BEGIN IMMEDIATE", work)

        return await self._run(synchronised)

    async def changed_elsewhere(self) -> bool:
        """Whether another connection committed since the last call. Reads one number, not the disk."""

        def compare(connection: Connection) -> bool:
            before = self._data_version
            # Counts commits of others only (sqlite.org, PRAGMA data_version).
            row = connection.exec_driver_sql("PRAGMA data_version").one()
            connection.rollback()
            self._data_version = int(row[0])
            return self._data_version != before

        return await self._run(compare)

    async def close(self) -> None:
        """Waits for what is under way; nothing may be asked afterwards."""

        def finish(connection: Connection) -> None:
            connection.close()
            self._engine.dispose()

        if self._connection is not None:
            await self._run(finish)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise ProblemError(
                Problem("store-busy", "The database has more to do than it can.", "Try again in a moment.")
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)
        finally:
            self._waiting -= 1

    def _guarded(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            return work(self._connection)
        except DatabaseError as error:
            # The driver's own words: SQLAlchemy's text would carry the statement's values.
            raise ProblemError(
                Problem(
                    code="database-failed",
                    summary=f"The database {self._path} cannot be used: {error.orig}.",
                    fix="Look at the free space of its disk and at the owner of the file and its folder.",
                )
            ) from None

    @staticmethod
    def _transaction(connection: Connection, begin: str, work: Callable[[Connection], T]) -> T:
        # Before BEGIN SQLAlchemy believes in a transaction that the driver has not begun.
        connection.exec_driver_sql(begin)
        try:
            result = work(connection)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
        return result


def _engine(path: Path) -> Engine:
    # mode=rw: a wrong name is an error, not a new empty database.
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, isolation_level=None),
        poolclass=NullPool,
        hide_parameters=True,  # values are hashes and names: not for messages
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine
