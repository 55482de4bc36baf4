"""What pydantic found wrong, in the words of the house: the setting, the value, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lockgate.model.text import printable
from lockgate.server.config.findings import Finding, Path, path_text, shown
from lockgate.server.config.schema import Node, children, entry_of

MAX_FINDINGS = 200  # nobody reads more, and a hostile document can make half a million

Place = tuple[str | int, ...]
"""Keys and positions, as a validator counts."""
Model = type[BaseModel]


def explain(
    error: ValidationError,
    data: Any,
    root: Node,
    *,
    by_name: bool = True,
    written: Callable[[Path], str] = path_text,
) -> Iterator[Finding]:
    """One finding per error, for the first MAX_FINDINGS.

    root:    the shape of what was validated.
    by_name: entries of collections are called by their names, where they have one of their own.
    written: how people write the path of a table.
    """
    details = _said_once(error.errors(include_url=False))
    for detail in details[:MAX_FINDINGS]:
        yield _explain(detail, data, root, by_name, written)
    if len(details) > MAX_FINDINGS:
        yield Finding((), f"there are {len(details) - MAX_FINDINGS} more errors", "")


def _said_once(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without "too few entries" about lists that are short because entries in them are wrong."""
    inside = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in inside]


def _explain(
    detail: ErrorDetails, data: Any, root: Node, by_name: bool, written: Callable[[Path], str]
) -> Finding:
    place = _place(detail["loc"], data)
    path, holder, node = _walk(place, data, root, by_name)
    allowed = str(node.hints.get("allowed", "")) if node is not None else ""
    kind = detail["type"]
    if kind == "missing":
        wrong = "is missing"
        allowed = allowed or f"a table {written(path)}"
    elif kind == "extra_forbidden":
        known = list(holder.model_fields) if holder else []
        close = difflib.get_close_matches(str(path[-1])[:100], known, n=1)
        wrong = "is not a known key" + (f"; did you mean {close[0]}?" if close else "")
        allowed = "one of " + ", ".join(known)
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        wrong, allowed = f"{shown(detail['input'])} is not a table", f"a table {written(path)}".strip()
    elif kind == "tuple_type":
        wrong = f"{shown(detail['input'])} is not a list"
    elif kind in ("too_long", "too_short"):
        wrong = f"the list has {len(detail['input'])} entries"
    elif kind == "union_tag_not_found":
        path, wrong = (*path, "kind"), "is missing"
        allowed = detail.get("ctx", {}).get("expected_tags", "") or _kinds(node)
    elif kind == "union_tag_invalid":
        path, wrong = (*path, "kind"), f"{shown(detail['ctx']['tag'])} is not allowed"
        allowed = _kinds(node)
    elif kind == "value_error":
        wrong = printable(str(detail["ctx"]["error"]), 300)
    else:
        wrong = f"{shown(detail['input'])} is not allowed"
    return Finding(path, wrong, allowed)


def _kinds(node: Node | None) -> str:
    if node is None:
        return ""
    return "one of " + ", ".join(f'"{model.model_fields["kind"].default}"' for model in node.models)


def _place(loc: tuple[int | str, ...], data: Any) -> Place:
    """The part of an error's place that names keys of the data, without marks of the validator."""
    place: list[str | int] = []
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(part, str) and isinstance(data, Mapping) and (part in data or last):
            data = data.get(part)
        elif isinstance(part, int) and isinstance(data, list) and part < len(data):
            data = data[part]
        elif isinstance(part, str) and isinstance(data, Mapping) and data.get("kind") == part:
            continue  # the validator's mark for one model of several
        else:
            break
        place.append(part)
    return tuple(place)


def _walk(place: Place, data: Any, root: Node, by_name: bool) -> tuple[Path, Model | None, Node | None]:
    """The path in our terms; the model of the section that holds its last key; what stands there."""
    path: list[str | int] = []
    node: Node | None = root
    holder: Model | None = root.model(data)
    for part in place:
        if isinstance(part, int):
            name = (
                _own_name(data, part) if by_name and node is not None and node.kind == "collection" else None
            )
            path.append(part if name is None else name)
            if node is not None and node.kind in ("collection", "list"):
                node = entry_of(node)
            data = data[part] if isinstance(data, list) and part < len(data) else None
            continue
        path.append(part)
        holder = node.model(data) if node is not None and node.kind == "section" else None
        node = children(holder).get(part) if holder is not None else None
        data = data.get(part) if isinstance(data, Mapping) else None
    return tuple(path), holder, node


def _own_name(entries: Any, position: int) -> str | None:
    """The name of an entry, unless it has none or an earlier one has it too."""
    if not isinstance(entries, list) or position >= len(entries):
        return None
    names = [each.get("name") if isinstance(each, Mapping) else None for each in entries[: position + 1]]
    name = names[-1]
    return name if isinstance(name, str) and name not in names[:-1] else None
