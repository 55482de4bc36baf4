"""Whether an expression holds for somebody, and which comparisons decided it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from lockgate.model.decision import Reason
from lockgate.model.expression import (
    DAYS,
    AllOf,
    AnyOf,
    Clock,
    Comparison,
    Days,
    Expression,
    Field,
    Not,
    Term,
)
from lockgate.model.facts import SignInFacts
from lockgate.model.pattern import fold
from lockgate.policy.expressions.render import field_name, render
from lockgate.policy.expressions.values import number
from lockgate.policy.subject import Subject, shown

_ORDER: dict[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.GREATER: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


def evaluate(
    expression: Expression, facts: SignInFacts, now: datetime, roles: tuple[str, ...] = ()
) -> tuple[bool, tuple[Reason, ...]]:
    """Whether it holds, with the comparisons that decided it.

    now: with the gateway's offset from UTC. roles: what earlier rules gave.
    """
    notes: list[Reason] = []
    result = holds(expression, Subject(facts, now, facts.certificate, roles), notes)
    return result, tuple(notes)


def holds(
    expression: Expression, subject: Subject, notes: list[Reason] | None, path: str = "", wanted: bool = True
) -> bool:
    """As `evaluate`; reasons go to `notes` where there is one. wanted: what speaks for the person."""
    match expression:
        case Term():
            result = (
                not _fits(expression, subject)
                if expression.comparison is Comparison.UNEQUAL
                else _fits(expression, subject)
            )
            if notes is not None:
                verb = "holds" if result else "does not hold"
                notes.append(
                    Reason(
                        f"{render(expression)} {verb}: {_facts(expression, subject)}", path, result is wanted
                    )
                )
            return result
        case Not():
            return not holds(expression.inner, subject, notes, path, not wanted)
        case AllOf():
            return _decide(expression.parts, False, subject, notes, path, wanted)
        case AnyOf():
            return _decide(expression.parts, True, subject, notes, path, wanted)


def uses_time(expression: Expression) -> bool:
    """Whether a clock is looked at."""
    match expression:
        case Term():
            return expression.field in (Field.TIME, Field.LOGIN_TIME)
        case Not():
            return uses_time(expression.inner)
        case AllOf() | AnyOf():
            return any(uses_time(part) for part in expression.parts)


def _decide(
    parts: tuple[Expression, ...],
    decisive: bool,
    subject: Subject,
    notes: list[Reason] | None,
    path: str,
    wanted: bool,
) -> bool:
    """Part by part until one has the decisive value; that one alone is the reason then, else all are."""
    begin = 0 if notes is None else len(notes)
    for part in parts:
        before = 0 if notes is None else len(notes)
        if holds(part, subject, notes, path, wanted) is decisive:
            if notes is not None:
                del notes[begin:before]
            return decisive
    return not decisive


def _fits(term: Term, subject: Subject) -> bool:
    if term.field in (Field.TIME, Field.LOGIN_TIME):
        return _time_fits(term, subject.now if term.field is Field.TIME else subject.signed_in)
    if term.field is Field.SOURCE_IP:
        address = subject.address
        return address is not None and any(
            address in network  # type: ignore[operator]
            for network in term.values
        )
    order = _ORDER.get(term.comparison)
    if order is not None:
        limit = term.values[0]
        numbers = (number(text) for text in _texts(term, subject))
        return any(value is not None and order(value, limit) for value in numbers)
    others = len(term.patterns.all) < len(term.values)
    for text in _folded(term, subject):
        if term.patterns.match(text) or (others and number(text) in term.values):
            return True
    return False


def _texts(term: Term, subject: Subject) -> tuple[str, ...]:
    """The values that somebody has, as they were given."""
    facts = subject.facts
    match term.field:
        case Field.USER:
            return (facts.user,)
        case Field.GROUP:
            return facts.groups
        case Field.USER_ATTR:
            return subject.attribute(term.part)
        case Field.CERT_DN:
            return subject.subject_name(term.part)
        case Field.CERT_ATTR:
            certificate = subject.certificate
            if certificate is None:
                return ()
            return (
                {
                    "serialNumber": certificate.serial,
                    "issuer": certificate.issuer,
                    "fingerprint": certificate.fingerprint,
                }[term.part],
            )
        case Field.USER_AGENT:
            return (facts.user_agent,)
        case Field.HOST_NAME:
            return (facts.host_name,)
        case Field.REALM:
            return (facts.realm,)
        case Field.ROLE:
            return subject.roles
        case _:
            return (facts.source,)


def _folded(term: Term, subject: Subject) -> tuple[str, ...]:
    match term.field:
        case Field.USER:
            return (subject.user,)
        case Field.GROUP:
            return subject.groups
        case Field.USER_ATTR:
            return subject.folded("attribute", term.part)
        case Field.CERT_DN:
            return subject.folded("subject", term.part)
        case Field.USER_AGENT:
            return (subject.user_agent,)
        case _:
            return tuple(fold(text) for text in _texts(term, subject))


def _time_fits(term: Term, moment: datetime) -> bool:
    minute = moment.hour * 60 + moment.minute
    order = _ORDER.get(term.comparison)
    if order is not None:
        limit = term.values[0]
        if isinstance(limit, Clock):
            return order(minute, limit.first)
        return order(_time_part(term, moment), limit)
    for each in term.values:
        if isinstance(each, Clock):
            if minute in each:
                return True
        elif isinstance(each, Days):
            if moment.weekday() in each:
                return True
        elif _time_part(term, moment) == each:
            return True
    return False


def _time_part(term: Term, moment: datetime) -> int | date:
    match term.part:
        case "hour":
            return moment.hour
        case "minute":
            return moment.minute
        case _:
            return moment.date()


def _facts(term: Term, subject: Subject) -> str:
    """What there is, for a reason."""
    match term.field:
        case Field.TIME | Field.LOGIN_TIME:
            moment = subject.now if term.field is Field.TIME else subject.signed_in
            # The name of the day is ours: the platform's follows its language.
            return f"it {'is' if term.field is Field.TIME else 'was'} {DAYS[moment.weekday()]} {moment:%Y-%m-%d %H:%M %z}"
        case Field.CERT_DN | Field.CERT_ATTR if subject.certificate is None:
            return "there is no certificate"
        case _:
            return f"{field_name(term)} is {shown(_texts(term, subject))}"
