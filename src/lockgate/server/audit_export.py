"""Records of the audit as text: JSON lines, CSV, syslog messages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Literal

from lockgate.server.store.interface import AuditEntry, AuditRecord
from lockgate.server.syslog import message

Format = Literal["jsonl", "csv", "syslog"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "syslog")
MEDIA_TYPES: dict[Format, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "syslog": "text/plain; charset=utf-8",
}

FLOW_COLUMNS = (
    "protocol", "device", "remote", "port", "allowed", "began", "first", "last",
    "packets_in", "bytes_in", "packets_out", "bytes_out", "rule", "cause", "roles",
)  # fmt: skip
_FIELDS = tuple(field.name for field in fields(AuditEntry))
COLUMNS = ("number", "when", *_FIELDS, "mac")


def flow_dict(record: AuditRecord) -> dict[str, Any] | None:
    """What a line is made of that is a flow; times in seconds since 1970, packets and bytes from the client ("in")
    and to it."""
    flow = record.flow
    if flow is None:
        return None
    began = "client" if flow.outbound else "network"
    known = {"began": began, "roles": list(record.roles)}
    return {name: known[name] if name in known else getattr(flow, name) for name in FLOW_COLUMNS}


def as_dict(record: AuditRecord) -> dict[str, Any]:
    """A record for JSON: `time` in seconds since 1970, `when` the same in UTC, `mac` in hexadecimal digits. A line
    that is a flow has `flow`."""
    entry = record.entry
    when = datetime.fromtimestamp(entry.time, UTC)
    return {
        "number": record.number,
        "when": f"{when:%Y-%m-%dT%H:%M:%S.%f}Z",
        **{name: getattr(entry, name) for name in _FIELDS},
        # A number that JavaScript would round.
        "session": None if entry.session is None else str(entry.session),
        "mac": record.mac.hex(),
        **({} if record.flow is None else {"flow": flow_dict(record)}),
    }


async def lines(
    records: AsyncIterator[AuditRecord], form: Format, *, host_name: str = "", flows: bool = False
) -> AsyncIterator[str]:
    """The text of `records`, line by line, each with its end. host_name: of syslog messages. flows: CSV has the
    columns of flows as well."""
    if form == "csv":
        yield _csv_line((*COLUMNS, *FLOW_COLUMNS) if flows else COLUMNS)
    async for record in records:
        if form == "jsonl":
            yield json.dumps(as_dict(record), ensure_ascii=False) + "\n"
        elif form == "csv":
            row = as_dict(record)
            cells = [_cell(row[name]) for name in COLUMNS]
            if flows:
                flow = flow_dict(record) or {}
                cells += [_cell(flow.get(name)) for name in FLOW_COLUMNS[:-1]]
                cells.append(_cell(", ".join(record.roles)))
            yield _csv_line(cells)
        else:
            told = message(
                record.entry,
                facility="local0",
                host_name=host_name,
                number=record.number,
                flow=record.flow,
            )
            yield told.decode() + "\n"


def _csv_line(values: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # RFC 4180
    return text.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    # A spreadsheet would calculate what others typed as their name.
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t")) else text
