"""What an administrator may see of a configuration: areas whose right to read the role has, secrets never."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lockgate.server.config import paths
from lockgate.server.config.changes import Change, mask, mask_at
from lockgate.server.config.findings import Finding
from lockgate.server.config.merge import Conflict
from lockgate.server.config.paths import Data, parse_path
from lockgate.server.config.registry import AREAS, area_of
from lockgate.server.web.principal import Principal


def visible(data: Data, principal: Principal) -> Data:
    """The parts of a tree that `principal` may read. What is no part of a tree needs full power."""
    return {key: value for key, value in mask(data).items() if principal.may(area_of(key), "read")}


def visible_at(data: Data, path: str, principal: Principal) -> Any:
    """The value at `path`. Raises NotAllowedError, or ProblemError for a path that is not there."""
    parts = parse_path(path)
    if not parts:
        return visible(data, principal)
    principal.require(area_of(parts), "read")
    return mask_at(parts, paths.get(data, parts))


def visible_changes(changes: Iterable[Change], principal: Principal) -> list[Change]:
    may = {area: principal.may(area, "read") for area in {*AREAS.values(), area_of("")}}
    return [each for each in changes if may[area_of(each.path)]]


def visible_conflicts(conflicts: Iterable[Conflict], principal: Principal) -> list[dict[str, Any]]:
    return [each.as_dict() for each in conflicts if principal.may(area_of(each.path), "read")]


def visible_findings(findings: Iterable[Finding], principal: Principal) -> list[dict[str, Any]]:
    """Findings about other areas are left out: they quote values."""
    return [
        each.as_dict()
        for each in findings
        if not each.path or principal.may(area_of([str(part) for part in each.path]), "read")
    ]


def require_whole_tree(principal: Principal, right: str) -> None:
    """For what concerns all settings at once."""
    principal.require_all(set(AREAS.values()), right)
