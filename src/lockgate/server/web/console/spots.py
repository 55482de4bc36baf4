"""Places of the tree that pages of settings show: found by an address, and the parts of an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config import paths, registry
from lockgate.server.config.paths import Data, format_path
from lockgate.server.config.registry import Page, Part
from lockgate.server.config.schema import Names, Node, entry_of
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.lists import noun
from lockgate.server.web.console.menu import settings_url
from lockgate.server.web.forms.fields import Field, fields_of
from lockgate.server.web.forms.filling import blank

NOT_FOUND = Problem("no-such-page", "There is no such page of settings.", "Choose one from the menu.")


@dataclass(frozen=True, slots=True)
class Spot:
    """What a page of settings shows: a place in the tree, on a page, and the part of it."""

    page: Page
    at: Names  # below the page
    node: Node
    value: Any
    part: Part | None = None
    new: bool = False  # an object that is not there yet; `path` is its collection

    @property
    def path(self) -> Names:
        return (*self.page.path.split("/"), *self.at)

    @property
    def model(self) -> type[BaseModel]:
        return self.node.model(self.value)

    @property
    def is_object(self) -> bool:
        return self.node.field is None

    @property
    def below(self) -> str:
        return format_path(self.at)

    def url(self, **more: str) -> str:
        part = {"part": self.part.id} if self.part is not None and "part" not in more else {}
        return settings_url(self.page.id, self.below, **{**part, **more})


def spot(ask: Ask, data: Data) -> Spot:
    """The place that the request's address names. Raises ProblemError for none."""
    page = registry.page(ask.request.path_params["page"])
    if page is None:
        raise ProblemError(NOT_FOUND)
    ask.principal.require(page.area, "read")
    at = paths.parse_path(ask.query("at"))
    path = (*page.path.split("/"), *at)
    node, value = paths.node_at(data, path), paths.get(data, path)
    found = Spot(page, at, node, value)
    if ask.query("new") and node.kind == "collection":
        entry = entry_of(node)
        return replace(found, node=entry, value=blank(fields_of(entry.models[0])), new=True)
    if node.kind not in ("section", "collection"):
        raise ProblemError(NOT_FOUND)
    if len(at) == 1 and page.parts and page.kind == "collection":
        chosen = ask.query("part")
        part = next((each for each in page.parts if each.id == chosen), page.parts[0])
        return replace(found, part=part)
    return found


def form_fields(here: Spot) -> tuple[Field, ...]:
    """The fields of the spot's part; all of them where there are no parts."""
    fields = fields_of(here.model)
    if here.part is None:
        if here.new and here.page.parts and not here.at:
            general = here.page.parts[0]
            return _of_part(fields, here.page.parts, general)
        return fields
    return _of_part(fields, here.page.parts, here.part)


def _of_part(fields: tuple[Field, ...], parts: Sequence[Part], part: Part) -> tuple[Field, ...]:
    taken = {path.partition("/")[0] for each in parts for path in each.paths if path}
    chosen: list[Field] = []
    for path in part.paths:
        if not path:
            chosen += [each for each in fields if each.key not in taken]
            continue
        chosen.append(_pruned(fields, path.split("/")))
    return tuple(chosen)


def tabs(page: Page) -> list[tuple[str, list[Part]]]:
    """The parts of an object by the first word of their menu."""
    tabs: dict[str, list[Part]] = {}
    for part in page.parts:
        tabs.setdefault(part.menu[0], []).append(part)
    return list(tabs.items())


def _pruned(fields: tuple[Field, ...], keys: Sequence[str]) -> Field:
    """The field of the first key with nothing in it but what leads to the last."""
    each = next(one for one in fields if one.key == keys[0])
    return each if len(keys) == 1 else replace(each, fields=(_pruned(each.fields, keys[1:]),))


def trail(here: Spot) -> list[tuple[str, str]]:
    """What stands below the menu's entry: objects on the way, and the part."""
    trail: list[tuple[str, str]] = []
    for length in range(1, len(here.at) + 1):
        below = here.at[:length]
        # Collections inside an object have no page of their own worth a stop.
        if length % 2 == (1 if here.page.kind == "collection" else 0):
            trail.append((below[-1], settings_url(here.page.id, format_path(below))))
    if here.new:
        trail.append(("New " + noun(here.node), ""))
    elif here.part is not None and here.part is not here.page.parts[0]:
        trail.append((" › ".join(here.part.menu), ""))
    return trail


def list_url(here: Spot, **more: str) -> str:
    """The page on which the object's collection is shown."""
    around = here.at[:-1]
    # A collection inside an object is shown on the object's page, below its form.
    owner = around[:-1] if around else around
    part = ""
    if len(owner) == 1 and here.page.parts:
        key = around[-1]
        part = next((each.id for each in here.page.parts if key in [p.split("/")[0] for p in each.paths]), "")
    return settings_url(here.page.id, format_path(owner), part=part, **more)
