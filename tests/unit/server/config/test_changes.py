"""Differences, and the edits that carry them over; two people's changes brought together, or their conflict."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockgate.server.config import edits
from lockgate.server.config.changes import KEPT, areas, diff, edits_for, mask, same
from lockgate.server.config.merge import conflicts, merge
from lockgate.server.config.tree import Configuration
from tests.unit.server.config.support import TOKEN, VAULT, edit_lists, json_values, plain, small_tree

BASE = small_tree()
EXAMPLES = settings(max_examples=150, deadline=None)


def changed(*listed):
    return edits.apply(BASE, listed)


def full(data):
    """With every default written."""
    return plain(Configuration.model_validate(data))


def seen(old, new):
    return [(change.path, change.kind, change.before, change.after) for change in diff(old, new)]


def test_what_a_diff_says():
    new = changed(
        edits.SetValue("roles/Staff/session/idle_seconds", 60),
        edits.Remove("access_control/Printers"),
        edits.Move("access_control/DNS", "Intranet"),
        edits.SetValue("gateway/listen", ["192.0.2.1:443"]),
    )
    printers = next(rule for rule in BASE["access_control"] if rule["name"] == "Printers")
    assert seen(BASE, new) == [
        ("gateway/listen", "changed", ["0.0.0.0:443", "[::]:443"], ["192.0.2.1:443"]),
        ("roles/Staff/session/idle_seconds", "changed", 1800, 60),
        ("access_control/Printers", "removed", printers, None),
        ("access_control/DNS", "moved", 4, 2),
    ]
    assert areas(diff(BASE, new)) == {"system", "roles"}


def test_a_default_that_is_written_is_no_change():
    role = {"name": "Staff"}
    bare = {**BASE, "roles": [role if each["name"] == "Staff" else each for each in BASE["roles"]]}
    assert diff(BASE, bare) == (*diff(BASE, changed(edits.SetValue("roles/Staff/description", ""))),)


def test_another_kind_is_one_change():
    condition = {"kind": "expression", "text": 'group = "x"'}
    new = changed(edits.SetValue("realms/Users/rules/Staff/condition", condition))
    old = {"kind": "group", "values": ["staff"], "negate": False}
    assert seen(BASE, new) == [("realms/Users/rules/Staff/condition", "changed", old, condition)]


def test_secrets_are_seen_as_set_or_not():
    sealed = BASE["push_targets"][0]["token"]
    other = changed(edits.SetValue("push_targets/other/token", VAULT.seal("another secret")))
    gone = changed(edits.SetValue("push_targets/other/token", ""))
    assert seen(BASE, other) == [("push_targets/other/token", "changed", KEPT, KEPT)]
    assert seen(BASE, gone) == [("push_targets/other/token", "changed", KEPT, "")]
    texts = [
        json.dumps([change.as_dict() for change in diff(a, b)])
        for a in (BASE, gone, {})
        for b in (BASE, gone, {})
    ]
    texts.append(json.dumps(mask(BASE)))
    texts.append(json.dumps([each.as_dict() for each in conflicts(BASE, other, gone)]))
    assert not any("sealed:" in text or sealed in text or TOKEN in text for text in texts)
    assert mask(BASE)["push_targets"][0]["token"] == KEPT


@given(edit_lists(BASE))
@EXAMPLES
def test_a_diff_applied_gives_the_other_tree(listed):
    new = edits.apply(BASE, listed)
    assert full(edits.apply(BASE, edits_for(BASE, new))) == full(new)
    assert full(edits.apply(new, edits_for(new, BASE))) == BASE
    assert (diff(BASE, new) == ()) == same(BASE, full(new))


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)), st.sets(st.integers(8, 12)))
@EXAMPLES
def test_any_new_order_is_reached(order, gone, added):
    rule = BASE["access_control"][0]
    old = {**BASE, "access_control": [{**rule, "name": f"r{n}"} for n in range(8)]}
    names = [*(n for n in order if n not in gone), *added]
    new = {**BASE, "access_control": [{**rule, "name": f"r{n}"} for n in names]}
    assert edits.apply(old, edits_for(old, new)) == new


@given(json_values, json_values)
@EXAMPLES
def test_diff_is_total(one, other):
    trees = [{"roles": one, "log": other}, {"roles": other, "realms": one}, BASE]
    for old in trees:
        for new in trees:
            assert (diff(old, new) == ()) or not same(old, new)


@given(st.data())
@EXAMPLES
def test_changes_of_two_people_come_together_or_conflict(data):
    mine = edits.apply(BASE, data.draw(edit_lists(BASE, 4)))
    theirs = edits.apply(BASE, data.draw(edit_lists(BASE, 4)))
    assert full(merge(BASE, mine, BASE)) == full(mine)
    assert merge(BASE, BASE, theirs) == theirs
    assert conflicts(BASE, mine, mine) == ()
    if not conflicts(BASE, mine, theirs):
        both = merge(BASE, mine, theirs)
        values = {c.path: c.after for c in diff(BASE, both) if c.kind != "moved"}
        for side in (mine, theirs):
            for change in diff(BASE, side):
                if change.kind != "moved":
                    assert same(values[change.path], change.after), change
        assert conflicts(BASE, theirs, mine) == ()
    else:
        merge(BASE, mine, theirs, "mine")
        merge(BASE, mine, theirs, "theirs")


MEET = [
    # mine, theirs, whether they conflict
    ([("roles/Staff/description", "a")], [("roles/Staff/description", "b")], True),
    ([("roles/Staff/description", "a")], [("roles/Staff/description", "a")], False),
    ([("roles/Staff/description", "a")], [("roles/Staff/session/idle_seconds", 1)], False),
    ([("roles/Staff/description", "a")], [edits.Remove("roles/Staff")], True),
    ([edits.Remove("roles/Staff")], [("roles/Staff/session/idle_seconds", 1)], True),
    ([edits.Remove("roles/Staff")], [edits.Remove("roles/Staff")], False),
    ([edits.Insert("roles/New", {})], [edits.Insert("roles/New", {"description": "x"})], True),
    ([edits.Insert("roles/New", {})], [edits.Insert("roles/Newer", {})], False),
    # Where order decides, two new places are a question for people.
    (
        [edits.Insert("access_control/New", {}, "DNS")],
        [edits.Insert("access_control/Newer", {}, "Printers")],
        True,
    ),
    ([edits.Move("access_control/DNS", "Intranet")], [edits.Insert("access_control/New", {})], True),
    ([edits.Move("access_control/DNS", "Intranet")], [("access_control/DNS/description", "x")], False),
    ([edits.Move("access_control/DNS", "Intranet")], [edits.Remove("access_control/DNS")], True),
    ([edits.Insert("access_control/New", {}, "DNS")], [edits.Remove("access_control/DNS")], False),
    ([("network/mtu", 1300)], [("esp/port", 4501)], False),
    # What both did alike is no question, whatever one of them did beside it.
    (
        [edits.Move("access_control/Printers", "Intranet"), edits.Insert("access_control/New", {}, "DNS")],
        [edits.Move("access_control/Printers", "Intranet")],
        False,
    ),
]


@pytest.mark.parametrize(("mine", "theirs", "conflict"), MEET)
def test_what_conflicts(mine, theirs, conflict):
    def tree(listed):
        return changed(*(edits.SetValue(*each) if isinstance(each, tuple) else each for each in listed))

    mine, theirs = tree(mine), tree(theirs)
    assert bool(conflicts(BASE, mine, theirs)) == conflict
    assert bool(conflicts(BASE, theirs, mine)) == conflict


def test_whose_value_counts_is_for_people_to_say():
    mine = changed(edits.SetValue("roles/Staff/description", "mine"), edits.SetValue("network/mtu", 1300))
    theirs = changed(edits.Remove("roles/Staff"), edits.Move("access_control/DNS", "Intranet"))
    kept = merge(BASE, mine, theirs, "mine")
    assert [role["name"] for role in kept["roles"]] == ["Users", "Staff", "Guests"]
    assert kept["roles"][1]["description"] == "mine"
    dropped = merge(BASE, mine, theirs, "theirs")
    assert [role["name"] for role in dropped["roles"]] == ["Users", "Guests"]
    assert kept["network"]["mtu"] == dropped["network"]["mtu"] == 1300
    assert kept["access_control"] == dropped["access_control"] == theirs["access_control"]
