"""Prompts as the forms that openconnect reads, by the names that it knows.

The first form of a page decides. Every input needs a name: one without crashes that client. A form is known by its
name, and a text is shown to people only in "frmLogin". "frmConfirmation" is submitted without a question to anybody
and so is not used; nor is a check box, which counts as ticked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape

from lockgate.server.in_force import local_time
from lockgate.server.web.forms.prompts import Field, Option, PromptForm

TOKEN = "xsauth"  # noqa: S105  # the name of the anti-forgery field
CODE = "totpactiontok"
AGAIN = "again"

_NONE = Option("", "None: do not sign in")
_STOP = (Option("", "Stop"), Option("yes", "Sign in again"))


def page(title: str, content: str) -> str:
    """A whole page. content: HTML."""
    return (
        '<!DOCTYPE html>\n<html><head><meta http-equiv="Content-Type" content="text/html; charset=utf-8">'
        f"<title>{escape(title)}</title></head>\n<body>\n{content}\n</body></html>\n"
    )


def message_page(title: str, text: str) -> str:
    """A page without a form: the client stops there."""
    return page(title, f"<p>{escape(text)}</p>")


def prompt_page(form: PromptForm, token: str) -> str:
    """The page of a prompt. token: anti-forgery text of the conversation."""
    if form.kind == "roles":
        return page(form.heading, _roles(form, token))
    hidden = _input("hidden", TOKEN, token)
    if form.kind == "code":
        return page(form.heading, _form("frmTotpToken", "login.cgi", form, hidden, "totpactionEnter"))
    return page(form.heading, _form("frmLogin", "login.cgi", form, hidden, "btnSubmit"))


def refusal_page(text: str) -> str:
    """A no. People read a text only where there is a question, and a program must not try again by itself."""
    choice = Field(AGAIN, "Sign in again?", "choice", options=_STOP)
    form = PromptForm("refused", "You are not signed in", "Continue", (choice,), text=text)
    return page(form.heading, _form("frmLogin", "welcome.cgi", form, "", "btnSubmit"))


def given_in(form: Mapping[str, str]) -> Mapping[str, str]:
    """What was typed, by the names of `forms.prompts`."""
    return {"code" if name == CODE else name: value for name, value in form.items()}


def _form(name: str, action: str, form: PromptForm, hidden: str, submit: str) -> str:
    text = "\n".join(filter(None, (form.error, form.text)))
    told = f'<textarea name="sn-preauth-text">{escape(text)}</textarea>' if text else ""
    fields = "\n".join(_field(field) for field in form.fields)
    return (
        f'<form name="{name}" action="{action}" method="POST">\n{hidden}{told}\n{fields}\n'
        f"{_input('submit', submit, form.submit)}</form>"
    )


def _field(field: Field) -> str:
    if field.kind == "choice":
        options = (_NONE, *field.options) if field.name == "session" else field.options
        listed = "".join(
            f'<option value="{escape(each.value)}">{escape(_label(each))}</option>' for each in options
        )
        return f'<select name="{field.name}">{listed}</select>'
    if field.kind == "code":
        return _input("password", CODE)
    return _input(field.kind, field.name)


def _roles(form: PromptForm, token: str) -> str:
    """Links in cells of a table, and nothing between them: that is what is looked for."""
    [choice] = form.fields
    rows = "".join(
        '<tr><td><a href="login.cgi?loginmode=mode_SelectRole'
        f'&amp;role={escape(each.value)}&amp;{TOKEN}={escape(token)}">{escape(each.label)}</a></td></tr>'
        for each in choice.options
    )
    return f'<form name="frmSelectRoles">\n<table id="TABLE_SelectRole_1">{rows}</table></form>'


def _label(option: Option) -> str:
    if option.time is None:
        return option.label
    when: datetime = local_time(option.time)
    return f"{option.label}, {option.detail} {when:%Y-%m-%d %H:%M}"


def _input(kind: str, name: str, value: str = "") -> str:
    return f'<input type="{kind}" name="{name}" value="{escape(value)}">'
