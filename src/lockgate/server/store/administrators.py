"""Statements on administrators."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from lockgate.server.store.database import Database
from lockgate.server.store.interface import AdministratorRecord
from lockgate.server.store.tables import administrators


class SqlAdministrators:
    """`interface.Administrators`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, name: str) -> AdministratorRecord | None:
        statement = select(administrators).where(administrators.c.name == name)
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            return None
        return AdministratorRecord(name=row.name, password_hash=row.password_hash, created=row.created)

    async def add(self, administrator: AdministratorRecord) -> bool:
        statement = (
            insert(administrators)
            .values(
                name=administrator.name,
                password_hash=administrator.password_hash,
                created=administrator.created,
            )
            .on_conflict_do_nothing()
        )
        return await self._database.write(lambda connection: connection.execute(statement).rowcount) == 1
