"""What several modules of statements need. Nothing here speaks one database's dialect."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, Text, cast

from lockgate.model.facts import SignInFacts

# Values in one statement: SQLite's own bound on host parameters is 32,766.
CHUNK = 500


SEPARATOR = "\x1f"
"""Between the texts of a row that are searched as one: never in a printable text."""


def contains(text: str, *columns: Column[Any]) -> ColumnElement[bool]:
    """Whether `text` stands anywhere in one of the columns, letters in either case (with SQLite those of
    ASCII only). No column may be null."""
    first, *others = columns
    whole: ColumnElement[Any] = cast(first, Text)
    for column in others:
        whole = whole + SEPARATOR + column
    return whole.icontains(text, autoescape=True)


def row_of(record: object, table: Table) -> dict[str, Any]:
    """The fields of a record that the columns of `table` are called after."""
    return {column.name: getattr(record, column.name) for column in table.c}


def facts_text(facts: SignInFacts | None) -> str | None:
    return None if facts is None else json.dumps(facts.as_dict())


def facts_of(text: str | None) -> SignInFacts | None:
    return None if text is None else SignInFacts.from_dict(json.loads(text))
