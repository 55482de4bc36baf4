"""A section of the configuration tree as fields: which control shows a setting, read from its declaration.

Nothing here knows a value. Names of fields in a form are keys with dots between them, entries of lists by their
position: `policy.source.rules.0.network`. Names of objects never become names of fields.
"""

from __future__ import annotations

import functools
import re
import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from lockgate.server.config.schema import Node, children, entry_of
from lockgate.server.config.tree.fields import AppliesTo
from lockgate.server.web.forms import labels

Kind = Literal[
    "text",
    "textarea",
    "number",
    "switch",
    "radio",
    "select",
    "secret",
    "reference",
    "references",
    "texts",
    "section",
    "applies",
    "union",
    "rows",
    "collection",
    "fixed",
    "shown",
]

# Made by the configuration itself: shown, never asked for.
_MADE = {("ConnectionSet", "guid"), ("ConnectionSet", "version"), ("ClientConnection", "guid")}

MOST_RADIOS = 4  # options; more become a drop-down list


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a choice. `help` is what the setting's meaning says about it."""

    value: str
    label: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One control, or a group of them.

    options:    values of a choice; kinds of a union.
    collection: where the names of a reference come from.
    optional:   a reference may be empty; none: what it is called then.
    fields:     of a section, or of one row; of a union they depend on its kind (`variant`).
    whole:      a text that may also be a whole number, such as an IP protocol.
    """

    key: str
    kind: Kind
    node: Node
    label: str
    help: str = ""
    allowed: str = ""
    unit: str = ""
    options: tuple[Option, ...] = ()
    collection: str = ""
    optional: bool = False
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    longest: int | None = None
    ordered: bool = False
    fields: tuple[Field, ...] = ()
    code: bool = False
    whole: bool = False
    none: str = "None"

    def variant(self, kind: str) -> tuple[Field, ...]:
        """The fields of a union of that kind; of its first kind when there is no such one."""
        model = next((each for each in self.node.models if _kind_of(each) == kind), self.node.models[0])
        return fields_of(model)


@functools.cache
def fields_of(model: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a section, in the order of its model."""
    return tuple(field_of(key, node, model.__name__) for key, node in children(model).items())


def field_of(key: str, node: Node, section: str = "") -> Field:
    """The field that shows `node`, which stands at `key` of the section with that model."""
    info = node.field
    meaning = (info.description or "") if info is not None else ""
    hints = node.hints
    name = labels.label(key, section)
    if meaning.rstrip(".").casefold() == name.casefold():
        meaning = ""  # it says nothing more
    common: dict[str, Any] = {
        "key": key,
        "node": node,
        "label": name,
        "help": meaning,
        "allowed": str(hints.get("allowed", "")),
        "ordered": bool(hints.get("ordered")),
        "required": info is not None and info.is_required(),
    }
    if (section, key) in _MADE:
        return Field(kind="shown", **common)
    if node.kind == "section":
        return _section(key, common, node)
    if node.kind == "collection":
        return Field(kind="collection", **common)
    if node.kind == "list":
        return Field(kind="rows", fields=fields_of(entry_of(node).model()), longest=_longest(node), **common)
    return _setting(key, common, node, hints)


def _section(key: str, common: dict[str, Any], node: Node) -> Field:
    meaning = common.pop("help") or _about(node.model())
    common["label"] = labels.heading(key)
    if node.models == (AppliesTo,):
        return Field(kind="applies", fields=fields_of(AppliesTo), help="", **common)
    if len(node.models) > 1:
        kinds = tuple(
            Option(_kind_of(each), labels.kind(_kind_of(each)), _about(each)) for each in node.models
        )
        return Field(kind="union", options=kinds, help=meaning, **common)
    return Field(kind="section", fields=fields_of(node.model()), help=meaning, **common)


def _setting(key: str, common: dict[str, Any], node: Node, hints: dict[str, Any]) -> Field:
    assert node.field is not None
    annotation = node.field.annotation
    many = typing.get_origin(annotation) is tuple
    low, high = _bounds(node)
    longest = _longest(node)
    if typing.get_origin(annotation) is typing.Literal:
        return _choice(common, [str(value) for value in typing.get_args(annotation)])
    if "reference" in hints:
        optional = '"" for none' in common["allowed"]
        kind: Kind = "references" if many else "reference"
        none, common["help"] = _none(common["help"])
        return Field(kind=kind, collection=str(hints["reference"]), optional=optional, none=none, **common)
    if hints.get("secret"):
        return Field(kind="secret", longest=longest, **common)
    if many:
        return Field(kind="texts", **common)
    if annotation is bool:
        return Field(kind="switch", **common)
    if annotation is int:
        unit = str(hints.get("unit", "")) or labels.unit(key)
        return Field(kind="number", minimum=low, maximum=high, unit=unit, **common)
    if hints.get("multiline") or hints.get("expression"):
        code = bool(hints.get("expression")) or key in ("certificate", "ca")
        return Field(kind="textarea", longest=longest, code=code, **common)
    whole = int in typing.get_args(annotation)
    return Field(kind="text", longest=longest, whole=whole, **common)


def _choice(common: dict[str, Any], values: list[str]) -> Field:
    if len(values) == 1:
        return Field(kind="fixed", options=(Option(values[0], labels.kind(values[0])),), **common)
    meaning = common.pop("help")
    said = {value: _said(meaning, value) for value in values}
    if all(said.values()):
        first = min(meaning.index(f"{value}: ") for value in values)
        meaning = meaning[:first].strip()
        if meaning.rstrip(".").casefold() == str(common["label"]).casefold():
            meaning = ""
    else:
        said = dict.fromkeys(values, "")
    options = tuple(Option(value, labels.option(value), said[value]) for value in values)
    return Field(
        kind="radio" if len(values) <= MOST_RADIOS else "select", options=options, help=meaning, **common
    )


def _said(meaning: str, value: str) -> str:
    """What the meaning "one: …; other: …." says about one value."""
    found = re.search(rf"(?:^|[;.] ){re.escape(value)}: ([^;]+)", meaning)
    return found[1].rstrip(".") if found else ""


def _none(meaning: str) -> tuple[str, str]:
    """What an empty reference is called, from a meaning such as 'Page that is shown; "" is the default page.'"""
    found = re.search(r'; "" is ([^.;]+)\.', meaning)
    if not found:
        return "None", meaning
    return found[1][0].upper() + found[1][1:], meaning.replace(found[0], ".")


def _kind_of(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].default)


def _about(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")


def _bounds(node: Node) -> tuple[int | None, int | None]:
    low = high = None
    for rule in node.field.metadata if node.field is not None else ():
        low = getattr(rule, "ge", low)
        high = getattr(rule, "le", high)
    return low, high


def _longest(node: Node) -> int | None:
    found = None
    for rule in node.field.metadata if node.field is not None else ():
        found = getattr(rule, "max_length", found)
    return found
