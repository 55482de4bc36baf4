"""Against guessing: who may try a password now.

Three levels, in this order:

1. The address (IPv6: its /64 network). Too many failures lock it, whatever names it tries.
2. One user name from one address. Too many failures lock the pair; the user is free elsewhere.
3. One user name from addresses it never signed in from. Too many failures, however many addresses
   share them, leave one attempt per pause to all of them together for a window. Where the user has signed in
   before nothing changes, so that a stranger cannot shut a named user out.

A failure count drains evenly over the window; a lock doubles with every repetition until the
record has been quiet. Attempts during a lock count for nothing. A success clears its own pair and
not its address, or an attacker's own account would reset the count of his guesses.

Pure: time is an argument (seconds), tables are bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import ip_network
from typing import Generic, TypeVar

from lockgate.model.place import plain_address
from lockgate.server.config.tree.authentication import Guard as Settings

# A record is about 300 bytes: 30 MB in all when somebody fills the tables. The longest unused goes first.
MAX_RECORDS = 30_000
MAX_KNOWN = 50_000

K = TypeVar("K", bound=Hashable)


class Verdict(Enum):
    """Whether an attempt may go on; the value is the reason in the audit."""

    OPEN = ""
    ADDRESS_LOCKED = "address-locked"
    USER_LOCKED = "user-locked"
    SLOWED = "user-slowed"


class Guard:
    """Counts failures. Users are names that mean one person, None for what cannot be one; sources are addresses."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._addresses: _Table[str] = _Table(settings.failures_per_address, settings)
        self._pairs: _Table[tuple[str, str]] = _Table(settings.failures_per_user_and_address, settings)
        self._users: _Table[str] = _Table(settings.failures_per_user, settings)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def adopt(self, settings: Settings) -> None:
        """Other limits from now on; what was counted stays counted."""
        self._settings = settings
        self._addresses.adopt(settings.failures_per_address, settings)
        self._pairs.adopt(settings.failures_per_user_and_address, settings)
        self._users.adopt(settings.failures_per_user, settings)

    def check(self, user: str | None, source: str, now: float) -> Verdict:
        """Whether an attempt would go on at `now`; changes nothing."""
        place = source_key(source)
        if self._addresses.locked(place, now):
            return Verdict.ADDRESS_LOCKED
        if user is None:
            return Verdict.OPEN
        if self._pairs.locked((user, place), now):
            return Verdict.USER_LOCKED
        if (user, place) not in self._known and self._users.paused(user, now):
            return Verdict.SLOWED
        return Verdict.OPEN

    def begin(self, user: str | None, source: str, now: float) -> Verdict:
        """`check` for an attempt that goes on at once when it may."""
        verdict = self.check(user, source, now)
        if verdict is Verdict.OPEN and user is not None and (user, source_key(source)) not in self._known:
            self._users.pause(user, now, self._settings.slow_seconds)
        return verdict

    def failed(self, user: str | None, source: str, now: float) -> None:
        """An attempt that had begun was wrong."""
        place = source_key(source)
        self._addresses.add(place, now)
        if user is None:
            return
        self._pairs.add((user, place), now)
        if (user, place) not in self._known:
            self._users.count(user, now)

    def succeeded(self, user: str, source: str) -> None:
        """An attempt that had begun was right."""
        place = source_key(source)
        self._pairs.forget((user, place))
        self.remember(user, source)

    def remember(self, user: str, source: str) -> None:
        """`user` has signed in from there, for example before a restart."""
        known = (user, source_key(source))
        self._known[known] = None
        self._known.move_to_end(known)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


@lru_cache(maxsize=4096)
def source_key(source: str) -> str:
    """What counts as one place: an IPv4 address or an IPv6 /64, which one subscriber has anyway."""
    try:
        address = plain_address(source)
    except ValueError:
        return source
    return str(address if address.version == 4 else ip_network((address.packed, 64), strict=False))


@dataclass(slots=True)
class _Record:
    level: float = 0.0  # failures that still count
    at: float = 0.0  # when `level` was right
    locked_until: float = 0.0
    strikes: int = 0  # locks so far
    slow_until: float = 0.0  # one window after the limit was last reached
    next_attempt: float = 0.0  # while slow


class _Table(Generic[K]):
    """Failure counts by key."""

    def __init__(self, limit: int, settings: Settings) -> None:
        self._records: OrderedDict[K, _Record] = OrderedDict()
        self.adopt(limit, settings)

    def adopt(self, limit: int, settings: Settings) -> None:
        self._limit = limit
        self._window, self._lock, self._longest = (
            settings.window_seconds,
            settings.lock_seconds,
            settings.lock_seconds_max,
        )

    def locked(self, key: K, now: float) -> bool:
        record = self._records.get(key)
        return record is not None and now < record.locked_until

    def paused(self, key: K, now: float) -> bool:
        record = self._records.get(key)
        return record is not None and now < min(record.slow_until, record.next_attempt)

    def pause(self, key: K, now: float, seconds: float) -> None:
        record = self._records.get(key)
        if record is not None and now < record.slow_until:
            record.next_attempt = now + seconds

    def add(self, key: K, now: float) -> None:
        """Counts a failure; the one that reaches the limit locks."""
        record = self.count(key, now)
        if record.level >= self._limit:
            record.locked_until = now + min(self._lock * 2**record.strikes, self._longest)
            record.strikes = min(record.strikes + 1, 32)

    def count(self, key: K, now: float) -> _Record:
        record = self._records.get(key)
        if record is None or now > max(record.at, record.locked_until) + self._window:
            record = self._records[key] = _Record()
        record.level = min(self._level(record, now) + 1, self._limit)
        record.at = now
        if record.level >= self._limit:
            record.slow_until = now + self._window
        self._records.move_to_end(key)
        if len(self._records) > MAX_RECORDS:
            self._records.popitem(last=False)
        return record

    def forget(self, key: K) -> None:
        self._records.pop(key, None)

    def _level(self, record: _Record, now: float) -> float:
        drained = (now - record.at) * self._limit / self._window
        return max(0.0, record.level - max(0.0, drained))
