"""How large a configuration from outside may be. Judged before anything else looks at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lockgate.model.problem import Problem, ProblemError

# The largest sensible tree (2,000 roles and as many rules and realms) is a tenth of these.
MAX_BYTES = 64 << 20  # of an export file, uploaded pages included
MAX_VALUES = 500_000  # tables, lists, texts, numbers
MAX_DEPTH = 24  # the tree itself has 9 levels


def read_json(content: bytes, what: str = "document") -> Any:
    """JSON from outside. Raises ProblemError ("document-too-large", "document-too-deep", "not-json")."""
    if len(content) > MAX_BYTES:
        raise _too_large(what, f"{len(content)} bytes", f"{MAX_BYTES} bytes")
    # Every value but the first follows one of these; texts may hold some more. Counted before anything is built.
    if sum(content.count(mark) for mark in (b",", b"[", b"{")) > 4 * MAX_VALUES:
        raise _too_large(what, f"more than {MAX_VALUES} values", f"{MAX_VALUES} values")
    try:
        value = json.loads(content, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ProblemError(
            Problem(
                code="not-json",
                summary=f"The {what} is not JSON{where}.",
                fix="Give a file that `lockgate config export` or `lockgate config show --json` wrote.",
            )
        ) from None
    check_bounds(value, what)
    return value


def check_bounds(value: Any, what: str = "document") -> None:
    """Raises ProblemError when a JSON value has too many parts or is too deep; total for any value."""
    count = 0
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        count += len(level)
        if count > MAX_VALUES:
            raise _too_large(what, f"more than {MAX_VALUES} values", f"{MAX_VALUES} values")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return
        level = inner
    raise _too_deep(what)


@dataclass(frozen=True, slots=True)
class Size:
    """How many values a JSON value has, itself included, and how many levels."""

    values: int
    levels: int

    @property
    def fits(self) -> bool:
        """Whether `check_bounds` lets it pass."""
        return self.values <= MAX_VALUES and self.levels <= MAX_DEPTH + 1


def size_of(value: Any, known: Callable[[dict[str, Any]], Size | None] = lambda _: None) -> Size:
    """Counted until it does not fit. known: the size of a table in a list, where somebody knows it."""
    count, levels, deepest = 0, 0, 0
    level = [value]
    while level and levels <= MAX_DEPTH + 1 and count <= MAX_VALUES:
        levels += 1
        count += len(level)
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                for entry in each:
                    size = known(entry) if isinstance(entry, dict) else None
                    if size is None:
                        inner.append(entry)
                    else:
                        count += size.values
                        deepest = max(deepest, levels + size.levels)
        level = inner
    return Size(count, max(levels, deepest))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _too_large(what: str, size: str, most: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="document-too-large",
            summary=f"The {what} is too large: {size}, at most {most} are allowed.",
            fix="Export and import it in parts.",
        )
    )


def _too_deep(what: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="document-too-deep",
            summary=f"The {what} is nested more than {MAX_DEPTH} levels deep.",
            fix="Give a file that `lockgate config export` wrote.",
        )
    )
