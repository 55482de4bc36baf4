"""Patterns of text: * is any text, everything else is itself, whatever its case."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field


def fold(text: str) -> str:
    """The form in which texts are compared: that of canonical user names, without cutting or trimming."""
    if text.isascii():
        return text.lower()
    for _ in range(2):  # as user names: folding can leave what NFKC would change again
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return text


@dataclass(frozen=True, slots=True)
class Pattern:
    """Literal pieces with a * between each two; a single piece is an exact text.

    Matching takes every piece at its first possible place and never goes back, so that its cost grows
    with the length of text and pattern and not with the number of stars.
    """

    pieces: tuple[str, ...]
    folded: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folded", tuple(fold(piece) for piece in self.pieces))

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Every * in `text` is a wildcard."""
        return cls(tuple(text.split("*")))

    def __str__(self) -> str:
        return "*".join(self.pieces)

    def matches(self, folded: str) -> bool:
        """folded: the text as `fold` makes it."""
        first, last = self.folded[0], self.folded[-1]
        if len(self.folded) == 1:
            return folded == first
        end = len(folded) - len(last)
        at = len(first)
        if at > end or not folded.startswith(first) or not folded.endswith(last):
            return False
        for piece in self.folded[1:-1]:
            found = folded.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


@dataclass(frozen=True, slots=True)
class Patterns:
    """Several patterns, one of which is enough.

    They are sorted by what finds them fastest: a set of texts, beginnings, ends, and the rest one by one.
    """

    all: tuple[Pattern, ...]
    exact: frozenset[str] = field(init=False, repr=False, compare=False)
    prefixes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    suffixes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    rest: tuple[Pattern, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        exact, prefixes, suffixes, rest = [], [], [], []
        for each in self.all:
            match each.folded:
                case (text,):
                    exact.append(text)
                case (prefix, ""):
                    prefixes.append(prefix)
                case ("", suffix):
                    suffixes.append(suffix)
                case _:
                    rest.append(each)
        object.__setattr__(self, "exact", frozenset(exact))
        object.__setattr__(self, "prefixes", tuple(prefixes))
        object.__setattr__(self, "suffixes", tuple(suffixes))
        object.__setattr__(self, "rest", tuple(rest))

    @classmethod
    def of(cls, texts: Iterable[str]) -> Patterns:
        return cls(tuple(Pattern.of(text) for text in texts))

    def match(self, folded: str) -> bool:
        """folded: the text as `fold` makes it."""
        # Asked for every rule of every sign-in: what is empty is not looked at.
        if folded in self.exact:
            return True
        if self.prefixes and folded.startswith(self.prefixes):
            return True
        if self.suffixes and folded.endswith(self.suffixes):
            return True
        return bool(self.rest) and any(each.matches(folded) for each in self.rest)

    def __str__(self) -> str:
        return " or ".join(str(each) for each in self.all)
