"""The chain that holds the records of the audit together.

    mac(n) = HMAC-SHA256(record key, mac(n - 1) + canonical form of record n)      mac(0) is 32 zero bytes

A record that was changed, taken out, put in or moved does not fit the one before it. The end of the
chain stands in a row of its own with a MAC under another key, so that records missing at its end are
noticed too; so does its beginning once old records were removed, and the last record whose flows were
(`flows`). How far the edge's flows were heard has a seal under the same key. A database that is replaced as a whole
by an older copy of itself looks right: compare the newest number and MAC with what was seen before
(`verify.Report.head`), or send the records to another machine as they happen.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.store.records import AuditEntry, AuditRecord
from lockgate.server.store.tables import audit, audit_ends, flow_pieces
from lockgate.server.vault import Vault

ZERO = bytes(32)
HEAD, ANCHOR, FLOWS = "head", "anchor", "flows"
ADOPTED = 5000  # records of an earlier release per step

_ENTRY = tuple(field.name for field in fields(AuditEntry))
_READ = (audit.c.number, audit.c.position, audit.c.mac, *(audit.c[name] for name in _ENTRY))
_ADD = insert(audit).inline()
_END = select(audit_ends).where(audit_ends.c.name == bindparam("which"))
_MOVE = (
    update(audit_ends)
    .where(audit_ends.c.name == bindparam("which"))
    .values(
        number=bindparam("new_number"),
        position=bindparam("new_position"),
        record_mac=bindparam("new_record_mac"),
        mac=bindparam("new_mac"),
    )
)
_PUT = insert(audit_ends).values(
    name=bindparam("which"),
    number=bindparam("new_number"),
    position=bindparam("new_position"),
    record_mac=bindparam("new_record_mac"),
    mac=bindparam("new_mac"),
)
# Only from where it was left: all that a place consists of is compared.
_MOVE_ON = _MOVE.where(
    audit_ends.c.number == bindparam("old_number"),
    audit_ends.c.position == bindparam("old_position"),
    audit_ends.c.record_mac == bindparam("old_record_mac"),
    audit_ends.c.mac == bindparam("old_mac"),
)


@dataclass(frozen=True, slots=True)
class End:
    """A place in the chain: just behind the record with that number."""

    number: int
    position: int
    mac: bytes  # of the record

    @classmethod
    def behind(cls, last: AuditRecord) -> End:
        return cls(last.number, last.position, last.mac)


START = End(0, 0, ZERO)


class Chain:
    """Appends to the chain, within the caller's transaction, and knows what it must look like."""

    def __init__(self, vault: Vault) -> None:
        self._record_key = vault.subkey("audit-record")
        self._end_key = vault.subkey("audit-end")
        # Where this process left the chain, with the MAC of that place. Whether it still ends there is for
        # the database to say: others may have written, and what was written here may have been undone.
        self._left: tuple[End, bytes] | None = None

    def append(self, connection: Connection, entry: AuditEntry) -> AuditRecord:
        """Adds the record after the last one. ProblemError when the end of the chain was tampered with:
        to go on would make it look right again."""
        return self.append_all(connection, [entry])[-1]

    def append_all(self, connection: Connection, entries: Sequence[AuditEntry]) -> list[AuditRecord]:
        """`append`, several in order."""
        if not entries:
            return []
        left = self._left
        if left is not None:
            records, rows = self._following(left[0], entries)
            if self._move_on(connection, left, records[-1]):
                connection.execute(_ADD, rows)
                return records
        records, rows = self._following(self.head(connection), entries)
        connection.execute(_ADD, rows)
        end = End.behind(records[-1])
        self.move(connection, HEAD, end)
        self._left = end, self._seal(HEAD, end)
        return records

    def _following(
        self, end: End, entries: Sequence[AuditEntry]
    ) -> tuple[list[AuditRecord], list[dict[str, Any]]]:
        records, rows = [], []
        for entry in entries:
            end, row = self.follow(end, entry)
            records.append(AuditRecord(end.number, entry, end.position, end.mac))
            rows.append(row)
        return records, rows

    def _move_on(self, connection: Connection, left: tuple[End, bytes], to: AuditRecord) -> bool:
        """Moves the end of the chain if it is where we left it."""
        before, mac = left
        end = End.behind(to)
        sealed = self._seal(HEAD, end)
        values = {
            **_place(HEAD, end, sealed),
            "old_number": before.number,
            "old_position": before.position,
            "old_record_mac": before.mac,
            "old_mac": mac,
        }
        if connection.execute(_MOVE_ON, values).rowcount == 0:
            return False
        self._left = end, sealed
        return True

    def follow(self, before: End, entry: AuditEntry) -> tuple[End, dict[str, Any]]:
        """The place of `entry` behind `before`, and its row."""
        number = before.number + 1
        form = canonical(number, entry)
        position = before.position + weight(entry, form)
        mac = self.mac(before.mac, form)
        row = {name: getattr(entry, name) for name in _ENTRY}
        return End(number, position, mac), {**row, "number": number, "position": position, "mac": mac}

    def mac(self, before: bytes, form: bytes) -> bytes:
        return hmac.digest(self._record_key, before + form, "sha256")

    def head(self, connection: Connection) -> End:
        """The end of the chain. ProblemError when it is not there or not ours."""
        row = connection.execute(_END, {"which": HEAD}).first()
        end = self.judge(row)
        if end is None:
            raise _damaged("end")
        return end

    def anchor(self, connection: Connection) -> End:
        """Where the chain begins: behind the last record that was removed. ProblemError as for `head`."""
        row = connection.execute(_END, {"which": ANCHOR}).first()
        end = START if row is None else self.judge(row)
        if end is None:
            raise _damaged("beginning")
        return end

    def flows_place(self, connection: Connection) -> End:
        """Up to which record flows were removed. ProblemError as for `head`."""
        place = self.flows_removed(connection)
        if place is None:
            raise _damaged("beginning of the flows")
        return place

    def flows_removed(self, connection: Connection) -> End | None:
        """`flows_place`, None where it is not ours."""
        row = connection.execute(_END, {"which": FLOWS}).first()
        return START if row is None else self.judge(row)

    def end(self, connection: Connection, which: str) -> tuple[End | None, bool]:
        """An end of the chain as it is stored (None: not there), and whether it is ours."""
        row = connection.execute(_END, {"which": which}).first()
        if row is None:
            return None, False
        return End(row.number, row.position, bytes(row.record_mac)), self.judge(row) is not None

    def judge(self, row: Row[Any] | None) -> End | None:
        if row is None:
            return None
        end = End(row.number, row.position, bytes(row.record_mac))
        return end if hmac.compare_digest(self._seal(row.name, end), bytes(row.mac)) else None

    def move(self, connection: Connection, which: str, end: End) -> None:
        """Stores a new end of the chain."""
        place = _place(which, end, self._seal(which, end))
        if connection.execute(_MOVE, place).rowcount == 0:
            connection.execute(_PUT, place)

    def adopt(self, connection: Connection) -> None:
        """Gives the records of an earlier release, which have no MAC, their place in the chain. For the
        transaction that made the tables, and no other: later it would forgive everything."""
        end = START
        while True:
            rows = connection.execute(
                select(*_READ).where(audit.c.number > end.number).order_by(audit.c.number).limit(ADOPTED)
            ).all()
            if not rows:
                break
            changes = []
            for row in rows:
                end, new = self.follow(end, record(row).entry)
                changes.append({"which": row.number, "place": new["position"], "proof": new["mac"]})
            connection.execute(_ADOPT, changes)
        connection.execute(delete(audit_ends))
        self.move(connection, HEAD, end)

    def accept(self, connection: Connection, entry: AuditEntry) -> AuditRecord:
        """Goes on after damage: the chain begins anew behind the last record there is, and `entry` says
        so. Older records stay to be read, and are not verified any more."""
        newest = select(*_READ).order_by(audit.c.number.desc()).limit(1)
        row = connection.execute(newest).first()
        head, ours = self.end(connection, HEAD)
        end = START
        if row is not None:
            end = End.behind(record(row))
        if head is not None and ours and head.number > end.number:
            end = head  # numbers that were given are not given again
        self.move(connection, ANCHOR, end)
        self.move(connection, HEAD, end)
        if self.flows_removed(connection) is None:
            self.move(connection, FLOWS, START)
        connection.execute(delete(flow_pieces).where(flow_pieces.c.record > end.number))
        return self.append(connection, entry)

    def seal(self, key: str, text: str, number: int) -> bytes:
        """Of a text that was stored together with the record `number`. With the ends' key: their forms have a number
        where this one has its text."""
        return hmac.digest(self._end_key, json.dumps([key, text, number]).encode(), "sha256")

    def _seal(self, which: str, end: End) -> bytes:
        form = json.dumps([which, end.number, end.position, end.mac.hex()]).encode()
        return hmac.digest(self._end_key, form, "sha256")


_ADOPT = (
    update(audit)
    .where(audit.c.number == bindparam("which"))
    .values(position=bindparam("place"), mac=bindparam("proof"))
)


def _place(which: str, end: End, sealed: bytes) -> dict[str, Any]:
    """What `_MOVE` and `_PUT` are executed with."""
    return {
        "which": which,
        "new_number": end.number,
        "new_position": end.position,
        "new_record_mac": end.mac,
        "new_mac": sealed,
    }


def weight(entry: AuditEntry, form: bytes) -> int:
    """What a record counts for where the audit's size is bounded. Flows are bounded apart (`flows`): their records
    are almost nothing here, so that they never push out others."""
    return 1 if entry.log == "flows" else len(form)


def canonical(number: int, entry: AuditEntry) -> bytes:
    """One form for one record: a JSON list of its number and the fields of `AuditEntry` in their order."""
    return json.dumps(
        [
            number,
            float(entry.time),  # a column of floats gives whole numbers back as floats
            entry.event,
            entry.outcome,
            entry.reason,
            entry.user,
            entry.source,
            entry.session,
            entry.text,
            entry.log,
            entry.actor,
            entry.revision,
        ],
        separators=(",", ":"),
    ).encode()


def record(row: Row[Any]) -> AuditRecord:
    """A row of `columns()`."""
    values: tuple[Any, ...] = tuple(row)
    return AuditRecord(values[0], AuditEntry(*values[3:]), values[1], bytes(values[2]))


def columns() -> tuple[Any, ...]:
    """What `record` reads."""
    return _READ


def _damaged(which: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="audit-damaged",
            summary=f"The {which} of the audit was removed or changed by somebody else.",
            fix="`lockgate audit verify` shows more; restore a backup, or go on with `lockgate audit accept`, "
            "which is written down.",
        )
    )
