"""Live sessions by the page: filtered, sorted, counted by the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.store.records import SessionFilter, SessionSort
from lockgate.server.store.sql import contains
from lockgate.server.store.tables import sessions

_SORTS: tuple[str, ...] = get_args(SessionSort)


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Where a page begins is the sort value and number of the last session before it: sessions that come
    and go move no others to a page that was seen already."""

    where: ColumnElement[bool]
    sort: str
    limit: int
    after: tuple[str | float, int] | None
    descending: bool

    def run(self, connection: Connection) -> tuple[Sequence[Row[Any]], int]:
        """One row more than `limit` where there is a further page, and how many there are in all."""
        column, number = sessions.c[self.sort], sessions.c.id
        statement = select(sessions).where(self.where)
        if self.after is not None:
            value, last = self.after
            further = column < value if self.descending else column > value
            beside = number < last if self.descending else number > last
            statement = statement.where(or_(further, and_(column == value, beside)))
        order = (column.desc(), number.desc()) if self.descending else (column, number)
        rows = connection.execute(statement.order_by(*order).limit(self.limit + 1)).all()
        total = connection.execute(select(func.count()).select_from(sessions).where(self.where)).scalar_one()
        return rows, total

    def following(self, rows: Sequence[Row[Any]]) -> str | None:
        if len(rows) <= self.limit:
            return None
        last = rows[self.limit - 1]
        # The number as text: it may be larger than what JSON's readers keep exactly.
        return json.dumps([getattr(last, self.sort), str(last.id)])


def page_of(wanted: SessionFilter, sort: str, limit: int, after: str | None, descending: bool) -> PageQuery:
    """ProblemError for an unknown order or an `after` that no page gave."""
    if sort not in _SORTS:
        raise _bad(f"Sessions are not sorted by {sort!r}.", f"Sort by {', '.join(_SORTS)}.")
    if limit < 1:
        raise _bad("A page has at least one session.", "Ask for 1 or more.")
    start = None if after is None else _parse(after, text=sort in ("user", "realm", "source"))
    return PageQuery(_where(wanted), sort, limit, start, descending)


def _where(wanted: SessionFilter) -> ColumnElement[bool]:
    terms: list[ColumnElement[bool]] = [sessions.c.ended.is_(None)]
    if wanted.text:
        found = [contains(wanted.text, sessions.c.user, sessions.c.host_name, sessions.c.source)]
        try:
            address = ip_address(wanted.text)
        except ValueError:
            pass
        else:
            column = sessions.c.address4 if address.version == 4 else sessions.c.address6
            found.append(column == address.packed)
        terms.append(or_(*found))
    for value, column in (
        (wanted.user, sessions.c.user),
        (wanted.server, sessions.c.server),
        (wanted.realm, sessions.c.realm),
    ):
        if value:
            terms.append(column == value)
    if wanted.role:
        terms.append(sessions.c.roles.contains(json.dumps(wanted.role), autoescape=True))
    return and_(*terms)


def _parse(after: str, *, text: bool) -> tuple[str | float, int]:
    try:
        value, number = json.loads(after)
        if isinstance(number, str) and 0 <= int(number) < 1 << 63:
            if text and isinstance(value, str):
                return value, int(number)
            if not text and isinstance(value, int | float):
                return float(value), int(number)
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise _bad("The page does not begin where an earlier one ended.", "Begin with the first page.")


def _bad(summary: str, fix: str) -> ProblemError:
    return ProblemError(Problem("bad-page", summary, fix))
