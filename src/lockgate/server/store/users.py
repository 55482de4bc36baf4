"""Statements on local users."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from lockgate.model.session import EndCause
from lockgate.server.store.database import Database
from lockgate.server.store.interface import UserRecord
from lockgate.server.store.sessions import end_sessions_of
from lockgate.server.store.tables import users

_FIND = select(users).where(users.c.name == bindparam("who"))


def new_serial() -> int:
    """A number that no earlier state of any account had."""
    return secrets.randbits(63)


class SqlUsers:
    """`interface.Users`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, name: str) -> UserRecord | None:
        row = await self._database.read(lambda connection: connection.execute(_FIND, {"who": name}).first())
        return None if row is None else _record(row)

    async def all(self) -> list[UserRecord]:
        rows = await self._database.read(
            lambda connection: connection.execute(select(users).order_by(users.c.name)).all()
        )
        return [_record(row) for row in rows]

    async def add(self, user: UserRecord) -> bool:
        statement = insert(users).values(**_columns(user)).on_conflict_do_nothing()
        result = await self._database.write(lambda connection: connection.execute(statement).rowcount)
        return result == 1

    async def renew_hash(self, name: str, old: str, new: str) -> None:
        statement = (
            update(users).where(users.c.name == name, users.c.password_hash == old).values(password_hash=new)
        )
        await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def set_password(
        self, name: str, password_hash: str, now: float, free_at: float
    ) -> list[int] | None:
        return await self._change(
            name, {"password_hash": password_hash}, EndCause.PASSWORD_CHANGED, now, free_at
        )

    async def set_enabled(self, name: str, enabled: bool, now: float, free_at: float) -> list[int] | None:
        return await self._change(name, {"enabled": enabled}, EndCause.USER_DISABLED, now, free_at)

    async def delete(self, name: str, now: float, free_at: float) -> list[int] | None:
        def work(connection: Connection) -> list[int] | None:
            if connection.execute(delete(users).where(users.c.name == name)).rowcount == 0:
                return None
            return end_sessions_of(connection, name, EndCause.USER_DELETED, now, free_at)

        return await self._database.write(work)

    async def _change(
        self, name: str, values: dict[str, Any], cause: EndCause, now: float, free_at: float
    ) -> list[int] | None:
        changed = update(users).where(users.c.name == name).values(**values, serial=new_serial(), changed=now)

        def work(connection: Connection) -> list[int] | None:
            if connection.execute(changed).rowcount == 0:
                return None
            return end_sessions_of(connection, name, cause, now, free_at)

        return await self._database.write(work)


def _columns(user: UserRecord) -> dict[str, Any]:
    return {
        "name": user.name,
        "password_hash": user.password_hash,
        "enabled": user.enabled,
        "serial": user.serial,
        "created": user.created,
        "changed": user.changed,
    }


def _record(row: Row[Any]) -> UserRecord:
    return UserRecord(
        name=row.name,
        password_hash=row.password_hash,
        enabled=row.enabled,
        serial=row.serial,
        created=row.created,
        changed=row.changed,
    )
