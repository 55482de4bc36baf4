"""Templates of custom sign-in pages: HTML with `{{name}}`, `{{#name}}…{{/name}}` and `{{^name}}…{{/name}}`.

A template holds no logic and names nothing but values of `VALUES`. Everything is checked when it is uploaded,
and what was checked is what is rendered: values stand in text or in quoted attributes only, where escaping
makes them harmless; elements and attributes that could run or load anything are not allowed at all.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import pystache  # type: ignore[import-untyped]
from pystache.parser import ParsingError  # type: ignore[import-untyped]

MAX_TEMPLATE = 64 << 10
"""Characters of one template."""

FORM_FIELD = "csrf"
"""Name of the field that holds `form_token`, as in every form of ours."""

MAX_TAGS = 500
MAX_DEPTH = 8  # of sections inside sections
MAX_ITEMS = 100  # of a list that is shown

VALUES: Mapping[str, frozenset[str]] = {
    "sign-in": frozenset(["retry", "user", "user_label", "password_label", "realms"]),
    "notice": frozenset(["text"]),
    "realm": frozenset(["realms"]),
    "roles": frozenset(["roles"]),
    "sessions": frozenset(["text", "sessions"]),
    "new-password": frozenset(["text"]),
    "code": frozenset(["text"]),
    "refused": frozenset(["text", "code", "again"]),
    "signed-out": frozenset(["text", "again"]),
}
"""Templates by their name, and what each can show besides `COMMON`."""

COMMON = frozenset(
    ["title", "welcome", "instructions", "action", "form_token", "assets", "name", "value", "error"]
)
"""`action` and `form_token` belong into every form; `assets` is the folder of the other files."""

_LISTS = frozenset(["realms", "roles", "sessions"])
_TAG = re.compile(r"\{\{([#^/]?)[ ]*([a-z][a-z0-9_]{0,31})[ ]*\}\}")
_MARK = "\ue000"  # stands for a value while the HTML around it is judged; private use, refused in templates
_EDGE = "\ue001"  # stands for the beginning or end of a section
_QUOTED = re.compile(r'=\s*(?:"[^"]*"|\'[^\']*\')')
# What every parser reads the same: nothing in a tag looks like the end of it, or like another one.
_PLAIN_START = re.compile(
    r"<[A-Za-z][A-Za-z0-9]*(?:\s+[A-Za-z-]+(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=`]+))?)*\s*/?>"
)
_PLAIN_END = re.compile(r"</[A-Za-z][A-Za-z0-9]*\s*>")

_ELEMENT_NAMES = """
html head title meta link body header main footer section nav article aside div span p h1 h2 h3 h4 h5 h6 a img
ul ol li dl dt dd form label input button select option optgroup fieldset legend strong em b i u small br hr
table caption thead tbody tfoot tr th td details summary figure figcaption blockquote pre code
"""
_ATTRIBUTE_NAMES = """
id class lang dir title role for name type value placeholder autocomplete autofocus required checked selected
disabled maxlength minlength pattern inputmode spellcheck method action href src alt width height rel charset
content colspan rowspan scope tabindex hidden open target
"""
_ELEMENTS = frozenset(_ELEMENT_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())
_PLAIN_ASSET = re.compile(rf"{_MARK}/[A-Za-z0-9._/-]+")
_OUTSIDE = re.compile(
    r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/%-]*)?|#[A-Za-z0-9_-]*|mailto:[A-Za-z0-9.@_+-]+"
)


class TemplateError(ValueError):
    """What is wrong with a template, each with its line."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


class Template:
    """A checked template; make it with `read_template`."""

    def __init__(self, source: str) -> None:
        self._parsed = pystache.parse(source)

    def render(self, values: Mapping[str, object]) -> str:
        """The page. Values are texts, numbers, switches, and lists of such mappings; all texts are escaped."""
        renderer = pystache.Renderer(
            escape=_escape, partials={}, missing_tags="ignore", string_encoding="utf-8"
        )
        return str(renderer.render(self._parsed, _plain(values)))


def read_template(name: str, source: str, *, complete: bool = True) -> Template:
    """The template of that name. TemplateError when it may not be used.

    complete: also refuse what would only not work, such as a form without its token.
    """
    if len(source) > MAX_TEMPLATE:
        raise TemplateError([f"the template has more than {MAX_TEMPLATE} characters"])
    if {_MARK, _EDGE, "\0"} & set(source):
        raise TemplateError(["the template holds characters that no text has"])
    findings = _tag_findings(name, source)
    if not findings:
        page = _Page(source)
        findings = page.findings + (page.missing(name) if complete else [])
    if findings:
        raise TemplateError(findings[:50])
    try:
        return Template(source)
    except ParsingError:
        raise TemplateError(["its sections do not end in the order in which they began"]) from None


def _escape(text: object) -> str:
    return html.escape(str(text), quote=True).replace("`", "&#96;")


def _plain(value: object) -> Any:
    """Nothing but plain data: whatever else is there, the engine would look into."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value[:MAX_ITEMS]]
    if value is None or isinstance(value, bool):
        return bool(value)
    return str(value)


def _line(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def _tag_findings(name: str, source: str) -> list[str]:
    """Tags that are none, values that are not there, sections that do not close."""
    known = COMMON | VALUES[name]
    findings: list[str] = []
    open_sections: list[str] = []
    at = count = 0
    while (at := source.find("{{", at)) >= 0:
        line = _line(source, at)
        tag = _TAG.match(source, at)
        count += 1
        if tag is None:
            return [
                *findings,
                f"line {line}: a tag is {{{{name}}}}, {{{{#name}}}}, {{{{^name}}}} or {{{{/name}}}}",
            ]
        if count > MAX_TAGS:
            return [*findings, f"line {line}: there are more than {MAX_TAGS} tags"]
        kind, key, at = tag[1], tag[2], tag.end()
        if key not in known:
            findings.append(f"line {line}: {key} is nothing that this page can show")
        if kind == "/":
            if not open_sections or open_sections.pop() != key:
                return [*findings, f"line {line}: the section {key} ends where it did not begin"]
        elif kind:
            if kind == "#" and key in _LISTS and _LISTS & set(open_sections):
                findings.append(f"line {line}: a list inside a list")
            open_sections.append(key)
            if len(open_sections) > MAX_DEPTH:
                return [*findings, f"line {line}: more than {MAX_DEPTH} sections inside each other"]
    if open_sections:
        findings.append(f"the section {open_sections[-1]} does not end")
    if len(findings) == 0 and "}}" in _TAG.sub("", source):
        findings.append("there is a }} without its {{")
    return findings


_MARKS = {
    "action": f"{_MARK}action",
    "again": f"{_MARK}again",
    "assets": _MARK,
    "form_token": f"{_MARK}token",
}


class _Page(HTMLParser):
    """Judges the HTML, with a mark where each value will stand."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=False)
        self.findings: list[str] = []
        self.forms = self.actions = self.tokens = 0
        self.fields: set[str] = set()
        # Both branches of a section are judged as if both were shown. Since their edges stand in text only, leaving
        # one out does not change how the rest is read.
        marked = _TAG.sub(lambda tag: _EDGE if tag[1] else _MARKS.get(tag[2], f"{_MARK}value"), source)
        for each in re.finditer("</", marked):
            if not _PLAIN_END.match(marked, each.start()):
                self.findings.append(
                    f"line {_line(marked, each.start())}: the end of an element is written plainly"
                )
                break
        self.feed(marked)
        if self.rawdata:
            self._wrong("the HTML ends in the middle of something")
        self.close()

    def _wrong(self, what: str) -> None:
        self.findings.append(f"line {self.getpos()[0]}: {what}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raw = self.get_starttag_text() or ""
        if tag not in _ELEMENTS:
            self._wrong(f"the element {tag[:20]} is not allowed")
            return
        if _EDGE in raw:
            self._wrong("a section begins and ends outside of < and >")
        if _MARK in _QUOTED.sub("", raw):
            self._wrong("a value in an element stands between quotes")
        elif not _PLAIN_START.fullmatch(raw):
            self._wrong("an element is written plainly: name, then attributes, their values between quotes")
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self._wrong("an attribute stands twice")
        for name, value in attrs:
            self._judge(tag, name, value or "")
        given = {name: value or "" for name, value in attrs}
        match tag:
            case "form":
                self.forms += 1
                self.actions += given.get("action") == f"{_MARK}action"
                if given.get("method", "").lower() != "post":
                    self._wrong('a form needs method="post"')
            case "input" | "select" | "button":
                if given.get("name") == FORM_FIELD and given.get("value") == f"{_MARK}token":
                    self.tokens += 1
                self.fields.add(given.get("name", ""))
            case "meta":
                if not (
                    set(given) <= {"charset"}
                    or given.get("name") in ("viewport", "color-scheme", "theme-color")
                ):
                    self._wrong("meta is allowed for charset, viewport and colours only")
            case "link":
                if given.get("rel", "").lower() not in ("stylesheet", "icon"):
                    self._wrong("link is allowed for style sheets and icons only")

    def _judge(self, tag: str, name: str, value: str) -> None:
        if name not in _ATTRIBUTES and not re.fullmatch(r"aria-[a-z]+", name):
            self._wrong(f"the attribute {name[:20]} is not allowed")
        elif name == "action" and value != f"{_MARK}action":
            self._wrong("a form goes to {{action}}")
        elif name == "src" and not _PLAIN_ASSET.fullmatch(value):
            self._wrong("a picture comes from {{assets}}/…")
        elif name == "href" and value == f"{_MARK}again":
            pass
        elif (
            name == "href"
            and not _PLAIN_ASSET.fullmatch(value)
            and (tag == "link" or not _OUTSIDE.fullmatch(value))
        ):
            self._wrong("a link leads to {{assets}}/… or to an https:// address")
        elif name == "target" and value not in ("_self", "_blank"):
            self._wrong("a target is _self or _blank")
        elif name == "type" and _MARK in value:
            self._wrong("the type of a field is fixed")
        elif name in ("id", "name", "rel", "charset", "method") and _MARK in value:
            self._wrong(f"the attribute {name} is fixed")

    def handle_comment(self, data: str) -> None:
        if {_MARK, _EDGE, "<", ">"} & set(data):
            self._wrong("a comment holds no values and no HTML")

    def handle_decl(self, decl: str) -> None:
        if decl.lower() != "doctype html":
            self._wrong("the only declaration is <!doctype html>")

    def unknown_decl(self, data: str) -> None:
        self._wrong("this is not HTML")

    def handle_pi(self, data: str) -> None:
        self._wrong("this is not HTML")

    def handle_data(self, data: str) -> None:
        if "<" in data:
            self._wrong("< that begins nothing is written &lt;")

    def missing(self, name: str) -> list[str]:
        """What would keep the page from working."""
        found: list[str] = []
        if name in ("refused", "signed-out"):
            return found
        if self.forms == 0:
            found.append('there is no form: <form method="post" action="{{action}}">')
        elif self.tokens < self.forms:
            found.append('a form lacks <input type="hidden" name="csrf" value="{{form_token}}">')
        if self.actions < self.forms:
            found.append("a form does not go to {{action}}")
        found += [f"there is no field {field}" for field in _FIELDS.get(name, ()) if field not in self.fields]
        return found


_FIELDS: Mapping[str, Sequence[str]] = {
    "sign-in": ("username", "password"),
    "realm": ("realm",),
    "roles": ("roles",),
    "sessions": ("session",),
    "new-password": ("old", "new", "again"),
    "code": ("code",),
}
