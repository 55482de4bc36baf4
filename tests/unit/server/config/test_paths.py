"""Settings and objects are reached, changed and renamed by their paths; what cannot be says so by name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.server.config import edits, paths
from lockgate.server.config.checks import validate
from lockgate.server.config.schema import ROOT, Node, children, plain_default
from lockgate.server.config.tree import Configuration
from tests.unit.server.config.support import edit_lists, json_values, plain, small_tree

BASE = small_tree()


def problem_of(work, *arguments):
    """The code of the problem that it raises; None when it does not."""
    try:
        work(*arguments)
    except ProblemError as error:
        return error.problem.code
    return None


def at(text, data=BASE):
    return paths.get(data, paths.parse_path(text))


def test_what_a_path_leads_to():
    assert at("roles/Staff/session/idle_seconds") == 1800
    assert at("realms/Users/rules/Staff/condition/values") == ["staff"]
    assert at("certificates/trusted_client_cas") == []
    assert at("log/level") == "info"
    assert at("") is BASE
    assert at("/roles/Staff/") == BASE["roles"][1]


WRONG = [
    ("rolez", "no-such-setting", "Did you mean roles?"),
    ("roles/Staf", "no-such-object", "Did you mean Staff?"),
    ("roles/Staff/sesion", "no-such-setting", "Did you mean session?"),
    ("roles/Staff/session/idle_seconds/x", "no-such-setting", "as a whole"),
    ("gateway/listen/0", "no-such-setting", "as a whole"),
    ("realms/Users/policy/source/rules/0", "no-such-setting", "as a whole"),
    ("realms/Users/rules/Staff/condition/attribute", "no-such-setting", "There are: kind, values, negate"),
    ("push_targets/other/toke", "no-such-setting", "Did you mean token?"),
    ("roles//Staff", "path-invalid", "keys and names"),
    ("a/" * 20, "path-invalid", "keys and names"),
    ("x" * 2000, "path-invalid", "keys and names"),
]


@pytest.mark.parametrize(("path", "code", "fix"), WRONG)
@pytest.mark.parametrize("do", ["get", "set"])
def test_a_path_that_leads_nowhere(path, code, fix, do):
    with pytest.raises(ProblemError) as caught:
        at(path) if do == "get" else edits.apply(BASE, [edits.SetValue(f"{path}/x", 1)])
    assert caught.value.problem.code == code
    assert fix in caught.value.problem.fix
    assert len(caught.value.problem.text()) < 500


def every_setting(node=ROOT, path=()):
    for key, inner in children(node.models[0]).items():
        if inner.kind == "section":
            yield from every_setting(Node("section", inner.models), (*path, key))
        else:
            yield (*path, key), inner


def test_every_setting_outside_collections_is_reached_and_reset():
    full = plain(Configuration.model_validate(BASE))
    for path, node in every_setting():
        text = paths.format_path(path)
        assert at(text, full) == at(text, paths.set_value(full, path, at(text, full)))
        if not node.field.is_required():
            assert at(text, paths.remove(full, path)) == plain_default(node)


def test_a_renamed_object_keeps_its_references():
    renamed = paths.rename(BASE, ("roles", "Staff"), "Team")
    assert paths.uses(renamed, "roles", "Staff") == []
    assert paths.uses(renamed, "roles", "Team") == [
        ("realms", "Users", "rules", "Staff", "roles"),
        ("access_control", "Intranet", "applies", "roles"),
        ("access_control", "Printers", "applies", "roles"),
    ]
    assert [role["name"] for role in renamed["roles"]] == ["Users", "Team", "Guests"]
    assert validate(renamed).errors == ()
    assert paths.rename(renamed, ("roles", "Team"), "Staff") == BASE


def test_every_kind_of_reference_is_followed():
    """Whatever a hint says is a reference: none is forgotten when its object is renamed."""
    data = BASE
    for collection in (
        "auth_servers",
        "realms",
        "admin_realms",
        "admin_roles",
        "sign_in_pages",
        "connection_sets",
    ):
        for name in list(paths.names_in(data, collection)):
            data = paths.rename(data, (collection, name), f"{name} 2")
    assert data != BASE
    assert validate(data).errors == ()


CANNOT = [
    (edits.Insert("roles/Staff", {}), "object-exists"),
    (edits.Insert("roles/New", {}, "Nobody"), "no-such-object"),
    (edits.Insert("roles/New", {"name": "Other"}), "name-invalid"),
    (edits.Insert("roles/New", "text"), "config-malformed"),
    (edits.Insert("roles/.", {}), "name-invalid"),
    (edits.Insert("network/mtu", {}), "not-movable"),
    (edits.Move("roles/Nobody"), "no-such-object"),
    (edits.Move("roles"), "not-movable"),
    (edits.Remove("roles/Nobody"), "no-such-object"),
    (edits.Remove(""), "path-invalid"),
    (edits.SetValue("", {}), "path-invalid"),
    (edits.Rename("roles/Staff", "Guests"), "object-exists"),
    (edits.Rename("roles/Staff", "a/b"), "name-invalid"),
    (edits.Rename("roles/Staff", ""), "name-invalid"),
    (edits.Rename("roles/Nobody", "x"), "no-such-object"),
    (edits.Rename("network/mtu", "x"), "not-movable"),
]


@pytest.mark.parametrize(("edit", "code"), CANNOT)
def test_what_cannot_be_done_changes_nothing(edit, code):
    before = small_tree()
    with pytest.raises(ProblemError) as caught:
        edits.apply(BASE, [edits.SetValue("network/mtu", 1000), edit])
    assert caught.value.problem.code == code
    assert {
        key: value for key, value in BASE.items() if key not in ("cluster", "connection_sets", "push_targets")
    } == {
        key: value
        for key, value in before.items()
        if key not in ("cluster", "connection_sets", "push_targets")
    }


def test_order():
    def order(edit):
        return [rule["name"] for rule in edits.apply(BASE, [edit])["access_control"]]

    first, second, third, fourth = order(edits.Move("access_control/DNS"))
    assert (first, second, third, fourth) == ("Initial open policy", "Intranet", "Printers", "DNS")
    assert order(edits.Move("access_control/DNS", first)) == [fourth, first, second, third]
    assert order(edits.Move(f"access_control/{first}", third)) == [second, first, third, fourth]
    assert order(edits.Move("access_control/DNS", "DNS")) == [first, second, third, fourth]
    assert order(edits.Insert("access_control/New", {}, second)) == [first, "New", second, third, fourth]


@given(edit_lists(BASE))
@settings(max_examples=60)
def test_edits_are_read_from_json(listed):
    names = {
        edits.SetValue: "set",
        edits.Remove: "remove",
        edits.Insert: "insert",
        edits.Move: "move",
        edits.Rename: "rename",
    }
    documents = [
        {"op": names[type(edit)], **{name: getattr(edit, name) for name in edit.__slots__}} for edit in listed
    ]
    assert [edits.parse_edit(document) for document in documents] == listed


@given(json_values)
@settings(max_examples=100)
def test_a_document_is_an_edit_or_refused(document):
    assert problem_of(edits.parse_edit, document) in (None, "edit-invalid")


@given(
    json_values,
    st.sampled_from(["roles/Staff/session/idle_seconds", "roles/New", "log", "realms/Users/rules/Staff"]),
)
@settings(max_examples=150)
def test_any_tree_takes_edits_or_says_what_is_wrong(value, path):
    """Drafts may hold anything: an edit of one is done or refused, never a crash."""
    for data in (
        {"roles": value, "log": value, "realms": value},
        {"realms": [{"name": "Users", "rules": value}]},
    ):
        for edit in (
            edits.SetValue(path, value),
            edits.Remove(path),
            edits.Rename(path, "x"),
            edits.Move(path),
        ):
            problem_of(edits.apply, data, [edit])
