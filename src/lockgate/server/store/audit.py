"""Statements on the audit. Lines are added and read, never changed."""

from __future__ import annotations

from dataclasses import asdict, fields

from sqlalchemy import insert, select

from lockgate.server.store.database import Database
from lockgate.server.store.interface import AuditEntry
from lockgate.server.store.tables import audit

ADD = insert(audit).inline()
_COLUMNS = [audit.c[field.name] for field in fields(AuditEntry)]


class SqlAudit:
    """`interface.Audit`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entry: AuditEntry) -> None:
        await self._database.write(
            lambda connection: connection.execute(ADD, asdict(entry)).rowcount, sync=False
        )

    async def newest(self, limit: int) -> list[AuditEntry]:
        """The last `limit` lines, oldest first."""
        statement = select(*_COLUMNS).order_by(audit.c.id.desc()).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [AuditEntry(*row) for row in reversed(rows)]
