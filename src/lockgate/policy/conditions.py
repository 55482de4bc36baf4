"""Whether the condition of a role mapping rule holds."""

from __future__ import annotations

from lockgate.model.decision import Reason
from lockgate.model.pattern import Patterns
from lockgate.model.policy import (
    AttributeCondition,
    CertificateCondition,
    Condition,
    ExpressionCondition,
    GroupCondition,
    UserNameCondition,
)
from lockgate.model.text import printable
from lockgate.policy import expressions
from lockgate.policy.subject import MAX_TEXT, Subject, shown


def holds(condition: Condition, subject: Subject, notes: list[Reason] | None) -> bool:
    """notes: gets the reasons, with `ok` for what speaks for the rule."""
    match condition:
        case ExpressionCondition():
            return expressions.holds(condition.expression, subject, notes)
        case UserNameCondition():
            matched = condition.values.match(subject.user)
        case GroupCondition():
            matched = _any(condition.values, subject.groups)
        case AttributeCondition():
            matched = _any(condition.values, subject.folded("attribute", condition.attribute))
        case CertificateCondition():
            matched = _any(condition.values, subject.folded("subject", condition.attribute))
    result = matched is not condition.negate
    if notes is not None:
        notes.append(Reason(_describe(condition, subject), ok=result))
    return result


def _any(values: Patterns, texts: tuple[str, ...]) -> bool:
    return any(map(values.match, texts))


def _describe(
    condition: UserNameCondition | GroupCondition | AttributeCondition | CertificateCondition,
    subject: Subject,
) -> str:
    """What there is and what was asked for, in one sentence."""
    match condition:
        case UserNameCondition():
            what, has = "user name", printable(subject.facts.user, MAX_TEXT)
        case GroupCondition():
            what, has = "groups", shown(subject.facts.groups)
        case AttributeCondition():
            what, has = f"attribute {condition.attribute}", shown(subject.attribute(condition.attribute))
        case CertificateCondition():
            what = f"certificate {condition.attribute}"
            has = (
                "there is no certificate"
                if subject.certificate is None
                else shown(subject.subject_name(condition.attribute))
            )
    listed = condition.values.all
    several = len(listed) > 1
    kind = ("none of " if several else "not ") if condition.negate else "one of " if several else ""
    return f"{what}: {has}; wanted: {kind}{shown(str(pattern) for pattern in listed)}"
