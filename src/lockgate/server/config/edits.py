"""Edits of a draft: small changes at paths, applied in order, all or none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config import paths
from lockgate.server.config.findings import shown
from lockgate.server.config.paths import Data, parse_path

MAX_EDITS = 20_000  # in one request; a collection at its largest has 5,000 objects


@dataclass(frozen=True, slots=True)
class SetValue:
    """Sets a setting, section, object or collection."""

    path: str
    value: Any


@dataclass(frozen=True, slots=True)
class Remove:
    """Takes an object away; a setting or section gets its default back."""

    path: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Adds an object before the one called `before`, or at the end."""

    path: str
    value: Any
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """Moves an object before the one called `before`, or to the end."""

    path: str
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """Gives an object another name, and what refers to it too."""

    path: str
    name: str


Edit = SetValue | Remove | Insert | Move | Rename

_KINDS: dict[str, type[Edit]] = {
    "set": SetValue,
    "remove": Remove,
    "insert": Insert,
    "move": Move,
    "rename": Rename,
}


def apply(data: Data, edits: Iterable[Edit]) -> Data:
    """`data` after all edits. Raises ProblemError of the first one that cannot be done; see `paths`."""
    for edit in edits:
        path = parse_path(edit.path)
        match edit:
            case SetValue(value=value):
                data = paths.set_value(data, path, value)
            case Remove():
                data = paths.remove(data, path)
            case Insert(value=value, before=before):
                data = paths.insert(data, path, value, before)
            case Move(before=before):
                data = paths.move(data, path, before)
            case Rename(name=name):
                data = paths.rename(data, path, name)
    return data


def parse_edit(document: Any) -> Edit:
    """An edit as JSON: {"op": "set", "path": …, "value": …}. Raises ProblemError "edit-invalid"."""
    operation = document.get("op") if isinstance(document, dict) else None
    kind = _KINDS.get(operation) if isinstance(operation, str) else None
    if kind is None:
        raise _invalid(f"{shown(operation)} is no operation of an edit")
    fields = {key: value for key, value in document.items() if key != "op"}
    wanted = set(kind.__slots__)  # type: ignore[attr-defined]
    needed = wanted - {"before"}
    if not needed <= fields.keys() <= wanted:
        raise _invalid(f'an edit "{operation}" has the fields {", ".join(sorted(wanted))}')
    for key in ("path", "name", "before"):
        if (
            key in fields
            and not isinstance(fields[key], str)
            and not (key == "before" and fields[key] is None)
        ):
            raise _invalid(f"{key} is {shown(fields[key])}, not a text")
    return kind(**fields)


def _invalid(wrong: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="edit-invalid",
            summary=f"The edit cannot be understood: {wrong}.",
            fix='Write {"op": "set", "path": …, "value": …}, or one of remove, insert, move, rename.',
        )
    )
