"""Text from the other side: bounded, and harmless in logs, look-ups and on screens."""

import unicodedata
from collections.abc import Iterable

from lockgate.protocol.errors import PeerError, UsageError


def _hidden(character: str) -> bool:
    """Control and format characters, line separators, surrogates, private use, unassigned."""
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")


def exact_text(data: bytes, most: int, what: str) -> str:
    """Text that will be compared with something: taken as it is or refused with PeerError.

    `most` is in bytes; hidden characters are refused, since they make two names look alike.
    """
    if len(data) > most:
        raise PeerError(f"{what} of {len(data)} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or any(map(_hidden, text)):
        raise PeerError(f"{what} is not printable UTF-8 text")
    return text


def shown_text(data: bytes, most: int) -> str:
    """Text that will only be shown: cut to `most` bytes, with U+FFFD for what cannot be printed."""
    text = data[:most].decode(errors="replace")
    return "".join("\N{REPLACEMENT CHARACTER}" if _hidden(c) else c for c in text)


def shown_lines(data: bytes, most: int) -> str:
    """Like `shown_text`, for texts of several lines: line ends become "\\n", tabs blanks."""
    text = data[:most].removesuffix(b"\0").replace(b"\r\n", b"\n").replace(b"\t", b" ")
    return "\n".join(shown_text(line, most) for line in text.split(b"\n"))


def join_domains(domains: Iterable[str]) -> bytes:
    """Search domains as one text."""
    names = tuple(domains)
    for domain in names:
        if not domain.isascii() or not domain.isprintable() or not domain or {",", " "} & set(domain):
            raise UsageError("a search domain is not a name of ASCII letters")
    return ",".join(names).encode()


def split_domains(data: bytes) -> tuple[str, ...]:
    """The search domains in a text, with or without a final NUL; PeerError if they are no names."""
    try:
        text = data.removesuffix(b"\0").decode("ascii")
    except UnicodeDecodeError:
        text = "\0"
    names = tuple(filter(None, (name.strip() for name in text.split(","))))
    if not text.isprintable() or any(" " in name for name in names):
        raise PeerError("search domains are not names of printable ASCII text")
    return names


COOKIE_CHARACTERS = frozenset(range(0x21, 0x7F)) - frozenset(b";=,\"'\\")
"""Bytes of a session cookie: what survives as an HTTP cookie and between quotes in a shell."""
