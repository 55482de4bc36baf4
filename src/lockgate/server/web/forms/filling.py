"""Fields with their values, and with what is wrong about them: what a template draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockgate.server.config.findings import Finding
from lockgate.server.config.schema import plain_default
from lockgate.server.web.forms.fields import Field
from lockgate.server.web.forms.when import duration

MAX_ROWS = 500  # of one list on a page

Place = tuple[str | int, ...]
Errors = Mapping[Place, Sequence[str]]
"""Place below the section → what is wrong there."""
NamesOf = Callable[[str], Sequence[str]]
"""Collection → the names in it."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A field on a page.

    value:   text, switch position, names selected; True for a secret that is set.
    parts:   of a section, of the present kind of a union, and of "applies".
    rows:    of a list.
    names:   that a reference can have and does not have.
    missing: names selected that are not there any more.
    """

    field: Field
    name: str
    value: Any
    errors: tuple[str, ...] = ()
    parts: tuple[Filled, ...] = ()
    rows: tuple[tuple[Filled, ...], ...] = ()
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    hint: str = ""

    @property
    def id(self) -> str:
        return "f-" + self.name.replace(".", "-").replace("_", "-")

    @property
    def wrong(self) -> bool:
        """Whether it or anything in it has an error."""
        return bool(
            self.errors
            or any(part.wrong for part in self.parts)
            or any(each.wrong for row in self.rows for each in row)
        )


@dataclass(frozen=True, slots=True)
class Filling:
    """What values come from."""

    names: NamesOf
    errors: Errors = field(default_factory=dict)

    def fill(
        self, fields: Iterable[Field], value: Any, prefix: str = "", place: Place = ()
    ) -> tuple[Filled, ...]:
        """Fields with the values of the section `value`; what is missing there has its default."""
        section = value if isinstance(value, dict) else {}
        return tuple(self._fill(each, section, prefix, place) for each in fields)

    def _fill(self, each: Field, section: Mapping[str, Any], prefix: str, place: Place) -> Filled:
        name = f"{prefix}.{each.key}" if prefix else each.key
        here = (*place, each.key)
        value = section[each.key] if each.key in section else default_of(each)
        errors = tuple(self.errors.get(here, ()))
        match each.kind:
            case "section" | "applies":
                return Filled(each, name, None, errors, self.fill(each.fields, value, name, here))
            case "union":
                kind = value.get("kind", "") if isinstance(value, dict) else ""
                known = [option.value for option in each.options]
                kind = kind if kind in known else known[0]
                parts = self.fill(_without_kind(each.variant(kind)), value, name, here)
                return Filled(each, name, kind, errors + tuple(self.errors.get((*here, "kind"), ())), parts)
            case "rows":
                entries = value[:MAX_ROWS] if isinstance(value, list) else []
                rows = tuple(
                    self.fill(each.fields, entry, f"{name}.{at}", (*here, at))
                    for at, entry in enumerate(entries)
                )
                return Filled(each, name, len(entries), errors, rows=rows)
            case "reference":
                names = tuple(self.names(each.collection))
                text = value if isinstance(value, str) else ""
                gone = (text,) if text and text not in names else ()
                return Filled(each, name, text, errors, names=names, missing=gone)
            case "references":
                selected = tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()
                existing = self.names(each.collection)
                available = tuple(one for one in existing if one not in selected)
                missing = tuple(one for one in selected if one not in existing)
                errors = self._with_entries(here, errors)
                return Filled(each, name, selected, errors, names=available, missing=missing)
            case "texts":
                lines = [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
                return Filled(each, name, "\n".join(lines), self._with_entries(here, errors))
            case "switch":
                return Filled(each, name, value is True, errors)
            case "secret":
                return Filled(each, name, bool(value), errors)
            case "number":
                hint = (
                    duration(value)
                    if each.unit == "seconds" and isinstance(value, int) and value >= 120
                    else ""
                )
                return Filled(each, name, "" if value is None else str(value), errors, hint=hint)
            case _:
                return Filled(each, name, "" if value is None else str(value), errors)

    def _with_entries(self, here: Place, errors: tuple[str, ...]) -> tuple[str, ...]:
        """Errors of a list with those of its entries: "line 2: …"."""
        below = [
            f"line {place[-1] + 1}: {text}" if isinstance(place[-1], int) else text
            for place, texts in self.errors.items()
            if len(place) == len(here) + 1 and place[:-1] == here
            for text in texts
        ]
        return (*errors, *below)


def default_of(each: Field) -> Any:
    """The default of a field as JSON; None where it has none."""
    try:
        return plain_default(each.node)
    except KeyError:
        return None


def blank(fields: Iterable[Field]) -> dict[str, Any]:
    """A section of which nothing is written yet, with defaults; what has none is empty."""
    made: dict[str, Any] = {}
    for each in fields:
        value = default_of(each)
        if value is None:
            value = _empty(each)
        made[each.key] = value
    return made


def _empty(each: Field) -> Any:
    match each.kind:
        case "section" | "applies":
            return blank(each.fields)
        case "union":
            return blank(each.variant(each.options[0].value))
        case "rows" | "collection" | "texts" | "references":
            return []
        case "radio" | "select" | "fixed":
            return each.options[0].value
        case "switch":
            return False
        case "number":
            return each.minimum or 0
        case _:
            return ""


def _without_kind(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(each for each in fields if each.key != "kind")


def place_errors(
    findings: Iterable[Finding], section: Place, keys: Iterable[str]
) -> tuple[dict[Place, list[str]], list[Finding]]:
    """Errors of the form of `section` by their place below it, and the findings that are about something else.

    keys: settings of the section that the form shows.
    """
    shown = set(keys)
    inside: dict[Place, list[str]] = {}
    elsewhere: list[Finding] = []
    for finding in findings:
        below = finding.path[len(section) :]
        if finding.warning or finding.path[: len(section)] != section or not below or below[0] not in shown:
            elsewhere.append(finding)
            continue
        text = finding.wrong + (f"; allowed: {finding.allowed}" if finding.allowed else "")
        inside.setdefault(tuple(below), []).append(text)
    return inside, elsewhere
