"""Problem: something a person can do something about.

Exception
  PeerError     (protocol.errors)  the other side broke the protocol: close, count, carry on
  UsageError    (protocol.errors)  our own caller erred: a bug, loud
  ProblemError  a person can act: printed without a traceback
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """What happened, to which thing, and what to do about it."""

    code: str  # never changes: logs, documentation and tests key on it
    summary: str  # one sentence: what happened, to which thing
    fix: str  # one sentence: what to do
    details: tuple[str, ...] = ()  # single findings, for example one per wrong line of a file
    support: str = ""  # code that the help desk finds the gateway's decision by

    def text(self) -> str:
        """For a terminal: summary, details one per line, fix."""
        if not self.details:
            return f"{self.summary} {self.fix}"
        return "\n".join([self.summary, *(f"  {detail}" for detail in self.details), self.fix])

    def as_dict(self) -> dict[str, object]:
        """For `--json` and REST; the same four fields always, and a support code where there is one."""
        support = {"support_code": self.support} if self.support else {}
        return {
            "code": self.code,
            "summary": self.summary,
            "fix": self.fix,
            "details": list(self.details),
            **support,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Problem:
        """The inverse of `as_dict`, total for what another process may have written."""
        details = document.get("details")
        return cls(
            code=str(document.get("code")),
            summary=str(document.get("summary")),
            fix=str(document.get("fix")),
            details=tuple(str(each) for each in details) if isinstance(details, list) else (),
            support=str(document.get("support_code") or ""),
        )


class ProblemError(Exception):
    """Carries a Problem to whoever can tell a person."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text())
        self.problem = problem
