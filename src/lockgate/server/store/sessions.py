"""Statements on sessions. Addresses are leased and released in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from lockgate.model.access_rule import Network
from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.protocol.edge_link import Suite
from lockgate.server.store import audit, cookies, leases
from lockgate.server.store.database import Database
from lockgate.server.store.interface import Judge, Note, NotOpened, Resumption, SessionDraft, packed
from lockgate.server.store.tables import leases as lease_table
from lockgate.server.store.tables import sessions, users

# Numbers in one statement: SQLite's own bound on host parameters is 32,766.
CHUNK = 500

_LIVE = sessions.c.ended.is_(None)
_INSERT = insert(sessions).inline()
_BY_ID = select(sessions).where(sessions.c.id == bindparam("number"))
_ALL_LIVE = select(sessions).where(_LIVE).order_by(sessions.c.started, sessions.c.id)
_LIVE_OF_USER = _ALL_LIVE.where(sessions.c.user == bindparam("who"))
_COUNT_OF_USER = (
    select(func.count())
    .select_from(sessions)
    .where(_LIVE, sessions.c.user == bindparam("who"), sessions.c.expires > bindparam("now"))
)
_ACCOUNT = select(users.c.enabled, users.c.serial).where(users.c.name == bindparam("who"))
_RESUME = (
    update(sessions)
    .where(sessions.c.id == bindparam("number"), _LIVE)
    .values(
        generation=sessions.c.generation + 1,
        cookie_hash=bindparam("shown"),
        last_seen=bindparam("now"),
        source=bindparam("new_source"),
        user_agent=bindparam("new_user_agent"),
        host_name=bindparam("new_host_name"),
        suite=bindparam("new_suite"),
    )
)
_END = (
    update(sessions)
    .where(sessions.c.id == bindparam("number"), _LIVE)
    .values(ended=bindparam("now"), cause=bindparam("why"))
)
_RELEASE = (
    update(lease_table)
    .where(lease_table.c.session == bindparam("number"))
    .values(session=None, free_at=bindparam("when"))
)
_TOUCH = (
    update(sessions)
    .where(sessions.c.id == bindparam("number"), _LIVE, sessions.c.last_seen < bindparam("when"))
    .values(last_seen=bindparam("when"))
)
_DUE = select(sessions).where(
    _LIVE,
    or_(
        sessions.c.expires <= bindparam("now"),
        and_(sessions.c.idle_seconds > 0, sessions.c.last_seen + sessions.c.idle_seconds <= bindparam("now")),
    ),
)


class SqlSessions:
    """`interface.Sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self, draft: SessionDraft, pools: Sequence[Network], max_per_user: int, note: Note
    ) -> Session | NotOpened:
        return await self._database.write(
            lambda connection: _open(connection, draft, pools, max_per_user, note), sync=False
        )

    async def find(self, session: int) -> Session | None:
        row = await self._database.read(
            lambda connection: connection.execute(_BY_ID, {"number": session}).first()
        )
        return None if row is None else _session(row)

    async def by_cookie(self, cookie_hash: bytes) -> Session | None:
        found = await self._database.read(lambda connection: cookies.find(connection, cookie_hash))
        return None if found is None or found.spent is not None else _session(found.session)

    async def resume(self, resumption: Resumption, judge: Judge, note: Note) -> Session | Refusal:
        return await self._database.write(
            lambda connection: _resume(connection, resumption, judge, note), sync=False
        )

    async def end(self, session: int, cause: EndCause, now: float, free_at: float) -> Session | None:
        def work(connection: Connection) -> Session | None:
            if not _end(connection, session, cause, now, free_at):
                return None
            return _session(connection.execute(_BY_ID, {"number": session}).one())

        return await self._database.write(work)

    async def touch(self, seen: Mapping[int, float]) -> None:
        rows = [{"number": session, "when": when} for session, when in seen.items()]
        if rows:
            await self._database.write(
                lambda connection: connection.execute(_TOUCH, rows).rowcount, sync=False
            )

    async def live(self, user: str | None = None) -> list[Session]:
        statement, values = (_ALL_LIVE, {}) if user is None else (_LIVE_OF_USER, {"who": user})
        return await self._sessions(statement, values)

    async def count(self, user: str, now: float) -> int:
        return await self._database.read(
            lambda connection: connection.execute(_COUNT_OF_USER, {"who": user, "now": now}).scalar_one()
        )

    async def due(self, now: float) -> list[Session]:
        return await self._sessions(_DUE, {"now": now})

    async def ended_among(self, wanted: Iterable[int]) -> list[Session]:
        numbers = list(wanted)

        def work(connection: Connection) -> list[Row[Any]]:
            rows: list[Row[Any]] = []
            for start in range(0, len(numbers), CHUNK):
                chosen = sessions.c.id.in_(numbers[start : start + CHUNK])
                rows += connection.execute(select(sessions).where(chosen, ~_LIVE)).all()
            return rows

        return [_session(row) for row in await self._database.read(work)]

    async def known_sources(self, since: float, limit: int) -> list[tuple[str, str]]:
        latest = func.max(sessions.c.started)
        statement = (
            select(sessions.c.user, sessions.c.source)
            .where(sessions.c.started >= since)
            .group_by(sessions.c.user, sessions.c.source)
            .order_by(latest.desc())
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [(row.user, row.source) for row in rows]

    async def prune(self, before: float) -> None:
        statement = delete(sessions).where(sessions.c.ended < before)
        await self._database.write(lambda connection: connection.execute(statement).rowcount, sync=False)

    async def _sessions(self, statement: Any, values: dict[str, Any]) -> list[Session]:
        rows = await self._database.read(lambda connection: connection.execute(statement, values).all())
        return [_session(row) for row in rows]


def end_sessions_of(
    connection: Connection, user: str, cause: EndCause, now: float, free_at: float
) -> list[int]:
    """Ends every live session of `user` within the caller's transaction; returns their numbers."""
    rows = connection.execute(_LIVE_OF_USER, {"who": user}).all()
    return [row.id for row in rows if _end(connection, row.id, cause, now, free_at)]


def _open(
    connection: Connection, draft: SessionDraft, pools: Sequence[Network], max_per_user: int, note: Note
) -> Session | NotOpened:
    identity = draft.identity
    account = connection.execute(_ACCOUNT, {"who": identity.user}).first()
    if account is None or not account.enabled or account.serial != identity.serial:
        return NotOpened.USER_CHANGED
    used = connection.execute(_COUNT_OF_USER, {"who": identity.user, "now": draft.now}).scalar_one()
    if used >= max_per_user:
        return NotOpened.TOO_MANY
    address4 = address6 = None
    pools4 = [pool for pool in pools if pool.version == 4]
    pools6 = [pool for pool in pools if pool.version == 6]
    if pools4:
        address4 = leases.lowest_free(connection, pools4, draft.now)
    if pools6:
        address6 = leases.lowest_free(connection, pools6, draft.now)
    if (pools4 and address4 is None) or (pools6 and address6 is None):
        return NotOpened.NO_ADDRESS
    assert not isinstance(address4, IPv6Address)
    assert not isinstance(address6, IPv4Address)
    session = Session(
        id=draft.id,
        user=identity.user,
        realm=identity.realm,
        roles=identity.roles,
        address4=address4,
        address6=address6,
        client=draft.client,
        started=draft.now,
        expires=draft.expires,
        idle_seconds=draft.idle_seconds,
        last_seen=draft.now,
        generation=1,
        public_key=draft.public_key,
        suite=draft.suite,
    )
    connection.execute(_INSERT, {**_columns(session), "cookie_hash": draft.cookie_hash})
    for address in (address4, address6):
        if address is not None:
            leases.take(connection, address, session.id)
    connection.execute(audit.ADD, asdict(note(session)))
    return session


def _resume(connection: Connection, resumption: Resumption, judge: Judge, note: Note) -> Session | Refusal:
    found = cookies.find(connection, resumption.cookie_hash)
    if found is None:
        return Refusal(RefusalReason.UNKNOWN)
    session = _session(found.session)
    if found.spent is not None and session.ended is None:
        # Before any proof is looked at: whoever has it, it came from where nobody should look.
        late = resumption.connected < found.spent
        return Refusal(RefusalReason.OVERTAKEN if late else RefusalReason.COOKIE_REPLAYED, session)
    reason = judge(session)
    if reason is not None:
        return Refusal(reason, session)
    values = {
        "number": session.id,
        "now": resumption.now,
        "new_source": resumption.client.source,
        "new_user_agent": resumption.client.user_agent,
        "new_host_name": resumption.client.host_name,
        "new_suite": resumption.suite,
        "shown": resumption.cookie_hash,
    }
    if connection.execute(_RESUME, values).rowcount == 0:
        return Refusal(RefusalReason.ENDED, session)
    if session.bound:
        cookies.replace(connection, found, resumption)
    resumed = _session(connection.execute(_BY_ID, {"number": session.id}).one())
    connection.execute(audit.ADD, asdict(note(resumed)))
    return resumed


def _end(connection: Connection, session: int, cause: EndCause, now: float, free_at: float) -> bool:
    ended = connection.execute(_END, {"number": session, "now": now, "why": cause.value}).rowcount == 1
    if ended:
        connection.execute(_RELEASE, {"number": session, "when": free_at})
    return ended


def _columns(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "user": session.user,
        "realm": session.realm,
        "roles": json.dumps(session.roles),
        "address4": packed(session.address4),
        "address6": packed(session.address6),
        "user_agent": session.client.user_agent,
        "host_name": session.client.host_name,
        "source": session.client.source,
        "started": session.started,
        "expires": session.expires,
        "idle_seconds": session.idle_seconds,
        "last_seen": session.last_seen,
        "generation": session.generation,
        "ended": session.ended,
        "cause": session.cause,
        "public_key": session.public_key or None,
        "suite": session.suite,
    }


def _session(row: Row[Any]) -> Session:
    return Session(
        id=row.id,
        user=row.user,
        realm=row.realm,
        roles=tuple(json.loads(row.roles)),
        address4=None if row.address4 is None else IPv4Address(row.address4),
        address6=None if row.address6 is None else IPv6Address(row.address6),
        client=ClientFacts(source=row.source, user_agent=row.user_agent, host_name=row.host_name),
        started=row.started,
        expires=row.expires,
        idle_seconds=row.idle_seconds,
        last_seen=row.last_seen,
        generation=row.generation,
        public_key=row.public_key or b"",
        suite=None if row.suite is None else Suite(row.suite),
        ended=row.ended,
        cause=None if row.cause is None else EndCause(row.cause),
    )
