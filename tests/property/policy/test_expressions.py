"""Expressions: text and value say the same, evaluation never fails, patterns agree with a slow, obvious reading."""

import re
from dataclasses import replace
from datetime import date
from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from lockgate.model.expression import AllOf, AnyOf, Clock, Comparison, Days, Field, Not, Term
from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.model.pattern import Pattern, Patterns, fold
from lockgate.policy.expressions import MAX_LENGTH, evaluate, parse, render
from tests.fuzz.fuzz_expressions import one_input
from tests.unit.policy.people import ALICE, NOW

printable = st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"])
texts = st.lists(st.text(printable | st.sampled_from(' "\\*'), max_size=4), min_size=1, max_size=3).map(
    lambda pieces: Pattern(tuple(pieces))
)
parts = st.text(printable | st.sampled_from(' ".\\*'), min_size=1, max_size=6)
EQUALITY = [Comparison.EQUAL, Comparison.UNEQUAL, Comparison.IN]
ORDER = [Comparison.LESS, Comparison.AT_MOST, Comparison.GREATER, Comparison.AT_LEAST]
numbers = st.integers(-(10**15) + 1, 10**15 - 1)


def terms(fields, names, values, ordered=None):
    """All comparisons of some fields; `ordered`: values that < takes."""
    equal = st.builds(
        Term, fields, names, st.sampled_from(EQUALITY), st.lists(values, min_size=1, max_size=3).map(tuple)
    )
    if ordered is None:
        return equal
    return equal | st.builds(Term, fields, names, st.sampled_from(ORDER), st.tuples(ordered))


times = st.sampled_from([Field.TIME, Field.LOGIN_TIME])
none = st.just("")
minutes = st.integers(0, 1439)
ranges = (
    st.tuples(minutes, minutes)
    .filter(lambda pair: (pair[1] + 1) % 1440 != pair[0])
    .map(lambda pair: Clock(*pair))
)
leaves = st.one_of(
    terms(
        st.sampled_from(
            [Field.USER, Field.GROUP, Field.USER_AGENT, Field.HOST_NAME, Field.REALM, Field.ROLE]
        ),
        none,
        texts,
    ),
    terms(st.sampled_from([Field.USER_ATTR, Field.CERT_DN]), parts, texts | numbers, numbers),
    terms(
        st.just(Field.CERT_ATTR),
        st.sampled_from(["serialNumber", "issuer", "fingerprint"]),
        texts | numbers,
        numbers,
    ),
    terms(
        st.just(Field.SOURCE_IP),
        none,
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
            lambda pair: ip_network(pair, strict=False)
        )
        | st.tuples(st.integers(2**32, 2**128 - 1), st.integers(0, 128)).map(
            lambda pair: ip_network((pair[0].to_bytes(16), pair[1]), strict=False)
        ),
    ),
    terms(times, none, ranges, minutes.map(lambda minute: Clock(minute, minute))),
    terms(times, st.just("hour"), st.integers(0, 23), st.integers(0, 23)),
    terms(times, st.just("minute"), st.integers(0, 59), st.integers(0, 59)),
    terms(times, st.just("day"), st.builds(Days, st.integers(0, 6), st.integers(0, 6))),
    terms(times, st.just("date"), st.dates(date(1, 1, 1)), st.dates()),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: AllOf(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=8,
)
some_texts = st.lists(st.text(max_size=6), max_size=3).map(tuple)
facts = st.builds(
    SignInFacts,
    user=st.text(max_size=8),
    server=st.just("s"),
    realm=st.text(max_size=8),
    source=st.text(max_size=8) | st.ip_addresses().map(str),
    user_agent=st.text(max_size=20),
    host_name=st.text(max_size=8),
    time=st.floats(),
    groups=some_texts,
    attributes=st.dictionaries(st.text(max_size=4), some_texts, max_size=3),
    certificate=st.none()
    | st.builds(
        CertificateFacts,
        subject=st.dictionaries(st.sampled_from(["CN", "OU", "x"]), some_texts),
        issuer=st.text(max_size=8),
        serial=st.text(max_size=8),
        fingerprint=st.text(max_size=8),
    ),
)


@given(expressions)
@settings(max_examples=300)
def test_parse_undoes_render(expression):
    text = render(expression)
    if len(text) <= MAX_LENGTH:
        assert parse(text) == expression


@given(expressions, facts)
@settings(max_examples=300)
def test_evaluation_is_total_and_says_why(expression, known):
    result, reasons = evaluate(expression, known, NOW)
    assert reasons
    assert all(reason.text.isprintable() for reason in reasons)
    assert evaluate(Not(expression), known, NOW)[0] is not result
    # All that decided spoke the same way: for it, or against it.
    assert {reason.ok for reason in reasons} == {result}


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "user",
                "group",
                "=",
                "in",
                "(",
                ")",
                "AND",
                "OR",
                "NOT",
                "*",
                "'",
                '"',
                "\\",
                ",",
                "a",
                "1",
                ":",
                ".",
                "-",
            ]
        )
    ).map(" ".join)
)
@settings(max_examples=500)
def test_any_text_is_an_expression_or_refused(text):
    one_input(text.encode(errors="surrogatepass"))


small = st.text("ab*", max_size=8)


@given(small, st.text("ab", max_size=10))
@settings(max_examples=500)
def test_a_pattern_fits_what_it_fits_read_slowly(pattern, text):
    slow = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
    assert Pattern.of(pattern).matches(text) is slow
    assert Patterns.of([pattern]).match(text) is slow
    assert Patterns.of(["x", pattern, "*y*"]).match(text) is slow


@given(st.text(max_size=20))
def test_folding_settles(text):
    assert fold(fold(text)) == fold(text)
    assert Pattern((text,)).matches(fold(text))
    named = replace(ALICE, groups=(text,))
    assert evaluate(Term(Field.GROUP, "", Comparison.EQUAL, (Pattern((text,)),)), named, NOW)[0]
