"""What a sign-in conversation asks, and how it ends.

A conversation has `async start() -> Step` and `async answer(fields) -> Step`. Each step is a prompt
to show or an outcome; `fields` is a mapping with the keys that the prompt's docstring names. The
conversation does not know whether it is shown as EAP AVPs, as a form or in a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lockgate.model.identity import Identity
from lockgate.model.support_code import sentence


@dataclass(frozen=True, slots=True)
class Notice:
    """A text to agree to. Answer: {} (declining is closing the conversation)."""

    text: str


@dataclass(frozen=True, slots=True)
class RealmChoice:
    """Answer: {"realm": one of `realms`}; without any, {"realm": a name that the user types}."""

    realms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Answer: {"username": str, "password": Secret}; without "username" the last one counts.

    labels: text before the fields; empty is the front's own. support: code of the refusal before.
    """

    retry: bool  # the previous answer was wrong
    user_label: str = ""
    password_label: str = ""
    support: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class NewPassword:
    """The password has to be changed first. Answer: {"old": Secret, "new": Secret}.

    `text` says why, or what was wrong with the last answer.
    """

    text: str


@dataclass(frozen=True, slots=True)
class TokenCode:
    """Answer: {"code": Secret}."""

    text: str


@dataclass(frozen=True, slots=True)
class RoleChoice:
    """Which of several sets of roles? Answer: {"roles": index of one of `options`, in decimal digits}."""

    options: tuple[tuple[str, ...], ...]  # at least two, none empty


@dataclass(frozen=True, slots=True)
class SessionOption:
    """One of the user's own sessions, offered for ending."""

    id: str  # decimal session number
    address: str  # where it was last used from
    started: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class SessionChoice:
    """Too many sessions: which one shall end? Answer: {"session": id of one of `options`}."""

    options: tuple[SessionOption, ...]  # at least one, oldest first


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Outcome: the conversation is complete."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class Refused:
    """Outcome: no. `code` never changes (logs, tests); `text` is for the person who tried.

    support: code that the help desk finds the decision by. reasons: sentences without a full stop, where
    the person may know them. Both are of one occasion; what is compared is the kind of refusal.
    """

    code: str
    text: str
    support: str = field(default="", compare=False)
    reasons: tuple[str, ...] = field(default=(), compare=False)

    def lines(self) -> list[str]:
        """For a page: text, reasons, support code."""
        told = [f"{reason[:1].upper()}{reason[1:]}." for reason in self.reasons]
        return list(filter(None, (self.text, *told, sentence(self.support))))

    def told(self, limit: int) -> str:
        """In one line of at most `limit` bytes. What does not fit are reasons, from the end."""
        first, *others = self.lines()
        last = [others.pop()] if self.support else []
        while others and len(" ".join((first, *others, *last)).encode()) > limit:
            others.pop()
        return " ".join((first, *others, *last))


Prompt = Notice | RealmChoice | Credentials | NewPassword | TokenCode | RoleChoice | SessionChoice
Outcome = SignedIn | Refused
Step = Prompt | Outcome


class Conversation(Protocol):
    """Any sign-in; secondary authentication is two of them one after the other."""

    async def start(self) -> Step:
        """The first step. Once."""

    async def answer(self, fields: Mapping[str, object]) -> Step:
        """The step after the answer to the last prompt. UsageError after an outcome."""
