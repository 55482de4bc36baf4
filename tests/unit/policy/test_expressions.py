"""Custom expressions: what holds, what is refused and where, and that nobody can make them expensive."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lockgate.model.expression import AllOf, AnyOf, Comparison, Field, Not, Term
from lockgate.model.pattern import Pattern
from lockgate.policy.expressions import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_TERMS,
    ExpressionError,
    evaluate,
    parse,
    render,
    uses_time,
)
from tests.unit.policy.people import ALICE, NOW

HOLD = [
    'user = "alice"',
    "user = 'ALICE'",
    'USER = "a*e"',
    'user != "bob"',
    'user = ("bob", "al*")',
    'user in ("bob", "alice")',
    'NOT user = "bob"',
    'not (user = "bob" or user = "carol")',
    'group = "Staff"',
    'group = ("Admins", "dev")',
    'group != "Admins"',
    'userAttr.mail = "*@example.org"',
    'userAttr.MAIL = "alice@example.com"',
    'userAttr."mail" = "alice@*"',
    'userAttr.mail != "*@example.net"',
    'userAttr.phone != "*"',
    "userAttr.level = 3",
    'userAttr.level = "3"',
    "userAttr.level >= 3 AND userAttr.level < 4",
    "NOT userAttr.mail > 0",
    'certDN.OU = "Field"',
    'certDN.ou = ("Sales", "Eng*")',
    "certDN.serialNumber = 42",
    'certAttr.serialNumber = "1f" AND certAttr.issuer = "*Example CA"',
    "sourceIP in 192.0.2.0/24",
    'sourceIP = "192.0.2.9"',
    "sourceIP = (10.0.0.0/8, 192.0.2.9, 2001:db8::/32)",
    "sourceIP != 2001:db8::/32",
    'userAgent = "*linux*" AND hostName = "laptop"',
    'realm = "Users" AND role = "Early"',
    "time.hour = 9 AND time.minute = 30",
    "time.hour in (8, 9)",
    "time.day = Wed AND time.day in Mon-Fri",
    "time.day in Sat-Wed",
    'time.day != ("Sat", "Sun")',
    "time in 08:00-18:00",
    "time in 22:00-10:00",
    "time in 09:30-09:31",
    "time = 09:30",
    "time >= 09:30 AND time < 09:31",
    "time in 00:00-24:00",
    "time.date = 2026-07-01 AND time.date >= 2026-01-01",
    "loginTime.hour = 8 AND loginTime in 08:00-09:00",
    'user = "bob" OR group = "Dev" AND NOT group = "Guests"',
    '(user = "alice" OR group = "Guests") AND group = "Staff"',
]
FAIL = [
    'user = "alic"',
    'user = "a*b"',
    'user = "alice*e"',  # the same letter does not count twice
    'user = "*alic*lice"',
    'user = ""',
    'user = "\\*"',
    'group = ("Admins", "Guests")',
    'group != ("Admins", "Dev")',
    'userAttr.phone = "*"',
    "userAttr.mail < 100",
    'certDN.CN = "bob"',
    "sourceIP in 198.51.100.0/24",
    "sourceIP in ::/0",
    'role = "Late"',
    "time in 09:00-09:30",
    "time in 18:00-08:00",
    "time.day in Sat-Sun",
    "time < 09:30",
    "time.date < 2026-07-01",
    'user = "bob" AND group = "Dev" OR group = "Guests"',
]


@pytest.mark.parametrize(("text", "expected"), [(t, True) for t in HOLD] + [(t, False) for t in FAIL])
def test_what_holds(text, expected):
    expression = parse(text)
    result, reasons = evaluate(expression, ALICE, NOW, roles=("Early",))
    assert result is expected
    assert reasons
    assert parse(render(expression)) == expression


def test_without_certificate_nothing_of_it_fits():
    facts = replace(ALICE, certificate=None)
    assert evaluate(parse('certDN.CN = "*"'), facts, NOW)[0] is False
    result, [reason] = evaluate(parse('certDN.CN != "bob"'), facts, NOW)
    assert result
    assert reason.text == 'certDN.CN != "bob" holds: there is no certificate'


def test_an_address_in_ipv6_form_is_the_ipv4_address_and_no_address_fits_nothing():
    inside = parse("sourceIP in 192.0.2.0/24")
    assert evaluate(inside, replace(ALICE, source="::ffff:192.0.2.9"), NOW)[0]
    assert not evaluate(inside, replace(ALICE, source="fe80::1%eth0 or so"), NOW)[0]


def test_the_clock_is_the_gateways_and_must_be_given():
    morning = parse("time.hour = 9")
    assert evaluate(morning, ALICE, NOW)[0]
    assert not evaluate(morning, ALICE, NOW.astimezone(UTC))[0]  # the same moment elsewhere
    with pytest.raises(ValueError, match="offset"):
        evaluate(morning, ALICE, datetime(2026, 7, 1, 9, 30))


REASONS = [
    (
        'group = "Admins" OR group = "Dev"',
        ['yes group = "Dev" holds: group is Staff, Dev'],
    ),
    (
        'user = "alice" AND group = "Admins" AND time in 08:00-18:00',
        ['no  group = "Admins" does not hold: group is Staff, Dev'],
    ),
    (
        'NOT (group = "Dev" OR user = "bob")',
        ['no  group = "Dev" holds: group is Staff, Dev'],
    ),
    (
        "userAttr.phone = 1 OR time.day in Sat-Sun",
        [
            "no  userAttr.phone = 1 does not hold: userAttr.phone is none",
            "no  time.day in Sat-Sun does not hold: it is Wed 2026-07-01 09:30 +0200",
        ],
    ),
]


@pytest.mark.parametrize(("text", "lines"), REASONS, ids=[text for text, _ in REASONS])
def test_the_reasons_are_what_decided(text, lines):
    assert [reason.line() for reason in evaluate(parse(text), ALICE, NOW)[1]] == lines


def test_precedence_and_brackets_are_kept():
    a, b, c = (Term(Field.USER, "", Comparison.EQUAL, (Pattern.of(name),)) for name in "abc")
    assert parse('user="a" OR user="b" AND user="c"') == AnyOf((a, AllOf((b, c))))
    assert parse('(user="a" OR user="b") AND NOT user="c"') == AllOf((AnyOf((a, b)), Not(c)))
    assert render(AllOf((a, AllOf((b, Not(AnyOf((a, c)))))))) == (
        'user = "a" AND (user = "b" AND NOT (user = "a" OR user = "c"))'
    )
    assert uses_time(parse('user = "a" OR NOT loginTime.hour = 3'))
    assert not uses_time(parse('user = "time"'))


REFUSED = [
    # text, position, part of what is wrong
    ("", 0, "the end stands where a field"),
    ("   ", 3, "the end stands where a field"),
    ("user", 4, "the end stands where ="),
    ("user =", 6, "the end stands where a value"),
    ("user = alice", 7, "alice is written in quotes"),
    ('user = "alice', 7, "no closing quote"),
    ('user == "alice"', 5, "== is written ="),
    ('user = "a" && group = "b"', 11, "& is written AND"),
    ('user = "a" || group = "b"', 11, "| is written OR"),
    ('! user = "a"', 0, "! is written NOT"),
    ('user ~ "a"', 5, "~ is written ="),
    ('user = "a" group = "b"', 11, "AND or OR joins"),
    ('user = "a" AND', 14, "the end stands where a field"),
    ('(user = "a"', 11, "where ) is missing"),
    ('user = "a")', 10, ") cannot stand here"),
    ('user = ("a" "b")', 12, "where ) is missing"),
    ("user = ()", 8, ") stands where a value"),
    ('name = "a"', 0, "name is no field"),
    ('user.name = "a"', 0, "user has no parts"),
    ('userAttr = "a"', 0, "followed by a dot and a name"),
    ('userAttr. = "a"', 0, "followed by a dot and a name"),
    ('userAttr."a*" = "a"', 9, "has no *"),
    ('userAttr. "a" = "a"', 10, "at once"),
    (f'userAttr.{"x" * 65} = "a"', 0, "1 to 64 characters"),
    ('certAttr.altName = "a"', 0, "certAttr.serialNumber or"),
    ("time.second = 3", 0, "time.hour or time.minute"),
    ('user < "b"', 5, "< compares one number"),
    ("userAttr.level < (1, 2)", 15, "< compares one number"),
    ('userAttr.level < "b"', 17, "not a whole number"),
    ("userAttr.level < 1.5", 17, "not a whole number"),
    ("time.day > Mon", 9, "> compares"),
    ("time.hour = 24", 12, "0 to 23"),
    ("time.minute = -1", 14, "0 to 59"),
    ("time = 25:00", 7, "not a time of day"),
    ("time in 08:00-08:00", 8, "not a time of day"),
    ("time in 8-18", 8, "such as 08:00-18:00"),
    ("time < 08:00-18:00", 7, "not a time of day such as 08:00"),
    ("time in 08:00 - 18:00", 14, "AND or OR joins"),
    ("time.day = Funday", 11, "not a day"),
    ("time.date = 2026-02-30", 12, "not a date"),
    ("sourceIP in 192.0.2.1/24", 12, "neither an address nor a network"),
    ('sourceIP = "192.0.2.*"', 11, "neither an address nor a network"),
    ('user = "a\\u"', 9, "a backslash is written"),
    ('user = "a\\', 9, "a backslash is written"),
    ('user = "a\x00b"', 9, "cannot stand in a text"),
    ("user = \u202e", 7, "\\u202e cannot stand here"),
    ('user\u200b = "a"', 4, "cannot stand here"),
    # Other languages' ways out
    ("__import__('os').system('id')", 0, "is no field"),
    ('user.__class__ = "a"', 0, "has no parts"),
    ("user = lambda: 0", 7, "in quotes"),
    ('user = "a"; group = "b"', 10, "AND or OR joins"),
    ('user = "a" -- "b"', 11, "AND or OR joins"),
    ("{{ user }}", 0, "is no field"),
    ("userAttr.level = 9999999999999999999", 17, "in quotes"),
    ("userAttr.level = \u0663", 17, "in quotes"),
]


@pytest.mark.parametrize(("text", "position", "wrong"), REFUSED, ids=[repr(row[0])[:40] for row in REFUSED])
def test_what_is_refused_says_where_and_why(text, position, wrong):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert (caught.value.position, wrong in caught.value.wrong) == (position, True), caught.value
    assert str(caught.value).isprintable()
    assert str(caught.value) == f"at character {position + 1}: {caught.value.wrong}"


def test_depth_length_and_number_of_terms_end():
    def nested(depth):
        return "(" * depth + 'user = "a"' + ")" * depth

    parse(nested(MAX_DEPTH))
    parse("NOT " * MAX_DEPTH + 'user = "a"')
    for text in (nested(MAX_DEPTH + 1), "NOT " * (MAX_DEPTH + 1) + 'user = "a"', "(" * MAX_LENGTH):
        with pytest.raises(ExpressionError, match="deep"):
            parse(text)
    # The depth is that of one place, not of all brackets together.
    parse(" AND ".join([nested(MAX_DEPTH)] * 20))

    listed = "role=(" + ",".join(['""'] * MAX_TERMS) + ")"
    parse(listed)
    with pytest.raises(ExpressionError, match=f"more than {MAX_TERMS}"):
        parse(listed + 'OR role=""')
    with pytest.raises(ExpressionError, match=f"more than {MAX_LENGTH}"):
        parse('user = "' + "a" * MAX_LENGTH + '"')


def test_patterns_never_go_back():
    """A pattern that makes engines with backtracking run for years costs as many steps as it has pieces."""

    class Counted(str):
        looks = 0
        __slots__ = ()

        def find(self, *rest):
            Counted.looks += 1
            return super().find(*rest)

    stars = "*a" * 1000 + "*b"
    pattern = Pattern.of(stars)
    assert not pattern.matches(Counted("a" * 20_000))
    assert Counted.looks <= stars.count("*")
    expression = parse(f'userAgent = "{stars}"')
    assert not evaluate(expression, replace(ALICE, user_agent="a" * 20_000), NOW)[0]


def test_text_compares_as_canonical_user_names_do():
    facts = replace(ALICE, groups=("Straße", "\uff21\uff22", "\u212a"))  # full-width AB, the sign of kelvin
    for group in ("STRASSE", "strasse", "ab", "K"):
        assert evaluate(parse(f'group = "{group}"'), facts, NOW)[0], group
    assert not evaluate(parse('group = "Stra\u00dfe\u0301"'), facts, NOW)[0]
