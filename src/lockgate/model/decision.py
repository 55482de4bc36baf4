"""Decisions with the reasons for them, and decisions as they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lockgate.model.facts import SignInFacts


@dataclass(frozen=True, slots=True)
class Reason:
    """One step of an explanation.

    text: a sentence without a full stop. path: where in the configuration tree it was said, such as
    "realms/Users/rules/Everybody"; "" for what is not configured. ok: whether this step spoke for the
    person; None where it only informs.
    """

    text: str
    path: str = ""
    ok: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "path": self.path, "ok": self.ok}

    def line(self) -> str:
        """For a terminal, with a mark of four characters."""
        mark = {True: "yes ", False: "no  ", None: "    "}[self.ok]
        return f"{mark}{self.text}" + (f"  [{self.path}]" if self.path else "")


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, and the reasons in the order in which they were looked at."""

    allow: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class RoleDecision:
    """Which roles somebody gets.

    roles:   in the order in which rules gave them; empty while a choice is open, and for somebody without any.
    choices: what the person is to choose from, at least two sets; empty where there is nothing to choose.
    """

    roles: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    reasons: tuple[Reason, ...]

    @property
    def allow(self) -> bool:
        """There is a role, or a choice of some."""
        return bool(self.roles or self.choices)


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision that was made, with its input, so that it can be made again under another policy.

    time: seconds since 1970. kind: "sign-in", "resume" or "re-evaluation". roles: those that were
    given, after any choice. revision: of the policy that decided.
    """

    time: float
    kind: str
    facts: SignInFacts
    roles: tuple[str, ...]
    allow: bool
    revision: int
