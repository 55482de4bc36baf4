"""Statements on sessions of browsers and their launch handles."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, case, delete, func, insert, or_, select, update

from lockgate.model.facts import SignInFacts
from lockgate.server.store.chain import Chain
from lockgate.server.store.database import Database
from lockgate.server.store.records import AuditEntry, HandleRecord, WebAudience, WebSessionRecord
from lockgate.server.store.sql import facts_of, facts_text, row_of
from lockgate.server.store.tables import accounts, handles, web_sessions

_LIVE = web_sessions.c.ended.is_(None)
_BY_ID = select(web_sessions).where(web_sessions.c.id == bindparam("which"))
_BY_COOKIE = select(web_sessions).where(web_sessions.c.cookie_hash == bindparam("shown"))
_ALL_LIVE = select(web_sessions).where(_LIVE).order_by(web_sessions.c.started, web_sessions.c.id)
_LIVE_COUNTS = (
    select(web_sessions.c.audience, func.count().label("live")).where(_LIVE).group_by(web_sessions.c.audience)
)
_ACCOUNT = select(accounts.c.enabled, accounts.c.serial).where(
    accounts.c.server == bindparam("where"), accounts.c.name == bindparam("who")
)
_OF_USER = and_(_LIVE, web_sessions.c.user == bindparam("who"), web_sessions.c.server == bindparam("where"))
_TOUCH = (
    update(web_sessions)
    .where(web_sessions.c.id == bindparam("which"), _LIVE, web_sessions.c.last_seen < bindparam("when"))
    .values(last_seen=bindparam("when"))
)
_EXTEND = (
    update(web_sessions)
    .where(web_sessions.c.id == bindparam("which"), _LIVE, web_sessions.c.expires > bindparam("now"))
    .values(
        extended=bindparam("since"),
        expires=case(
            (web_sessions.c.expires < bindparam("until"), bindparam("until")), else_=web_sessions.c.expires
        ),
    )
    .returning(*web_sessions.c)
)
_END = (
    update(web_sessions)
    .where(web_sessions.c.id == bindparam("which"), _LIVE)
    .values(ended=bindparam("now"), cause=bindparam("why"))
)
_DUE = select(web_sessions).where(
    _LIVE,
    or_(
        web_sessions.c.expires <= bindparam("now"),
        and_(
            web_sessions.c.idle_seconds > 0,
            web_sessions.c.last_seen + web_sessions.c.idle_seconds <= bindparam("now"),
        ),
    ),
)
_TAKE = delete(handles).where(handles.c.hash == bindparam("shown")).returning(
    handles.c.web_session, handles.c.server_url, handles.c.expires
)  # fmt: skip


class SqlWebSessions:
    """`interface.WebSessions`."""

    def __init__(self, database: Database, chain: Chain) -> None:
        self._database, self._chain = database, chain

    async def add(self, record: WebSessionRecord, max_per_user: int | None = None) -> bool:
        def work(connection: Connection) -> bool:
            who = {"who": record.user, "where": record.server}
            account = connection.execute(_ACCOUNT, who).first()
            if account is None or not account.enabled or account.serial != record.serial:
                return False
            if max_per_user is not None:
                counted = (
                    select(func.count())
                    .select_from(web_sessions)
                    .where(
                        _OF_USER,
                        web_sessions.c.audience == record.audience,
                        web_sessions.c.expires > record.started,
                    )
                )
                if connection.execute(counted, who).scalar_one() >= max_per_user:
                    return False
            connection.execute(insert(web_sessions).values(_columns(record)))
            return True

        return await self._database.write(work, sync=False)

    async def by_cookie(self, cookie_hash: bytes) -> WebSessionRecord | None:
        return await self._one(_BY_COOKIE, {"shown": cookie_hash})

    async def find(self, web_session: str) -> WebSessionRecord | None:
        return await self._one(_BY_ID, {"which": web_session})

    async def touch(self, seen: Mapping[str, float]) -> None:
        rows = [{"which": each, "when": when} for each, when in seen.items()]
        if rows:
            await self._database.change(_TOUCH, rows, sync=False)

    async def update_roles(self, web_session: str, roles: Sequence[str]) -> bool:
        statement = (
            update(web_sessions)
            .where(web_sessions.c.id == web_session, _LIVE)
            .values(roles=json.dumps(list(roles)))
        )
        return await self._database.change(statement) == 1

    async def update_facts(self, web_session: str, facts: SignInFacts) -> bool:
        statement = (
            update(web_sessions)
            .where(web_sessions.c.id == web_session, _LIVE)
            .values(facts=facts_text(facts))
        )
        return await self._database.change(statement) == 1

    async def extend(
        self,
        web_session: str,
        now: float,
        since: float,
        until: float,
        note: Callable[[WebSessionRecord], AuditEntry],
    ) -> WebSessionRecord | None:
        def work(connection: Connection) -> WebSessionRecord | None:
            row = connection.execute(
                _EXTEND, {"which": web_session, "now": now, "since": since, "until": until}
            ).first()
            if row is None:
                return None
            extended = _record(row)
            self._chain.append(connection, note(extended))
            return extended

        return await self._database.write(work, sync=False)

    async def end(self, web_session: str, cause: str, now: float) -> bool:
        return await self._database.write(lambda connection: _end(connection, web_session, cause, now))

    async def end_of_user(
        self, server: str, user: str, cause: str, now: float, keep: str | None = None
    ) -> list[str]:
        return await self._database.write(
            lambda connection: end_of_user(connection, server, user, cause, now, keep)
        )

    async def live(
        self, audience: WebAudience | None = None, user: str | None = None, server: str | None = None
    ) -> list[WebSessionRecord]:
        statement = _ALL_LIVE
        for value, column in (
            (audience, web_sessions.c.audience),
            (user, web_sessions.c.user),
            (server, web_sessions.c.server),
        ):
            if value is not None:
                statement = statement.where(column == value)
        return await self._all(statement, {})

    async def live_counts(self) -> dict[WebAudience, int]:
        rows = await self._database.read(lambda connection: connection.execute(_LIVE_COUNTS).all())
        counts: dict[WebAudience, int] = {"console": 0, "portal": 0}
        return counts | {row.audience: row.live for row in rows}

    async def due(self, now: float) -> list[WebSessionRecord]:
        return await self._all(_DUE, {"now": now})

    async def prune(self, before: float) -> None:
        statement = delete(web_sessions).where(web_sessions.c.ended < before)
        await self._database.change(statement, sync=False)

    async def _one(self, statement: Any, values: dict[str, Any]) -> WebSessionRecord | None:
        row = await self._database.read_one(lambda connection: connection.execute(statement, values).first())
        return None if row is None else _record(row)

    async def _all(self, statement: Any, values: dict[str, Any]) -> list[WebSessionRecord]:
        return await self._database.read(
            lambda connection: [_record(row) for row in connection.execute(statement, values)]
        )


class SqlHandles:
    """`interface.Handles`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, handle_hash: bytes, web_session: str, server_url: str, expires: float) -> None:
        row = {"hash": handle_hash, "web_session": web_session, "server_url": server_url, "expires": expires}
        statement = insert(handles).values(row)
        await self._database.change(statement, sync=False)

    async def take(self, handle_hash: bytes, now: float) -> HandleRecord | None:
        row = await self._database.write(
            lambda connection: connection.execute(_TAKE, {"shown": handle_hash}).first()
        )
        if row is None or row.expires <= now:
            return None
        return HandleRecord(row.web_session, row.server_url, row.expires)

    async def prune(self, now: float) -> None:
        statement = delete(handles).where(handles.c.expires <= now)
        await self._database.change(statement, sync=False)


def end_of_user(
    connection: Connection, server: str, user: str, cause: str, now: float, keep: str | None
) -> list[str]:
    """Ends every session of `user` but `keep` within the caller's transaction."""
    rows = connection.execute(select(web_sessions.c.id).where(_OF_USER), {"who": user, "where": server}).all()
    return [row.id for row in rows if row.id != keep and _end(connection, row.id, cause, now)]


def _end(connection: Connection, web_session: str, cause: str, now: float) -> bool:
    ended = connection.execute(_END, {"which": web_session, "now": now, "why": cause}).rowcount == 1
    if ended:
        # What it handed out is worth nothing either.
        connection.execute(delete(handles).where(handles.c.web_session == web_session))
    return ended


def _columns(record: WebSessionRecord) -> dict[str, Any]:
    return {
        **row_of(record, web_sessions),
        "roles": json.dumps(record.roles),
        "facts": facts_text(record.facts),
    }


def _record(row: Row[Any]) -> WebSessionRecord:
    return WebSessionRecord(
        id=row.id,
        cookie_hash=row.cookie_hash,
        csrf=row.csrf,
        audience=row.audience,
        user=row.user,
        server=row.server,
        realm=row.realm,
        roles=tuple(json.loads(row.roles)),
        serial=row.serial,
        facts=facts_of(row.facts),
        source=row.source,
        user_agent=row.user_agent,
        started=row.started,
        expires=row.expires,
        idle_seconds=row.idle_seconds,
        last_seen=row.last_seen,
        ended=row.ended,
        cause=row.cause,
        extended=row.extended,
    )
