"""Decisions with the reasons for them, and decisions as they are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lockgate.model.facts import SignInFacts

POLICY_KINDS = ("sign-in", "resume", "re-evaluation")
"""What a policy decided about somebody who was known: it can be decided again."""
ATTEMPT = "attempt"
"""A no to somebody who had not shown who they are: nothing about it is known to be true but the address."""
REFUSAL = "refusal"
"""A no to somebody who had, for another reason than roles: disabled, too many sessions, no address left."""
END = "end"
"""A running session was ended."""
QUESTION = "question"
"""A person asked what they may reach."""
KINDS = {
    "sign-in": "sign-in",
    "resume": "return of a session",
    "re-evaluation": "session judged anew",
    ATTEMPT: "sign-in attempt",
    REFUSAL: "sign-in",
    END: "end of a session",
    QUESTION: "question of the user",
}
"""What people call them."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One step of an explanation.

    text: a sentence without a full stop. path: where in the configuration tree it was said, such as
    "realms/Users/rules/Everybody"; "" for what is not configured. ok: whether this step spoke for the
    person; None where it only informs. said: the same to the person whom it is about, a sentence without
    what only administrators know; empty where it is not for them.
    """

    text: str
    path: str = ""
    ok: bool | None = None
    said: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For administrators."""
        return {"text": self.text, "path": self.path, "ok": self.ok}

    def line(self) -> str:
        """For a terminal, with a mark of four characters."""
        mark = {True: "yes ", False: "no  ", None: "    "}[self.ok]
        return f"{mark}{self.text}" + (f"  [{self.path}]" if self.path else "")


def said(reasons: Iterable[Reason], ok: bool | None = None) -> tuple[str, ...]:
    """What the person hears of an explanation, each sentence once. ok: only what spoke for or against."""
    chosen = (reason.said for reason in reasons if reason.said and ok in (None, reason.ok))
    return tuple(dict.fromkeys(chosen))


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

    time: seconds since 1970. kind: one of POLICY_KINDS. roles: those that were
    given, after any choice. revision: of the policy that decided.
    """

    time: float
    kind: str
    facts: SignInFacts
    roles: tuple[str, ...]
    allow: bool
    revision: int
