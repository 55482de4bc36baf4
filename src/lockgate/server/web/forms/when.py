"""Times, spans and sizes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def moment(seconds: float | None) -> str:
    """A time of the clock, UTC: "2026-11-28 16:40:05"."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def utc(seconds: float) -> str:
    """The same to the minute, for those who may not expect it: "2026-11-28 16:40 UTC"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def iso(seconds: float) -> str:
    """The same for the attribute `datetime`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A span in its two largest units: "1 day 2 hours"."""
    left = max(0, int(seconds))
    parts = []
    for size, name in _SPANS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 seconds"


def short(seconds: float) -> str:
    """A span in one unit, for tables: "3 h"."""
    left = max(0.0, seconds)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if left >= size:
            return f"{int(left // size)} {name}"
    return f"{int(left)} s"


def size(count: float) -> str:
    """Bytes in the unit that leaves at most four digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def rate(bits: float) -> str:
    """Bits per second."""
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bits < 1000:
            return f"{bits:.0f} {unit}" if unit == "bit/s" or bits >= 100 else f"{bits:.1f} {unit}"
        bits /= 1000
    return f"{bits:.2f} Gbit/s"
