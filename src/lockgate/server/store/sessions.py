"""Statements on sessions. Addresses are leased and released in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sqlalchemy import (
    Connection,
    Float,
    Row,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.protocol.edge_link import Suite
from lockgate.server.store import cookies, leases
from lockgate.server.store.chain import Chain
from lockgate.server.store.database import Database
from lockgate.server.store.interface import Judge, Note, packed
from lockgate.server.store.leases import Pool
from lockgate.server.store.records import (
    AuditEntry,
    Grant,
    NotOpened,
    Resumption,
    SessionDraft,
    SessionFilter,
    SessionPage,
    SessionSort,
)
from lockgate.server.store.session_pages import page_of
from lockgate.server.store.sql import CHUNK, facts_of, facts_text
from lockgate.server.store.tables import accounts, sessions, web_sessions
from lockgate.server.store.tables import leases as lease_table

_LIVE = sessions.c.ended.is_(None)
_INSERT = insert(sessions).inline()
_BY_ID = select(sessions).where(sessions.c.id == bindparam("number"))
_ALL_LIVE = select(sessions).where(_LIVE).order_by(sessions.c.started, sessions.c.id)
_LIVE_NUMBERS = select(sessions.c.id).where(_LIVE).order_by(sessions.c.started, sessions.c.id)
_LIVE_OF_NAME = _ALL_LIVE.where(sessions.c.user == bindparam("who"))
_LIVE_OF_USER = _LIVE_OF_NAME.where(sessions.c.server == bindparam("where"))
_OF_PARENT = _ALL_LIVE.where(sessions.c.parent == bindparam("which"))
_COUNT = select(func.count()).select_from(sessions).where(_LIVE)
_COUNTED = _COUNT.where(sessions.c.expires > bindparam("now"))
_COUNT_OF_USER = _COUNTED.where(sessions.c.user == bindparam("who"), sessions.c.server == bindparam("where"))
_COUNT_IN_REALM = _COUNTED.where(sessions.c.realm == bindparam("which"))
_ACCOUNT = select(
    accounts.c.enabled, accounts.c.serial, _COUNT_OF_USER.scalar_subquery().label("live")
).where(accounts.c.server == bindparam("where"), accounts.c.name == bindparam("who"))
_PARENT = select(web_sessions.c.id).where(
    web_sessions.c.id == bindparam("which"),
    web_sessions.c.audience == "portal",
    web_sessions.c.server == bindparam("where"),
    web_sessions.c.user == bindparam("who"),
    web_sessions.c.ended.is_(None),
    web_sessions.c.expires > bindparam("now"),
)
_COUNTED_FROM = func.coalesce(sessions.c.extended, sessions.c.started)
_GRANT = (
    update(sessions)
    .where(sessions.c.id == bindparam("number"), _LIVE)
    .values(
        roles=bindparam("new_roles"),
        revision=bindparam("new_revision"),
        expires=bindparam("new_expires", type_=Float)
        + (_COUNTED_FROM - func.coalesce(bindparam("new_counted_from", type_=Float), _COUNTED_FROM)),
        idle_seconds=bindparam("new_idle"),
        heartbeat_seconds=bindparam("new_heartbeat"),
        facts=func.coalesce(bindparam("new_facts", type_=Text), sessions.c.facts),
    )
)
_EXTEND = (
    update(sessions)
    .where(sessions.c.id == bindparam("number"), _LIVE, sessions.c.expires > bindparam("now"))
    .values(
        extended=bindparam("since"),
        expires=case((sessions.c.expires < bindparam("until"), bindparam("until")), else_=sessions.c.expires),
    )
    .returning(*sessions.c)
)
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
_NAME_HOST = (
    update(sessions)
    .where(
        sessions.c.id == bindparam("number"), sessions.c.generation == bindparam("which_generation"), _LIVE
    )
    .values(host_name=bindparam("new_host_name"))
)
_END = (
    update(sessions)
    .where(sessions.c.id == bindparam("number"), _LIVE)
    .values(ended=bindparam("now"), cause=bindparam("why"))
    .returning(*sessions.c)
)
_END_GENERATION = _END.where(sessions.c.generation == bindparam("which_generation"))
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
_ORPHANS = select(sessions.c.id).where(
    _LIVE,
    sessions.c.parent.is_not(None),
    ~exists().where(web_sessions.c.id == sessions.c.parent, web_sessions.c.ended.is_(None)),
)


class SqlSessions:
    """`interface.Sessions`."""

    def __init__(self, database: Database, chain: Chain) -> None:
        self._database, self._chain = database, chain

    async def open(
        self,
        draft: SessionDraft,
        pools: Sequence[Pool],
        max_per_user: int,
        note: Note,
        *,
        max_in_realm: int | None = None,
        before: Sequence[AuditEntry] = (),
    ) -> Session | NotOpened:
        def work(connection: Connection) -> Session | NotOpened:
            result = _judge_draft(connection, draft, max_per_user, max_in_realm) or _open(
                connection, draft, pools
            )
            told = [note(result)] if isinstance(result, Session) else []
            self._chain.append_all(connection, [*before, *told])
            return result

        return await self._database.write(work, sync=False)

    async def find(self, session: int) -> Session | None:
        row = await self._database.read_one(
            lambda connection: connection.execute(_BY_ID, {"number": session}).first()
        )
        return None if row is None else _session(row)

    async def by_cookie(self, cookie_hash: bytes) -> Session | None:
        found = await self._database.read(lambda connection: cookies.find(connection, cookie_hash))
        return None if found is None or found.spent is not None else _session(found.session)

    async def resume(self, resumption: Resumption, judge: Judge, note: Note) -> Session | Refusal:
        def work(connection: Connection) -> Session | Refusal:
            result = _resume(connection, resumption, judge)
            if isinstance(result, Session):
                self._chain.append(connection, note(result))
            return result

        return await self._database.write(work, sync=False)

    async def end(
        self,
        session: int,
        cause: EndCause,
        now: float,
        free_at: float,
        note: Note | None = None,
        *,
        generation: int | None = None,
    ) -> Session | None:
        def work(connection: Connection) -> Session | None:
            ended = _end(connection, session, cause, now, free_at, generation)
            if ended is not None and note is not None:
                self._chain.append(connection, note(ended))
            return ended

        return await self._database.write(work)

    async def end_many(
        self, sessions: Iterable[int], cause: EndCause, now: float, free_at: float, *notes: Note
    ) -> list[Session]:
        wanted = list(sessions)

        def work(connection: Connection) -> list[Session]:
            ended = [_end(connection, each, cause, now, free_at) for each in wanted]
            return self._noted(connection, [each for each in ended if each is not None], *notes)

        return await self._database.write(work) if wanted else []

    async def extend(
        self, session: int, now: float, since: float, until: float, note: Note
    ) -> Session | None:
        def work(connection: Connection) -> Session | None:
            row = connection.execute(
                _EXTEND, {"number": session, "now": now, "since": since, "until": until}
            ).first()
            if row is None:
                return None
            extended = _session(row)
            self._chain.append(connection, note(extended))
            return extended

        return await self._database.write(work, sync=False)

    async def name_host(self, session: int, generation: int, host_name: str) -> None:
        row = {"number": session, "which_generation": generation, "new_host_name": host_name}
        await self._database.change(_NAME_HOST, [row], sync=False)

    async def update_many(self, grants: Mapping[int, Grant], note: Note | None = None) -> list[Session]:
        wanted = dict(grants)

        def work(connection: Connection) -> list[Session]:
            numbers = [
                number
                for number, grant in wanted.items()
                if connection.execute(_GRANT, _granted(number, grant)).rowcount == 1
            ]
            changed = [_session(connection.execute(_BY_ID, {"number": each}).one()) for each in numbers]
            return self._noted(connection, changed, *([] if note is None else [note]))

        return await self._database.write(work) if wanted else []

    def _noted(self, connection: Connection, changed: list[Session], *notes: Note) -> list[Session]:
        """Those sessions, each with its lines in the audit."""
        self._chain.append_all(connection, [note(session) for session in changed for note in notes])
        return changed

    async def touch(self, seen: Mapping[int, float]) -> None:
        rows = [{"number": session, "when": when} for session, when in seen.items()]
        if rows:
            await self._database.change(_TOUCH, rows, sync=False)

    async def live(self, user: str | None = None, server: str | None = None) -> list[Session]:
        if user is None:
            statement = _ALL_LIVE if server is None else _ALL_LIVE.where(sessions.c.server == server)
            return await self._sessions(statement, {})
        if server is None:
            return await self._sessions(_LIVE_OF_NAME, {"who": user})
        return await self._sessions(_LIVE_OF_USER, {"who": user, "where": server})

    async def live_numbers(self, user: str | None = None) -> list[int]:
        statement = _LIVE_NUMBERS if user is None else _LIVE_NUMBERS.where(sessions.c.user == user)
        return await self._database.read_one(lambda connection: list(connection.execute(statement).scalars()))

    async def live_among(self, wanted: Iterable[int]) -> set[int]:
        numbers = list(wanted)

        def work(connection: Connection) -> set[int]:
            found: set[int] = set()
            for start in range(0, len(numbers), CHUNK):
                chosen = sessions.c.id.in_(numbers[start : start + CHUNK])
                found |= set(connection.execute(select(sessions.c.id).where(chosen, _LIVE)).scalars())
            return found

        return await self._database.read(work)

    async def live_page(
        self,
        wanted: SessionFilter,
        sort: SessionSort = "started",
        limit: int = 100,
        after: str | None = None,
        *,
        descending: bool = False,
    ) -> SessionPage:
        query = page_of(wanted, sort, limit, after, descending)
        rows, total = await self._database.read_aside(query.run)
        return SessionPage(tuple(_session(row) for row in rows[:limit]), total, query.following(rows))

    async def live_count(self) -> int:
        return await self._count(_COUNT, {})

    async def of_parent(self, web_session: str) -> list[Session]:
        return await self._sessions(_OF_PARENT, {"which": web_session})

    async def count(self, server: str, user: str, now: float) -> int:
        return await self._count(_COUNT_OF_USER, {"where": server, "who": user, "now": now})

    async def count_in_realm(self, realm: str, now: float) -> int:
        return await self._count(_COUNT_IN_REALM, {"which": realm, "now": now})

    async def due(self, now: float) -> list[Session]:
        return await self._sessions(_DUE, {"now": now})

    async def orphans(self) -> list[int]:
        return await self._database.read_one(lambda connection: list(connection.execute(_ORPHANS).scalars()))

    async def ended_among(self, wanted: Iterable[int]) -> list[Session]:
        numbers = list(wanted)

        def work(connection: Connection) -> list[Row[Any]]:
            rows: list[Row[Any]] = []
            for start in range(0, len(numbers), CHUNK):
                chosen = sessions.c.id.in_(numbers[start : start + CHUNK])
                rows += connection.execute(select(sessions).where(chosen, ~_LIVE)).all()
            return rows

        return [_session(row) for row in await self._database.read(work)]

    async def known_sources(self, since: float, limit: int) -> list[tuple[str, str, str]]:
        latest = func.max(sessions.c.started)
        statement = (
            select(sessions.c.server, sessions.c.user, sessions.c.source)
            .where(sessions.c.started >= since)
            .group_by(sessions.c.server, sessions.c.user, sessions.c.source)
            .order_by(latest.desc())
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [(row.server, row.user, row.source) for row in rows]

    async def prune(self, before: float) -> None:
        statement = delete(sessions).where(sessions.c.ended < before)
        await self._database.change(statement, sync=False)

    async def _count(self, statement: Any, values: dict[str, Any]) -> int:
        return await self._database.read_one(
            lambda connection: connection.execute(statement, values).scalar_one()
        )

    async def _sessions(self, statement: Any, values: dict[str, Any]) -> list[Session]:
        # Read into sessions where the event loop is not: ten thousand take half a second.
        return await self._database.read_one(
            lambda connection: [_session(row) for row in connection.execute(statement, values)]
        )


def end_sessions_of(
    connection: Connection, server: str, user: str, cause: EndCause, now: float, free_at: float
) -> list[int]:
    """Ends every live session of `user` within the caller's transaction; returns their numbers."""
    rows = connection.execute(_LIVE_OF_USER, {"who": user, "where": server}).all()
    return [row.id for row in rows if _end(connection, row.id, cause, now, free_at) is not None]


def _judge_draft(
    connection: Connection, draft: SessionDraft, max_per_user: int, max_in_realm: int | None
) -> NotOpened | None:
    identity = draft.identity
    who = {"who": identity.user, "where": identity.server}
    account = connection.execute(_ACCOUNT, {**who, "now": draft.now}).first()
    if account is None or not account.enabled or account.serial != identity.serial:
        return NotOpened.USER_CHANGED
    if draft.parent is not None:
        parent = {**who, "which": draft.parent, "now": draft.now}
        if connection.execute(_PARENT, parent).first() is None:
            return NotOpened.PARENT_OVER
    if account.live >= max_per_user:
        return NotOpened.TOO_MANY
    if max_in_realm is None:
        return None
    used = connection.execute(_COUNT_IN_REALM, {"which": identity.realm, "now": draft.now}).scalar_one()
    return NotOpened.REALM_FULL if used >= max_in_realm else None


def _open(connection: Connection, draft: SessionDraft, pools: Sequence[Pool]) -> Session | NotOpened:
    identity = draft.identity
    free4 = free6 = None
    pools4 = [pool for pool in pools if leases.version(pool) == 4]
    pools6 = [pool for pool in pools if leases.version(pool) == 6]
    if pools4:
        free4 = leases.lowest_free(connection, pools4, draft.now)
    if pools6:
        free6 = leases.lowest_free(connection, pools6, draft.now)
    if (pools4 and free4 is None) or (pools6 and free6 is None) or not (free4 or free6):
        return NotOpened.NO_ADDRESS
    address4 = None if free4 is None else free4.address
    address6 = None if free6 is None else free6.address
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
        server=identity.server,
        facts=identity.facts,
        revision=identity.revision,
        parent=draft.parent,
        heartbeat_seconds=draft.heartbeat_seconds,
        chosen=identity.chosen,
    )
    connection.execute(_INSERT, {**_columns(session), "cookie_hash": draft.cookie_hash})
    for free in (free4, free6):
        if free is not None:
            leases.take(connection, free, session.id)
    return session


def _resume(connection: Connection, resumption: Resumption, judge: Judge) -> Session | Refusal:
    found = cookies.find(connection, resumption.cookie_hash)
    if found is None:
        return Refusal(RefusalReason.UNKNOWN)
    session = _session(found.session)
    if found.spent is not None and session.ended is None:
        # Before any proof is looked at: whoever has it, it came from where nobody should look.
        late = resumption.connected < found.spent
        return Refusal(RefusalReason.OVERTAKEN if late else RefusalReason.COOKIE_REPLAYED, session)
    verdict = judge(session)
    if isinstance(verdict, RefusalReason):
        return Refusal(verdict, session)
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
    if verdict is not None:
        connection.execute(_GRANT, _granted(session.id, verdict))
    return _session(connection.execute(_BY_ID, {"number": session.id}).one())


def _end(
    connection: Connection,
    session: int,
    cause: EndCause,
    now: float,
    free_at: float,
    generation: int | None = None,
) -> Session | None:
    values = {"number": session, "now": now, "why": cause.value, "which_generation": generation}
    if generation is None:
        del values["which_generation"]
    row = connection.execute(_END if generation is None else _END_GENERATION, values).first()
    if row is None:
        return None
    connection.execute(_RELEASE, {"number": session, "when": free_at})
    return _session(row)


def _granted(number: int, grant: Grant) -> dict[str, Any]:
    return {
        "number": number,
        "new_roles": json.dumps(grant.roles),
        "new_revision": grant.revision,
        "new_expires": grant.expires,
        "new_idle": grant.idle_seconds,
        "new_heartbeat": grant.heartbeat_seconds,
        "new_facts": facts_text(grant.facts),
        "new_counted_from": grant.counted_from,
    }


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
        "server": session.server,
        "facts": facts_text(session.facts),
        "revision": session.revision,
        "parent": session.parent,
        "heartbeat_seconds": session.heartbeat_seconds,
        "chosen": json.dumps(session.chosen) if session.chosen else None,
        "extended": session.extended,
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
        server=row.server,
        facts=facts_of(row.facts),
        revision=row.revision,
        parent=row.parent,
        heartbeat_seconds=row.heartbeat_seconds,
        chosen=() if row.chosen is None else tuple(json.loads(row.chosen)),
        extended=row.extended,
    )
