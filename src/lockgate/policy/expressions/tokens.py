"""The words of an expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lockgate.model.text import printable

_SPACE = " \t\r\n"
_QUOTES = "\"'"
_OPERATORS = ("!=", "<=", ">=", "=", "<", ">")
# What people write who know other languages, and what is written here.
_FOREIGN = {"&": "AND", "|": "OR", "!": "NOT", "~": "= and a text with *"}
_ENDS_WORD = frozenset(_SPACE + _QUOTES + "()=<>,!&|~")


class ExpressionError(ValueError):
    """position: of the character it is about, 0 .. length of the text. wrong: a sentence without a full stop."""

    def __init__(self, position: int, wrong: str) -> None:
        super().__init__(f"at character {position + 1}: {wrong}")
        self.position = position
        self.wrong = wrong


class Kind(Enum):
    WORD = "word"
    TEXT = "text"
    OPERATOR = "operator"
    OPEN = "("
    CLOSE = ")"
    COMMA = ","
    END = "the end"


@dataclass(frozen=True, slots=True)
class Token:
    """text: as written; of a TEXT the pieces between wildcards are in `pieces`."""

    kind: Kind
    position: int
    text: str
    pieces: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "the end" if self.kind is Kind.END else printable(self.text, 40)

    def is_word(self, *words: str) -> bool:
        """words: in upper case."""
        return self.kind is Kind.WORD and self.text.upper() in words


def tokens(text: str) -> Iterator[Token]:
    """All of them, an END last. Raises ExpressionError where no word can be made of the text."""
    at = 0
    while at < len(text):
        character = text[at]
        if character in _SPACE:
            at += 1
        elif character in _QUOTES:
            token = _text(text, at)
            yield token
            at += len(token.text)
        elif character in "(),":
            yield Token(Kind(character), at, character)
            at += 1
        elif operator := next((each for each in _OPERATORS if text.startswith(each, at)), None):
            if operator == "=" and text.startswith("==", at):
                raise ExpressionError(at, "== is written = here")
            yield Token(Kind.OPERATOR, at, operator)
            at += len(operator)
        elif character in _FOREIGN:
            raise ExpressionError(at, f"{character} is written {_FOREIGN[character]} here")
        elif not character.isprintable():
            raise ExpressionError(at, f"the character {printable(character, 12)} cannot stand here")
        else:
            end = at
            while end < len(text) and text[end] not in _ENDS_WORD and text[end].isprintable():
                end += 1
            yield Token(Kind.WORD, at, text[at:end])
            at = end
    yield Token(Kind.END, len(text), "")


def _text(text: str, start: int) -> Token:
    """The text in quotes that begins at `start`."""
    quote = text[start]
    pieces: list[str] = []
    piece: list[str] = []
    at = start + 1
    while at < len(text):
        character = text[at]
        if character == quote:
            pieces.append("".join(piece))
            return Token(Kind.TEXT, start, text[start : at + 1], tuple(pieces))
        if character == "\\":
            at += 1
            if at == len(text) or text[at] not in '\\"' + "'*":
                raise ExpressionError(
                    at - 1, "after \\ there must be \\, *, \" or '; a backslash is written \\\\"
                )
            piece.append(text[at])
        elif character == "*":
            pieces.append("".join(piece))
            piece = []
        elif not character.isprintable():
            raise ExpressionError(at, f"the character {printable(character, 12)} cannot stand in a text")
        else:
            piece.append(character)
        at += 1
    raise ExpressionError(start, "the text has no closing quote")
