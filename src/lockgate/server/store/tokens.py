"""Statements on tokens of the REST interface."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from lockgate.server.store.database import Database
from lockgate.server.store.records import TokenRecord
from lockgate.server.store.sql import row_of
from lockgate.server.store.tables import tokens


class SqlTokens:
    """`interface.Tokens`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, token: TokenRecord) -> bool:
        taken = select(tokens.c.id).where(
            tokens.c.owner == token.owner, tokens.c.server == token.server, tokens.c.name == token.name
        )
        row = {**row_of(token, tokens), "scopes": json.dumps(token.scopes)}

        def work(connection: Connection) -> bool:
            if connection.execute(taken).first() is not None:
                return False
            connection.execute(insert(tokens).values(row))
            return True

        return await self._database.write(work)

    async def by_hash(self, token_hash: bytes) -> TokenRecord | None:
        return await self._one(select(tokens).where(tokens.c.hash == token_hash))

    async def find(self, token: str) -> TokenRecord | None:
        return await self._one(select(tokens).where(tokens.c.id == token))

    async def all(self, owner: str | None = None) -> list[TokenRecord]:
        statement = select(tokens).order_by(tokens.c.owner, tokens.c.name)
        if owner is not None:
            statement = statement.where(tokens.c.owner == owner)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_record(row) for row in rows]

    async def touch(self, token: str, when: float) -> None:
        statement = update(tokens).where(tokens.c.id == token).values(last_used=when)
        await self._database.change(statement, sync=False)

    async def revoke(self, token: str, now: float) -> bool:
        live = (tokens.c.id == token, tokens.c.revoked.is_(None))
        return await self._database.change(update(tokens).where(*live).values(revoked=now)) == 1

    async def delete(self, token: str) -> bool:
        return await self._database.change(delete(tokens).where(tokens.c.id == token)) == 1

    async def _one(self, statement: Any) -> TokenRecord | None:
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else _record(row)


def _record(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        name=row.name,
        hash=row.hash,
        owner=row.owner,
        scopes=tuple(json.loads(row.scopes)),
        created=row.created,
        expires=row.expires,
        last_used=row.last_used,
        revoked=row.revoked,
        server=row.server,
    )
