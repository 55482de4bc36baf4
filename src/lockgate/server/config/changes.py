"""What differs between two trees, in the terms of settings and objects.

Objects of a collection are told apart by name: a renamed one is one removed and one added. A list whose entries
have no name is one setting. Both trees are JSON forms; parts that are not of the tree's shape are compared whole.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lockgate.server.config.edits import Edit, Insert, Move, Remove, SetValue
from lockgate.server.config.paths import Data, format_path
from lockgate.server.config.registry import area_of
from lockgate.server.config.schema import (
    ROOT,
    Names,
    Node,
    children,
    default_or_none,
    entry_of,
    transform,
)

KEPT = "(secret)"
"""How a secret is shown, and what an edit writes to keep the stored one."""

Kind = Literal["added", "removed", "changed", "moved"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. Of a moved object, before and after are its places in the collection, from 1."""

    path: str
    kind: Kind
    before: Any = None
    after: Any = None

    def as_dict(self) -> dict[str, Any]:
        return {"path": self.path, "kind": self.kind, "before": self.before, "after": self.after}


def diff(old: Data, new: Data) -> tuple[Change, ...]:
    """All differences, in the order of the tree. Secrets are shown as KEPT or ""."""
    return tuple(as_change(each) for each in differences(old, new))


def as_change(each: Difference) -> Change:
    """A difference as people may see it."""
    before, after = shown_at(each.node, each.before), shown_at(each.node, each.after)
    return Change(format_path(each.path), each.kind, before, after)


def areas(changes: Iterable[Change]) -> frozenset[str]:
    """The areas of administration whose settings change (fields of `AdminRole`)."""
    return frozenset(area_of(change.path) for change in changes)


def mask(data: Data) -> Data:
    """The tree as anybody may see it: secrets that are set stand as KEPT."""
    masked = transform(data, "secret", lambda path, node, value: KEPT if value else "")
    assert isinstance(masked, dict)
    return masked


def mask_at(path: Names, value: Any) -> Any:
    """The part of a tree at `path`, with secrets as KEPT."""
    return shown_at(_node(path, value), value)


def edits_for(old: Data, new: Data) -> list[Edit]:
    """Edits that make `new` of `old`. They carry secrets as they stand."""
    removes: list[Edit] = []
    sets: list[Edit] = []
    placed: list[Edit] = []
    for each in differences(old, new):
        path = format_path(each.path)
        if each.kind == "removed":
            removes.append(Remove(path))
        elif each.kind == "changed" or not each.in_collection:
            sets.append(SetValue(path, each.after))
        elif each.kind == "added":
            placed.append(Insert(path, each.after, each.following))
        else:
            placed.append(Move(path, each.following))
    # From the end, so that whatever a piece stands before is in its place already.
    return [*removes, *sets, *reversed(placed)]


@dataclass(frozen=True, slots=True)
class Difference:
    """A change with everything that applying it elsewhere takes. Secrets stand as they are."""

    path: Names
    kind: Kind
    node: Node
    before: Any
    after: Any
    in_collection: bool = False
    ordered: bool = False
    following: str | None = None  # name of the next object in the new order


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values; true is not 1, and 1 is not 1.0."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def share(value: Any, like: Any) -> Any:
    """`value`, with the objects of `like` in the place of those that are the same: whoever compares them later,
    or remembers what was found about one, knows them by identity."""
    if value is like or type(value) is not type(like):
        return value
    if isinstance(value, dict):
        shared = {key: share(each, like[key]) if key in like else each for key, each in value.items()}
        unchanged = shared.keys() == like.keys() and all(each is like[key] for key, each in shared.items())
        return like if unchanged else shared
    if isinstance(value, list):
        if _named(value) and _named(like):
            known = {each["name"]: each for each in like}
            entries = [share(each, known.get(each["name"])) for each in value]
        else:
            pairs = itertools.zip_longest(value, like[: len(value)])
            entries = [share(each, other) for each, other in pairs]
        unchanged = len(entries) == len(like) and all(a is b for a, b in zip(entries, like, strict=True))
        return like if unchanged else entries
    return like if value == like else value


def differences(old: Any, new: Any, node: Node = ROOT, path: Names = ()) -> Iterator[Difference]:
    """All differences between two values of a place, in the order of the tree."""
    if same(old, new):
        return
    if node.kind == "section" and isinstance(old, dict) and isinstance(new, dict):
        yield from _in_section(old, new, node, path)
    elif node.kind == "collection" and _named(old) and _named(new):
        yield from _in_collection(old, new, node, path)
    else:
        yield Difference(path, "changed", node, old, new)


def _in_section(old: Data, new: Data, node: Node, path: Names) -> Iterator[Difference]:
    if node.model(old) is not node.model(new):  # another kind: nothing of the old one is left
        yield Difference(path, "changed", node, old, new)
        return
    known = children(node.model(new))
    if not (old.keys() | new.keys()) <= known.keys():
        yield Difference(path, "changed", node, old, new)
        return
    for key, inner in known.items():
        before = old[key] if key in old else default_or_none(inner)
        after = new[key] if key in new else default_or_none(inner)
        yield from differences(before, after, inner, (*path, key))


def _named(value: Any) -> bool:
    """Whether it is a list of objects with names of their own."""
    if not isinstance(value, list):
        return False
    names = [each.get("name") if isinstance(each, dict) else None for each in value]
    return all(isinstance(name, str) and name and "/" not in name for name in names) and len(
        set(names)
    ) == len(names)


def _in_collection(old: list[Data], new: list[Data], node: Node, path: Names) -> Iterator[Difference]:
    entry, ordered = entry_of(node), bool(node.hints.get("ordered"))
    before = {each["name"]: (at, each) for at, each in enumerate(old)}
    after = {each["name"] for each in new}
    for name, (_, each) in before.items():
        if name not in after:
            yield Difference((*path, name), "removed", entry, each, None, in_collection=True, ordered=ordered)
    staying = _longest_rising([before[each["name"]][0] for each in new if each["name"] in before])
    for at, each in enumerate(new):
        name = each["name"]
        here = (*path, name)
        following = new[at + 1]["name"] if at + 1 < len(new) else None
        if name not in before:
            yield Difference(
                here, "added", entry, None, each, in_collection=True, ordered=ordered, following=following
            )
            continue
        was, old_entry = before[name]
        yield from differences(old_entry, each, entry, here)
        if was not in staying:
            yield Difference(
                here,
                "moved",
                Node("setting"),
                was + 1,
                at + 1,
                in_collection=True,
                ordered=ordered,
                following=following,
            )


def _longest_rising(numbers: list[int]) -> set[int]:
    """The largest set of `numbers` that stand in rising order: what need not be moved."""
    tails: list[int] = []
    ends: list[int] = []  # position in `numbers` of each tail
    previous: list[int | None] = []
    for position, number in enumerate(numbers):
        at = bisect_left(tails, number)
        previous.append(ends[at - 1] if at else None)
        tails[at : at + 1] = [number]
        ends[at : at + 1] = [position]
    kept: set[int] = set()
    position_: int | None = ends[-1] if ends else None
    while position_ is not None:
        kept.add(numbers[position_])
        position_ = previous[position_]
    return kept


def shown_at(node: Node, value: Any) -> Any:
    """A value of this place with secrets as KEPT."""
    if node.kind == "setting" and "secret" not in node.hints:
        return value
    return transform(value, "secret", lambda path, inner, each: KEPT if each else each, node)


def _node(path: Names, value: Any) -> Node:
    """What stands at `path`, whatever the names on it.

    Which model an object on the way is of cannot be told from the value alone: where one of them has a secret there,
    it is a secret.
    """
    node = ROOT
    for part in path:
        if node.kind == "collection":
            node = entry_of(node)
            continue
        found = [inner for model in node.models if (inner := children(model).get(part)) is not None]
        node = next(
            (inner for inner in found if "secret" in inner.hints), found[0] if found else Node("setting")
        )
    return node
