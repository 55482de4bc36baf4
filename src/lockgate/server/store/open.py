"""Opens and creates the database of a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import write_private
from lockgate.server.store.administrators import SqlAdministrators
from lockgate.server.store.audit import SqlAudit
from lockgate.server.store.database import Database
from lockgate.server.store.sessions import SqlSessions
from lockgate.server.store.users import SqlUsers

# The newest of `migrations/versions`; a test keeps it so.
SCHEMA = "0002"


@dataclass(frozen=True, slots=True)
class SqlStore:
    """`interface.Store` over one SQLite file."""

    database: Database
    users: SqlUsers
    administrators: SqlAdministrators
    sessions: SqlSessions
    audit: SqlAudit

    async def changed_elsewhere(self) -> bool:
        return await self.database.changed_elsewhere()

    async def close(self) -> None:
        await self.database.close()


async def create_store(path: Path) -> SqlStore:
    """A new database, closed to other accounts. FileExistsError when there is one."""
    write_private(path, b"")
    return await open_store(path, upgrade=True)


async def open_store(path: Path, *, upgrade: bool = False) -> SqlStore:
    """The store in an existing file.

    upgrade: bring an older schema up to date (the server, at its start); without it another schema
    is a ProblemError, because the program that uses it may be running.
    """
    database = Database(path)
    try:
        if await database.read(_schema) != SCHEMA:
            if not upgrade:
                raise ProblemError(
                    Problem(
                        code="schema-differs",
                        summary=f"The database {path} belongs to another release.",
                        fix="Start the server of this release once; it brings the database up to date.",
                    )
                )
            await database.write(_upgrade)
    except BaseException:
        await database.close()
        raise
    return SqlStore(
        database, SqlUsers(database), SqlAdministrators(database), SqlSessions(database), SqlAudit(database)
    )


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _upgrade(connection: Connection) -> None:
    # Alembic and its template engine take a third of a second to import; most commands need neither.
    from lockgate.server.store.migrate import upgrade

    upgrade(connection)
