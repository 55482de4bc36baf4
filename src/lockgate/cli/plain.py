"""Texts of servers, and of others who are not to steer a terminal, made plain; and figures for people."""

from __future__ import annotations

MAX_LINE = 1000  # characters; the longest honest line is a list of networks
MAX_NOTICE_LINES = 60  # of a text to agree to


def plain(text: object, limit: int = MAX_LINE) -> str:
    """One line: without control and direction characters, cut to `limit` characters with "…"."""
    # Dropping only shortens, but a text of nothing to show must not cost either.
    raw = str(text)[: 4 * limit]
    kept = "".join(character for character in raw if character.isprintable())
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def plain_lines(text: object, limit: int = MAX_NOTICE_LINES) -> list[str]:
    """Several lines, each as from `plain`, at most `limit`; tabs become blanks."""
    lines = str(text).replace("\r\n", "\n").replace("\t", "    ").rstrip("\n").split("\n", limit)
    if len(lines) > limit:
        lines[limit:] = ["…"]
    return [plain(line) for line in lines]


def size(count: float) -> str:
    """Bytes for people: 999 B, 1.5 KiB, 2.0 GiB."""
    if count < 1024:
        return f"{int(count)} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"
