"""Records of users: what can be a bookmark, how an order changes, and that copies become one whatever happens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.model.user_record import (
    MAX_BOOKMARKS,
    MAX_POSITION,
    OwnBookmark,
    Record,
    Version,
    add,
    as_json,
    as_text,
    change,
    choose,
    delete,
    merge,
    move,
    parse_item,
    parse_name,
    parse_url,
    parse_value,
    record_of,
)

# Few values, so that ranks often differ in their last part only.
VERSIONS = st.builds(
    Version,
    st.integers(0, 2),
    st.sampled_from(["a", "b"]),
    st.sampled_from([None, '"dark"', '"light"']),
)
COPIES = st.dictionaries(st.sampled_from(["preference:colours", "preference:density", "x"]), VERSIONS)


@given(COPIES, COPIES, COPIES)
def test_copies_become_one_in_any_order(one, two, three):
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, one) == one
    assert merge(merge(one, two), two) == merge(one, two)


@given(COPIES, COPIES)
def test_nothing_that_is_later_is_lost(one, two):
    both = merge(one, two)
    assert set(both) == {*one, *two}
    for item, version in both.items():
        assert version in (one.get(item), two.get(item))
        assert version.time == max(each[item].time for each in (one, two) if item in each)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("https://wiki.example.org/", "https://wiki.example.org/"),
        (" HTTPS://wiki.example.org", "https://wiki.example.org"),
        ("http://10.77.0.80:8080/a?b=c&d='e'#f", "http://10.77.0.80:8080/a?b=c&d='e'#f"),
        ("http://[fd77::80]:8080/", "http://[fd77::80]:8080/"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_addresses(typed, kept):
    assert parse_url(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "wiki.example.org", "javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "ftp://host/",
        "https:", "https://", "https:///path", "//host/", "https:/host", "https:\\\\host\\", "https://host\\@evil/",
        "https://user@host/", "https://user:password@host/", "https://host:0/", "https://host:65536/",
        "https://host:x/", "https://127.1/", "https://0x7f000001/", "https://ho st/", "https://host/a b",
        "https://host/\n", "https://host/\"", "https://host/<x>", "https://host/ä", "https://höst/", "https://[::1/",
        "https://[host]/", "https://::1/", "https://-host/", "https://h/" + "a" * 1000, "\x00https://host/", None, 7,
        "https://host\u202e/", "https://%68ost/", "https://ban\u212a.example/",
    ],
)  # fmt: skip
def test_no_addresses(typed):
    with pytest.raises(ValueError, match=r"."):
        parse_url(typed)


def test_names():
    assert parse_name("  Mobile Webmail ") == "Mobile Webmail"
    for wrong in ("", "  ", "a\nb", "a" * 65, "a\u202eb", None, 7):
        with pytest.raises(ValueError, match="1 to 64"):
            parse_name(wrong)


def ids(record):
    return [each for each, _ in record.bookmarks]


def done(record, edits):
    items = {f"bookmark:{each}": as_text(bookmark) for each, bookmark in record.bookmarks}
    return record_of({**items, **{key: None if v is None else as_text(v) for key, v in edits.items()}})


def with_some(count):
    record = Record()
    for number in range(count):
        record = done(record, add(record, f"{number:032x}", f"n{number}", "https://h/", True))
    return record


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_an_order_is_what_was_asked_for(count, moves):
    record = with_some(count)
    expected = ids(record)
    for place, up in moves:
        if place >= count:
            continue
        moved = expected[place]
        record = done(record, move(record, moved, up))
        other = place + (-1 if up else 1)
        if 0 <= other < count:
            expected[place], expected[other] = expected[other], expected[place]
        assert ids(record) == expected
        assert all(abs(each.position) <= MAX_POSITION for _, each in record.bookmarks)


def test_a_move_changes_one_bookmark_where_there_is_room():
    record = with_some(3)
    assert set(move(record, ids(record)[2], True)) == {f"bookmark:{2:032x}"}
    assert move(record, ids(record)[0], True) == {}
    tight = Record(tuple((f"{n:032x}", OwnBookmark("n", "https://h/", True, 7)) for n in range(3)))
    assert len(move(tight, f"{2:032x}", True)) == 3
    edge = Record(((f"{1:032x}", OwnBookmark("n", "https://h/", True, MAX_POSITION)),))
    assert ids(done(edge, add(edge, f"{0:032x}", "later", "https://h/", True))) == [f"{1:032x}", f"{0:032x}"]


def test_bounds_and_what_is_gone():
    full = with_some(MAX_BOOKMARKS)
    with pytest.raises(ProblemError, match="as many as can be"):
        add(full, f"{7:032x}", "n", "https://h/", True)
    for act in (lambda: delete(full, "none"), lambda: change(full, "none", "n", "https://h/", True)):
        with pytest.raises(ProblemError, match="not there any more"):
            act()
    with pytest.raises(ValueError, match="cannot be chosen"):
        choose({"colours": "red"})
    with pytest.raises(ValueError, match="no item"):
        choose({"shape": "round"})
    assert record_of({"preference:colours": '"dark"', "preference:density": None}).preferences == (
        ("colours", "dark"),
        ("density", "comfortable"),
    )


BOOKMARK = {"name": "Wiki", "url": "https://h/", "new_window": True, "position": 3}


def test_values_come_back_as_they_were():
    item = parse_item(f"bookmark:{1:032x}")
    value = parse_value(item, BOOKMARK)
    assert as_json(value) == BOOKMARK == json.loads(as_text(value))
    for wrong in (
        {**BOOKMARK, "position": True},
        {**BOOKMARK, "position": 1.0},
        {**BOOKMARK, "position": MAX_POSITION + 1},
        {**BOOKMARK, "new_window": 1},
        {**BOOKMARK, "url": "HTTPS://h/"},
        {**BOOKMARK, "name": " Wiki"},
        {**BOOKMARK, "more": 1},
        {key: BOOKMARK[key] for key in ("name", "url")},
        "dark",
        None,
        [],
    ):
        with pytest.raises(ValueError, match=r"."):
            parse_value(item, wrong)
    for wrong in (
        "",
        "bookmark:",
        "bookmark:" + "A" * 32,
        f"bookmark:{1:032x}\n",
        "preference:shape",
        None,
        1,
    ):
        with pytest.raises(ValueError, match="no item"):
            parse_item(wrong)
