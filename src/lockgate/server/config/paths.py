"""Paths into the tree, and changes at a path of its JSON form.

"roles/Staff/session/idle_seconds": keys, and names of objects where a collection stands. Names hold no slash, so
that nothing is escaped here; URLs percent-encode a path as any other text. Lists whose entries have no name are one
setting.

Every function takes the JSON form of a tree, also an invalid one, and returns a new one that shares what did not
change. ProblemError codes: "path-invalid", "no-such-setting", "no-such-object", "object-exists", "name-invalid",
"not-movable", "config-malformed".
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.server.config.findings import path_text, shown
from lockgate.server.config.schema import (
    ROOT,
    Names,
    Node,
    child,
    children,
    default_or_none,
    entry_of,
    transform,
)
from lockgate.server.config.tree.fields import parse_name

MAX_PATH = 1000  # characters
MAX_PARTS = 16  # the tree has 9 levels

Data = dict[str, Any]


def parse_path(text: str) -> Names:
    """The parts of a path; "" and "/" are the whole tree."""
    parts = tuple(text.strip("/").split("/")) if text.strip("/") else ()
    if len(text) > MAX_PATH or len(parts) > MAX_PARTS or "" in parts:
        raise ProblemError(
            Problem(
                code="path-invalid",
                summary=f"{shown(text)} is not a path of the configuration.",
                fix="Write keys and names with / between them, such as roles/Staff/session/idle_seconds.",
            )
        )
    return parts


def format_path(path: Iterable[str]) -> str:
    """The text that `parse_path` reads back."""
    return "/".join(path)


def node_at(data: Data, path: Names) -> Node:
    """What stands at `path` by the tree's shape; the objects on the way need to be there, except the last."""
    node, value = ROOT, data
    for position, part in enumerate(path):
        last = position == len(path) - 1
        node, value = _step(node, value, part, path[:position], must=not last)
    return node


def get(data: Data, path: Names) -> Any:
    """The value at `path`; a setting that is not written has its default."""
    node: Node = ROOT
    value: Any = data
    for position, part in enumerate(path):
        node, value = _step(node, value, part, path[:position], must=True)
    return value


def set_value(data: Data, path: Names, value: Any) -> Data:
    """Sets a setting, section, object or collection. An object that is not there is added at the end."""
    if not path:
        raise _invalid("The whole tree is no single setting.", "Name a part of it, or import a document.")

    def put(node: Node, _: Any, present: bool) -> Any:
        if node.kind == "section" and node.field is None:
            return _named(value, path)
        return value

    return _change(data, path, put, create=True)


def remove(data: Data, path: Names) -> Data:
    """Takes an object away, or gives a setting or section its default back."""
    if not path:
        raise _invalid("The whole tree cannot be removed.", "Name a part of it.")
    return _change(data, path, lambda *_: _GONE)


def insert(data: Data, path: Names, value: Any, before: str | None = None) -> Data:
    """Adds the object at `path` before the one called `before`, or at the end."""

    def change(entries: list[Any]) -> list[Any]:
        if _index(entries, path[-1]) is not None:
            raise ProblemError(
                Problem(
                    code="object-exists",
                    summary=f"There is an entry {shown(path[-1])} in {path_text(path[:-1])} already.",
                    fix="Choose another name, or change the entry that is there.",
                )
            )
        at = _place(entries, before, path[:-1])
        return [*entries[:at], _named(value, path), *entries[at:]]

    return _change_entries(data, path, change)


def move(data: Data, path: Names, before: str | None = None) -> Data:
    """Moves the object at `path` before the one called `before`, or to the end."""

    def change(entries: list[Any]) -> list[Any]:
        at = _index(entries, path[-1])
        if at is None:
            raise _no_object(path[:-1], path[-1], entries)
        rest = [*entries[:at], *entries[at + 1 :]]
        to = at if before == path[-1] else _place(rest, before, path[:-1])
        return [*rest[:to], entries[at], *rest[to:]]

    return _change_entries(data, path, change)


def rename(data: Data, path: Names, name: str) -> Data:
    """Gives an object another name, everywhere: what refers to it follows."""
    _check_name(name)

    def change(entries: list[Any]) -> list[Any]:
        at = _index(entries, path[-1])
        if at is None:
            raise _no_object(path[:-1], path[-1], entries)
        other = _index(entries, name)
        if other is not None and other != at:
            raise ProblemError(
                Problem(
                    code="object-exists",
                    summary=f"There is an entry {shown(name)} in {path_text(path[:-1])} already.",
                    fix="Choose another name.",
                )
            )
        return [*entries[:at], {**entries[at], "name": name}, *entries[at + 1 :]]

    renamed = _change_entries(data, path, change)
    if len(path) != 2:
        return renamed  # references are to collections at the top of the tree
    collection, old = path

    def follow(_: Names, node: Node, value: Any) -> Any:
        if node.hints["reference"] != collection:
            return value
        if isinstance(value, list):
            return [name if each == old else each for each in value] if old in value else value
        return name if value == old else value

    return _as_data(transform(renamed, "reference", follow))


def uses(data: Data, collection: str, name: str) -> list[Names]:
    """The settings that refer to the object `name` of `collection`."""
    found: list[Names] = []

    def look(path: Names, node: Node, value: Any) -> Any:
        if node.hints["reference"] == collection and (
            value == name or (isinstance(value, list) and name in value)
        ):
            found.append(path)
        return value

    transform(data, "reference", look)
    return found


def names_in(data: Data, collection: str) -> Iterator[str]:
    """The names in a collection at the top of the tree, in order."""
    entries = data.get(collection)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield entry["name"]


class _Gone:
    """The value of what is taken away."""


_GONE = _Gone()

# Node, value and whether it is there → the new value.
Change = Callable[[Node, Any, bool], Any]


def _change(
    value: Any, path: Names, change: Change, *, create: bool = False, node: Node = ROOT, done: Names = ()
) -> Any:
    part = path[len(done)]
    last = len(done) == len(path) - 1
    if node.kind == "section":
        if not isinstance(value, dict):
            raise _malformed(done, "a table")
        inner = child(node, part, value)
        if inner is None:
            raise _no_setting(done, part, children(node.model(value)))
        present = part in value
        current = value[part] if present else default_or_none(inner)
        new = (
            change(inner, current, present)
            if last
            else _change(current, path, change, create=create, node=inner, done=(*done, part))
        )
        if new is _GONE:
            return {key: each for key, each in value.items() if key != part}
        return {**value, part: new}
    if node.kind != "collection":
        raise _not_inside(done, node)
    if not isinstance(value, list):
        raise _malformed(done, "a list")
    entry = entry_of(node)
    at = _index(value, part)
    if at is None and not (last and create):
        raise _no_object(done, part, value)
    if at is None:
        return [*value, change(entry, None, False)]
    new = (
        change(entry, value[at], True)
        if last
        else _change(value[at], path, change, create=create, node=entry, done=(*done, part))
    )
    return [*value[:at], *([] if new is _GONE else [new]), *value[at + 1 :]]


def _change_entries(data: Data, path: Names, change: Callable[[list[Any]], list[Any]]) -> Data:
    """Changes the collection that holds the object at `path`."""
    if len(path) < 2:
        raise _not_movable(path)

    def entries(node: Node, value: Any, _: bool) -> Any:
        if node.kind != "collection":
            raise _not_movable(path)
        if not isinstance(value, list):
            raise _malformed(path[:-1], "a list")
        return change(value)

    return _as_data(_change(data, path[:-1], entries))


def _step(node: Node, value: Any, part: str, done: Names, *, must: bool) -> tuple[Node, Any]:
    if node.kind == "section":
        inner = child(node, part, value)
        if inner is None:
            raise _no_setting(done, part, children(node.model(value)))
        if isinstance(value, dict) and part in value:
            return inner, value[part]
        return inner, default_or_none(inner) if must else None
    if node.kind != "collection":
        raise _not_inside(done, node)
    entries = value if isinstance(value, list) else []
    at = _index(entries, part)
    if at is None:
        if must:
            raise _no_object(done, part, entries)
        return entry_of(node), None
    return entry_of(node), entries[at]


def _index(entries: list[Any], name: str) -> int | None:
    for position, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("name") == name:
            return position
    return None


def _place(entries: list[Any], before: str | None, collection: Names) -> int:
    if before is None:
        return len(entries)
    at = _index(entries, before)
    if at is None:
        raise _no_object(collection, before, entries)
    return at


def _named(value: Any, path: Names) -> Any:
    """An object with the name that its path gives it."""
    if not isinstance(value, dict):
        raise _malformed(path, "a table")
    _check_name(path[-1])
    if value.get("name", path[-1]) != path[-1]:
        raise ProblemError(
            Problem(
                code="name-invalid",
                summary=f"The entry at {path_text(path)} says that its name is {shown(value['name'])}.",
                fix="Leave the name out, or rename the entry first.",
            )
        )
    return {"name": path[-1], **value}


def _check_name(name: str) -> None:
    try:
        parse_name(name)
    except ValueError as error:
        raise ProblemError(
            Problem(
                code="name-invalid",
                summary=f"{printable(str(error), 200)}.",
                fix="Write 1 to 64 characters without / and without spaces at the ends.",
            )
        ) from None


def _as_data(value: Any) -> Data:
    assert isinstance(value, dict)
    return value


def _no_setting(done: Names, part: str, known: Iterable[str]) -> ProblemError:
    known = list(known)
    close = difflib.get_close_matches(part[:100], known, n=1)
    where = path_text(done) or "the configuration"
    return ProblemError(
        Problem(
            code="no-such-setting",
            summary=f"{where} has no setting {shown(part)}.",
            fix=f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}.",
        )
    )


def _no_object(done: Names, part: str, entries: list[Any]) -> ProblemError:
    names = [str(each.get("name")) for each in entries if isinstance(each, dict)]
    close = difflib.get_close_matches(part[:100], names, n=1) if len(names) <= 2000 else []
    few = ", ".join(printable(name, 64) for name in names[:10])
    return ProblemError(
        Problem(
            code="no-such-object",
            summary=f"There is no entry {shown(part)} in {path_text(done)}.",
            fix=f"Did you mean {printable(close[0], 64)}?"
            if close
            else f"There are: {few}{', …' if len(names) > 10 else ''}."
            if few
            else "There are none yet; add one first.",
        )
    )


def _not_inside(done: Names, node: Node) -> ProblemError:
    what = "a list without names" if node.kind == "list" else "a single setting"
    return ProblemError(
        Problem(
            code="no-such-setting",
            summary=f"{path_text(done)} is {what}: nothing inside it has a path of its own.",
            fix=f"Read and set {path_text(done)} as a whole.",
        )
    )


def _not_movable(path: Names) -> ProblemError:
    return ProblemError(
        Problem(
            code="not-movable",
            summary=f"{path_text(path) or 'The whole tree'} is not an entry of a collection.",
            fix="Name an entry, such as access_control/Intranet.",
        )
    )


def _malformed(path: Names, wanted: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="config-malformed",
            summary=f"{path_text(path) or 'The configuration'} is not {wanted}.",
            fix=f"Give {wanted} there.",
        )
    )


def _invalid(summary: str, fix: str) -> ProblemError:
    return ProblemError(Problem("path-invalid", summary, fix))
