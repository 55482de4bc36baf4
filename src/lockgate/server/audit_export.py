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

_FIELDS = tuple(field.name for field in fields(AuditEntry))
COLUMNS = ("number", "when", *_FIELDS, "mac")


def as_dict(record: AuditRecord) -> dict[str, Any]:
    """A record for JSON: `time` in seconds since 1970, `when` the same in UTC, `mac` in hexadecimal digits."""
    entry = record.entry
    when = datetime.fromtimestamp(entry.time, UTC)
    return {
        "number": record.number,
        "when": f"{when:%Y-%m-%dT%H:%M:%S.%f}Z",
        **{name: getattr(entry, name) for name in _FIELDS},
        # A number that JavaScript would round.
        "session": None if entry.session is None else str(entry.session),
        "mac": record.mac.hex(),
    }


async def lines(
    records: AsyncIterator[AuditRecord], form: Format, *, host_name: str = ""
) -> AsyncIterator[str]:
    """The text of `records`, line by line, each with its end. host_name: of syslog messages."""
    if form == "csv":
        yield _csv_line(COLUMNS)
    async for record in records:
        if form == "jsonl":
            yield json.dumps(as_dict(record), ensure_ascii=False) + "\n"
        elif form == "csv":
            row = as_dict(record)
            yield _csv_line([_cell(row[name]) for name in COLUMNS])
        else:
            yield (
                message(record.entry, facility="local0", host_name=host_name, number=record.number).decode()
                + "\n"
            )


def _csv_line(values: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # RFC 4180
    return text.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    # A spreadsheet would calculate what others typed as their name.
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t")) else text
