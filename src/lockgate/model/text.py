"""Text that came from outside, made safe for logs, terminals and tables."""

from __future__ import annotations


def printable(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, every character that does not print escaped.

    Control characters, line ends, direction marks and lone surrogates become \\xNN, \\uNNNN or
    \\UNNNNNNNN; a backslash is doubled, so that nothing from outside can look escaped by us. What
    is cut off is marked with "…". limit: at least 1.
    """
    if len(text) <= limit and text.isprintable() and "\\" not in text:
        return text  # nearly always
    # Escapes only lengthen: looking at `limit` + 1 characters decides the result.
    escaped = "".join(_escape(character) for character in text[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
