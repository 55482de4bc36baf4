"""Custom expressions as values: what `policy.expressions` reads, writes and evaluates."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as field_of
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from lockgate.model.pattern import Pattern, Patterns

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES = 24 * 60  # of a day


class Field(StrEnum):
    """What a term looks at. Some have parts: userAttr.NAME, certDN.NAME, certAttr.NAME, time.PART."""

    USER = "user"
    GROUP = "group"
    USER_ATTR = "userAttr"
    CERT_DN = "certDN"
    CERT_ATTR = "certAttr"
    SOURCE_IP = "sourceIP"
    USER_AGENT = "userAgent"
    HOST_NAME = "hostName"
    REALM = "realm"
    ROLE = "role"
    TIME = "time"
    LOGIN_TIME = "loginTime"


class Comparison(StrEnum):
    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    IN = "in"


@dataclass(frozen=True, slots=True)
class Clock:
    """Minutes of the day `first` .. `last`, 0 .. 1439, both included; over midnight where last is less."""

    first: int
    last: int

    def __contains__(self, minute: int) -> bool:
        if self.first <= self.last:
            return self.first <= minute <= self.last
        return minute >= self.first or minute <= self.last


@dataclass(frozen=True, slots=True)
class Days:
    """Days `first` .. `last`, Monday is 0, both included; over the week's end where last is less."""

    first: int
    last: int

    def __contains__(self, day: int) -> bool:
        if self.first <= self.last:
            return self.first <= day <= self.last
        return day >= self.first or day <= self.last


Value: TypeAlias = Pattern | int | IPv4Network | IPv6Network | Clock | Days | date


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. part: the name after the dot, "" for none. values: one of them is enough.

    patterns: those of the values that are texts, ready to match.
    """

    field: Field
    part: str
    comparison: Comparison
    values: tuple[Value, ...]
    patterns: Patterns = field_of(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = tuple(value for value in self.values if isinstance(value, Pattern))
        object.__setattr__(self, "patterns", Patterns(texts))


@dataclass(frozen=True, slots=True)
class Not:
    inner: Expression


@dataclass(frozen=True, slots=True)
class AllOf:
    """parts: at least two."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """parts: at least two."""

    parts: tuple[Expression, ...]


Expression: TypeAlias = Term | Not | AllOf | AnyOf
