"""The shape of the tree, read from its models: what stands at a key, and what its settings are hinted as.

A *node* is one place of the shape. Entries of a list are told apart by name where their model has one (a
collection); other lists are one setting. Where an entry may be of several models (conditions, auth servers), its
`kind` decides.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lockgate.server.config.tree import Configuration

Names = tuple[str, ...]
"""A path of keys and names of objects."""


@dataclass(frozen=True, slots=True)
class Node:
    """One place of the shape.

    models: what a section, or an entry of a collection or list, can be.
    field:  how it is declared; None for the root and for entries of a collection.
    """

    kind: Literal["section", "collection", "list", "setting"]
    models: tuple[type[BaseModel], ...] = ()
    field: FieldInfo | None = None

    @property
    def hints(self) -> dict[str, Any]:
        """`json_schema_extra` of the setting."""
        extra = self.field.json_schema_extra if self.field is not None else None
        return extra if isinstance(extra, dict) else {}

    def model(self, value: object = None) -> type[BaseModel]:
        """The model of a section with this value. Of several, the first one when its kind is none of theirs."""
        if len(self.models) > 1 and isinstance(value, dict):
            for model in self.models:
                if value.get("kind") == model.model_fields["kind"].default:
                    return model
        return self.models[0]


ROOT = Node("section", (Configuration,))


def entry_of(collection: Node) -> Node:
    """An entry of a collection or list."""
    return Node("section", collection.models)


@functools.cache
def children(model: type[BaseModel]) -> dict[str, Node]:
    """What stands at the keys of a section."""
    return {name: _node(field) for name, field in model.model_fields.items()}


def child(node: Node, key: str, value: object) -> Node | None:
    """What stands at `key` of the section `node` that holds `value`; None when there is no such key."""
    return children(node.model(value)).get(key)


def _node(field: FieldInfo) -> Node:
    annotation = field.annotation
    models = _models(annotation)
    if models:
        return Node("section", models, field)
    if typing.get_origin(annotation) is tuple:
        models = _models(typing.get_args(annotation)[0])
        if models:
            named = all("name" in model.model_fields for model in models)
            return Node("collection" if named else "list", models, field)
    return Node("setting", (), field)


def _models(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models that a value of this type can be; empty when it can be anything else."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _models(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is types.UnionType:
        found = [_models(each) for each in typing.get_args(annotation)]
        return tuple(model for each in found for model in each) if all(found) else ()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return ()


@functools.cache
def _has(model: type[BaseModel], hint: str) -> bool:
    """Whether a setting with this hint stands anywhere in the model."""
    return any(
        hint in node.hints or any(_has(inner, hint) for inner in node.models)
        for node in children(model).values()
    )


Visit = Callable[[Names, Node, Any], Any]
"""Path, node and value of a setting → its new value."""


def transform(value: Any, hint: str, visit: Visit, node: Node = ROOT, path: Names = ()) -> Any:
    """`value` with every setting that has `hint` replaced by what `visit` returns.

    The rest is shared with `value`, which stays as it is. Parts that are not of the tree's shape are left alone.
    Positions in lists without names are written as numbers.
    """
    if node.kind == "setting":
        return visit(path, node, value) if hint in node.hints else value
    if node.kind == "section":
        if not isinstance(value, dict):
            return value
        model = node.model(value)
        if not _has(model, hint):
            return value
        changed: dict[str, Any] = {}
        for key, inner in children(model).items():
            if key in value:
                new = transform(value[key], hint, visit, inner, (*path, key))
                if new is not value[key]:
                    changed[key] = new
        return {**value, **changed} if changed else value
    if not isinstance(value, list) or not any(_has(model, hint) for model in node.models):
        return value
    entry = entry_of(node)
    entries = [
        transform(each, hint, visit, entry, (*path, _name_of(each, position)))
        for position, each in enumerate(value)
    ]
    return entries if any(new is not old for new, old in zip(entries, value, strict=True)) else value


def _name_of(entry: object, position: int) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else str(position)


def plain_default(node: Node) -> Any:
    """The default of a setting or section as JSON. Raises KeyError when it has none."""
    if node.field is None or node.field.is_required():
        raise KeyError("no default")
    default = node.field.get_default(call_default_factory=True)
    return _plain(default)


def default_or_none(node: Node) -> Any:
    """The same, and None for a required setting; that it is missing is for `checks` to say."""
    try:
        return plain_default(node)
    except KeyError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)  # what the value types of `values` are written as
