"""Whether the audit is what was written: every record, in order, none missing, each flow among them.

Records are read a few at a time, so that a running server goes on; what is added meanwhile is not looked
at, and what is removed at the beginning by age or size is not missed. That something is wrong is certain;
what it is called is the most likely way to get there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from lockgate.server.store.audit import SqlAudit
from lockgate.server.store.chain import ANCHOR, HEAD, START, Chain, End, canonical, columns, record, weight
from lockgate.server.store.flows import EVENT, fits, strays
from lockgate.server.store.records import AuditRecord
from lockgate.server.store.tables import audit

PAGE = 2000  # records between two looks at the beginning of the chain

Damage = Literal["changed", "missing", "reordered", "truncated", "forged", "end-missing", "end-changed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong."""

    damage: Damage
    number: int  # of the record that it is about
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what was found."""

    checked: int  # records
    first: int  # number of the first record that was to be checked
    last: int  # number of the last one that was looked at
    skipped: int  # records before `first`, whose damage was accepted
    head: End | None  # of the chain, as stored: compare it with what was seen before
    finding: Finding | None

    @property
    def ok(self) -> bool:
        return self.finding is None

    def as_dict(self) -> dict[str, Any]:
        finding, head = self.finding, self.head
        return {
            "ok": self.ok,
            "checked": self.checked,
            "first": self.first,
            "last": self.last,
            "skipped": self.skipped,
            "head": None if head is None else {"number": head.number, "mac": head.mac.hex()},
            "finding": None
            if finding is None
            else {"damage": finding.damage, "number": finding.number, "text": finding.text},
        }


async def verify(
    records: SqlAudit, progress: Callable[[int, int], None] = lambda done, total: None
) -> Report:
    """Looks at all records there are now. progress: called with how many are done, of how many."""
    database, chain = records.database, records.chain
    start = await database.read_aside(lambda connection: _look(connection, chain))
    at, checked = start.anchor, 0
    total = max(0, start.last - at.number)
    finding = start.beginning
    while finding is None and at.number < start.last:
        place = at
        page = await database.read_aside(
            lambda connection, place=place: _check_page(connection, chain, place, start)  # type: ignore[misc]
        )
        at, finding, checked = page.at, page.finding, checked + page.checked
        progress(checked, total)
    return Report(
        checked=checked,
        first=start.anchor.number + 1,
        last=at.number,
        skipped=start.skipped,
        head=start.head,
        finding=finding or _judge_end(start),
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """The state when the look began."""

    anchor: End
    beginning: Finding | None  # what is wrong with it
    head: End | None
    head_is_ours: bool
    flows_removed: int  # up to that record
    last: int  # highest number
    skipped: int


@dataclass(frozen=True, slots=True)
class _Page:
    at: End
    checked: int
    finding: Finding | None


def _look(connection: Connection, chain: Chain) -> _Start:
    anchor, ours = chain.end(connection, ANCHOR)
    head, head_is_ours = chain.end(connection, HEAD)
    at, beginning = anchor or START, None
    if anchor is not None and not ours:
        text = "The place where the audit begins was changed."
        beginning = Finding("end-changed", anchor.number, text)
    removed = chain.flows_removed(connection)
    if beginning is None and removed is None:
        beginning = Finding("end-changed", at.number, "The place where the flows begin was changed.")
    last = connection.execute(select(func.max(audit.c.number))).scalar() or 0
    flows_removed = 0 if removed is None else removed.number
    older = select(func.count()).select_from(audit).where(audit.c.number <= at.number)
    skipped = connection.execute(older).scalar_one()
    # Flows of records that are gone are gone too.
    stray = strays(connection, flows_removed, at.number)
    if stray is None and head is not None and head_is_ours:
        stray = strays(connection, max(head.number, flows_removed), None)
    if beginning is None and stray is not None:
        beginning = _stray(stray)
    return _Start(at, beginning, head, head_is_ours, flows_removed, last, skipped)


def _check_page(connection: Connection, chain: Chain, at: End, start: _Start) -> _Page:
    anchor, ours = chain.end(connection, ANCHOR)
    if anchor is not None and ours and anchor.number > at.number:
        at = anchor  # removed by age or size since the last look
    statement = (
        select(*columns())
        .where(audit.c.number > at.number, audit.c.number <= start.last)
        .order_by(audit.c.number)
        .limit(PAGE)
    )
    checked = 0
    removed = chain.flows_removed(connection)
    # As the records: some may have been removed since the look began.
    gone = max(start.flows_removed, 0 if removed is None else removed.number)
    rows = connection.execute(statement).all()
    if rows:
        stray = strays(connection, max(at.number, gone), rows[-1].number)
    for row in rows:
        each = record(row)
        after = _fitting(chain, at, each)
        if after is None:
            return _Page(at, checked, _name(connection, chain, at, each, start))
        if each.entry.log == "flows" and each.entry.event == EVENT and each.number > gone:
            found = fits(connection, each)
            if not found:
                return _Page(at, checked, _flows_damaged(each.number, missing=found is None))
        at, checked = after, checked + 1
    if rows and stray is not None:
        return _Page(at, checked, _stray(stray))
    if not rows:
        at = End(start.last, at.position, at.mac)  # all of it was removed meanwhile
    return _Page(at, checked, None)


def _fitting(chain: Chain, at: End, each: AuditRecord, number: int | None = None) -> End | None:
    """The place behind `each` when it is what follows `at`."""
    following = at.number + 1
    if (each.number if number is None else number) != following:
        return None
    form = canonical(following, each.entry)
    if each.position != at.position + weight(each.entry, form):
        return None
    if not hmac.compare_digest(chain.mac(at.mac, form), each.mac):
        return None
    return End(following, each.position, each.mac)


def _name(connection: Connection, chain: Chain, at: End, each: AuditRecord, start: _Start) -> Finding:
    """What is wrong where `each` does not follow `at`."""
    number = at.number + 1
    if start.head_is_ours and start.head is not None and number > start.head.number:
        return Finding("forged", each.number, f"Record {each.number} was added by somebody else.")
    # Positions tell which record was written after `at`, whatever its number is now.
    next_written = (
        select(*columns()).where(audit.c.position > at.position).order_by(audit.c.position).limit(1)
    )
    row: Row[Any] | None = connection.execute(next_written).first()
    if row is not None:
        true = record(row)
        if true.number != number and _fitting(chain, at, true, number) is not None:
            text = f"Record {number} stands in the place of record {true.number}: the order was changed."
            return Finding("reordered", number, text)
    if each.number > number:
        gap = (
            f"Record {number} is"
            if each.number == number + 1
            else f"Records {number} to {each.number - 1} are"
        )
        return Finding("missing", number, f"{gap} missing.")
    gap_before = each.position - weight(each.entry, canonical(number, each.entry)) > at.position
    if gap_before and not _followed(connection, chain, each):
        text = f"What was record {number} is missing; others took its number."
        return Finding("missing", number, text)
    return Finding("changed", number, f"Record {number} was changed.")


def _flows_damaged(number: int, *, missing: bool) -> Finding:
    if missing:
        return Finding("missing", number, f"The flows of record {number} are missing.")
    return Finding("changed", number, f"Flows of record {number} were changed, removed, added or moved.")


def _stray(number: int) -> Finding:
    return Finding("forged", number, f"Flows were added to record {number}, which has none.")


def _followed(connection: Connection, chain: Chain, each: AuditRecord) -> bool:
    """Whether the record after `each` still fits it, or there is none: then it is in its own place."""
    after = select(*columns()).where(audit.c.number > each.number).order_by(audit.c.number).limit(1)
    row: Row[Any] | None = connection.execute(after).first()
    return row is None or _fitting(chain, End.behind(each), record(row)) is not None


def _judge_end(start: _Start) -> Finding | None:
    """What is wrong with the end of a chain whose records are right."""
    if start.head is None:
        return Finding("end-missing", start.last, "The place where the audit ends was removed.")
    if not start.head_is_ours:
        return Finding("end-changed", start.head.number, "The place where the audit ends was changed.")
    last = max(start.last, start.anchor.number)
    if last < start.head.number:
        first = last + 1
        gap = (
            f"Record {first} is"
            if first == start.head.number
            else f"Records {first} to {start.head.number} are"
        )
        return Finding("truncated", first, f"{gap} missing at the end.")
    return None
