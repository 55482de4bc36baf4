"""From text to expression, by recursive descent over a bounded text to a bounded depth."""

from __future__ import annotations

from lockgate.model.expression import AllOf, AnyOf, Comparison, Expression, Field, Not, Term, Value
from lockgate.policy.expressions.tokens import ExpressionError, Kind, Token, tokens
from lockgate.policy.expressions.values import value

MAX_LENGTH = 4000  # characters, as the setting allows
MAX_DEPTH = 32  # of parentheses and NOT; what people write has about four
MAX_TERMS = 500  # comparisons, and members of lists
MAX_PART = 64  # characters of an attribute's name, as in other conditions

_FIELDS = {field.value.lower(): field for field in Field}
TIME_PARTS = ("hour", "minute", "day", "date")
CERTIFICATE_PARTS = ("serialNumber", "issuer", "fingerprint")
_NAMED = {Field.USER_ATTR, Field.CERT_DN, Field.CERT_ATTR}
_TIMES = {Field.TIME, Field.LOGIN_TIME}
_ORDERING = {Comparison.LESS, Comparison.AT_MOST, Comparison.GREATER, Comparison.AT_LEAST}


def parse(text: str) -> Expression:
    """The expression that `text` is. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(MAX_LENGTH, f"{len(text)} characters are more than {MAX_LENGTH}")
    return _Parser(list(tokens(text))).whole()


class _Parser:
    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self._at = 0
        self._depth = 0
        self._terms = 0

    def whole(self) -> Expression:
        result = self._any()
        if self._next.kind is not Kind.END:
            raise self._wrong(f"{self._next} cannot stand here; AND or OR joins two comparisons")
        return result

    @property
    def _next(self) -> Token:
        return self._words[self._at]

    def _take(self) -> Token:
        token = self._next
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def _wrong(self, wrong: str) -> ExpressionError:
        return ExpressionError(self._next.position, wrong)

    def _any(self) -> Expression:
        parts = [self._all()]
        while self._next.is_word("OR"):
            self._take()
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Expression:
        parts = [self._single()]
        while self._next.is_word("AND"):
            self._take()
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _single(self) -> Expression:
        if not (self._next.kind is Kind.OPEN or self._next.is_word("NOT")):
            return self._term()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"parentheses and NOT are more than {MAX_DEPTH} deep")
        result: Expression
        if self._take().kind is Kind.OPEN:
            result = self._any()
            self._expect_close()
        else:
            result = Not(self._single())
        self._depth -= 1
        return result

    def _expect_close(self) -> None:
        if self._next.kind is not Kind.CLOSE:
            raise self._wrong(f"{self._next} stands where ) is missing")
        self._take()

    def _term(self) -> Term:
        field, part = self._field()
        operator = self._next
        if operator.kind is Kind.OPERATOR:
            comparison = Comparison(operator.text)
        elif operator.is_word("IN"):
            comparison = Comparison.IN
        else:
            raise self._wrong(f"{operator} stands where =, !=, <, <=, >, >= or in belongs")
        self._take()
        listed = self._next.kind is Kind.OPEN
        if comparison in _ORDERING and (listed or not _ordered(field, part)):
            raise ExpressionError(
                operator.position,
                f"{comparison} compares one number of an attribute, a time, an hour, a minute or a date",
            )
        return Term(field, part, comparison, self._values(field, part, comparison in _ORDERING, listed))

    def _field(self) -> tuple[Field, str]:
        token = self._next
        if token.kind is not Kind.WORD or token.is_word("AND", "OR", "NOT", "IN"):
            raise self._wrong(f"{token} stands where a field such as user or group belongs")
        head, dot, part = token.text.partition(".")
        field = _FIELDS.get(head.lower())
        if field is None:
            raise self._wrong(f"{token} is no field; there are {', '.join(Field)}")
        self._take()
        quoted = self._next
        if dot and not part and field in _NAMED and quoted.kind is Kind.TEXT:
            if quoted.position != token.position + len(token.text) or len(quoted.pieces) != 1:
                raise ExpressionError(quoted.position, "a name follows the dot at once and has no *")
            self._take()
            part = quoted.pieces[0]
        return field, _part(field, part, bool(dot), token.position)

    def _values(self, field: Field, part: str, ordering: bool, listed: bool) -> tuple[Value, ...]:
        if not listed:
            return (self._value(field, part, ordering),)
        self._take()
        result = [self._value(field, part, ordering)]
        while self._next.kind is Kind.COMMA:
            self._take()
            result.append(self._value(field, part, ordering))
        self._expect_close()
        return tuple(result)

    def _value(self, field: Field, part: str, ordering: bool) -> Value:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise self._wrong(f"more than {MAX_TERMS} comparisons")
        if self._next.kind not in (Kind.WORD, Kind.TEXT) or self._next.is_word("AND", "OR", "NOT", "IN"):
            raise self._wrong(f"{self._next} stands where a value belongs")
        return value(self._take(), field, part, ordering)


def _ordered(field: Field, part: str) -> bool:
    return field in _NAMED or (field in _TIMES and part != "day")


def _part(field: Field, part: str, dot: bool, position: int) -> str:
    """The name after the dot as it is kept."""
    if field in (Field.USER_ATTR, Field.CERT_DN):
        if not 1 <= len(part) <= MAX_PART:
            raise ExpressionError(
                position, f"{field} is followed by a dot and a name of 1 to {MAX_PART} characters"
            )
        return part
    allowed = {Field.CERT_ATTR: CERTIFICATE_PARTS, Field.TIME: TIME_PARTS, Field.LOGIN_TIME: TIME_PARTS}.get(
        field, ()
    )
    if not dot and field is not Field.CERT_ATTR:
        return ""
    known = next((each for each in allowed if each.lower() == part.lower()), None)
    if known is None:
        choices = " or ".join(f"{field}.{each}" for each in allowed)
        raise ExpressionError(position, f"there is {choices}" if choices else f"{field} has no parts")
    return known
