"""Every key, table and list element is found on the line where it stands."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.server.config.seed.lines import key_lines, line_of

TEXT = '''\
# comment = 1
top = 1                                 # 2
"quoted key" . 'in parts'.bare = """
"inside" = 2
[nothing]
"""
[table]                                 # 7
list = [ 1, # one
  "]",                                  # 9
  [2,
   '#'],                                # 11

]
inline = { a = 1, b.c = [ { d = 2 } ] } # 14
[ table . inner ]                       # 15
escaped = "\\"]\\\\"
[[rule]]                                # 17
name = LONG
[rule.part]                             # 19
x = 1979-05-27 07:32:00
[[rule]]                                # 21
name = "second"
[[rule.sub]]                            # 23
y = +inf
'''.replace("LONG", "'''it's'''")

PLACES = [
    (("top",), 2),
    (("quoted key", "in parts", "bare"), 3),
    (("table",), 7),
    (("table", "list"), 8),
    (("table", "list", 0), 8),
    (("table", "list", 1), 9),
    (("table", "list", 2), 10),
    (("table", "list", 2, 0), 10),
    (("table", "list", 2, 1), 11),
    (("table", "inline", "b", "c", 0, "d"), 14),
    (("table", "inner"), 15),
    (("table", "inner", "escaped"), 16),
    (("rule",), 17),
    (("rule", 0), 17),
    (("rule", 0, "name"), 18),
    (("rule", 0, "part", "x"), 20),
    (("rule", 1), 21),
    (("rule", 1, "name"), 22),
    (("rule", 1, "sub", 0, "y"), 24),
]


@pytest.mark.parametrize(("path", "line"), PLACES)
def test_place(path, line):
    tomllib.loads(TEXT)
    assert key_lines(TEXT)[path] == line


def test_what_is_missing_is_looked_for_in_the_table_around_it():
    lines = key_lines(TEXT)
    assert line_of(lines, ("rule", 1, "missing")) == 21
    assert line_of(lines, ("nowhere", "at all")) is None


def paths(value, path=()):
    """Every path of a value, as tomllib reads it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in items:
        yield (*path, part)
        yield from paths(inner, (*path, part))


pieces = st.sampled_from(
    ["a", "b", '"k"', "'k'", "c.d", " = ", "[", "]", "[[", "]]", "{", "}", ",", "1", '"s#]"', "'''x\ny'''", "\n", "#", " ",
     '"""\n"""', "a = 1\n", "[t]\n", "[[l]]\n", "b = [1, {c = 2}]\n", "x = '\"'\n"]
)  # fmt: skip


@given(st.lists(pieces, max_size=25).map("".join))
def test_whatever_the_reader_accepts_is_found(text):
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(paths(data)) <= set(key_lines(text))
