"""Statements on the users of local auth servers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, select, tuple_, update

from lockgate.model.session import EndCause
from lockgate.server.store import user_records, web_sessions
from lockgate.server.store.database import Database
from lockgate.server.store.records import UserRecord
from lockgate.server.store.sessions import end_sessions_of
from lockgate.server.store.sql import contains, row_of
from lockgate.server.store.tables import accounts, tokens

_ONE = (accounts.c.server == bindparam("where"), accounts.c.name == bindparam("who"))
_FIND = select(accounts).where(*_ONE)
_ORDERED = select(accounts).order_by(accounts.c.server, accounts.c.name)


def new_serial() -> int:
    """A number that no earlier state of any account had; never 0."""
    return secrets.randbits(62) + 1


class SqlUsers:
    """`interface.Users`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, server: str, name: str) -> UserRecord | None:
        return await self._database.read_one(lambda connection: _find(connection, server, name))

    async def all(self, server: str | None = None) -> list[UserRecord]:
        statement = _ORDERED if server is None else _ORDERED.where(accounts.c.server == server)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_record(row) for row in rows]

    async def page(
        self,
        server: str | None,
        text: str,
        after: tuple[str, str] | None,
        limit: int,
        *,
        without: Collection[str] = (),
    ) -> list[UserRecord]:
        statement = _ORDERED.where(*_of_servers(server, without)).limit(limit)
        if text:
            found = contains(text, accounts.c.name, accounts.c.full_name, accounts.c.email)
            statement = statement.where(found)
        if after is not None:
            statement = statement.where(tuple_(accounts.c.server, accounts.c.name) > tuple_(*after))
        rows = await self._database.read_aside(lambda connection: connection.execute(statement).all())
        return [_record(row) for row in rows]

    async def count(self, server: str | None = None, *, without: Collection[str] = ()) -> int:
        statement = select(func.count()).select_from(accounts).where(*_of_servers(server, without))
        return await self._database.read(lambda connection: connection.execute(statement).scalar_one())

    async def add(self, user: UserRecord) -> bool:
        def work(connection: Connection) -> bool:
            if _find(connection, user.server, user.name) is not None:
                return False
            connection.execute(insert(accounts).values(_columns(user)))
            return True

        return await self._database.write(work)

    async def update(
        self,
        server: str,
        name: str,
        *,
        full_name: str | None = None,
        email: str | None = None,
        groups: Sequence[str] | None = None,
        attributes: Mapping[str, Sequence[str]] | None = None,
        must_change: bool | None = None,
    ) -> UserRecord | None:
        values: dict[str, Any] = {"full_name": full_name, "email": email, "must_change": must_change}
        if groups is not None:
            values["groups"] = json.dumps(list(groups))
        if attributes is not None:
            values["attributes"] = _attributes(attributes)
        values = {key: value for key, value in values.items() if value is not None}
        statement = update(accounts).where(*_ONE).values(values)

        def work(connection: Connection) -> UserRecord | None:
            if values:
                connection.execute(statement, {"where": server, "who": name})
            return _find(connection, server, name)

        return await self._database.write(work)

    async def renew_hash(self, server: str, name: str, old: str, new: str) -> None:
        statement = update(accounts).where(*_ONE, accounts.c.password_hash == old).values(password_hash=new)
        await self._database.change(statement, {"where": server, "who": name})

    async def set_password(
        self,
        server: str,
        name: str,
        password_hash: str,
        now: float,
        free_at: float,
        *,
        must_change: bool = False,
        keep: str | None = None,
    ) -> list[int] | None:
        values = {"password_hash": password_hash, "must_change": must_change}
        return await self._change(server, name, values, EndCause.PASSWORD_CHANGED, now, free_at, keep)

    async def set_enabled(
        self, server: str, name: str, enabled: bool, now: float, free_at: float
    ) -> list[int] | None:
        values = {"enabled": enabled}
        return await self._change(server, name, values, EndCause.USER_DISABLED, now, free_at)

    async def delete(self, server: str, name: str, now: float, free_at: float) -> list[int] | None:
        def work(connection: Connection) -> list[int] | None:
            gone = connection.execute(delete(accounts).where(*_ONE), {"where": server, "who": name})
            if gone.rowcount == 0:
                return None
            # Somebody who gets the name later must not get these.
            connection.execute(delete(tokens).where(tokens.c.owner == name, tokens.c.server == server))
            user_records.clear(connection, server, name, int(now * 1000))
            return _end_all(connection, server, name, EndCause.USER_DELETED, now, free_at)

        return await self._database.write(work)

    async def _change(
        self,
        server: str,
        name: str,
        values: dict[str, Any],
        cause: EndCause,
        now: float,
        free_at: float,
        keep: str | None = None,
    ) -> list[int] | None:
        changed = update(accounts).where(*_ONE).values(**values, serial=new_serial(), changed=now)

        def work(connection: Connection) -> list[int] | None:
            if connection.execute(changed, {"where": server, "who": name}).rowcount == 0:
                return None
            return _end_all(connection, server, name, cause, now, free_at, keep)

        return await self._database.write(work)


def _end_all(
    connection: Connection,
    server: str,
    name: str,
    cause: EndCause,
    now: float,
    free_at: float,
    keep: str | None = None,
) -> list[int]:
    web_sessions.end_of_user(connection, server, name, cause.value, now, keep)
    return end_sessions_of(connection, server, name, cause, now, free_at)


def _of_servers(server: str | None, without: Collection[str]) -> list[ColumnElement[bool]]:
    """Users of that server, or of all, but for those `without`."""
    terms: list[ColumnElement[bool]] = []
    if server is not None:
        terms.append(accounts.c.server == server)
    if without:
        terms.append(accounts.c.server.not_in(list(without)))
    return terms


def _find(connection: Connection, server: str, name: str) -> UserRecord | None:
    row = connection.execute(_FIND, {"where": server, "who": name}).first()
    return None if row is None else _record(row)


def _columns(user: UserRecord) -> dict[str, Any]:
    return {
        **row_of(user, accounts),
        "groups": json.dumps(list(user.groups)),
        "attributes": _attributes(user.attributes),
    }


def _attributes(attributes: Mapping[str, Sequence[str]]) -> str:
    return json.dumps({key: list(values) for key, values in attributes.items()})


def _record(row: Row[Any]) -> UserRecord:
    return UserRecord(
        name=row.name,
        password_hash=row.password_hash,
        enabled=row.enabled,
        serial=row.serial,
        created=row.created,
        changed=row.changed,
        server=row.server,
        full_name=row.full_name,
        email=row.email,
        groups=tuple(json.loads(row.groups)),
        attributes={key: tuple(values) for key, values in json.loads(row.attributes).items()},
        must_change=row.must_change,
    )
