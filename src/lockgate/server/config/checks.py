"""From any JSON value to a tree, or to every finding about it: setting, value, reason, what is allowed.

An error keeps a tree from being used, a warning says what will not work as somebody probably hopes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.bounds import check_bounds
from lockgate.server.config.explain import MAX_FINDINGS, explain
from lockgate.server.config.findings import Finding
from lockgate.server.config.judges import (
    access,
    certificates,
    connections,
    lock_out,
    names,
    network,
    signing_in,
    times,
    traces,
    user_records,
)
from lockgate.server.config.schema import ROOT
from lockgate.server.config.tree import Configuration

_JUDGES: tuple[Callable[[Configuration], Iterator[Finding]], ...] = (
    network.judge,
    access.judge,
    times.judge,
    signing_in.judge,
    lock_out.judge,
    certificates.judge,
    connections.judge,
    user_records.judge,
    traces.judge,
)


class InvalidError(ProblemError):
    """A tree that cannot be used; `findings` are its errors."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__(
            Problem(
                code="config-invalid",
                summary="The configuration cannot be used; nothing has been changed.",
                fix="Correct the settings that are named and try again.",
                details=tuple(str(finding) for finding in findings),
            )
        )
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of reading a tree. `configuration` is there exactly when there are no errors."""

    configuration: Configuration | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.warning)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.warning)

    def require(self) -> Configuration:
        """The tree. Raises InvalidError with every error."""
        if self.configuration is None:
            raise InvalidError(self.errors)
        return self.configuration


def check(tree: Configuration, references: names.References | None = None) -> list[Finding]:
    """All findings about a tree whose single settings are right. references: what is known about its objects."""
    found = list(names.judge(tree, references))
    if any(not finding.warning for finding in found):
        return found  # the others speak of objects by name
    for judge in _JUDGES:
        found += judge(tree)
    return found


def validate(data: Any) -> Checked:
    """The tree of a JSON value, and all findings. Total for any JSON value."""
    return judged(data, lambda: data)


def judged(
    data: Any,
    prepared: Callable[[], Any],
    references: names.References | None = None,
    *,
    fits: bool = False,
) -> Checked:
    """`validate`. prepared: `data`, where models may stand in the place of objects; see `incremental`.

    fits: it is known to be within the bounds.
    """
    try:
        if not fits:
            check_bounds(data, "configuration")
    except ProblemError as error:
        return Checked(None, (Finding((), error.problem.summary, "a smaller one"),))
    try:
        tree = Configuration.model_validate(prepared())
    except ValidationError as error:
        return Checked(None, tuple(explain(error, data, ROOT)))
    found = _bounded(check(tree, references))
    wrong = any(not finding.warning for finding in found)
    return Checked(None if wrong else tree, found)


def _bounded(found: list[Finding]) -> tuple[Finding, ...]:
    """Errors first, and not without end."""
    found.sort(key=lambda finding: finding.warning)
    if len(found) <= MAX_FINDINGS:
        return tuple(found)
    rest = found[MAX_FINDINGS:]
    more = Finding((), f"there are {len(rest)} more findings", "", warning=all(each.warning for each in rest))
    return (*found[:MAX_FINDINGS], more)
