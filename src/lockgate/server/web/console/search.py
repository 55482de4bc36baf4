"""Search over pages, settings and objects: every word has to be somewhere in what is found."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from lockgate.server.config.registry import PAGES, Page
from lockgate.server.config.schema import ROOT, Node, children, entry_of
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.menu import entries, settings_url
from lockgate.server.web.console.working import names_in
from lockgate.server.web.forms import labels

MOST = 50
MOST_AT_ONCE = 12  # below the search field


@dataclass(frozen=True, slots=True)
class Found:
    """Something to go to."""

    title: str
    where: str
    url: str
    kind: str
    words: str
    area: str


@functools.cache
def _settings() -> tuple[Found, ...]:
    """Every setting, on the page where it stands."""
    found: list[Found] = []
    for page in PAGES:
        node = _node_of(page)
        models = entry_of(node).models if node.kind == "collection" else node.models
        for model in models:
            found += _of_model(page, model, ())
    return tuple(found)


def _node_of(page: Page) -> Node:
    node = ROOT
    for key in page.path.split("/"):
        node = children(node.model())[key]
    return node


def _of_model(page: Page, model: type[BaseModel], above: tuple[str, ...]) -> Iterator[Found]:
    for key, node in children(model).items():
        if key in ("name", "description", "kind"):
            continue
        name = labels.label(key, model.__name__)
        meaning = (node.field.description or "") if node.field is not None else ""
        where = " › ".join((*page.menu, *above))
        words = f"{name} {key} {meaning} {where}".casefold()
        yield Found(name, where, settings_url(page.id), "Setting", words, page.area)
        for inner in node.models:
            yield from _of_model(page, inner, (*above, labels.heading(key)))


def search(ask: Ask, data: Any, text: str, most: int) -> list[Found]:
    """The best first: pages, then objects, then settings."""
    words = text.casefold().split()[:8]
    if not words:
        return []
    found: list[Found] = []
    for each in entries():
        known = f"{each.text} {each.help} {each.words}".casefold()
        if each.visible(ask.principal) and all(word in known for word in words):
            found.append(Found(each.title, " › ".join(each.path[:-1]), each.url, "Page", known, each.area))
    found.sort(key=lambda one: not one.title.casefold().startswith(words[0]))
    for page in PAGES:
        if page.kind != "collection" or not ask.principal.may(page.area):
            continue
        for name in names_in(data, page.path):
            if all(word in name.casefold() for word in words):
                found.append(
                    Found(
                        name,
                        page.menu_text.replace(" > ", " › "),
                        settings_url(page.id, name),
                        "Object",
                        name,
                        page.area,
                    )
                )
        if len(found) > most:
            return found[:most]
    seen = set()
    for setting in _settings():
        key = (setting.title, setting.where)
        if (
            key not in seen
            and ask.principal.may(setting.area)
            and all(word in setting.words for word in words)
        ):
            seen.add(key)
            found.append(setting)
    return found[:most]


async def show(ask: Ask) -> Response:
    """GET: the page of results."""
    text = ask.query("q").strip()[:100]
    data = await ask.console.working.data(ask.principal)
    return await ask.page(
        "search.html",
        "",
        title=f"Search: {text}" if text else "Search",
        text=text,
        found=search(ask, data, text, MOST),
    )


async def show_found(ask: Ask) -> Response:
    """GET: the lines below the search field while somebody types."""
    text = ask.query("q").strip()[:100]
    data = await ask.console.working.data(ask.principal)
    found = search(ask, data, text, MOST_AT_ONCE) if len(text) > 1 else []
    return await ask.page("search_found.html", "", title="Search", text=text, found=found)
