"""Two people changed the same tree: where that collides, and the tree with the changes of both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config import paths
from lockgate.server.config.changes import Change, Difference, as_change, differences, edits_for, same
from lockgate.server.config.edits import Edit, Insert, Move, Remove, SetValue
from lockgate.server.config.paths import Data, format_path, parse_path
from lockgate.server.config.schema import Names

Prefer = Literal["neither", "mine", "theirs"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A setting that two sides changed, each in its own way."""

    path: str
    mine: Change
    theirs: Change

    def as_dict(self) -> dict[str, Any]:
        return {"path": self.path, "mine": self.mine.as_dict(), "theirs": self.theirs.as_dict()}


class ConflictError(ProblemError):
    """Somebody else was quicker; `conflicts` are the settings that both changed, each in its own way."""

    def __init__(self, summary: str, conflicts: tuple[Conflict, ...] = ()) -> None:
        super().__init__(
            Problem(
                code="conflict",
                summary=summary,
                fix="Look at both, rebase your draft on theirs (whose values count is yours to say), and commit "
                "again.",
                details=tuple(
                    f"{each.path}: changed by both sides"
                    if each.path == each.theirs.path
                    else f"{each.path}: they changed {each.theirs.path}"
                    for each in conflicts[:50]
                ),
            )
        )
        self.conflicts = conflicts


def conflicts(base: Data, mine: Data, theirs: Data) -> tuple[Conflict, ...]:
    """What both sides changed since `base`, and not to the same.

    Two changes meet when one stands inside the other, and when both put something in its place in the same
    collection whose order decides. What both did alike meets nothing.
    """
    their_changes = _by_path(differences(base, theirs))
    if not their_changes:
        return ()
    their_prefixes = {path[:length] for path in their_changes for length in range(1, len(path) + 1)}
    my_changes = list(differences(base, mine))
    alike = {
        each.path
        for each in my_changes
        if (o := their_changes.get(each.path)) is not None and _agree(each, o)
    }
    their_orders = {
        path[:-1]: each for path, each in their_changes.items() if _orders(each) and path not in alike
    }
    found: list[Conflict] = []
    for each in my_changes:
        if each.path in alike:
            continue
        other = _meeting(each, their_changes, their_prefixes)
        if other is None and _orders(each):
            other = their_orders.get(each.path[:-1])
        if other is not None and not _agree(each, other):
            found.append(Conflict(format_path(each.path), as_change(each), as_change(other)))
    return tuple(found)


def _meeting(mine: Difference, theirs: dict[Names, Difference], prefixes: set[Names]) -> Difference | None:
    """Their difference at the same place, around it, or inside it."""
    for length in range(len(mine.path), 0, -1):
        around = theirs.get(mine.path[:length])
        if around is not None and (around.kind != "moved" or around.path == mine.path):
            return around if not _only_moves(mine, around) else None
    if mine.kind != "moved" and mine.path in prefixes:
        return next(each for path, each in theirs.items() if path[: len(mine.path)] == mine.path)
    return None


def _only_moves(mine: Difference, theirs: Difference) -> bool:
    """One moved the object, the other changed something in it: both can be had."""
    return (mine.kind == "moved") != (theirs.kind == "moved") and "removed" not in (mine.kind, theirs.kind)


def _orders(each: Difference) -> bool:
    return each.in_collection and each.ordered and each.kind in ("added", "moved")


def _agree(mine: Difference, theirs: Difference) -> bool:
    return (
        mine.path == theirs.path
        and mine.kind == theirs.kind
        and same(mine.after, theirs.after)
        and mine.following == theirs.following
    )


def _by_path(differences: Iterable[Difference]) -> dict[Names, Difference]:
    """A changed object may have moved as well: the change of its content is in paths below it."""
    return {each.path: each for each in differences}


def merge(base: Data, mine: Data, theirs: Data, prefer: Prefer = "neither") -> Data:
    """`theirs` with what `mine` changed since `base`.

    prefer: whose value counts where the two conflict; with "neither" there must be no conflict.
    """
    lost = {each.path for each in conflicts(base, mine, theirs)} if prefer == "theirs" else set()
    data = theirs
    for edit in edits_for(base, mine):
        if edit.path not in lost:
            data = _apply(data, edit, mine)
    return data


def _apply(data: Data, edit: Edit, mine: Data) -> Data:
    """One of my edits on their tree, where what it speaks of may be gone, or there already."""
    path = parse_path(edit.path)
    for length in range(2, len(path)):
        if paths.node_at(mine, path[:length]).field is None and not _is_there(data, path[:length]):
            # They removed the object around it; my change brings it back as I have it.
            return paths.insert(
                data, path[:length], paths.get(mine, path[:length]), _next(data, mine, path[:length])
            )
    match edit:
        case Remove():
            return paths.remove(data, path) if _is_there(data, path) else data
        case Insert(value=value) if not _is_there(data, path):
            return paths.insert(data, path, value, _next(data, mine, path))
        case Insert(value=value):
            return paths.set_value(data, path, value)
        case Move() if _is_there(data, path):
            return paths.move(data, path, _next(data, mine, path))
        case Move():
            return paths.insert(data, path, paths.get(mine, path), _next(data, mine, path))
        case SetValue(value=value):
            return paths.set_value(data, path, value)
        case _:
            raise AssertionError("a difference is no rename")


def _is_there(data: Data, path: Names) -> bool:
    try:
        paths.get(data, path)
    except ProblemError:
        return False
    return True


def _next(data: Data, mine: Data, path: Names) -> str | None:
    """The first object after `path` in my order that their collection has too."""
    names = [each.get("name") for each in paths.get(mine, path[:-1])]
    there = {each.get("name") for each in paths.get(data, path[:-1]) if isinstance(each, dict)}
    after: list[Any] = names[names.index(path[-1]) + 1 :]
    return next((name for name in after if name in there), None)
