"""Forms made from the configuration's models: what is shown and sent back unchanged is the same value."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.server.config.changes import KEPT
from lockgate.server.config.checks import validate
from lockgate.server.config.findings import Finding
from lockgate.server.config.schema import Node, children, entry_of
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import CertificateRequirement, RoleMappingRule, SourcePolicy
from lockgate.server.config.tree.system import PushTarget
from lockgate.server.config.tree.users import AccessControl
from lockgate.server.web.console.ask import STATIC
from lockgate.server.web.console.menu import BASE
from lockgate.server.web.forms.assets import icon, load_assets
from lockgate.server.web.forms.environment import make_environment
from lockgate.server.web.forms.fields import Field, fields_of
from lockgate.server.web.forms.filling import Filling, blank, place_errors
from lockgate.server.web.forms.reading import read, rearrange
from tests.unit.server.control_subject import tree

REPOSITORY = Path(__file__).resolve().parents[3]
WEB = REPOSITORY / "src/lockgate/server/web"
NAMES = {"roles": ("Staff", "Users", "Guests"), "auth_servers": ("System Local",)}


class _Form(HTMLParser):
    """What a browser would send of a form that nobody has touched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sent: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self._select = self._area = ""
        self._multiple = False
        self._first: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name") or "", given.get("value") or ""
        if "id" in given:
            self.ids.append(str(given["id"]))
        match tag:
            case "input" if given.get("type") in ("checkbox", "radio"):
                if "checked" in given:
                    self._send(name, value)
            case "input":
                self._send(name, value)
            case "select":
                self._select, self._multiple, self._first = name, "multiple" in given, None
            case "option" if self._select:
                if "selected" in given:
                    self._send(self._select, value)
                    self._multiple = True
                elif self._first is None:
                    self._first = value
            case "textarea":
                self._area, self._text = name, ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            if not self._multiple and self._first is not None:
                self._send(self._select, self._first)
            self._select = ""
        elif tag == "textarea":
            # A browser leaves out the line break that follows the tag, and sends others as CR LF.
            self._send(self._area, self._text.removeprefix("\n").replace("\n", "\r\n"))
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self._text += data

    def _send(self, name: str, value: str) -> None:
        self.sent.setdefault(name, []).append(value)


def names_of(collection: str) -> Sequence[str]:
    return NAMES.get(collection, ())


def page(fields: Sequence[Field], value: Any, errors: Any = None) -> str:
    environment = make_environment([], load_assets(STATIC))
    template = environment.from_string(
        '{% from "fields.html" import row %}{% for each in filled %}{{ row(each) }}{% endfor %}'
    )
    return template.render(filled=Filling(names_of, errors or {}).fill(fields, value))


def sections(node: Node, value: Any) -> Iterator[tuple[Sequence[Field], Any]]:
    """Every section of a tree, with its value: those that a page of the console shows."""
    if node.kind == "section":
        model = node.model(value)
        yield fields_of(model), value
        for key, inner in children(model).items():
            if key in value:
                yield from sections(inner, value[key])
    elif node.kind == "collection":
        for entry in value:
            yield from sections(entry_of(node), entry)


def full_tree() -> Any:
    """A tree with something in most places, as JSON."""
    data = tree().model_dump(mode="json")
    policy = data["realms"][0]["policy"]
    policy["source"]["rules"] = [
        {"network": "192.0.2.0/24", "action": "deny"},
        {"network": "2001:db8::/32", "action": "allow"},
    ]
    policy["certificate"] = {
        "require": "required",
        "attributes": [{"attribute": "OU", "values": ["Dev", "Ops & <b>"]}],
    }
    data["realms"][0]["rules"].append(
        {
            "name": 'quotes " and <script>',
            "condition": {"kind": "expression", "text": 'group = "a"\n AND time.hour > 7'},
            "roles": [data["roles"][0]["name"]],
            "stop": True,
        }
    )
    data["access_control"].append(
        {
            "name": "ports",
            "description": "",
            "action": "allow",
            "to": ["10.0.0.0/8", "intranet.example.com"],
            "protocol": 47,
            "ports": [],
            "applies": {"to": "selected", "roles": [data["roles"][0]["name"]]},
        }
    )
    data["sign_in_notifications"].append({"name": "Rules", "description": "", "text": "\n  first\n\nlast "})
    return data


def test_a_form_that_is_sent_as_it_was_shown_changes_nothing() -> None:
    data = full_tree()
    assert validate(data).errors == ()
    looked = 0
    for fields, value in sections(Node("section", (Configuration,)), data):
        form = _Form(page(fields, value))
        assert read(fields, form.sent, value) == value
        assert len(form.ids) == len(set(form.ids))
        looked += 1
    assert looked > 50


def test_names_and_values_are_text_in_the_page() -> None:
    fields = fields_of(RoleMappingRule)
    value = {
        "name": '"><script>alert(1)</script>',
        "condition": {"kind": "user", "values": ["</textarea><script>"], "negate": False},
        "roles": ["<img src=x onerror=alert(1)>"],
        "stop": False,
    }
    shown = page(fields, value, {("name",): ["<i>wrong</i>"]})
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<i>" not in shown
    assert _Form(shown).sent["name"] == [value["name"]]


def test_errors_stand_at_their_fields() -> None:
    fields = fields_of(AccessControl)
    errors = {("to", 1): ["is wrong"], ("action",): ["is not allowed"]}
    filled = {each.field.key: each for each in Filling(names_of, errors).fill(fields, blank(fields))}
    assert filled["to"].errors == ("line 2: is wrong",)
    assert filled["action"].wrong
    assert not filled["name"].wrong
    shown = page(fields, blank(fields), errors)
    assert 'aria-describedby="f-to-help f-to-error" aria-invalid="true"' in shown


def test_findings_about_other_places_are_kept_apart() -> None:
    findings = [
        Finding(("realms", "Users", "policy", "source", "rules", 0, "network"), "bad", "good"),
        Finding(("realms", "Users", "server"), "bad", ""),
        Finding(("realms", "Others", "policy"), "bad", ""),
        Finding(("realms", "Users", "policy"), "odd", "", warning=True),
    ]
    inside, elsewhere = place_errors(findings, ("realms", "Users"), ["policy"])
    assert inside == {("policy", "source", "rules", 0, "network"): ["bad; allowed: good"]}
    assert elsewhere == findings[1:]


SECRET = fields_of(PushTarget)


@pytest.mark.parametrize(
    ("stored", "sent", "result"),
    [
        ("sealed:v1:AAAA", {"token": [""]}, KEPT),
        ("sealed:v1:AAAA", {}, KEPT),
        ("sealed:v1:AAAA", {"token": ["new"]}, "new"),
        ("sealed:v1:AAAA", {"token": ["new"], "token-clear": ["1"]}, "new"),
        ("sealed:v1:AAAA", {"token": [""], "token-clear": ["1"]}, ""),
        ("", {"token": [""]}, ""),
    ],
)
def test_secrets_go_one_way(stored: str, sent: dict[str, list[str]], result: str) -> None:
    value = {"name": "x", "url": "https://x", "token": stored}
    assert read(SECRET, sent, value)["token"] == result
    assert "sealed" not in page(SECRET, value)


RULES = {
    "rules": [{"network": "10.0.0.0/8", "action": "allow"}, {"network": "192.0.2.0/24", "action": "deny"}],
    "otherwise": "deny",
}
ROLES = {"name": "r", "roles": ["Staff", "Users"], "stop": False}


@pytest.mark.parametrize(
    ("model", "value", "do", "marked", "at", "result"),
    [
        (SourcePolicy, RULES, "add:rules", {}, "rules", [*RULES["rules"], {"network": "", "action": "allow"}]),
        (SourcePolicy, RULES, "remove:rules.0", {}, "rules", RULES["rules"][1:]),
        (SourcePolicy, RULES, "down:rules.0", {}, "rules", RULES["rules"][::-1]),
        (SourcePolicy, RULES, "up:rules.1", {}, "rules", RULES["rules"][::-1]),
        (SourcePolicy, RULES, "up:rules.0", {}, "rules", RULES["rules"]),
        (SourcePolicy, RULES, "remove:rules.7", {}, "rules", RULES["rules"]),
        (SourcePolicy, RULES, "remove:otherwise", {}, "otherwise", "deny"),
        (SourcePolicy, RULES, "remove:__class__", {}, "otherwise", "deny"),
        (SourcePolicy, RULES, "add:rules.0.network", {}, "rules", RULES["rules"]),
        (RoleMappingRule, ROLES, "select:roles", {"roles-available": ["Guests"]}, "roles", ["Staff", "Users", "Guests"]),
        (RoleMappingRule, ROLES, "unselect:roles", {"roles-marked": ["Staff"]}, "roles", ["Users"]),
        (RoleMappingRule, ROLES, "lower:roles", {"roles-marked": ["Staff"]}, "roles", ["Users", "Staff"]),
        (RoleMappingRule, ROLES, "raise:roles", {"roles-marked": ["Users"]}, "roles", ["Users", "Staff"]),
        (RoleMappingRule, ROLES, "raise:roles", {"roles-marked": ["Staff"]}, "roles", ["Staff", "Users"]),
    ],
)  # fmt: skip
def test_buttons_inside_a_form(
    model: Any, value: Any, do: str, marked: dict[str, list[str]], at: str, result: Any
) -> None:
    before = json.dumps(value)
    after, _ = rearrange(fields_of(model), dict(value), marked, do)
    assert after[at] == result
    assert json.dumps(value) == before, "what is shown is a copy"


def test_another_kind_keeps_what_both_have() -> None:
    fields = fields_of(RoleMappingRule)
    value = {"name": "r", "condition": {"kind": "group", "values": ["a", "b"], "negate": True}}
    after = read(fields, {"condition.kind": ["attribute"]}, value)
    assert after["condition"] == {"kind": "attribute", "attribute": "", "values": ["a", "b"], "negate": True}
    after = read(fields, {"condition.kind": ["nonsense"]}, value)
    assert after["condition"]["kind"] == "user"


KEYS = st.sampled_from(
    ["name", "roles", "condition.kind", "condition.values", "rules-rows", "rules.0.network", "applies.to", "ports",
     "attributes-rows", "attributes.0.values", "require", "to", "protocol", "x", "", "roles-marked", "do"]
)  # fmt: skip


@given(
    st.sampled_from([RoleMappingRule, SourcePolicy, AccessControl, CertificateRequirement]),
    st.dictionaries(KEYS, st.lists(st.text(max_size=20), min_size=1, max_size=3)),
    st.one_of(st.none(), st.integers(), st.lists(st.integers()), st.dictionaries(KEYS, st.integers())),
    st.text(max_size=30) | st.sampled_from(["add:rules", "remove:rules.0", "raise:roles", "kind:condition"]),
)
def test_whatever_is_sent_becomes_a_value_that_can_be_judged_and_shown(
    model: Any, sent: dict[str, list[str]], current: Any, do: str
) -> None:
    fields = fields_of(model)
    value, _ = rearrange(fields, read(fields, sent, current), sent, do)
    json.dumps(value)
    Filling(names_of).fill(fields, value)


def test_assets_are_those_of_the_table() -> None:
    loader = importlib.machinery.SourceFileLoader("vendor_assets", str(REPOSITORY / "scripts/vendor-assets"))
    spec = importlib.util.spec_from_loader("vendor_assets", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    assert module.check() == 0


def templates() -> list[Path]:
    return sorted([*WEB.glob("console/templates/*.html"), *WEB.glob("forms/templates/*.html")])


@pytest.mark.parametrize("path", templates(), ids=lambda path: path.name)
def test_templates_keep_to_the_content_policy(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|\|\s*safe\b", text)
    assert not re.search(r"<script(?! src=\"\{\{ asset)", text)
    assert not re.search(r"(?:src|href|action)=\"https?:", text)
    for name in re.findall(r"icon\(\"([a-z0-9-]+)\"", text):
        icon(name)
    for name in re.findall(r"asset\('([^']+)'\)", text):
        assert name in load_assets(STATIC).urls


def test_every_form_that_changes_something_carries_the_token() -> None:
    for path in templates():
        for form in re.findall(r"<form\b[^>]*method=\"post\".*?</form>", path.read_text(), re.S):
            assert "hidden()" in form or 'name="csrf"' in form, f"{path.name}: {form[:200]}"


def test_assets_change_their_name_with_their_content() -> None:
    assets = load_assets(STATIC)
    assert assets.urls["lockgate.css"].startswith(BASE + "static/lockgate.")
    assert set(assets.urls) >= {"htmx.min.js", "tabler.min.css", "uPlot.iife.min.js", "console.js"}
