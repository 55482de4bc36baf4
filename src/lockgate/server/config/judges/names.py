"""Names are used once in their collection, and references lead to an object that is there."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from lockgate.server.config.findings import Finding, Path, shown
from lockgate.server.config.schema import Node, children
from lockgate.server.config.tree import Configuration


def judge(tree: Configuration) -> Iterator[Finding]:
    names = {
        key: frozenset(entry.name for entry in getattr(tree, key))
        for key, node in children(Configuration).items()
        if node.kind == "collection"
    }
    yield from _section(tree, (), names)


def _section(section: BaseModel, path: Path, names: dict[str, frozenset[str]]) -> Iterator[Finding]:
    for key, node in children(type(section)).items():
        if not _matters(node):
            continue
        value = getattr(section, key)
        here = (*path, key)
        if node.kind == "section":
            yield from _section(value, here, names)
        elif node.kind == "setting":
            yield from _reference(node, value, here, names)
        else:
            yield from _entries(node, value, here, names)


@functools.cache
def _matters_model(model: type[BaseModel]) -> bool:
    return any(_matters(node) for node in children(model).values())


def _matters(node: Node) -> bool:
    """Whether there is anything to judge there; most of a tree are plain settings."""
    if node.kind == "setting":
        return "reference" in node.hints
    return node.kind == "collection" or any(_matters_model(model) for model in node.models)


def _entries(
    node: Node, entries: tuple[Any, ...], path: Path, names: dict[str, frozenset[str]]
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
        yield from _section(entry, here, names)


def _reference(node: Node, value: Any, path: Path, names: dict[str, frozenset[str]]) -> Iterator[Finding]:
    collection = str(node.hints["reference"])
    known = names[collection]
    wanted = value if isinstance(value, tuple) else (value,) if value else ()
    seen: set[str] = set()
    for name in wanted:
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
