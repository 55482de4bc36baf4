"""What is kept of earlier trees changes nothing: findings and trees are those of a full validation."""

import copy
import itertools
import json
from unittest.mock import patch

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.server.config import bounds, edits
from lockgate.server.config.changes import diff, same, share
from lockgate.server.config.checks import validate
from lockgate.server.config.incremental import Validator
from lockgate.server.config.tree import Configuration
from tests.unit.server.config.support import edit_lists, json_values, plain, small_tree

BASE = small_tree()
EXAMPLES = settings(max_examples=120, deadline=None)
# What stands in an object, at a place where something else belongs.
ODD = [None, True, 0, "", "Staff", "staff", "Nobody", [], ["Staff"], ["Staff", "Staff"], {}, {"kind": "user"}]


@st.composite
def pokes(draw, value):
    """`value` with one part of it replaced, removed, or there twice; all others are the same objects."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 9)) == 0:
            return {each: inner for each, inner in value.items() if each != key}
        return {**value, key: draw(pokes(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        match draw(st.sampled_from(["inside", "inside", "twice", "gone", "elsewhere"])):
            case "twice":
                return [*value, value[at]]
            case "gone":
                return value[:at] + value[at + 1 :]
            case "elsewhere":
                return [value[at], *value[:at], *value[at + 1 :]]
        return [*value[:at], draw(pokes(value[at])), *value[at + 1 :]]
    return draw(st.sampled_from(ODD) | json_values)


@st.composite
def steps(draw):
    """Trees of which each has most of its objects from one of those before, right ones and wrong ones."""
    trees = [BASE]
    for _ in range(draw(st.integers(1, 6))):
        before = draw(st.sampled_from(trees[-2:]))
        if draw(st.booleans()) and _has_what_is_edited(before):
            trees.append(edits.apply(before, draw(edit_lists(before))))
        else:
            trees.append(draw(pokes(before)))
    return trees


def _has_what_is_edited(tree):
    if validate(tree).configuration is None or not {
        "roles",
        "access_control",
        "auth_servers",
        "realms",
    } <= set(tree):
        return False
    return any(each["name"] == "Users" and "rules" in each for each in tree["realms"])


@given(steps(), st.booleans(), st.sampled_from([0, 5, 1000]))
@EXAMPLES
def test_what_is_kept_changes_nothing(trees, known, most):
    validator = Validator(most)
    if known:
        validator.know(BASE, Configuration.model_validate(BASE))
    before = copy.deepcopy(trees)
    for tree in trees:
        assert validator.validate(tree) == validate(tree)
    assert same(trees, before)


@given(json_values, st.integers(1, 12), st.integers(0, 3))
@EXAMPLES
def test_a_size_that_fits_is_within_the_bounds(value, most, depth):
    """Whether the sizes of tables are known already or not."""
    with patch.multiple(bounds, MAX_VALUES=most, MAX_DEPTH=depth):
        try:
            bounds.check_bounds(value)
            within = True
        except ProblemError:
            within = False
        assert bounds.size_of(value).fits == within
        assert bounds.size_of(value, bounds.size_of).fits == within


def test_an_object_is_read_once():
    """Also where there are errors elsewhere."""
    validator = Validator()
    first = validator.validate(BASE).require()
    changed = edits.apply(BASE, [edits.SetValue("roles/Staff/session/idle_seconds", 60)])
    second = validator.validate(changed).require()
    assert [a is b for a, b in zip(first.roles, second.roles, strict=True)] == [True, False, True]
    wrong = edits.apply(changed, [edits.SetValue("network/mtu", 1)])
    assert validator.validate(wrong).configuration is None
    assert validator.validate(changed).require().roles[1] is second.roles[1]


@given(steps())
@EXAMPLES
def test_what_is_shared_says_the_same(trees):
    for old, new in itertools.pairwise(trees):
        text = json.dumps(new)
        assume("NaN" not in text)  # which is no JSON, and not the same as itself
        together = share(json.loads(text), old)
        assert same(together, new)
        if isinstance(old, dict) and isinstance(new, dict):
            assert diff(old, together) == diff(old, new)


def test_what_is_the_same_is_shared():
    assert share(plain(Configuration.model_validate(BASE)), BASE) is BASE
    changed = edits.apply(BASE, [edits.Move("access_control/DNS", "Intranet")])
    together = share(json.loads(json.dumps(changed)), BASE)
    assert together["roles"] is BASE["roles"]
    assert all(any(each is old for old in BASE["access_control"]) for each in together["access_control"])
