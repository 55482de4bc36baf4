"""Time for sessions: seconds since the machine was started, with its sleep, on a clock that nobody can set.

The wall clock is for people, and carries a moment over a restart of the machine. So a wall clock that is put
forward a day ends no session, and one that is put back gives none more time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Kept: TypeAlias = dict[str, Any]
"""A moment on disk: {"boot": id of that start of the machine, "at": seconds since it, "wall": seconds since 1970}."""


def since_boot() -> float:
    """The monotonic clock would stand still while the machine sleeps; a session's time does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    return _BOOT_ID.read_text().strip()


@dataclass(frozen=True, slots=True)
class Clock:
    """now: the time, in seconds since the machine was started. wall: what the wall clock shows, since 1970."""

    now: Callable[[], float] = since_boot
    wall: Callable[[], float] = time.time
    boot: str = field(default_factory=_boot)

    def on_wall(self, moment: float) -> float:
        """A moment as a person would read it off the wall clock as it is set now."""
        return self.wall() + moment - self.now()

    def keep(self, moment: float) -> Kept:
        """For the disk."""
        return {"boot": self.boot, "at": moment, "wall": self.on_wall(moment)}

    def found(self, kept: Kept) -> float:
        """From the disk. Negative when it was long before the machine was started.

        raises: KeyError, TypeError, ValueError for anything else than `keep` gives.
        """
        if kept["boot"] == self.boot:
            return float(kept["at"])
        return float(kept["wall"]) - self.wall() + self.now()
