"""What users keep in the portal, bookmarks of their own and preferences, and how two copies become one.

A record is a set of items by id. Every change of an item makes a new version of it with a stamp; of two versions
the one of higher rank counts, on every gateway alike and in whatever order they arrive: ranks are a total order, so
that `merge` is commutative, associative and idempotent. A deleted item is a version without a value.

    "bookmark:" and 32 hexadecimal digits   {"name", "url", "new_window", "position"}
    "preference:colours"                    "auto", "light" or "dark"
    "preference:density"                    "comfortable" or "compact"
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.host_name import canonical_host

MAX_BOOKMARKS = 100
MAX_NAME = 64  # characters
MAX_URL = 1000  # characters
MAX_POSITION = 1 << 40
MAX_TIME = 1 << 44  # milliseconds since 1970; a change further away is none
STEP = 1024
"""Between the positions of neighbours, so that one that is moved finds room without moving the others."""

PREFERENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "colours": ("auto", "light", "dark"),
    "density": ("comfortable", "compact"),
}
"""What can be chosen; the first counts for those who have not chosen."""

_BOOKMARK, _PREFERENCE = "bookmark:", "preference:"
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_URL = re.compile(r"(https?)://([^/?#]+)([/?#][!#-;=?-\[\]^_a-~]*)?", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:@\[\]]+))(?::([0-9]{1,5}))?", re.ASCII)


# What is in a record


@dataclass(frozen=True, slots=True)
class OwnBookmark:
    """position: where it stands; of equal ones the id decides."""

    name: str
    url: str
    new_window: bool
    position: int


Value = OwnBookmark | str


@dataclass(frozen=True, slots=True)
class Record:
    """bookmarks: id (32 hexadecimal digits) and content, in order. preferences: all of `PREFERENCES`."""

    bookmarks: tuple[tuple[str, OwnBookmark], ...] = ()
    preferences: tuple[tuple[str, str], ...] = tuple((name, each[0]) for name, each in PREFERENCES.items())

    def preference(self, name: str) -> str:
        return dict(self.preferences)[name]


def parse_name(text: object) -> str:
    """What a bookmark is called. Raises ValueError, for a person to read."""
    name = text.strip() if isinstance(text, str) else ""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"A name has 1 to {MAX_NAME} characters that can be printed.")
    return name


def parse_url(text: object) -> str:
    """Where a bookmark leads: http or https, to a host, without user name or password. Raises ValueError, for a
    person to read. What browsers repair is refused, so that nobody reads another address than they open."""
    url = text.strip(" ") if isinstance(text, str) else ""
    if len(url) > MAX_URL:
        raise ValueError(f"The address is longer than {MAX_URL} characters.")
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(
            "An address begins with https:// or http:// and has neither spaces nor letters outside ASCII."
        )
    authority = _AUTHORITY.fullmatch(found[2])
    if authority is None or not found[2].isascii():
        raise ValueError("The address names no host, or a user name, which does not belong there.")
    canonical_host(authority[1] or authority[2])
    if (authority[1] is not None) != (":" in (authority[1] or "")) or int(authority[3] or 1) not in range(
        1, 65536
    ):
        raise ValueError("The address names no host and port.")
    return found[1].lower() + url[len(found[1]) :]


def parse_item(text: object) -> str:
    """The id of an item. Raises ValueError."""
    item = text if isinstance(text, str) else ""
    if item.startswith(_BOOKMARK) and _ID.fullmatch(item.removeprefix(_BOOKMARK)):
        return item
    if item.startswith(_PREFERENCE) and item.removeprefix(_PREFERENCE) in PREFERENCES:
        return item
    raise ValueError("this is no item of a user's record")


def parse_value(item: str, value: object) -> Value:
    """The value of an item, from JSON. Raises ValueError for what no form of ours could have made."""
    if item.startswith(_PREFERENCE):
        if isinstance(value, str) and value in PREFERENCES[item.removeprefix(_PREFERENCE)]:
            return value
        raise ValueError("this cannot be chosen")
    if not isinstance(value, dict) or set(value) != {"name", "url", "new_window", "position"}:
        raise ValueError("this is no bookmark")
    name, url, new_window, position = (value[key] for key in ("name", "url", "new_window", "position"))
    if not isinstance(new_window, bool) or type(position) is not int or abs(position) > MAX_POSITION:
        raise ValueError("this is no bookmark")
    if parse_name(name) != name or parse_url(url) != url:
        raise ValueError("this is no bookmark in its one form")
    return OwnBookmark(name, url, new_window, position)


def as_json(value: Value) -> object:
    """The inverse of `parse_value`."""
    if isinstance(value, str):
        return value
    return {
        "name": value.name,
        "url": value.url,
        "new_window": value.new_window,
        "position": value.position,
    }


def as_text(value: Value) -> str:
    """The same as a text that is equal for equal values."""
    return json.dumps(as_json(value), sort_keys=True, separators=(",", ":"))


# Versions of items


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an item.

    time:   when it was made, milliseconds since 1970 by the clock of the gateway where.
    origin: which gateway that was, 32 hexadecimal digits.
    text:   the value as `as_text` writes it; None for a deleted item.
    """

    time: int
    origin: str
    text: str | None

    @property
    def rank(self) -> tuple[int, str, bool, str]:
        """What versions of one item are compared by. The value counts last: two gateways may have come from one
        backup and share their name."""
        return self.time, self.origin, self.text is None, self.text or ""


Versions = Mapping[str, Version]
"""Item → its version."""


def later(mine: Version | None, other: Version) -> bool:
    """Whether the other version replaces mine."""
    return mine is None or other.rank > mine.rank


def merge(mine: Versions, others: Versions) -> dict[str, Version]:
    """Of every item the version of the highest rank."""
    return {**mine, **{item: each for item, each in others.items() if later(mine.get(item), each)}}


def record_of(items: Mapping[str, str | None]) -> Record:
    """A record from the texts of its items; deleted ones are left out."""
    values = {item: parse_value(item, json.loads(text)) for item, text in items.items() if text is not None}
    bookmarks = [
        (item.removeprefix(_BOOKMARK), value)
        for item, value in values.items()
        if isinstance(value, OwnBookmark)
    ]
    bookmarks.sort(key=lambda each: (each[1].position, each[0]))
    chosen = [(name, values.get(_PREFERENCE + name, each[0])) for name, each in PREFERENCES.items()]
    return Record(tuple(bookmarks), tuple((name, value) for name, value in chosen if isinstance(value, str)))


# What users do to their record: each gives item → new value, None for one that is deleted.

Edits = dict[str, Value | None]


def add(record: Record, id: str, name: str, url: str, new_window: bool) -> Edits:
    """One more bookmark, behind the others. id: 32 random hexadecimal digits. Raises ProblemError."""
    if len(record.bookmarks) >= MAX_BOOKMARKS:
        raise ProblemError(
            Problem(
                "too-many-bookmarks",
                f"You have {MAX_BOOKMARKS} bookmarks, which is as many as can be.",
                "Delete one that you do not need any more.",
            )
        )
    last = record.bookmarks[-1][1].position if record.bookmarks else 0
    edits: Edits = {_BOOKMARK + id: OwnBookmark(name, url, new_window, last + STEP)}
    return edits if last + STEP <= MAX_POSITION else _numbered([*record.bookmarks, (id, _only(edits))])


def change(record: Record, id: str, name: str, url: str, new_window: bool) -> Edits:
    """Other contents of a bookmark. Raises ProblemError."""
    old = find(record, id)
    return {_BOOKMARK + id: replace(old, name=name, url=url, new_window=new_window)}


def delete(record: Record, id: str) -> Edits:
    """Raises ProblemError."""
    find(record, id)
    return {_BOOKMARK + id: None}


def move(record: Record, id: str, up: bool) -> Edits:
    """One place up or down; nothing at the end. Raises ProblemError."""
    moved = find(record, id)
    order = [each for each in record.bookmarks if each[0] != id]
    place = [each[0] for each in record.bookmarks].index(id) + (-1 if up else 1)
    if not 0 <= place <= len(order):
        return {}
    before = order[place - 1][1].position if place else order[0][1].position - 2 * STEP
    behind = order[place][1].position if place < len(order) else before + 2 * STEP
    middle = (before + behind) // 2
    if before < middle < behind and abs(middle) <= MAX_POSITION:
        return {_BOOKMARK + id: replace(moved, position=middle)}
    return _numbered([*order[:place], (id, moved), *order[place:]])


def choose(preferences: Mapping[str, object]) -> Edits:
    """Preferences by name. Raises ValueError for what cannot be chosen."""
    return {
        item: parse_value(item, value)
        for item, value in ((parse_item(_PREFERENCE + name), value) for name, value in preferences.items())
    }


def find(record: Record, id: str) -> OwnBookmark:
    """Raises ProblemError for no such bookmark."""
    for each, bookmark in record.bookmarks:
        if each == id:
            return bookmark
    raise ProblemError(
        Problem(
            "no-such-bookmark", "This bookmark is not there any more.", "Look at the list of your bookmarks."
        )
    )


def _numbered(order: list[tuple[str, OwnBookmark]]) -> Edits:
    return {
        _BOOKMARK + each: replace(bookmark, position=(number + 1) * STEP)
        for number, (each, bookmark) in enumerate(order)
    }


def _only(edits: Edits) -> OwnBookmark:
    [value] = edits.values()
    assert isinstance(value, OwnBookmark)
    return value
