"""Text from outside prints safely."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.text import printable

CASES = [
    ("alice", "alice"),
    ("Zoë", "Zoë"),
    ("a\nb", "a\\x0ab"),
    ("\x1b[31m", "\\x1b[31m"),
    ("a\\x0a", "a\\\\x0a"),
    ("\u202egnp", "\\u202egnp"),
    ("\U000e0041", "\\U000e0041"),
    ("\ud800", "\\ud800"),
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_shown_as(text, shown):
    assert printable(text, 40) == shown


def test_what_is_too_long_is_cut_and_marked():
    assert printable("0123456789", 10) == "0123456789"
    assert printable("0123456789A", 10) == "012345678…"
    assert printable("012345678\n", 10) == "012345678…"


@given(st.text(), st.integers(1, 20))
def test_always_prints_and_fits(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
