"""Where in a TOML file each key stands.

The standard reader gives values without positions. This walks a text that it has accepted, so it
follows the structure and does not judge it again.
"""

from __future__ import annotations

import tomllib

from lockgate.server.config.findings import Path

_SPACE = " \t\r\n"
_END_OF_BARE_VALUE = ",]}#\n"


def key_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of every key, table and list element of `text`, which tomllib accepts.

    A path holds keys and list positions: ("access", 0, "to", 1).
    """
    return _Walk(text).document()


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of `path`, or of the nearest thing around it that stands in the file."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # arrays of tables: how many so far

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self._blank()
        while self._at < len(self._text):
            if self._peek("[["):
                self._skip(2)
                path = self._resolve(self._key())
                self._skip(2)
                count = self._tables.get(path, 0)
                self._tables[path] = count + 1
                table = (*path, count)
                self._note(path)
                self._note(table)
            elif self._peek("["):
                self._skip(1)
                table = self._resolve(self._key())
                self._skip(1)
                self._note(table)
            else:
                self._pair(table)
            self._blank()
        return self._lines

    def _resolve(self, key: Path) -> Path:
        """A header's path: a name of an array of tables on the way means its newest element."""
        path: Path = ()
        for position, part in enumerate(key):
            path = (*path, part)
            if position < len(key) - 1 and path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line
        path = table
        for part in self._key():
            path = (*path, part)
            self._lines.setdefault(path, line)
        self._skip(1)  # "="
        self._blank()
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._peek('"""') or self._peek("'''"):
            quote = self._text[self._at : self._at + 3]
            self._string(quote, escapes=quote == '"""')
        elif self._peek('"') or self._peek("'"):
            quote = self._text[self._at]
            self._string(quote, escapes=quote == '"')
        elif self._peek("["):
            self._list(path)
        elif self._peek("{"):
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._text[self._at] not in _END_OF_BARE_VALUE:
                self._skip(1)

    def _list(self, path: Path) -> None:
        self._skip(1)
        self._blank()
        position = 0
        while not self._peek("]"):
            self._note((*path, position))
            self._value((*path, position))
            position += 1
            self._blank()
            if self._peek(","):
                self._skip(1)
                self._blank()
        self._skip(1)

    def _inline_table(self, path: Path) -> None:
        self._skip(1)
        self._blank()
        while not self._peek("}"):
            self._pair(path)
            self._blank()
            if self._peek(","):
                self._skip(1)
                self._blank()
        self._skip(1)

    def _string(self, quote: str, *, escapes: bool) -> str:
        """Skips a string; returns it with its quotes."""
        start = self._at
        self._skip(len(quote))
        while not self._peek(quote):
            self._skip(2 if escapes and self._peek("\\") else 1)
        self._skip(len(quote))
        # A long string may end in up to two quotes of its own (TOML 1.0, "String").
        while len(quote) == 3 and self._peek(quote[0]):
            self._skip(1)
        return self._text[start : self._at]

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._blank()
            if self._peek('"') or self._peek("'"):
                quote = self._text[self._at]
                quoted = self._string(quote, escapes=quote == '"')
                parts.append(next(iter(tomllib.loads(f"{quoted} = 0"))))
            else:
                start = self._at
                while self._text[self._at] not in " \t.=]":
                    self._skip(1)
                parts.append(self._text[start : self._at])
            self._blank()
            if not self._peek("."):
                return tuple(parts)
            self._skip(1)

    def _blank(self) -> None:
        """Skips white space, line ends and comments."""
        while self._at < len(self._text):
            if self._text[self._at] in _SPACE:
                self._skip(1)
            elif self._text[self._at] == "#":
                while self._at < len(self._text) and self._text[self._at] != "\n":
                    self._skip(1)
            else:
                return

    def _peek(self, token: str) -> bool:
        return self._text.startswith(token, self._at)

    def _skip(self, count: int) -> None:
        end = self._at + count
        if end > len(self._text):
            # tomllib accepted the text: walking past its end means that the two disagree.
            raise ValueError("text ends inside a value")
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _note(self, path: Path) -> None:
        self._lines.setdefault(path, self._line)
