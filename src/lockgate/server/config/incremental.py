"""`checks.validate` for trees that have most of their parts from an earlier one.

Whoever edits one object of thousands gets a tree that shares all others with the one before (`paths`, `edits`).
An object's own model, and whether its references can be right, depend on nothing outside of it: both are kept
with the JSON value they were made from and found again by its identity. Everything that depends on more than one
object is judged anew each time. Findings are those of a full validation, to the letter.
"""

from __future__ import annotations

import threading
import typing
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from lockgate.server.config.bounds import Size, size_of
from lockgate.server.config.checks import Checked, judged
from lockgate.server.config.judges.names import References
from lockgate.server.config.paths import Data
from lockgate.server.config.schema import ROOT, Node, children, entry_of
from lockgate.server.config.tree import Configuration

# Objects that are kept, those of older trees among them; one takes about two kilobytes. More than this many in
# one tree is a tree at its limits, and all of it is kept.
MAX_KEPT = 40_000

_ADAPTERS: dict[int, TypeAdapter[Any]] = {}


class Validator:
    """One per process; from any thread."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        # By the identities of a value and of its place. Each keeps its value: while it is kept, nothing else has
        # its identity.
        self._kept: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._used: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._sizes: dict[int, tuple[Any, Size]] = {}
        self._references = References()
        self._lock = threading.Lock()

    def validate(self, data: Any) -> Checked:
        """The tree of a JSON value, and all findings. Total for any JSON value, which must not change afterwards."""
        with self._lock:
            self._used = {}
            fits = size_of(data, self._size).fits
            checked = judged(data, lambda: self._section(data, ROOT), self._references, fits=fits)
            self._forget()
            return checked

    def know(self, data: Data, tree: Configuration) -> None:
        """`tree` was made from `data`, or `data` written from it."""
        with self._lock:
            self._know_section(data, tree)

    def _section(self, value: Any, node: Node) -> Any:
        """`value` with the models of objects in the place of those that are right by themselves."""
        if not isinstance(value, dict):
            return value
        done: dict[str, Any] | None = None
        for key, inner in children(node.model(value)).items():
            if inner.kind not in ("collection", "section") or key not in value:
                continue
            before = value[key]
            after = self._section(before, inner) if inner.kind == "section" else self._entries(before, inner)
            if after is not before:
                done = {**value} if done is None else done
                done[key] = after
        return value if done is None else done

    def _entries(self, entries: Any, node: Node) -> Any:
        if not isinstance(entries, list) or not entries:
            return entries
        return [self._entry(each, node) for each in entries]

    def _size(self, entry: dict[str, Any]) -> Size:
        kept = self._sizes.get(id(entry))
        if kept is None:
            kept = self._sizes[id(entry)] = entry, size_of(entry)
        return kept[1]

    def _entry(self, entry: Any, node: Node) -> Any:
        if not isinstance(entry, dict):
            return entry
        place = id(entry), id(node)
        kept = self._kept.get(place)
        if kept is None:
            inside = self._section(entry, entry_of(node))
            try:
                kept = entry, _adapter(node).validate_python(inside)
            except ValidationError:
                return inside  # whoever validates the whole says what is wrong
            self._kept[place] = kept
        self._used[place] = kept
        return kept[1]

    def _know_section(self, value: Any, section: BaseModel) -> None:
        for key, inner in children(type(section)).items():
            made = getattr(section, key)
            if inner.kind == "section":
                self._know_section(value[key], made)
            elif inner.kind == "collection":
                for entry, model in zip(value[key], made, strict=True):
                    self._kept[id(entry), id(inner)] = entry, model
                    self._know_section(entry, model)

    def _forget(self) -> None:
        most = max(self._most, 2 * len(self._used))
        if len(self._kept) > most:
            self._kept = self._used
        if len(self._sizes) > most:
            self._sizes = {}
        self._references.forget(most)


def _adapter(collection: Node) -> TypeAdapter[Any]:
    """Validates one entry."""
    # A place of the shape is one object for the life of the process (`schema.children`).
    found = _ADAPTERS.get(id(collection))
    if found is None:
        assert collection.field is not None, "every collection is a field"
        found = _ADAPTERS[id(collection)] = TypeAdapter(typing.get_args(collection.field.annotation)[0])
    return found
