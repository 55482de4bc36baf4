"""Statements on the audit. Records are added and read, and removed only from its beginning."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import ColumnElement, Connection, and_, delete, false, func, or_, select

from lockgate.server.store import flows
from lockgate.server.store.chain import ANCHOR, Chain, End, columns, record
from lockgate.server.store.database import Database
from lockgate.server.store.records import AuditEntry, AuditFilter, AuditRecord
from lockgate.server.store.sql import contains
from lockgate.server.store.tables import audit

PRUNED = 2000  # records removed in one step
PAGE = 1000  # records a stream reads at a time: what others wait for is some milliseconds


class SqlAudit:
    """`interface.Audit`."""

    def __init__(self, database: Database, chain: Chain) -> None:
        self._database, self.chain = database, chain

    @property
    def database(self) -> Database:
        return self._database

    async def add(self, entry: AuditEntry) -> AuditRecord:
        return await self._database.write(lambda connection: self.chain.append(connection, entry), sync=False)

    async def newest(self, limit: int) -> list[AuditEntry]:
        page = await self.page(AuditFilter(), limit)
        return [each.entry for each in reversed(page)]

    async def add_flows(
        self, pieces: Sequence[flows.Piece], entry: Callable[[str], AuditEntry], heard: str
    ) -> AuditRecord | None:
        return await self._database.write(
            lambda connection: flows.add(connection, self.chain, pieces, entry, heard), sync=False
        )

    async def flows_heard(self) -> str | None:
        """What the last `add_flows` was told, "" where there was none; None where that is not what is stored."""
        return await self._database.read(lambda connection: flows.heard_before(connection, self.chain))

    async def flows_of(self, record: int) -> list[AuditRecord]:
        return await self._database.read_aside(lambda connection: flows.of_record(connection, record))

    async def page(self, wanted: AuditFilter, limit: int, *, oldest_first: bool = False) -> list[AuditRecord]:
        if wanted.log == "flows":
            reader = flows.Reader(wanted, self.chain, oldest_first=oldest_first)
            lines: list[AuditRecord] = []
            while len(lines) < limit and not reader.done:
                more = partial(reader.more, needed=limit - len(lines))
                lines += await self._database.read_aside(more)
            return lines[:limit]
        order = audit.c.number if oldest_first else audit.c.number.desc()
        statement = select(*columns()).where(*_where(wanted)).order_by(order).limit(limit)
        rows = await self._database.read_aside(lambda connection: connection.execute(statement).all())
        return [record(row) for row in rows]

    async def stream(self, wanted: AuditFilter) -> AsyncIterator[AuditRecord]:
        if wanted.log == "flows":
            reader = flows.Reader(wanted, self.chain, oldest_first=True)
            while not reader.done:
                for line in await self._database.read_aside(reader.more):
                    yield line
            return
        newest = await self._database.read_aside(
            lambda connection: connection.execute(select(func.max(audit.c.number))).scalar()
        )
        last = (newest or 0) + 1
        rest = replace(wanted, before=last if wanted.before is None else min(last, wanted.before))
        while True:
            page = await self.page(rest, PAGE, oldest_first=True)
            for each in page:
                yield each
            if len(page) < PAGE:
                return
            rest = replace(rest, after=page[-1].number)

    async def accept(self, entry: AuditEntry) -> AuditRecord:
        """See `Chain.accept`. Flows whose record is missing go: nothing proves them any more."""

        def work(connection: Connection) -> AuditRecord:
            flows.remove_strays(connection)
            return self.chain.accept(connection, entry)

        return await self._database.write(work)

    async def prune(
        self, before: float | None, max_bytes: int | None, entry: Callable[[int], AuditEntry]
    ) -> int:
        def decide(connection: Connection) -> tuple[int, int]:
            head, anchor = self.chain.head(connection), self.chain.anchor(connection)
            cut = max(_older(connection, before, head), _beyond(connection, max_bytes, anchor, head))
            count = cut - anchor.number
            if count > 0:
                self.chain.append(connection, entry(count))
                # Their flows go with them. Without that place, flows that somebody adds to records that are gone would
                # be shown, and nothing there is could tell that they are not ours.
                place = self.chain.flows_removed(connection)
                if place is not None and place.number < cut:
                    flows.mark_removed(connection, self.chain, cut)
            return cut, count

        cut, count = await self._database.write(decide)
        done = count <= 0
        if not done:
            await self._remove_flows(cut)
        while not done:
            # A few at a time: nobody who signs in waits for the removal of a year.
            done = await self._database.write(lambda connection: self._cut_off(connection, cut), sync=False)
        return max(0, count)

    async def prune_flows(
        self, before: float | None, max_bytes: int | None, entry: Callable[[int], AuditEntry]
    ) -> int:
        # Counting a year's flows takes seconds, in which nobody who writes waits.
        cut = await self._database.read_aside(
            lambda connection: flows.cut(connection, self.chain, before, max_bytes)
        )
        if cut is None:
            return 0

        def decide(connection: Connection) -> bool:
            if self.chain.flows_place(connection).number != cut.gone:
                return False  # another process was quicker
            self.chain.append(connection, entry(cut.flows))
            flows.mark_removed(connection, self.chain, cut.last)
            return True

        if not await self._database.write(decide):
            return 0
        await self._remove_flows(cut.last)
        return cut.flows

    async def _remove_flows(self, up_to: int) -> None:
        done = False
        while not done:
            done = await self._database.write(lambda connection: flows.remove(connection, up_to), sync=False)

    def _cut_off(self, connection: Connection, cut: int) -> bool:
        """Removes the oldest records up to `cut`, at most PRUNED of them; whether none is left."""
        first = self.chain.anchor(connection).number
        last = min(cut, first + PRUNED)
        if last > first:
            row = connection.execute(select(*columns()).where(audit.c.number == last)).one()
            connection.execute(delete(audit).where(audit.c.number <= last))
            self.chain.move(connection, ANCHOR, End.behind(record(row)))
        return last >= cut


def _older(connection: Connection, before: float | None, head: End) -> int:
    """The last record below which all are older than `before`; a clock that went back keeps more."""
    if before is None:
        return 0
    first = connection.execute(select(func.min(audit.c.number)).where(audit.c.time >= before)).scalar()
    return head.number if first is None else first - 1


def _beyond(connection: Connection, max_bytes: int | None, anchor: End, head: End) -> int:
    """The last record that has to go for the rest to have at most `max_bytes`."""
    if max_bytes is None or head.position - anchor.position <= max_bytes:
        return 0
    # Positions rise with the numbers: look in the middle, again and again.
    low, high = anchor.number + 1, head.number
    while low < high:
        middle = (low + high) // 2
        position = connection.execute(select(audit.c.position).where(audit.c.number == middle)).scalar_one()
        if head.position - position <= max_bytes:
            high = middle
        else:
            low = middle + 1
    return low


def _where(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = []
    for value, column in (
        (wanted.log, audit.c.log),
        (wanted.source, audit.c.source),
        (wanted.event, audit.c.event),
        (wanted.outcome, audit.c.outcome),
    ):
        if value:
            terms.append(column == value)
    if wanted.user:
        # "Not empty" leads both databases to the index of actors.
        acted = and_(audit.c.actor == wanted.user, audit.c.actor != "")
        terms.append(or_(audit.c.user == wanted.user, acted))
    if wanted.text:
        fields = (audit.c.user, audit.c.actor, audit.c.source, audit.c.reason, audit.c.event, audit.c.text)
        terms.append(contains(wanted.text, *fields))
    if wanted.session is not None:
        terms.append(audit.c.session == wanted.session)
    if wanted.remote or wanted.port is not None:
        terms.append(false())  # only flows have these
    if wanted.code:
        terms.append(contains(wanted.code, audit.c.text))
    if wanted.since is not None:
        terms.append(audit.c.time >= wanted.since)
    if wanted.until is not None:
        terms.append(audit.c.time < wanted.until)
    if wanted.before is not None:
        terms.append(audit.c.number < wanted.before)
    if wanted.after is not None:
        terms.append(audit.c.number > wanted.after)
    return terms
