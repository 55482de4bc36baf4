"""Which cookies of a session are good, and what using one changes.

    used last ──▶ handed out, perhaps several ──first use of one──▶ that one is the used one,
                                                                    all the others are spent

The cookie used last stays good, and every answer to it hands out another one: an answer may be lost,
and two connections may come back at once. Only when one of those is shown does the client have it.
A spent cookie in somebody's hands means that two parties follow the same session. Sessions without
a key have one cookie, which is never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from lockgate.server.store.interface import Resumption
from lockgate.server.store.tables import cookies, sessions

# Generations back, with at most two rows each: a client that comes back every minute fills them in two
# hours. An older cookie is unknown: refused, without alarm.
KEPT_GENERATIONS = 128

_USED = select(sessions).where(sessions.c.cookie_hash == bindparam("shown"))
_OTHER = (
    select(sessions, cookies.c.spent)
    .join_from(cookies, sessions, cookies.c.session == sessions.c.id)
    .where(cookies.c.hash == bindparam("shown"))
)
_ADD = insert(cookies).inline()
_SPEND = (
    update(cookies)
    .where(cookies.c.session == bindparam("number"), cookies.c.spent.is_(None))
    .values(spent=bindparam("now"))
)
_REMOVE = delete(cookies).where(cookies.c.hash == bindparam("shown"))
_FORGET = delete(cookies).where(
    cookies.c.session == bindparam("number"), cookies.c.generation <= bindparam("oldest")
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a cookie names. `spent` is when it lost its worth; `first_use`: it was handed out and is shown
    for the first time."""

    session: Row[Any]
    first_use: bool = False
    spent: float | None = None


def find(connection: Connection, cookie_hash: bytes) -> Found | None:
    row = connection.execute(_USED, {"shown": cookie_hash}).first()
    if row is not None:
        return Found(row)
    row = connection.execute(_OTHER, {"shown": cookie_hash}).first()
    if row is None:
        return None
    return Found(row, first_use=row.spent is None, spent=row.spent)


def replace(connection: Connection, found: Found, resumption: Resumption) -> None:
    """A bound session goes on, and the cookie shown is the one used last: the next one is handed out."""
    number, generation = found.session.id, found.session.generation
    rows = [{"hash": resumption.next_hash, "session": number, "generation": generation + 1, "spent": None}]
    if found.first_use:
        connection.execute(_REMOVE, {"shown": resumption.cookie_hash})
        connection.execute(_SPEND, {"number": number, "now": resumption.now})
        former = {"hash": found.session.cookie_hash, "session": number, "generation": generation}
        rows.append({**former, "spent": resumption.now})
    connection.execute(_ADD, rows)
    if generation >= KEPT_GENERATIONS:
        connection.execute(_FORGET, {"number": number, "oldest": generation + 1 - KEPT_GENERATIONS})
