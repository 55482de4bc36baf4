"""Opens and creates the store of a data directory."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, inspect, text

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import DataDirectory, write_private
from lockgate.server.store.audit import SqlAudit
from lockgate.server.store.chain import Chain
from lockgate.server.store.choice import conninfo_of, open_database
from lockgate.server.store.database import Database
from lockgate.server.store.decisions import SqlDecisions, SqlSamples
from lockgate.server.store.revisions import SqlBlobs, SqlDrafts, SqlMeta, SqlRevisions
from lockgate.server.store.sessions import SqlSessions
from lockgate.server.store.tokens import SqlTokens
from lockgate.server.store.uploads import SqlUploads
from lockgate.server.store.user_records import SqlUserRecords
from lockgate.server.store.users import SqlUsers
from lockgate.server.store.web_sessions import SqlHandles, SqlWebSessions
from lockgate.server.vault import has_key, make_key, open_vault

# The newest of `migrations/versions`; a test keeps it so.
SCHEMA = "0007"
# Their audit had no chain.
UNCHAINED = (None, "0001", "0002")


@dataclass(frozen=True, slots=True)
class SqlStore:
    """`interface.Store` over one database."""

    database: Database
    users: SqlUsers
    sessions: SqlSessions
    web_sessions: SqlWebSessions
    handles: SqlHandles
    tokens: SqlTokens
    revisions: SqlRevisions
    drafts: SqlDrafts
    decisions: SqlDecisions
    samples: SqlSamples
    uploads: SqlUploads
    user_records: SqlUserRecords
    blobs: SqlBlobs
    audit: SqlAudit
    meta: SqlMeta

    async def changed_elsewhere(self) -> bool:
        return await self.database.changed_elsewhere()

    async def ping(self) -> None:
        await self.database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())

    async def close(self) -> None:
        await self.database.close()


async def create_store(directory: DataDirectory) -> SqlStore:
    """A new store with its key, closed to other accounts.

    FileExistsError when there is a database file; ProblemError when PostgreSQL's database has a gateway's
    tables already.
    """
    if conninfo_of(directory) is None:
        write_private(directory.database, b"")
    else:
        await _check_empty(directory)
    make_key(directory)
    return await open_store(directory, upgrade=True)


async def open_store(directory: DataDirectory, *, upgrade: bool = False) -> SqlStore:
    """The store of a data directory.

    upgrade: bring an older schema up to date (the server, at its start); without it another schema
    is a ProblemError, because the program that uses it may be running. So is a missing key, except for
    databases of releases that had none.
    """
    database = open_database(directory)
    try:
        schema = await database.read(_schema)
        if schema != SCHEMA:
            if not upgrade or _newer(schema):
                raise _differs(database, schema)
            if schema in UNCHAINED and not has_key(directory):
                make_key(directory)
        chain = Chain(open_vault(directory))
        if schema != SCHEMA:
            await database.write(lambda connection: _upgrade(connection, chain))
    except BaseException:
        await database.close()
        raise
    return SqlStore(
        database=database,
        users=SqlUsers(database),
        sessions=SqlSessions(database, chain),
        web_sessions=SqlWebSessions(database, chain),
        handles=SqlHandles(database),
        tokens=SqlTokens(database),
        revisions=SqlRevisions(database, chain),
        drafts=SqlDrafts(database),
        decisions=SqlDecisions(database),
        samples=SqlSamples(database),
        uploads=SqlUploads(database),
        user_records=SqlUserRecords(database),
        blobs=SqlBlobs(database),
        audit=SqlAudit(database, chain),
        meta=SqlMeta(database),
    )


async def _check_empty(directory: DataDirectory) -> None:
    database = open_database(directory)
    try:
        if await database.read(_schema) is not None:
            raise ProblemError(
                Problem(
                    code="store-exists",
                    summary=f"The database {database.name} belongs to a gateway already.",
                    fix="Give this gateway an empty database of its own.",
                )
            )
    finally:
        await database.close()


def _differs(database: Database, schema: str | None) -> ProblemError:
    return ProblemError(
        Problem(
            code="schema-differs",
            summary=f"The database {database.name} belongs to another release.",
            fix="Use the newer release that it belongs to."
            if _newer(schema)
            else "Start the server of this release once; it brings the database up to date.",
        )
    )


def _newer(schema: str | None) -> bool:
    return schema is not None and schema > SCHEMA


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _upgrade(connection: Connection, chain: Chain) -> None:
    # Alembic and its template engine take a third of a second to import; most commands need neither.
    from lockgate.server.store.migrate import upgrade

    before = _schema(connection)  # another process may have been quicker
    if before == SCHEMA:
        return
    upgrade(connection)
    if before in UNCHAINED:
        chain.adopt(connection)
