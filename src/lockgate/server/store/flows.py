"""Flows in the store.

The flows that are written down together are one record of the audit's chain. The record has their SHA-256 in its
text; they themselves stand beside it in *pieces*, each of flows of one session, so that a user or a session is
found without looking at the others. Old pieces are removed without a gap in the chain: a sealed place
(`chain.FLOWS`) says up to which record. A flow's number is that of its record times 65,536, plus its place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from lockgate.model.flow import UNKNOWN_RULE, Flow, FlowGroup, FlowLoss
from lockgate.model.text import printable
from lockgate.policy.access import protocol_name
from lockgate.server.store.chain import ANCHOR, FLOWS, ZERO, Chain, End
from lockgate.server.store.records import AuditEntry, AuditFilter, AuditRecord
from lockgate.server.store.tables import audit, flow_pieces, meta

EVENT = "flows"
"""Of a record that flows belong to."""
FLOW, LOSS = "flow", "flows-lost"
"""Events of the lines that are made of flows, and of those about missing ones."""
PLACES = 1 << 16  # numbers for the flows of one record; more are never written together
PIECES = 500  # looked at from the outside at a time
LINES = 5000  # made at a time, some 5 MB; a single piece of an earlier release may have more
PRUNED = 500  # pieces removed in one step, with the rest of their last record: 44 ms where each has 256 flows
HEARD = "flows-heard"
"""Key of what the edge has told (`interface.Meta`): which edge, and the number of its next record; behind it the
record that was written with it, and their seal."""

_NUMBER = re.compile("[0-9]{1,18}")
_COLUMNS = tuple(flow_pieces.c)
_FIELDS = tuple(field.name for field in fields(Flow))
_LAST, _ALLOWED, _REMOTE, _PORT = map(_FIELDS.index, ("last", "allowed", "remote", "port"))


@dataclass(frozen=True, slots=True)
class Piece:
    """What one row is made of, but for its place in the store."""

    session: int | None
    user: str
    since: float
    until: float
    flows: int
    denied: int
    lost: int | None  # records that are missing, where it is about those
    content: bytes


def packed(groups: Sequence[FlowGroup], losses: Sequence[FlowLoss] = ()) -> list[Piece]:
    """Makes pieces; takes as long as thousands of flows need."""
    pieces = [
        _piece(
            None,
            "",
            (each.time, each.time, 0, each.count or 0),
            {"lost": [each.time, each.count, each.reason]},
            lines=1,
        )
        for each in losses
    ]
    for group in groups:
        flows = group.flows
        head = {"source": group.source, "roles": group.roles}
        rows = [[getattr(flow, name) for name in _FIELDS] for flow in flows]
        denied = sum(not flow.allowed for flow in flows)
        span = (min(flow.first for flow in flows), max(flow.last for flow in flows), denied, None)
        pieces.append(_piece(group.session, group.user, span, {**head, "flows": rows}, len(flows)))
    return pieces


def _piece(
    session: int | None, user: str, facts: tuple[float, float, int, int | None], content: object, lines: int
) -> Piece:
    since, until, denied, lost = facts
    packed_content = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 1)
    return Piece(session, user, float(since), float(until), lines, denied, lost, packed_content)


def add(
    connection: Connection,
    chain: Chain,
    pieces: Sequence[Piece],
    entry: Callable[[str], AuditEntry],
    heard: str,
) -> AuditRecord | None:
    """Writes pieces and their record. entry: the record, from its text. heard: what HEARD is from now on; None, and
    nothing written, where it is that already."""
    stored = connection.execute(select(meta.c.value).where(meta.c.key == HEARD)).scalar()
    if (stored or "").startswith(f"{heard} ") and heard_before(connection, chain) == heard:
        return None
    last = select(flow_pieces.c.position).order_by(flow_pieces.c.position.desc()).limit(1)
    position, place = connection.execute(last).scalar() or 0, 0
    rows: list[dict[str, Any]] = []
    for each in pieces:
        position += len(each.content)
        rows.append(
            {
                "place": place,
                "session": each.session,
                "user": each.user,
                "since": each.since,
                "until": each.until,
                "flows": each.flows,
                "position": position,
                "content": each.content,
            }
        )
        place += each.flows
    count = sum(each.flows for each in pieces if each.lost is None)
    denied, lost = sum(each.denied for each in pieces), sum(each.lost or 0 for each in pieces)
    words = [f"{count} flows", f"{denied} denied", f"{lost} lost" if lost else ""]
    text = f"{', '.join(filter(None, words))}; SHA-256 {digest(rows)}"
    record = chain.append(connection, entry(text))
    connection.execute(insert(flow_pieces), [{**row, "record": record.number} for row in rows])
    value = f"{heard} {record.number} {chain.seal(HEARD, heard, record.number).hex()}"
    if connection.execute(update(meta).where(meta.c.key == HEARD).values(value=value)).rowcount == 0:
        connection.execute(insert(meta).values(key=HEARD, value=value))
    return record


def heard_before(connection: Connection, chain: Chain) -> str | None:
    """`heard` of the last `add`, "" where there was none; None where somebody else changed or removed it, or put an
    older one in its place."""
    stored = connection.execute(select(meta.c.value).where(meta.c.key == HEARD)).scalar()
    newest = (
        select(audit.c.number)
        .where(audit.c.log == "flows", audit.c.event == EVENT)
        .order_by(audit.c.number.desc())
        .limit(1)
    )
    last: int | None = connection.execute(newest).scalar()
    if stored is None:
        return "" if last is None else None
    heard, _, rest = stored.partition(" ")
    number, _, seal = rest.partition(" ")
    if not _NUMBER.fullmatch(number) or not hmac.compare_digest(
        chain.seal(HEARD, heard, int(number)).hex().encode(), seal.encode(errors="replace")
    ):
        return None
    if last is None:
        # Its record went by age. That all were removed by somebody else, `verify` finds.
        anchor, ours = chain.end(connection, ANCHOR)
        return heard if anchor is not None and ours and int(number) <= anchor.number else None
    return heard if int(number) == last else None


def digest(rows: Sequence[dict[str, Any]]) -> str:
    """One for all pieces of a record: of everything that stands in them, in their order."""
    result = hashlib.sha256()
    for row in rows:
        content = bytes(row["content"])
        head = [row["place"], row["session"], row["user"], float(row["since"]), float(row["until"])]
        form = json.dumps([*head, row["flows"], row["position"], len(content)], separators=(",", ":"))
        result.update(form.encode() + content)
    return result.hexdigest()


def fits(connection: Connection, record: AuditRecord) -> bool | None:
    """Whether the flows of a record are those it was made of; None where there are none."""
    statement = select(flow_pieces).where(flow_pieces.c.record == record.number).order_by(flow_pieces.c.place)
    rows = [dict(row._mapping) for row in connection.execute(statement)]
    return record.entry.text.endswith(f" {digest(rows)}") if rows else None


def strays(connection: Connection, above: int, up_to: int | None) -> int | None:
    """The first record that pieces name and that has none: numbers above `above` and not beyond `up_to`."""
    terms = [flow_pieces.c.record > above, _without_record()]
    if up_to is not None:
        terms.append(flow_pieces.c.record <= up_to)
    return connection.execute(select(func.min(flow_pieces.c.record)).where(*terms)).scalar()


def remove_strays(connection: Connection) -> None:
    """Removes all pieces that have no record."""
    connection.execute(delete(flow_pieces).where(_without_record()))


def _without_record() -> ColumnElement[bool]:
    owners = select(audit.c.number).where(
        audit.c.number == flow_pieces.c.record, audit.c.log == "flows", audit.c.event == EVENT
    )
    return ~owners.exists()


# Reading


class Reader:
    """Lines made of flows, a few pieces at a time."""

    def __init__(self, wanted: AuditFilter, chain: Chain, *, oldest_first: bool) -> None:
        self._wanted, self._chain, self._oldest_first = wanted, chain, oldest_first
        self._at: tuple[int, int] | None = None  # record and place of the last piece
        self._least = 1
        self.done = False

    def more(self, connection: Connection, needed: int = LINES) -> list[AuditRecord]:
        """The next ones, in order; maybe none although there are more. needed: how many the caller can use; more of
        them may come, LINES or one piece's at most."""
        # Where few lines fit, each look is at twice as many as the one before.
        enough = min(LINES, max(needed, self._least))
        self._least = 2 * enough
        record, place = flow_pieces.c.record, flow_pieces.c.place
        gone = self._chain.flows_removed(connection)
        terms = [record > gone.number if gone is not None else record > 0, *_where(self._wanted)]
        if self._at is not None:
            last, at = self._at
            # The first term leads both databases to the key.
            if self._oldest_first:
                terms += [record >= last, or_(record > last, place > at)]
            else:
                terms += [record <= last, or_(record < last, place < at)]
        order = (record, place) if self._oldest_first else (record.desc(), place.desc())
        outside = select(record, place, flow_pieces.c.flows).where(*terms).order_by(*order).limit(PIECES)
        heads = connection.execute(outside).all()
        used = _first_of([head.flows for head in heads], enough)
        self.done = used == len(heads) < PIECES
        if not heads:
            return []
        last, at = self._at = heads[used - 1].record, heads[used - 1].place
        if self._oldest_first:
            terms += [record <= last, or_(record < last, place <= at)]
        else:
            terms += [record >= last, or_(record > last, place >= at)]
        found: list[AuditRecord] = []
        for row in connection.execute(select(*_COLUMNS).where(*terms).order_by(*order)):
            lines = [each for each in _lines(row, self._may_fit) if _fits(self._wanted, each)]
            found += lines if self._oldest_first else reversed(lines)
        return found

    def _may_fit(self, values: list[Any]) -> bool:
        """What can be told from the fields of a flow without making a line of it, which takes ten times as long."""
        wanted = self._wanted
        return (
            (not wanted.remote or values[_REMOTE] == wanted.remote)
            and (wanted.port is None or values[_PORT] == wanted.port)
            and (not wanted.outcome or (wanted.outcome == "ok") == values[_ALLOWED])
            and (wanted.since is None or values[_LAST] >= wanted.since)
            and (wanted.until is None or values[_LAST] < wanted.until)
        )


def _first_of(sizes: Sequence[int], enough: int) -> int:
    """How many of them, from the first, come to `enough`: at least one, and no more than LINES together."""
    lines = 0
    for used, size in enumerate(sizes):
        if used and (lines >= enough or lines + size > LINES):
            return used
        lines += size
    return len(sizes)


def of_record(connection: Connection, number: int) -> list[AuditRecord]:
    """The lines of one record, in order."""
    statement = select(*_COLUMNS).where(flow_pieces.c.record == number).order_by(flow_pieces.c.place)
    return [line for row in connection.execute(statement).all() for line in _lines(row)]


def _where(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    """What can be told from the outside of a piece."""
    terms: list[ColumnElement[bool]] = []
    if wanted.user:
        terms.append(flow_pieces.c.user == wanted.user)
    if wanted.session is not None:
        terms.append(flow_pieces.c.session == wanted.session)
    if wanted.since is not None:
        terms.append(flow_pieces.c.until >= wanted.since)
    if wanted.until is not None:
        terms.append(flow_pieces.c.since < wanted.until)
    record, place = flow_pieces.c.record, flow_pieces.c.place
    if wanted.before is not None:
        last, at = divmod(wanted.before, PLACES)
        terms += [record <= last, or_(record < last, place < at)]
    if wanted.after is not None:
        first, at = divmod(wanted.after, PLACES)
        terms += [record >= first, or_(record > first, place + flow_pieces.c.flows > at + 1)]
    return terms


def _lines(
    row: Row[Any], may_fit: Callable[[list[Any]], bool] = lambda values: True
) -> Iterator[AuditRecord]:
    first = row.record * PLACES + row.place
    try:
        content = json.loads(zlib.decompress(bytes(row.content)))
        if "lost" in content:
            yield AuditRecord(first, _loss(*content["lost"]), 0, b"")
            return
        source, roles = content["source"], tuple(content["roles"])
        flows = [(place, Flow(*values)) for place, values in enumerate(content["flows"]) if may_fit(values)]
    except (zlib.error, ValueError, TypeError, KeyError, IndexError):
        # Somebody changed it; `verify` says so, and the others are still to be read.
        unreadable = AuditEntry(
            row.until, LOSS, "failed", "unreadable", row.user, "", row.session, "unreadable", "flows"
        )
        yield AuditRecord(first, unreadable, 0, b"")
        return
    for place, flow in flows:
        entry = AuditEntry(
            time=flow.last,
            event=FLOW,
            outcome="ok" if flow.allowed else "failed",
            reason="" if flow.allowed else "denied",
            user=row.user,
            source=source,
            session=row.session,
            text=words(flow),
            log="flows",
            revision=flow.revision,
        )
        yield AuditRecord(first + place, entry, 0, b"", flow, roles)


def _loss(time: float, count: int | None, reason: str) -> AuditEntry:
    text = f"{count} flow records lost"
    if count is None:
        text = "the edge ended, or somebody changed how far was written: flow records of the last minutes are missing"
    return AuditEntry(time, LOSS, "failed", printable(reason, 64), "", "", None, text, "flows")


def words(flow: Flow) -> str:
    """A flow in one line."""
    far = "others, not told apart" if not flow.remote else flow.remote
    if flow.port is not None:
        far = f"[{far}]:{flow.port}" if ":" in far else f"{far}:{flow.port}"
    name = protocol_name(flow.protocol) if flow.remote else "any protocol"
    if flow.rule == UNKNOWN_RULE:
        decided = "a rule that is not known any more"
    else:
        decided = f"rule {flow.rule!r}" if flow.rule else "no rule"
    return (
        f"{name} {flow.device or 'client'} {'to' if flow.outbound else 'from'} {far}, "
        f"{'allowed' if flow.allowed else 'denied'} by {decided}, {flow.packets_in} packets ({flow.bytes_in} bytes) "
        f"from the client, {flow.packets_out} ({flow.bytes_out} bytes) to it, {flow.last - flow.first:.0f} s"
    )


def _fits(wanted: AuditFilter, record: AuditRecord) -> bool:
    """The same for one line, exactly (`audit._where`)."""
    entry, flow = record.entry, record.flow
    exactly = (
        (wanted.source, entry.source),
        (wanted.event, entry.event),
        (wanted.outcome, entry.outcome),
        (wanted.remote, flow.remote if flow is not None else None),
    )
    if any(value and value != found for value, found in exactly):
        return False
    if wanted.port is not None and (flow is None or flow.port != wanted.port):
        return False
    if wanted.text:
        searched = (entry.user, entry.source, entry.reason, entry.event, entry.text)
        if not any(wanted.text.lower() in text.lower() for text in searched):
            return False
    if wanted.code and wanted.code not in entry.text:
        return False
    return (
        (wanted.since is None or entry.time >= wanted.since)
        and (wanted.until is None or entry.time < wanted.until)
        and (wanted.before is None or record.number < wanted.before)
        and (wanted.after is None or record.number > wanted.after)
    )


# Removing


@dataclass(frozen=True, slots=True)
class Cut:
    """What has to go: flows of the records above `gone`, up to `last`; how many they are."""

    gone: int
    last: int
    flows: int


def cut(connection: Connection, chain: Chain, before: float | None, max_bytes: int | None) -> Cut | None:
    """None where nothing has to go. May take long: for a reader."""
    gone = chain.flows_place(connection).number
    newest = (
        select(flow_pieces.c.record, flow_pieces.c.position).order_by(flow_pieces.c.position.desc()).limit(1)
    )
    end = connection.execute(newest).first()
    last = 0
    if end is None:
        return None
    there = flow_pieces.c.record > gone
    if before is not None:
        young = select(func.min(flow_pieces.c.record)).where(there, flow_pieces.c.until >= before)
        first = connection.execute(young).scalar()
        last = end.record if first is None else first - 1
    if max_bytes is not None:
        # Where the rest, behind it, would have at most so many bytes.
        enough = end.position - max_bytes
        size = func.length(flow_pieces.c.content)
        oldest = select(flow_pieces.c.position - size).where(there).order_by(flow_pieces.c.position).limit(1)
        if (connection.execute(oldest).scalar() or 0) < enough:
            large = select(func.min(flow_pieces.c.record)).where(there, flow_pieces.c.position >= enough)
            last = max(last, connection.execute(large).scalar() or 0)
    if last <= gone:
        return None
    going = select(func.sum(flow_pieces.c.flows)).where(there, flow_pieces.c.record <= last)
    count = int(connection.execute(going).scalar() or 0)
    return Cut(gone, last, count) if count else None


def remove(connection: Connection, up_to: int) -> bool:
    """Removes pieces of records up to `up_to`, some of them; whether none is left."""
    some = (
        select(flow_pieces.c.record)
        .where(flow_pieces.c.record <= up_to)
        .order_by(flow_pieces.c.record)
        .limit(1)
        .offset(PRUNED)
    )
    last = connection.execute(some).scalar()
    connection.execute(delete(flow_pieces).where(flow_pieces.c.record <= (up_to if last is None else last)))
    return last is None


def mark_removed(connection: Connection, chain: Chain, up_to: int) -> None:
    chain.move(connection, FLOWS, End(up_to, 0, ZERO))
