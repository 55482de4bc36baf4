"""Statements on configurations: committed revisions, drafts, the contents they name, and single texts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from lockgate.server.store import user_records
from lockgate.server.store.chain import Chain
from lockgate.server.store.database import Database
from lockgate.server.store.records import AuditEntry, DraftRecord, RevisionRecord
from lockgate.server.store.sql import row_of
from lockgate.server.store.tables import (
    accounts,
    blobs,
    drafts,
    meta,
    revisions,
    sessions,
    tokens,
    web_sessions,
)

_NEWEST = select(func.max(revisions.c.number))
_HEADS = [column for column in revisions.c if column.name != "tree"]
_DRAFT_HEADS = [column for column in drafts.c if column.name != "tree"]


class SqlRevisions:
    """`interface.Revisions`."""

    def __init__(self, database: Database, chain: Chain) -> None:
        self._database, self._chain = database, chain

    async def current_number(self) -> int:
        return await self._database.read(_current)

    async def add(
        self,
        record: RevisionRecord,
        expected_current: int,
        *,
        draft: str | None = None,
        draft_version: int | None = None,
        note: AuditEntry | None = None,
        renamed_servers: Mapping[str, str] | None = None,
        logical_servers: Mapping[str, str] | None = None,
    ) -> bool:
        if record.number != expected_current + 1:
            raise ValueError(f"revision {record.number} cannot follow revision {expected_current}")
        renamed = dict(renamed_servers or {})

        def work(connection: Connection) -> bool:
            if _current(connection) != expected_current:
                return False
            if draft is not None:
                gone = delete(drafts).where(drafts.c.id == draft)
                if draft_version is not None:
                    gone = gone.where(drafts.c.version == draft_version)
                if connection.execute(gone).rowcount == 0:
                    return False
            connection.execute(insert(revisions).values(row_of(record, revisions)))
            _rename_servers(connection, renamed)
            if logical_servers is not None:
                user_records.follow(connection, logical_servers)
            if note is not None:
                self._chain.append(connection, note)
            return True

        return await self._database.write(work)

    async def get(self, number: int) -> RevisionRecord | None:
        return await self._one(select(revisions).where(revisions.c.number == number))

    async def current(self) -> RevisionRecord | None:
        return await self._one(select(revisions).order_by(revisions.c.number.desc()).limit(1))

    async def holding(self, text: str) -> RevisionRecord | None:
        there = revisions.c.tree.contains(text, autoescape=True)
        statement = select(revisions).where(there).order_by(revisions.c.number.desc()).limit(1)
        row = await self._database.read_aside(lambda connection: connection.execute(statement).first())
        return None if row is None else RevisionRecord(**row._mapping)

    async def log(self, limit: int, before: int | None = None) -> list[RevisionRecord]:
        statement = select(*_HEADS).order_by(revisions.c.number.desc()).limit(limit)
        if before is not None:
            statement = statement.where(revisions.c.number < before)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [RevisionRecord(**row._mapping, tree="") for row in rows]

    async def _one(self, statement: Any) -> RevisionRecord | None:
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else RevisionRecord(**row._mapping)


class SqlDrafts:
    """`interface.Drafts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, draft: DraftRecord, most: int = 1000) -> bool:
        def work(connection: Connection) -> bool:
            if connection.execute(select(func.count()).select_from(drafts)).scalar_one() >= most:
                return False
            connection.execute(insert(drafts).values(row_of(draft, drafts)))
            return True

        return await self._database.write(work)

    async def get(self, draft: str) -> DraftRecord | None:
        statement = select(drafts).where(drafts.c.id == draft)
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else DraftRecord(**row._mapping)

    async def head(self, draft: str) -> DraftRecord | None:
        statement = select(*_DRAFT_HEADS).where(drafts.c.id == draft)
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else DraftRecord(**row._mapping, tree="")

    async def all(self) -> list[DraftRecord]:
        statement = select(*_DRAFT_HEADS).order_by(drafts.c.changed.desc(), drafts.c.id)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [DraftRecord(**row._mapping, tree="") for row in rows]

    async def edit(self, draft: str, version: int, tree: str, now: float, base: int | None = None) -> bool:
        values: dict[str, Any] = {"tree": tree, "changed": now, "version": version + 1}
        if base is not None:
            values["base"] = base
        statement = update(drafts).where(drafts.c.id == draft, drafts.c.version == version).values(values)
        return await self._database.change(statement) == 1

    async def delete(self, draft: str) -> bool:
        statement = delete(drafts).where(drafts.c.id == draft)
        return await self._database.change(statement) == 1


class SqlBlobs:
    """`interface.Blobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, content: bytes, now: float | None = None) -> str:
        digest = hashlib.sha256(content).hexdigest()
        stored = time.time() if now is None else now
        again = update(blobs).where(blobs.c.digest == digest).values(stored=stored)

        def work(connection: Connection) -> None:
            if connection.execute(again).rowcount == 0:
                connection.execute(insert(blobs).values(digest=digest, content=content, stored=stored))

        await self._database.write(work)
        return digest

    async def get(self, digest: str) -> bytes | None:
        statement = select(blobs.c.content).where(blobs.c.digest == digest)
        return await self._database.read(lambda connection: connection.execute(statement).scalar())

    async def all(self) -> dict[str, int]:
        statement = select(blobs.c.digest, func.length(blobs.c.content)).order_by(blobs.c.digest)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return {row[0]: row[1] for row in rows}

    async def delete_unused(self, before: float) -> list[str]:
        def work(connection: Connection) -> list[str]:
            unused = _unused(connection, before)
            for digest in unused:
                connection.execute(delete(blobs).where(blobs.c.digest == digest))
            return unused

        # Looking through all revisions may take long, so writers wait only where there is something to remove;
        # it is looked for once more then, since somebody may have named it meanwhile.
        if not await self._database.read_aside(lambda connection: _unused(connection, before)):
            return []
        return await self._database.write(work)


class SqlMeta:
    """`interface.Meta`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: str) -> str | None:
        statement = select(meta.c.value).where(meta.c.key == key)
        return await self._database.read(lambda connection: connection.execute(statement).scalar())

    async def set(self, key: str, value: str) -> None:
        def work(connection: Connection) -> None:
            if connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
                connection.execute(insert(meta).values(key=key, value=value))

        await self._database.write(work)

    async def delete(self, key: str) -> bool:
        statement = delete(meta).where(meta.c.key == key)
        return await self._database.change(statement) == 1


def _unused(connection: Connection, before: float) -> list[str]:
    """Contents stored before that time whose digest stands in no tree."""
    old = connection.execute(select(blobs.c.digest).where(blobs.c.stored < before)).scalars().all()
    return [digest for digest in old if not _named(connection, digest)]


def _named(connection: Connection, digest: str) -> bool:
    """Newest trees first: what is in use is found at once."""
    newest = revisions.c.number.desc()
    return any(
        connection.execute(statement.where(table.c.tree.contains(digest)).limit(1)).first() is not None
        for table, statement in (
            (drafts, select(drafts.c.id)),
            (revisions, select(revisions.c.number).order_by(newest)),
        )
    )


def _current(connection: Connection) -> int:
    return connection.execute(_NEWEST).scalar() or 0


def _rename_servers(connection: Connection, renamed: Mapping[str, str]) -> None:
    # By way of names that nobody can choose, so that two servers may swap theirs.
    steps = [(old, f"/{old}"[:64]) for old in renamed] + [
        (f"/{old}"[:64], new) for old, new in renamed.items()
    ]
    for table in (accounts, sessions, web_sessions, tokens):
        for old, new in steps:
            connection.execute(update(table).where(table.c.server == old).values(server=new))
    user_records.rename(connection, steps)
