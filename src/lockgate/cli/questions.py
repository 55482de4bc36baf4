"""What a sign-in asks, put to a person: prompts of the local API in, their answers out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from lockgate.cli.plain import plain, plain_lines
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.support_code import said_in, sentence
from lockgate.protocol.secret import Secret

MAX_LABEL = 100  # characters of a label a server gives to a field
MAX_CHOICES = 100  # realms or sessions that a person would look through

_CERTIFICATE = {
    "untrusted": "nobody this machine trusts has issued it",
    "wrong-name": "it is for another name",
    "expired": "it has expired",
    "not-yet-valid": "it is not valid yet",
    "pin-mismatch": "its key is not the expected one",
}


class Person(Protocol):
    """Who answers. Questions raise ProblemError when nobody is there to."""

    present: bool  # can be asked for more than secrets

    def tell(self, *lines: str) -> None:
        """Shows lines that are plain already."""

    def ask(self, text: str) -> str:
        """A line of visible text."""

    def secret(self, text: str, *, again: str = "") -> Secret:
        """A line that is not shown. again: the text to ask for it a second time, where typing is blind."""


def answer(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    """The `fields` for the local API's `answer`. ProblemError when the prompt is of an unknown kind."""
    kind = prompt.get("kind")
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise ProblemError(
            Problem(
                code="unknown-prompt",
                summary="The sign-in asks something this command does not know.",
                fix="Update `lockgate`.",
            )
        )
    return known(prompt, person)


def _realm(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    choices = [str(name) for name in prompt.get("choices", [])][:MAX_CHOICES]
    if len(choices) == 1:
        return {"realm": choices[0]}
    if not choices:
        return {"realm": person.ask("Realm: ")}
    person.tell("Realms:", *(f"  {at}  {plain(name, 80)}" for at, name in enumerate(choices, 1)))
    return {"realm": choices[_choose("Realm (number or name): ", choices, person)]}


def _choose(text: str, names: list[str], person: Person) -> int:
    """Index of the name that was typed, in any case of letters, or numbered."""
    if not person.present:
        raise ProblemError(
            Problem(
                code="choice-needed",
                summary="The gateway leaves a choice, and there is no terminal to choose at.",
                fix="Give --realm with one of these, or connect from a terminal.",
                details=tuple(plain(name, 80) for name in names),
            )
        )
    folded = [name.casefold() for name in names]
    while True:
        typed = person.ask(text).strip()
        # A realm may be called 2: names come first.
        if typed in names:
            return names.index(typed)
        if folded.count(typed.casefold()) == 1:
            return folded.index(typed.casefold())
        if typed.isascii() and typed.isdigit() and 1 <= int(typed) <= len(names):
            return int(typed) - 1
        person.tell("That is none of them.")


def _credentials(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    retry, user = bool(prompt.get("retry")), str(prompt.get("user") or "")
    second = "Secondary " if prompt.get("secondary") else ""
    code = said_in(str(prompt.get("password_label") or "")) if retry else ""
    if retry:
        person.tell("The gateway did not accept that. Try again.")
    try:
        return _typed_credentials(prompt, person, user, second, retry)
    except ProblemError as error:
        if not code:
            raise
        # Nobody answers once more: what the person is left with is the wrong answer before.
        problem = error.problem
        summary = f"{problem.summary} {sentence(code)}."
        raise ProblemError(replace(problem, summary=summary, support=code)) from None


def _typed_credentials(
    prompt: Mapping[str, Any], person: Person, user: str, second: str, retry: bool
) -> dict[str, object]:
    fields: dict[str, object] = {}
    if prompt.get("username"):
        label = _label(prompt.get("user_label"), f"{second}user name".capitalize())
        if not user or (retry and person.present):
            shown = f" [{plain(user, MAX_LABEL)}]" if user else ""
            user = person.ask(f"{label}{shown}: ").strip() or user
        fields["username"] = user
    label = _label(prompt.get("password_label"), f"{second}password".capitalize())
    fields["password"] = person.secret(f"{label}: ")
    return fields


def _label(given: object, default: str) -> str:
    return plain(given or "", MAX_LABEL).strip().rstrip(":") or default


def _new_password(_: Mapping[str, Any], person: Person) -> dict[str, object]:
    person.tell("The password has expired: choose a new one.")
    old = person.secret("Old password: ")
    new = person.secret("New password: ", again="New password again: ")
    return {"old": old, "new": new}


def _token(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    person.tell(*plain_lines(prompt.get("text") or "The gateway asks for a token code."))
    return {"code": person.secret("Code: ")}


def _session(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    sessions = [each for each in prompt.get("sessions", []) if isinstance(each, dict)][:MAX_CHOICES]
    person.tell("You have as many sessions as you may have. One of them must end for this one:")
    for at, session in enumerate(sessions, 1):
        started = session.get("started")
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started)) if _is_time(started) else "?"
        person.tell(f"  {at:>2}  since {since}  from {plain(session.get('address', '?'), 50)}")
    numbers = [str(at) for at in range(1, len(sessions) + 1)]
    return {"session": sessions[_choose("Which one shall end (number): ", numbers, person)]["id"]}


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1 << 40


def _notice(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    person.tell(*plain_lines(prompt.get("text", "")))
    return {"accept": _yes("Do you accept this (yes/no)? ", person)}


def _certificate(prompt: Mapping[str, Any], person: Person) -> dict[str, object]:
    get = prompt.get
    reason = _CERTIFICATE.get(str(get("reason")), plain(get("reason"), 60))
    names = " ".join(map(str, get("names") or []))
    person.tell(
        f"The gateway's certificate cannot be trusted: {reason}.",
        f"  subject  {plain(get('subject'), 200)}",
        f"  issuer   {plain(get('issuer'), 200)}",
        f"  valid    {_time(get('not_before'))} to {_time(get('not_after'))}",
        f"  names    {plain(names, 200)}",
        f"  key      {plain(get('pin'), 80)}",
        "Whoever holds its key will see your password. Compare the key with what the gateway's",
        "administrator tells you.",
    )
    return {"accept": _yes("Trust this key for this gateway (yes/no)? ", person)}


def _time(value: object) -> str:
    if not _is_time(value):
        return plain(value, 40)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))  # type: ignore[arg-type]


def _yes(text: str, person: Person) -> bool:
    while True:
        typed = person.ask(text).strip().casefold()
        if typed in ("yes", "no"):
            return typed == "yes"
        person.tell('Type "yes" or "no".')


_KINDS: dict[str, Callable[[Mapping[str, Any], Person], dict[str, object]]] = {
    "realm": _realm,
    "credentials": _credentials,
    "new-password": _new_password,
    "token": _token,
    "session": _session,
    "notice": _notice,
    "certificate": _certificate,
}
