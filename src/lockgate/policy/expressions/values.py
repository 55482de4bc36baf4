"""What a field is compared with: one reader for every kind of field."""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_network

from lockgate.model.expression import DAYS, MINUTES, Clock, Days, Field, Value
from lockgate.model.pattern import Pattern
from lockgate.policy.expressions.tokens import ExpressionError, Kind, Token

_NUMBER = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2})", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def number(text: str) -> int | None:
    """A whole number of at most 15 digits, or None. No other text counts as one."""
    return int(text) if _NUMBER.fullmatch(text) else None


def value(token: Token, field: Field, part: str, ordering: bool) -> Value:
    """The token as a value of that field. ordering: for < and its like."""
    if field is Field.SOURCE_IP:
        return _network(token)
    if field in (Field.TIME, Field.LOGIN_TIME):
        text = _plain(token)
        if part == "":
            return _clock(token, text, ordering)
        if part == "day":
            return _days(token, text)
        if part == "date":
            return _date(token, text)
        return _whole(token, text, 23 if part == "hour" else 59)
    numbers = field in (Field.USER_ATTR, Field.CERT_DN, Field.CERT_ATTR)
    if token.kind is Kind.WORD and numbers and (found := number(token.text)) is not None:
        return found
    if ordering:
        raise ExpressionError(token.position, f"{token} is not a whole number")
    if token.kind is Kind.WORD:
        raise ExpressionError(token.position, f"{token} is written in quotes")
    return Pattern(token.pieces)


def _plain(token: Token) -> str:
    """A word, or the same in quotes."""
    if token.kind is Kind.WORD:
        return token.text
    return "*".join(token.pieces)


def _network(token: Token) -> Value:
    text = _plain(token)
    try:
        return ip_network(text)
    except ValueError:
        raise ExpressionError(
            token.position, f"{token} is neither an address nor a network such as 192.0.2.0/24"
        ) from None


def _minute(text: str, last: int) -> int | None:
    """Minutes since midnight, 0 .. last."""
    match = _CLOCK.fullmatch(text)
    if match is None or int(match[2]) > 59:
        return None
    minute = int(match[1]) * 60 + int(match[2])
    return minute if minute <= last else None


def _clock(token: Token, text: str, ordering: bool) -> Clock:
    begin, dash, end = text.partition("-")
    first = _minute(begin, MINUTES - 1)
    if first is not None and not dash:
        return Clock(first, first)
    stop = _minute(end, MINUTES)
    if first is None or stop is None or ordering or first == stop:
        wanted = "a time of day such as 08:00" + ("" if ordering else " or a range such as 08:00-18:00")
        raise ExpressionError(token.position, f"{token} is not {wanted}")
    return Clock(first, (stop - 1) % MINUTES)


def _days(token: Token, text: str) -> Days:
    begin, dash, end = text.partition("-")
    names = [day.lower() for day in DAYS]
    try:
        return Days(names.index(begin.lower()), names.index((end if dash else begin).lower()))
    except ValueError:
        raise ExpressionError(
            token.position, f"{token} is not a day from Mon to Sun or a range such as Mon-Fri"
        ) from None


def _date(token: Token, text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ExpressionError(token.position, f"{token} is not a date such as 2026-12-31")


def _whole(token: Token, text: str, most: int) -> int:
    found = number(text)
    if found is None or not 0 <= found <= most:
        raise ExpressionError(token.position, f"{token} is not a whole number from 0 to {most}")
    return found
