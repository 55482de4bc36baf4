"""What is inside a backup: JSON lines, in this order.

{"lockgate": 1, "schema": "0006", "time": …, "postgresql": "…" or null}
{"file": "tls/server.pem", "mode": 384, "content": base64}      one for every file of D but the database
{"table": "accounts", "columns": [["server", "text"], …]}       then a list for every row of it
{"end": number of rows}
"""

from __future__ import annotations

import base64
import binascii
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockgate.server.backup.sealed_file import SealedReader, damaged
from lockgate.server.datadir import DataDirectory
from lockgate.server.store.tables import metadata

CONTENTS = 1
MAX_LINE = 1 << 28  # bytes: a revision, a blob or a piece of an upload, with room
ROWS = 500  # inserted at a time

# Folders of D that a backup has nothing of: the database comes as rows, sockets are nobody's.
LEFT_OUT = ("db", "run")
_TYPES: dict[str, type[sa.types.TypeEngine[Any]]] = {
    "bytes": sa.LargeBinary,
    "bool": sa.Boolean,
    "integer": sa.BigInteger,
    "float": sa.Float,
    "text": sa.Text,
}


def file_lines(directory: DataDirectory) -> Iterator[dict[str, Any]]:
    """Every regular file of D, hidden and left-out ones excepted. Links are not followed."""
    for path in sorted(directory.path.rglob("*")):
        parts = path.relative_to(directory.path).parts
        if parts[0] in LEFT_OUT or any(part.startswith(".") for part in parts):
            continue
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            content = base64.b64encode(path.read_bytes()).decode()
            yield {"file": "/".join(parts), "mode": stat.S_IMODE(status.st_mode), "content": content}


def table_lines(connection: Connection) -> Iterator[Any]:
    """Every row of every table, those first that others refer to; then how many there were."""
    total = 0
    for table in metadata.sorted_tables:
        kinds = [_kind(column) for column in table.columns]
        names = [column.name for column in table.columns]
        yield {"table": table.name, "columns": [list(each) for each in zip(names, kinds, strict=True)]}
        rows = connection.execution_options(yield_per=ROWS).execute(
            sa.select(table).order_by(*table.primary_key.columns)
        )
        binary = [kind == "bytes" for kind in kinds]
        for row in rows:
            yield [
                base64.b64encode(value).decode() if is_bytes and value is not None else value
                for value, is_bytes in zip(row, binary, strict=True)
            ]
            total += 1
    yield {"end": total}


def lines_of(reader: SealedReader) -> Iterator[Any]:
    """The lines of an opened backup. ProblemError for what is none."""
    waiting = bytearray()
    searched = 0  # bytes of it without a line end
    while True:
        block = reader.read_block()
        if not block:
            break
        waiting += block
        while (end := waiting.find(b"\n", searched)) >= 0:
            line = bytes(waiting[:end])
            del waiting[: end + 1]
            searched = 0
            yield _parse(line)
        searched = len(waiting)
        if searched > MAX_LINE:
            raise damaged("a line in it is too long")
    if waiting:
        raise damaged("its last line has no end")


def line(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def write_file(stage: Path, document: dict[str, Any]) -> None:
    """One of `file_lines`, below `stage`, for the owner only but for what was open to all."""
    name = document.get("file")
    parts = name.split("/") if isinstance(name, str) else []
    if (
        not parts
        or any(part.startswith(".") or not part or "\0" in part for part in parts)
        or parts[0] in LEFT_OUT
    ):
        raise damaged(f"it has a file of the name {name!r}")
    path = stage.joinpath(*parts)
    folder = stage
    for part in parts[:-1]:
        folder /= part
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        content = base64.b64decode(document["content"], validate=True)
        mode = int(document["mode"]) & 0o644 | 0o600
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise damaged(f"the file {name} in it cannot be read") from None
    with path.open("xb") as file:
        file.write(content)
    path.chmod(mode)


class TableWriter:
    """Puts rows of `table_lines` into tables that are there and empty."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._insert: Any = None
        self._columns: list[tuple[str, bool]] = []
        self._waiting: list[dict[str, Any]] = []
        self._tables: set[str] = set(sa.inspect(connection).get_table_names())
        self.rows = 0

    @property
    def begun(self) -> bool:
        return self._insert is not None

    def begin(self, document: dict[str, Any]) -> None:
        self.flush()
        name, columns = document.get("table"), document.get("columns")
        if name not in self._tables or not isinstance(columns, list):
            raise damaged(f"it has a table {name!r}")
        try:
            typed = [sa.column(column, _TYPES[kind]()) for column, kind in columns]
            self._columns = [(column, kind == "bytes") for column, kind in columns]
        except (TypeError, ValueError, KeyError):
            raise damaged(f"the columns of its table {name} cannot be read") from None
        self._insert = sa.insert(sa.table(name, *typed))

    def row(self, values: list[Any]) -> None:
        if self._insert is None or len(values) != len(self._columns):
            raise damaged("a row in it does not fit its table")
        try:
            self._waiting.append(
                {
                    name: base64.b64decode(value, validate=True) if is_bytes and value is not None else value
                    for value, (name, is_bytes) in zip(values, self._columns, strict=True)
                }
            )
        except (TypeError, ValueError, binascii.Error):
            raise damaged("a row in it cannot be read") from None
        self.rows += 1
        if len(self._waiting) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._connection.execute(self._insert, self._waiting)
            self._waiting = []


def head_of(lines: Iterator[Any]) -> dict[str, Any]:
    """The first line."""
    head = next(lines, None)
    if not isinstance(head, dict) or head.get("lockgate") != CONTENTS:
        raise damaged("its contents are of another kind")
    return head


def carry_over(lines: Iterator[Any], stage: Path, connection: Connection) -> tuple[int, int]:
    """All that follows the first line: files below `stage`, rows into the tables of `connection`, which
    are there and empty. How many of each."""
    writer = TableWriter(connection)
    files = 0
    for document in lines:
        if isinstance(document, list):
            writer.row(document)
        elif "file" in document and not writer.begun:
            # Which database is used is decided anew.
            if document["file"] != "store.toml":
                write_file(stage, document)
                files += 1
        elif "table" in document:
            writer.begin(document)
        elif "end" in document:
            writer.flush()
            if document["end"] != writer.rows or next(lines, None) is not None:
                raise damaged("it has not the rows it should have")
            return files, writer.rows
        else:
            raise damaged("a line in it is not understood")
    raise damaged("its end is missing")


def _parse(text: bytes) -> Any:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged("a line in it cannot be read") from None
    if not isinstance(document, dict | list):
        raise damaged("a line in it is not understood")
    return document


def _kind(column: sa.Column[Any]) -> str:
    match column.type:
        case sa.LargeBinary():
            return "bytes"
        case sa.Boolean():
            return "bool"
        case sa.Integer():
            return "integer"
        case sa.Float():
            return "float"
        case _:
            return "text"
