"""Statements on what users keep in the portal, and on how far other gateways know it.

A user's record belongs to the user's auth server, or to the logical one where the configuration says so
(`logical_servers`); `follow` moves records when a revision changes that, in the revision's own transaction. Deleted
items of logical servers stay as versions without a value until `prune`, others go at once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from lockgate.model.user_record import Version, later
from lockgate.server.store.database import Database
from lockgate.server.store.records import Change, ChangePage, Merged, PeerRecord
from lockgate.server.store.sql import CHUNK, row_of
from lockgate.server.store.tables import logical_servers, meta, record_items, record_peers

MAX_AHEAD = 5 * 60 * 1000
"""Milliseconds that another gateway's clock may be ahead of ours."""
KEEP_DELETED = 180 * 86400 * 1000
"""Milliseconds for which a deletion is remembered, so that a gateway that was away hears of it."""
MAX_ITEMS = 1000  # of one user, deleted ones among them
MAX_OWN_DELETED = 300  # of one user; before that many more were deleted, the oldest are forgotten
MAX_ROWS = 1_000_000  # of all users

ORIGIN = "user-records-origin"
"""What this gateway is called in versions: a key of `meta`. A restored gateway gets another one, so that others
send it again what it lost."""
_NUMBER = "user-records-number"

_items = record_items.c
_MINE = (_items.space == bindparam("where"), _items.user == bindparam("who"))
_OF_USER = select(record_items).where(*_MINE)
_PUT = update(record_items).where(*_MINE, _items.item == bindparam("what"))
_REMOVE = delete(record_items).where(*_MINE, _items.item == bindparam("what"))
_LOGICAL = "logical:"

Edit = Callable[[Mapping[str, str]], Mapping[str, str | None]]
"""From the texts of a record's items to those that change; None deletes. Runs inside the transaction."""


def space_of(connection: Connection, server: str) -> str:
    """Where the records of an auth server's users are."""
    statement = select(logical_servers.c.logical).where(logical_servers.c.server == server)
    return _space(server, connection.execute(statement).scalar())


def _space(server: str, logical: str | None) -> str:
    return f"server:{server}" if logical is None else _LOGICAL + logical


class SqlUserRecords:
    """`interface.UserRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- of one user -------------------------------------------------------------------------------

    async def get(self, server: str, user: str) -> dict[str, str]:
        def work(connection: Connection) -> dict[str, str]:
            return _live(_versions(connection, space_of(connection, server), user))

        return await self._database.read(work)

    async def change(self, server: str, user: str, edit: Edit, now: int) -> dict[str, str]:
        def work(connection: Connection) -> dict[str, str]:
            space = space_of(connection, server)
            known = _versions(connection, space, user)
            changed = _change(connection, space, user, known, edit(_live(known)), now)
            _forget_deleted(connection, space, user, {**known, **changed})
            return _live({**known, **changed})

        return await self._database.write(work)

    async def clear(self, server: str, user: str, now: int) -> int:
        return await self._database.write(lambda connection: clear(connection, server, user, now))

    # -- between gateways --------------------------------------------------------------------------

    async def origin(self) -> str:
        found = await self._database.read(lambda connection: _meta(connection, ORIGIN))
        return await self._database.write(_origin) if found is None else found

    async def logical_names(self) -> set[str]:
        return await self._database.read(_logical_names)

    async def changes(self, after: int, limit: int) -> ChangePage:
        statement = (
            select(record_items)
            .where(_items.number > after, _items.space.startswith(_LOGICAL))
            .order_by(_items.number)
            .limit(limit)
        )

        def work(connection: Connection) -> ChangePage:
            last = int(_meta(connection, _NUMBER) or 0)
            rows = connection.execute(statement).all()
            if len(rows) == limit:
                last = rows[-1].number
            return ChangePage(tuple(_told(row) for row in rows), last)

        return await self._database.read_aside(work)

    async def waiting(self, after: int) -> int:
        statement = select(func.count()).where(_items.number > after, _items.space.startswith(_LOGICAL))
        return await self._database.read_aside(lambda connection: connection.execute(statement).scalar_one())

    async def merge(self, changes: Sequence[Change], now: int) -> Merged:
        def work(connection: Connection) -> Merged:
            names = _logical_names(connection)
            known: dict[tuple[str, str], dict[str, Version]] = {}
            room = MAX_ROWS - connection.execute(select(func.count()).select_from(record_items)).scalar_one()
            taken, refused = 0, {"not-synchronised": 0, "ahead": 0, "too-many": 0}
            for each in changes:
                if each.logical not in names:
                    refused["not-synchronised"] += 1
                    continue
                if each.version.time > now + MAX_AHEAD:
                    refused["ahead"] += 1
                    continue
                if each.version.text is None and each.version.time < now - KEEP_DELETED:
                    continue  # forgotten here already
                key = (_LOGICAL + each.logical, each.user)
                if key not in known:
                    known[key] = _versions(connection, *key)
                mine = known[key].get(each.item)
                if not later(mine, each.version):
                    continue
                if mine is None:
                    if len(known[key]) >= MAX_ITEMS or room <= 0:
                        refused["too-many"] += 1
                        continue
                    room -= 1
                _put(connection, *key, each.item, each.version, new=mine is None)
                known[key][each.item] = each.version
                taken += 1
            return Merged(taken, {reason: count for reason, count in refused.items() if count})

        return await self._database.write(work) if changes else Merged(0, {})

    async def set_back(self, now: int) -> int:
        statement = select(record_items).where(
            _items.time > now + MAX_AHEAD, _items.space.startswith(_LOGICAL)
        )

        def work(connection: Connection) -> int:
            own = [row for row in connection.execute(statement).all() if row.origin == _origin(connection)]
            for row in own:
                version = Version(now, row.origin, row.text)
                _put(connection, row.space, row.user, row.item, version, new=False)
            return len(own)

        if not await self._database.read(lambda connection: connection.execute(statement.limit(1)).all()):
            return 0
        return await self._database.write(work)

    async def prune(self, now: int) -> None:
        old = delete(record_items).where(_items.text.is_(None), _items.time < now - KEEP_DELETED)
        await self._database.change(old)

    # -- how far others are ------------------------------------------------------------------------

    async def peers(self) -> dict[str, PeerRecord]:
        statement = select(record_peers)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return {row.name: _peer(row) for row in rows}

    async def keep_peer(self, peer: PeerRecord) -> None:
        values = {**row_of(peer, record_peers), "names": json.dumps(sorted(peer.names))}

        def work(connection: Connection) -> None:
            changed = update(record_peers).where(record_peers.c.name == peer.name).values(values)
            if connection.execute(changed).rowcount == 0:
                connection.execute(insert(record_peers).values(values))

        await self._database.write(work)

    async def forget_peers(self, but: Iterable[str]) -> None:
        await self._database.change(delete(record_peers).where(record_peers.c.name.not_in(list(but))))


# -- inside transactions of others ------------------------------------------------------------------


def clear(connection: Connection, server: str, user: str, now: int) -> int:
    """Deletes a user's record; how many items it had. Other gateways of the logical server are told."""
    space = space_of(connection, server)
    known = _versions(connection, space, user)
    live = _live(known)
    _change(connection, space, user, known, dict.fromkeys(live), now)
    return len(live)


def rename(connection: Connection, steps: Iterable[tuple[str, str]]) -> None:
    """Records follow the new names of their auth servers, one step after the other."""
    for old, new in steps:
        _move(connection, _space(old, None), _space(new, None), keep=False)
        statement = update(logical_servers).where(logical_servers.c.server == old)
        connection.execute(statement.values(server=new))


def follow(connection: Connection, servers: Mapping[str, str]) -> None:
    """Records belong to the logical servers that the configuration says from now on, and are taken along.

    servers: auth server → logical server, of those that are synchronised.
    """
    old = {row.server: row.logical for row in connection.execute(select(logical_servers)).all()}
    if old == dict(servers):
        return
    for server in sorted({*old, *servers}):
        before, after = old.get(server), servers.get(server)
        if before != after:
            # What a logical server has may belong to others too.
            _move(connection, _space(server, before), _space(server, after), keep=before is not None)
    for logical in set(old.values()) - set(servers.values()):
        connection.execute(delete(record_items).where(_items.space == _LOGICAL + logical))
    connection.execute(delete(logical_servers))
    for server, logical in servers.items():
        connection.execute(insert(logical_servers).values(server=server, logical=logical))


def restored(connection: Connection) -> None:
    """The database is a copy of an earlier state: others send again what it lost, and get what it has."""
    connection.execute(delete(meta).where(meta.c.key == ORIGIN))
    connection.execute(delete(record_peers))


# -- inner workings ---------------------------------------------------------------------------------


def _versions(connection: Connection, space: str, user: str) -> dict[str, Version]:
    rows = connection.execute(_OF_USER, {"where": space, "who": user}).all()
    return {row.item: Version(row.time, row.origin, row.text) for row in rows}


def _live(versions: Mapping[str, Version]) -> dict[str, str]:
    return {item: each.text for item, each in versions.items() if each.text is not None}


def _change(
    connection: Connection,
    space: str,
    user: str,
    known: Mapping[str, Version],
    edits: Mapping[str, str | None],
    now: int,
) -> dict[str, Version]:
    """Writes new versions of our own; those that were written."""
    written = {}
    for item, text in edits.items():
        mine = known.get(item)
        if text == (None if mine is None else mine.text):
            continue
        time = now
        if mine is not None and mine.time <= now + MAX_AHEAD:
            time = max(now, mine.time + 1)  # later than what it replaces, although our clock may be behind
        version = written[item] = Version(time, _origin(connection), text)
        if text is None and not space.startswith(_LOGICAL):
            connection.execute(_REMOVE, {"where": space, "who": user, "what": item})
        else:
            _put(connection, space, user, item, version, new=mine is None)
    return written


def _forget_deleted(connection: Connection, space: str, user: str, versions: Mapping[str, Version]) -> None:
    """Whoever adds and deletes all day does not fill the table."""
    deleted = sorted((each.time, item) for item, each in versions.items() if each.text is None)
    for _, item in deleted[:-MAX_OWN_DELETED]:
        connection.execute(_REMOVE, {"where": space, "who": user, "what": item})


def _put(connection: Connection, space: str, user: str, item: str, version: Version, *, new: bool) -> None:
    values: dict[str, Any] = {
        "time": version.time,
        "origin": version.origin,
        "text": version.text,
        "number": _next_number(connection),
    }
    if new:
        connection.execute(insert(record_items).values(space=space, user=user, item=item, **values))
    else:
        connection.execute(_PUT.values(values), {"where": space, "who": user, "what": item})


def _move(connection: Connection, source: str, target: str, *, keep: bool) -> None:
    """What is in one space goes into another; of what is in both the later version. keep: it stays there too."""
    rows = connection.execute(
        select(record_items).where(_items.space == source).order_by(_items.number)
    ).all()
    if not keep:
        connection.execute(delete(record_items).where(_items.space == source))
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        users = {row.user for row in part}
        there = connection.execute(
            select(record_items).where(_items.space == target, _items.user.in_(users))
        ).all()
        known = {(row.user, row.item): Version(row.time, row.origin, row.text) for row in there}
        for row in part:
            if row.text is None and not target.startswith(_LOGICAL):
                continue
            mine, version = known.get((row.user, row.item)), Version(row.time, row.origin, row.text)
            if later(mine, version):
                _put(connection, target, row.user, row.item, version, new=mine is None)


def _told(row: Row[Any]) -> Change:
    version = Version(row.time, row.origin, row.text)
    return Change(row.space.removeprefix(_LOGICAL), row.user, row.item, version)


def _peer(row: Row[Any]) -> PeerRecord:
    return PeerRecord(**{**row._mapping, "names": frozenset(json.loads(row.names))})


def _logical_names(connection: Connection) -> set[str]:
    return set(connection.execute(select(logical_servers.c.logical)).scalars())


def _meta(connection: Connection, key: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()


def _set_meta(connection: Connection, key: str, value: str) -> None:
    if connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(meta).values(key=key, value=value))


def _origin(connection: Connection) -> str:
    found = _meta(connection, ORIGIN)
    if found is None:
        found = secrets.token_hex(16)
        _set_meta(connection, ORIGIN, found)
    return found


def _next_number(connection: Connection) -> int:
    # Never one that was there before, although the row with the greatest may be gone.
    number = int(_meta(connection, _NUMBER) or 0) + 1
    _set_meta(connection, _NUMBER, str(number))
    return number
