"""From expression to text: `parse` of it is the same expression."""

from __future__ import annotations

import re
from datetime import date

from lockgate.model.expression import (
    DAYS,
    MINUTES,
    AllOf,
    AnyOf,
    Clock,
    Days,
    Expression,
    Field,
    Not,
    Term,
    Value,
)
from lockgate.model.pattern import Pattern

_PLAIN_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "*": "\\*"})


def render(expression: Expression) -> str:
    """The expression as text, with no more parentheses than it needs."""
    match expression:
        case Term():
            return _term(expression)
        case Not():
            return f"NOT {_inside(expression.inner, AllOf, AnyOf)}"
        case AllOf():
            return " AND ".join(_inside(part, AllOf, AnyOf) for part in expression.parts)
        case AnyOf():
            return " OR ".join(_inside(part, AnyOf) for part in expression.parts)


def _inside(part: Expression, *bracketed: type) -> str:
    text = render(part)
    return f"({text})" if isinstance(part, bracketed) else text


def _term(term: Term) -> str:
    values = ", ".join(_value(each) for each in term.values)
    return f"{field_name(term)} {term.comparison} {f'({values})' if len(term.values) > 1 else values}"


def field_name(term: Term) -> str:
    """The field with its part, as it is written."""
    if not term.part:
        return str(term.field)
    plain = term.field not in (Field.USER_ATTR, Field.CERT_DN) or _PLAIN_PART.fullmatch(term.part)
    return f"{term.field}.{term.part if plain else _quoted((term.part,))}"


def _quoted(pieces: tuple[str, ...]) -> str:
    return '"' + "*".join(piece.translate(_ESCAPED) for piece in pieces) + '"'


def _value(value: Value) -> str:
    match value:
        case Pattern():
            return _quoted(value.pieces)
        case Clock():
            if value.first == value.last:
                return _clock(value.first)
            end = value.last + 1
            # A range to midnight ends at 24:00, except that nothing but a time of day begins one.
            return f"{_clock(value.first)}-{'24:00' if end == MINUTES else _clock(end)}"
        case Days():
            first, last = DAYS[value.first], DAYS[value.last]
            return first if value.first == value.last else f"{first}-{last}"
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
