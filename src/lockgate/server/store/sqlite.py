"""SQLite: one file, no other service."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from lockgate.server.store.database import BUSY_TIMEOUT, Database, Lane


class SqliteDatabase(Database):
    """Other processes meet in SQLite's own locks."""

    system = "sqlite"

    def __init__(self, path: Path) -> None:
        """path: an existing database file."""
        super().__init__(_engine(path), _engine(path), str(path))
        self._data_version: int | None = None
        self._synced = True

    def _begin_read(self, connection: Connection) -> None:
        _begin(connection, "BEGIN")

    def _alone(self, connection: Connection, alone: bool) -> None:
        pass  # what is not begun is so

    def _begin_write(self, connection: Connection, sync: bool) -> None:
        if sync != self._synced:
            _tell(connection, f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._synced = sync
        _begin(connection, "BEGIN IMMEDIATE")

    def _changed(self, lane: Lane) -> bool:
        connection = lane.connection()
        before = self._data_version
        # Counts commits of others only, and reads no disk (sqlite.org, PRAGMA data_version).
        row = connection.exec_driver_sql("PRAGMA data_version").one()
        connection.rollback()
        self._data_version = int(row[0])
        return self._data_version != before

    @property
    def _advice(self) -> str:
        return "Look at the free space of its disk and at the owner of the file and its folder."


def _begin(connection: Connection, statement: str) -> None:
    # SQLAlchemy believes in a transaction from here on; it leaves it to us to have SQLite begin it.
    connection.begin()
    _tell(connection, statement)


def _tell(connection: Connection, statement: str) -> None:
    """What is said at every transaction goes to the driver itself: a tenth of the time."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        driver.execute(statement)
    except sqlite3.Error as error:
        raise DatabaseError(statement, None, error) from None


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
