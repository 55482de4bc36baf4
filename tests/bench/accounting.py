"""CPU time and memory of processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far; one that has ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The command's name may hold anything, so fields are counted from the bracket that closes it:
        # utime and stime are 14 and 15 in proc(5), the state behind the bracket is 3.
        fields = stat.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def pss_kib(pids: Iterable[int]) -> int:
    """Proportional set size of these processes together, in KiB: what is shared counts once."""
    return _together(pids, "Pss")


def rss_kib(pids: Iterable[int]) -> int:
    """Resident set sizes of these processes added up, in KiB."""
    return _together(pids, "Rss")


def _together(pids: Iterable[int], field: str) -> int:
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total


class CpuMeter:
    """CPU time that groups of processes use between `start` and `stop`.

    groups: name → function giving the group's process ids; asked at both ends, so that a process which
    comes in between is counted from its beginning.
    """

    def __init__(self, groups: dict[str, Callable[[], list[int]]]) -> None:
        self._groups = groups
        self._before: dict[str, float] = {}

    def __enter__(self) -> CpuMeter:
        self._before = {name: cpu_seconds(pids()) for name, pids in self._groups.items()}
        self.used: dict[str, float] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self.used = {name: cpu_seconds(pids()) - self._before[name] for name, pids in self._groups.items()}
