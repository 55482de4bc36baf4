"""Names are used once in their collection, and references lead to an object that is there."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from lockgate.server.config.findings import Finding, Path, shown
from lockgate.server.config.schema import Node, children
from lockgate.server.config.tree import Configuration


class References:
    """What objects refer to, read once from each."""

    def __init__(self) -> None:
        # By identity; each keeps its object: while it is kept, nothing else has its identity.
        self._kept: dict[int, tuple[BaseModel, Mapping[str, frozenset[str]] | None]] = {}

    def are_right(self, entry: BaseModel, names: Mapping[str, frozenset[str]]) -> bool:
        """Whether there is nothing to say about an object and what is inside it, seen at a glance."""
        kept = self._kept.get(id(entry))
        if kept is None:
            kept = self._kept[id(entry)] = entry, _read(entry)
        return kept[1] is not None and all(wanted <= names[key] for key, wanted in kept[1].items())

    def forget(self, most: int) -> None:
        """Everything, when there are more than `most`: they are read again when they are asked for."""
        if len(self._kept) > most:
            self._kept = {}


def _read(section: BaseModel) -> dict[str, frozenset[str]] | None:
    """Collection → names of it; None where names stand twice in one place, or may be taken for one another."""
    found: dict[str, frozenset[str]] = {}
    for key, node in children(type(section)).items():
        if not _matters(node):
            continue
        value = getattr(section, key)
        parts: list[dict[str, frozenset[str]] | None]
        if node.kind == "setting":
            wanted = _wanted(value)
            parts = [{str(node.hints["reference"]): frozenset(wanted)} if _differ(wanted) else None]
        elif node.kind == "section":
            parts = [_read(value)]
        elif node.kind == "collection" and not _differ([each.name.casefold() for each in value]):
            parts = [None]
        else:
            parts = [_read(each) for each in value]
        for part in parts:
            if part is None:
                return None
            for collection, more in part.items():
                found[collection] = found.get(collection, frozenset()) | more
    return found


def _differ(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def judge(tree: Configuration, references: References | None = None) -> Iterator[Finding]:
    """references: keeps what it reads for the next tree with the same objects."""
    names = {
        key: frozenset(entry.name for entry in getattr(tree, key))
        for key, node in children(Configuration).items()
        if node.kind == "collection"
    }
    yield from _section(tree, (), names, references)


def _section(
    section: BaseModel, path: Path, names: Mapping[str, frozenset[str]], references: References | None
) -> Iterator[Finding]:
    for key, node in children(type(section)).items():
        if not _matters(node):
            continue
        value = getattr(section, key)
        here = (*path, key)
        if node.kind == "section":
            yield from _section(value, here, names, references)
        elif node.kind == "setting":
            yield from _reference(node, value, here, names)
        else:
            yield from _entries(node, value, here, names, references)


@functools.cache
def _matters_model(model: type[BaseModel]) -> bool:
    return any(_matters(node) for node in children(model).values())


def _matters(node: Node) -> bool:
    """Whether there is anything to judge there; most of a tree are plain settings."""
    if node.kind == "setting":
        return "reference" in node.hints
    return node.kind == "collection" or any(_matters_model(model) for model in node.models)


def _entries(
    node: Node,
    entries: tuple[Any, ...],
    path: Path,
    names: Mapping[str, frozenset[str]],
    references: References | None,
) -> Iterator[Finding]:
    seen: dict[str, str] = {}  # as compared → as written
    for position, entry in enumerate(entries):
        here: Path = (*path, position)
        if node.kind == "collection":
            other = seen.get(entry.name.casefold())
            if other == entry.name:
                yield Finding(
                    (*here, "name"), f"{shown(entry.name)} is the name of an earlier entry", "every name once"
                )
            else:
                here = (*path, entry.name)
                if other is not None:
                    yield Finding(
                        (*here, "name"),
                        f"{shown(entry.name)} differs from {shown(other)} in its case only",
                        "names that nobody confuses",
                        warning=True,
                    )
            seen[entry.name.casefold()] = entry.name
        if references is None or not references.are_right(entry, names):
            yield from _section(entry, here, names, references)


def _wanted(value: Any) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,) if value else ()


def _reference(node: Node, value: Any, path: Path, names: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    collection = str(node.hints["reference"])
    known = names[collection]
    seen: set[str] = set()
    for name in _wanted(value):
        if name not in known:
            # Looking for a similar name among thousands takes longer than all the rest.
            close = difflib.get_close_matches(name, known, n=1) if len(known) <= 200 else []
            yield Finding(
                path,
                f"there is no {shown(name)} in {collection}",
                f"{shown(close[0])}, or another name of an entry of {collection}"
                if close
                else f"the name of an entry of {collection}",
            )
        elif name in seen:
            yield Finding(path, f"{shown(name)} stands there twice", "every name once")
        seen.add(name)
