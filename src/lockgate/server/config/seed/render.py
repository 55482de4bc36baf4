"""A tree as a commented file: every setting with its meaning and what is allowed.

Settings that differ from their default, and those an administrator edits first, stand as they
are; the others are commented out, so that a later release may improve its defaults.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lockgate.server.config.seed.tree import Access, Seed

WIDTH = 100
# Written out even when they are the default.
ALWAYS = frozenset(
    {"gateway.hostname", "gateway.listen", "gateway.admin_listen", "network.pools", "network.dns",
     "network.split_include"}
)  # fmt: skip

_HEAD = """\
# Seed of a Lockgate gateway (TOML).
#
# Lines that begin with "#" and hold a setting show its default.
# Check a change before using it:  lockgate config check config.toml
"""

_EXAMPLE = """\
#
# [[access]]
# name = "intranet web"
# action = "allow"
# to = ["10.77.0.80/32"]
# protocol = "tcp"
# ports = ["443", "8000-8100"]
"""


def render(configuration: Seed) -> str:
    """The file that `load` reads back as the same tree."""
    parts = [_HEAD]
    for name, field in Seed.model_fields.items():
        value = getattr(configuration, name)
        if isinstance(value, BaseModel):
            parts += ["\n", *_table(name, value)]
        else:
            parts += ["\n", *_access_tables(field, value)]
    return "".join(parts)


def _table(path: str, table: BaseModel) -> Iterator[str]:
    yield from _comment(type(table).__doc__)
    yield f"[{path}]\n"
    inner: list[tuple[str, BaseModel]] = []
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            inner.append((f"{path}.{name}", value))
            continue
        yield "\n"
        yield from _comment(f"{field.description} Allowed: {_allowed(field)}.")
        active = f"{path}.{name}" in ALWAYS or value != field.get_default()
        yield f"{'' if active else '# '}{name} = {_literal(value)}\n"
    for inner_path, value in inner:
        yield "\n"
        yield from _table(inner_path, value)


def _access_tables(field: FieldInfo, rules: tuple[Access, ...]) -> Iterator[str]:
    yield from _comment(Access.__doc__)
    yield "#\n"
    for name, part in Access.model_fields.items():
        yield from _comment(f"{name}: {part.description} Allowed: {_allowed(part)}.", hanging=True)
    yield _EXAMPLE
    for rule in rules:
        yield "\n[[access]]\n"
        for name, part in Access.model_fields.items():
            value = getattr(rule, name)
            if part.is_required() or value != part.get_default():
                yield f"{name} = {_literal(value)}\n"


def _comment(text: str | None, *, hanging: bool = False) -> Iterator[str]:
    for paragraph in textwrap.dedent(f"    {text}").split("\n\n"):
        yield from (
            f"{line}\n"
            for line in textwrap.wrap(
                " ".join(paragraph.split()),
                WIDTH,
                initial_indent="# ",
                subsequent_indent="#   " if hanging else "# ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _allowed(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["allowed"])


def _literal(value: Any) -> str:
    """A value as TOML writes it; JSON strings are TOML basic strings but for U+007F."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
