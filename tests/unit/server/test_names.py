"""Every spelling of a user name is one user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.server.auth.names import MAX_LENGTH, canonical

CASES = [
    ("alice", "alice"),
    ("Alice", "alice"),
    ("  ALICE\t", "alice"),
    ("ＡＬＩＣＥ", "alice"),
    ("STRASSE", "strasse"),
    ("straße", "strasse"),
    ("Zoe\u0308", "zoë"),
    ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
    ("ﬁona", "fiona"),
    ("DOMAIN\\alice", "domain\\alice"),
    ("first last", "first last"),
    ("", None),
    ("   ", None),
    ("a\x00b", None),
    ("a\nb", None),
    ("a\u200bb", None),
    ("\u202ealice", None),
    ("\ud800", None),
    ("a" * MAX_LENGTH, "a" * MAX_LENGTH),
    ("a" * (MAX_LENGTH + 1), None),
    ("\ufdfa" * 10, None),  # one character that becomes eighteen
    ("a" * 1_000_000, None),
]


@pytest.mark.parametrize(("typed", "name"), CASES)
def test_canonical(typed, name):
    assert canonical(typed) == name


@given(st.text(max_size=40))
def test_a_canonical_name_is_its_own(typed):
    name = canonical(typed)
    if name is not None:
        assert canonical(name) == name
        assert name.isprintable()
        assert 1 <= len(name) <= MAX_LENGTH
