"""Text from a client: bounded, and harmless in logs and look-ups."""

import unicodedata

from lockgate.protocol.errors import PeerError


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
