"""What a browser sent, as the JSON value of a section. Total: nonsense becomes a value that validation refuses.

Fields that were not sent keep their value. Buttons inside a form (`do`) change the value that is shown again and
save nothing: "add:rules", "remove:rules.2", "up:realms" and the like, so that lists work without script.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lockgate.server.config.changes import KEPT
from lockgate.server.web.forms.fields import Field
from lockgate.server.web.forms.filling import MAX_ROWS, blank, default_of

Sent = Mapping[str, Sequence[str]]
"""Names of fields → everything that was sent under that name, in order."""

ROWS = "-rows"  # how many rows a list was shown with
AVAILABLE = "-available"  # marked among the names that are not selected
MARKED = "-marked"  # marked among those that are
CLEAR = "-clear"  # takes a secret away

_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DO = re.compile(r"(add|remove|up|down|select|unselect|raise|lower|kind):([a-z0-9_.]{1,200})", re.ASCII)


def read(fields: Iterable[Field], sent: Sent, current: Any, prefix: str = "") -> dict[str, Any]:
    """The section with what was sent for its fields."""
    before = current if isinstance(current, dict) else {}
    result = dict(before)
    for each in fields:
        name = f"{prefix}.{each.key}" if prefix else each.key
        value = before[each.key] if each.key in before else default_of(each)
        result[each.key] = _read(each, sent, name, value)
    return result


def _read(each: Field, sent: Sent, name: str, current: Any) -> Any:
    match each.kind:
        case "section" | "applies":
            return read(each.fields, sent, current, name)
        case "union":
            return _union(each, sent, name, current)
        case "rows":
            return _rows(each, sent, name, current)
        case "fixed":
            return each.options[0].value
        case "collection" | "shown":
            return current
        case "secret":
            return _secret(sent, name, current)
    if name not in sent:
        return current
    values = sent[name]
    last = values[-1]
    match each.kind:
        case "switch":
            return last == "1"
        case "number":
            text = last.strip()
            return int(text) if _WHOLE.fullmatch(text) else text
        case "references":
            return list(dict.fromkeys(value for value in values if value))
        case "texts":
            return [line.strip() for line in last.splitlines() if line.strip()]
        case "textarea":
            return last.replace("\r\n", "\n")
        case _:
            text = last.strip()
            return int(text) if each.whole and _WHOLE.fullmatch(text) else text


def _secret(sent: Sent, name: str, current: Any) -> Any:
    if (given := sent.get(name, ("",))[-1]) != "":
        return given
    if sent.get(name + CLEAR, ("",))[-1] == "1":
        return ""
    return KEPT if current else ""


def _union(each: Field, sent: Sent, name: str, current: Any) -> Any:
    before = current if isinstance(current, dict) else {}
    kind = sent.get(f"{name}.kind", (str(before.get("kind", "")),))[-1]
    if kind not in [option.value for option in each.options]:
        kind = each.options[0].value
    fields = each.variant(kind)
    # What another kind has under the same key is kept: values of a group become values of a name.
    start = {**blank(fields), **{f.key: before[f.key] for f in fields if f.key in before}, "kind": kind}
    return {**read([f for f in fields if f.key != "kind"], sent, start, name), "kind": kind}


def _rows(each: Field, sent: Sent, name: str, current: Any) -> Any:
    if name + ROWS not in sent:
        return current
    text = sent[name + ROWS][-1]
    count = min(int(text), MAX_ROWS) if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) else 0
    entries = current if isinstance(current, list) else []
    return [
        read(each.fields, sent, entries[at] if at < len(entries) else blank(each.fields), f"{name}.{at}")
        for at in range(count)
    ]


def rearrange(
    fields: Iterable[Field], value: dict[str, Any], sent: Sent, do: str
) -> tuple[dict[str, Any], str]:
    """The section after the button `do`, and the name of the field that the eye should be on.

    What is no such button changes nothing.
    """
    found = _DO.fullmatch(do)
    if not found:
        return value, ""
    action, name = found[1], found[2]
    parts = name.split(".")
    row = int(parts.pop()) if parts[-1].isdecimal() else None
    each, holder = _find(tuple(fields), value, parts)
    if each is None or holder is None:
        return value, ""
    key, where = each.key, ".".join(parts)
    old = holder.get(key)
    entries = list(old) if isinstance(old, list) else []
    match each.kind, action:
        case "rows", "add":
            if len(entries) < min(each.longest or MAX_ROWS, MAX_ROWS):
                entries.append(blank(each.fields))
            where = f"{where}.{len(entries) - 1}.{each.fields[0].key}"
        case "rows", "remove" if row is not None and row < len(entries):
            del entries[row]
        case "rows", "up" if row is not None and 0 < row < len(entries):
            entries[row - 1 : row + 1] = [entries[row], entries[row - 1]]
        case "rows", "down" if row is not None and row + 1 < len(entries):
            entries[row : row + 2] = [entries[row + 1], entries[row]]
        case "references", "select":
            marked = [one for one in sent.get(name + AVAILABLE, ()) if one and one not in entries]
            entries += marked
        case "references", "unselect":
            gone = set(sent.get(name + MARKED, ()))
            entries = [one for one in entries if one not in gone]
        case "references", "raise":
            entries = _raised(entries, set(sent.get(name + MARKED, ())))
        case "references", "lower":
            entries = _raised(entries[::-1], set(sent.get(name + MARKED, ())))[::-1]
        case _:
            return value, where  # "kind": reading has done it
    holder[key] = entries
    return value, where


def _raised(entries: list[str], marked: set[str]) -> list[str]:
    result = list(entries)
    for at in range(1, len(result)):
        if result[at] in marked and result[at - 1] not in marked:
            result[at - 1 : at + 1] = [result[at], result[at - 1]]
    return result


def _find(
    fields: tuple[Field, ...], value: dict[str, Any], parts: list[str]
) -> tuple[Field | None, dict[str, Any] | None]:
    """The field at `parts`, and the section that holds it: a copy that stands in `value`."""
    holder = value
    for at, part in enumerate(parts):
        each = next((one for one in fields if one.key == part), None)
        if each is None or at == len(parts) - 1:
            return each, holder
        inner = holder.get(part)
        if not isinstance(inner, dict):
            return None, None
        holder[part] = holder = dict(inner)
        fields = each.variant(str(holder.get("kind", ""))) if each.kind == "union" else each.fields
    return None, None
