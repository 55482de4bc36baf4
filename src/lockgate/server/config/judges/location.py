"""The language of location expressions: names of rules with AND, OR, NOT and parentheses.

A name with spaces stands in double quotes. NOT binds tightest, then AND, then OR.
"""

from __future__ import annotations

import re

MAX_DEPTH = 16
_TOKEN = re.compile(r'\s*(?:([()])|"([^"]+)"|([^\s()"]+))')
_WORDS = ("AND", "OR", "NOT")


class LocationError(ValueError):
    """Says what is wrong and where."""


def names_in(text: str) -> set[str]:
    """The names that an expression uses. Raises LocationError when it is none."""
    parser = _Parser(_tokens(text))
    parser.alternatives(0)
    parser.end()
    return parser.names


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text): kind is "name" or the token itself."""
    tokens: list[tuple[str, str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise LocationError(f"at character {at + 1}: a quote that does not end")
        mark, quoted, word = found.groups()
        if mark:
            tokens.append((mark, mark))
        elif word is not None and word.upper() in _WORDS:
            tokens.append((word.upper(), word))
        else:
            tokens.append(("name", quoted if quoted is not None else word))
        at = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._at = tokens, 0
        self.names: set[str] = set()

    def alternatives(self, depth: int) -> None:
        self._all(depth)
        while self._take("OR"):
            self._all(depth)

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise LocationError(f"{self._tokens[self._at][1]!r} does not belong there")

    def _all(self, depth: int) -> None:
        self._one(depth)
        while self._take("AND"):
            self._one(depth)

    def _one(self, depth: int) -> None:
        while self._take("NOT"):
            pass
        if depth >= MAX_DEPTH:
            raise LocationError(f"parentheses are nested more than {MAX_DEPTH} deep")
        if self._take("("):
            self.alternatives(depth + 1)
            if not self._take(")"):
                raise LocationError("a parenthesis does not end")
            return
        if self._at >= len(self._tokens) or self._tokens[self._at][0] != "name":
            raise LocationError("the name of a rule is missing")
        self.names.add(self._tokens[self._at][1])
        self._at += 1

    def _take(self, kind: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == kind:
            self._at += 1
            return True
        return False
