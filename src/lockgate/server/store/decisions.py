"""Statements on recorded decisions and on samples of figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from lockgate.server.store.database import Database
from lockgate.server.store.records import DecisionRecord, Sample
from lockgate.server.store.sql import row_of
from lockgate.server.store.tables import decisions, samples

_ADD = insert(decisions).inline()
_NEWEST = select(func.max(decisions.c.id))


class SqlDecisions:
    """`interface.Decisions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, decision: DecisionRecord) -> None:
        await self.add_many([decision])

    async def add_many(self, wanted: Sequence[DecisionRecord]) -> None:
        if not wanted:
            return

        def work(connection: Connection) -> None:
            rows = [_columns(decision) for decision in wanted]
            first = (connection.execute(_NEWEST).scalar() or 0) + 1
            connection.execute(_ADD, [{**row, "id": first + place} for place, row in enumerate(rows)])

        await self._database.write(work, sync=False)

    async def since(
        self,
        time: float,
        user: str | None = None,
        limit: int = 10_000,
        after: int = 0,
        *,
        kinds: Sequence[str] = (),
        newest_first: bool = False,
    ) -> list[DecisionRecord]:
        statement = (
            select(decisions)
            .where(decisions.c.time >= time, decisions.c.id > after)
            .order_by(decisions.c.id.desc() if newest_first else decisions.c.id)
            .limit(limit)
        )
        if user is not None:
            statement = statement.where(decisions.c.user == user)
        if kinds:
            statement = statement.where(decisions.c.kind.in_(kinds))
        # Read into records where the event loop is not: many of them take long.
        return await self._database.read_aside(
            lambda connection: [_record(row) for row in connection.execute(statement)]
        )

    async def by_code(self, code: str, since: float) -> DecisionRecord | None:
        statement = (
            select(decisions)
            .where(decisions.c.code == code, decisions.c.time >= since)
            .order_by(decisions.c.id.desc())
            .limit(1)
        )
        row = await self._database.read_aside(lambda connection: connection.execute(statement).first())
        return None if row is None else _record(row)

    async def prune(self, before: float) -> None:
        statement = delete(decisions).where(decisions.c.time < before)
        await self._database.change(statement, sync=False)

    async def thin(self, kinds: Sequence[str], most: int) -> None:
        among = decisions.c.kind.in_(kinds)
        newest = select(decisions.c.id).where(among).order_by(decisions.c.id.desc())
        first_of_the_rest = newest.offset(most).limit(1).scalar_subquery()
        statement = delete(decisions).where(among, decisions.c.id <= first_of_the_rest)
        await self._database.change(statement, sync=False)


class SqlSamples:
    """`interface.Samples`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, sample: Sample) -> None:
        await self._database.write(lambda connection: _put(connection, sample), sync=False)

    async def rollup(
        self,
        period: int,
        into: int,
        until: float,
        combine: Callable[[Sequence[Mapping[str, float]]], Mapping[str, float]],
    ) -> int:
        if into % period:
            raise ValueError(f"{into} seconds are no multiple of {period}")
        end = math.floor(until / into) * into  # of the last whole span

        def work(connection: Connection) -> int:
            newest = connection.execute(
                select(func.max(samples.c.time)).where(samples.c.period == into)
            ).scalar()
            missing = select(samples).where(samples.c.period == period, samples.c.time < end)
            if newest is not None:
                missing = missing.where(samples.c.time >= newest + into)
            rows = connection.execute(missing.order_by(samples.c.time)).all()
            spans = 0
            for span, members in groupby(rows, lambda row: math.floor(row.time / into)):
                values = combine([json.loads(row.values) for row in members])
                _put(connection, Sample(float(span * into), into, values))
                spans += 1
            return spans

        return await self._database.write(work, sync=False)

    async def range(self, period: int, since: float, until: float) -> list[Sample]:
        statement = (
            select(samples)
            .where(samples.c.period == period, samples.c.time >= since, samples.c.time < until)
            .order_by(samples.c.time)
        )
        rows = await self._database.read_aside(lambda connection: connection.execute(statement).all())
        return [Sample(row.time, row.period, json.loads(row.values)) for row in rows]

    async def prune(self, period: int, before: float) -> None:
        statement = delete(samples).where(samples.c.period == period, samples.c.time < before)
        await self._database.change(statement, sync=False)


def _put(connection: Connection, sample: Sample) -> None:
    same = (samples.c.period == sample.period, samples.c.time == sample.time)
    connection.execute(delete(samples).where(*same))
    row = {"period": sample.period, "time": sample.time, "values": json.dumps(dict(sample.values))}
    connection.execute(insert(samples), row)


def _columns(decision: DecisionRecord) -> dict[str, Any]:
    return {
        **row_of(decision, decisions),
        "facts": json.dumps(dict(decision.facts)),
        "roles": json.dumps(decision.roles),
        "reasons": json.dumps(decision.reasons),
    }


def _record(row: Row[Any]) -> DecisionRecord:
    return DecisionRecord(
        time=row.time,
        kind=row.kind,
        session=row.session,
        user=row.user,
        server=row.server,
        realm=row.realm,
        revision=row.revision,
        allow=row.allow,
        facts=json.loads(row.facts),
        roles=tuple(json.loads(row.roles)),
        reasons=tuple(json.loads(row.reasons)),
        id=row.id,
        code=row.code,
    )
