"""What a change of policy means to people: the report of `what_if`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

About: TypeAlias = Literal["sign-in", "role", "feature", "destination", "session"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would be different. gain: whether the person would have more; None for neither."""

    about: About
    text: str
    gain: bool | None

    def as_dict(self) -> dict[str, Any]:
        return {"about": self.about, "text": self.text, "gain": self.gain}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with changes. decisions: how many of theirs would have come out differently. last: the latest."""

    user: str
    server: str
    decisions: int
    last: float
    changes: tuple[Change, ...]

    @property
    def loses(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.gain is False)

    @property
    def gains(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.gain is True)

    @property
    def differs(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.gain is None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "server": self.server,
            "decisions": self.decisions,
            "last": self.last,
            "loses": [change.as_dict() for change in self.loses],
            "gains": [change.as_dict() for change in self.gains],
            "differs": [change.as_dict() for change in self.differs],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """old, new: revisions. replayed: decisions looked at, of so many people. complete: see `reach`."""

    old: int
    new: int
    replayed: int
    people: int
    affected: tuple[Person, ...]  # by name
    complete: bool

    def counts(self) -> dict[str, int]:
        """How many people lose and gain what: "sign-in lost", "role gained" …, those that are not 0."""
        result: dict[str, int] = {}
        for person in self.affected:
            kinds = {(change.about, change.gain) for change in person.changes}
            for about, gain in sorted(kinds, key=str):
                word = {True: "gained", False: "lost", None: "changed"}[gain]
                result[f"{about} {word}"] = result.get(f"{about} {word}", 0) + 1
        return result

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "old": self.old,
            "new": self.new,
            "replayed": self.replayed,
            "people": self.people,
            "affected": [person.as_dict() for person in self.affected],
            "counts": self.counts(),
            "complete": self.complete,
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        result = [
            f"revision {self.old} and revision {self.new}: {self.replayed} decisions about {self.people} people, "
            f"{len(self.affected)} affected"
        ]
        result.extend(f"  {kind}: {count}" for kind, count in sorted(self.counts().items()))
        for person in self.affected:
            result.append(f"{person.user} ({person.server}), {person.decisions} decisions")
            marks = {True: "+", False: "-", None: "~"}
            result.extend(f"  {marks[change.gain]} {change.text}" for change in person.changes)
        if not self.complete:
            result.append("Some rule sets differ in too many places: there may be more changed destinations.")
        return result
