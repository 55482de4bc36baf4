"""When the user is told that the session ends, and in which words of time. Pure."""

from __future__ import annotations

import math

MINUTE = 60.0  # seconds


def minutes_to_tell(left: float, reminder: int) -> int:
    """Minutes until the end, begun ones counted, from the reminder on; 0 before it.

    left: seconds until the session ends. reminder: seconds before the end, 0 is never.
    """
    return max(1, math.ceil(left / MINUTE)) if left <= reminder > 0 else 0


def next_change(left: float, reminder: int) -> float:
    """Seconds until `minutes_to_tell` gives another number, or until the end."""
    minutes = minutes_to_tell(left, reminder)
    if minutes:
        return left - (minutes - 1) * MINUTE
    return left - reminder if reminder else left
