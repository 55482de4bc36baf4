"""A prompt of a sign-in conversation as a form, and what was typed into it as the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lockgate.model.prompt import (
    Credentials,
    NewPassword,
    Notice,
    Prompt,
    RealmChoice,
    RoleChoice,
    SessionChoice,
    TokenCode,
)
from lockgate.model.support_code import sentence
from lockgate.protocol.secret import Secret

MAX_TYPED = 1024
"""Characters of one field; the longest that means anything are names of 256."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of several to choose from. `detail` is a second line, `time` seconds since 1970."""

    value: str
    label: str
    detail: str = ""
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """kind: "text", "password", "code" or "choice". completion: what browsers may fill in (HTML, autofill)."""

    name: str
    label: str
    kind: str = "text"
    completion: str = "off"
    value: str = ""
    options: tuple[Option, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PromptForm:
    """What a page shows for one prompt.

    kind: the name that custom templates go by. error: what was wrong with the last answer.
    """

    kind: str
    heading: str
    submit: str
    fields: tuple[Field, ...] = ()
    text: str = ""
    error: str = ""
    decline: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody sent. `complaint`: it is no answer yet, ask again and say this."""

    fields: Mapping[str, object] = field(default_factory=dict)
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a sign-in page calls the two fields; empty is our own word."""

    user: str = ""
    password: str = ""


_NO_LABELS = Labels()


def form_of(prompt: Prompt, *, typed: str = "", error: str = "", labels: Labels = _NO_LABELS) -> PromptForm:
    """The form of a prompt. typed: user name of the last answer. error: about the last answer."""
    match prompt:
        case Notice(text):
            return PromptForm("notice", "Please read", "Continue", text=text, decline="Decline", error=error)
        case RealmChoice(()):
            asked = Field("realm", "Realm", completion="organization")
            return PromptForm("realm", "Where do you belong?", "Continue", (asked,), error=error)
        case RealmChoice(realms):
            choice = _choice("realm", "Realm", tuple(Option(name, name) for name in realms))
            return PromptForm("realm", "Where do you belong?", "Continue", (choice,), error=error)
        case Credentials(retry, user_label, password_label, support):
            asked = Field("username", user_label or labels.user or "User name", "text", "username", typed)
            secret = Field(
                "password", password_label or labels.password or "Password", "password", "current-password"
            )
            wrong = f"User name or password is wrong. Try again. {sentence(support)}".strip() if retry else ""
            return PromptForm("sign-in", "Sign in", "Sign in", (asked, secret), error=error or wrong)
        case NewPassword(text):
            return PromptForm(
                "new-password",
                "Choose a new password",
                "Change password",
                _NEW_PASSWORD,
                text=text,
                error=error,
            )
        case TokenCode(text):
            code = Field("code", "Code", "code", "one-time-code")
            return PromptForm("code", "Enter your code", "Continue", (code,), text=text, error=error)
        case RoleChoice(options):
            roles = tuple(Option(str(at), ", ".join(names)) for at, names in enumerate(options))
            return PromptForm(
                "roles", "Choose your role", "Continue", (_choice("roles", "Role", roles),), error=error
            )
        case SessionChoice(options):
            sessions = tuple(Option(o.id, o.address, "signed in", o.started) for o in options)
            text = "You have as many sessions as you may have. Choose one to end, then you can go on."
            choice = _choice("session", "Session to end", sessions)
            return PromptForm(
                "sessions", "Too many sessions", "End it and continue", (choice,), text=text, error=error
            )


_NEW_PASSWORD = (
    Field("old", "Current password", "password", "current-password"),
    Field("new", "New password", "password", "new-password"),
    Field("again", "New password, again", "password", "new-password"),
)


def _choice(name: str, label: str, options: tuple[Option, ...]) -> Field:
    return Field(name, label, "choice", options=options)


def answer_of(prompt: Prompt, given: Mapping[str, str]) -> Answer:
    """The answer in the fields that a browser sent. One that cannot be meant is asked for again."""
    if any(len(value) > MAX_TYPED for value in given.values()):
        return Answer(complaint="That is longer than it can be.")
    match prompt:
        case Notice():
            return Answer()
        case RealmChoice(realms):
            realm = given.get("realm", "")
            if not realm or (realms and realm not in realms):
                return Answer(complaint="Choose a realm." if realms else "Type the name of your realm.")
            return Answer({"realm": realm})
        case Credentials():
            name = given.get("username", "").strip()
            if not name or not given.get("password"):
                return Answer(complaint="Type your user name and your password.")
            return Answer({"username": name, "password": Secret.of_text(given["password"])})
        case NewPassword():
            return new_password(given)
        case TokenCode():
            code = given.get("code", "").strip()
            if not code:
                return Answer(complaint="Type the code.")
            return Answer({"code": Secret.of_text(code)})
        case RoleChoice(options):
            chosen = given.get("roles", "")
            if chosen not in map(str, range(len(options))):
                return Answer(complaint="Choose a role.")
            return Answer({"roles": chosen})
        case SessionChoice(sessions):
            chosen = given.get("session", "")
            if chosen not in {option.id for option in sessions}:
                return Answer(complaint="Choose the session to end.")
            return Answer({"session": chosen})


def new_password(given: Mapping[str, str]) -> Answer:
    """Old and new password; typing blind, people say the new one twice."""
    old, new = given.get("old", ""), given.get("new", "")
    if not old or not new:
        return Answer(complaint="Type the current password and a new one.")
    if new != given.get("again", ""):
        return Answer(complaint="The two new passwords are not the same.")
    return Answer({"old": Secret.of_text(old), "new": Secret.of_text(new)})
