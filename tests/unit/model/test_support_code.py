"""Support codes: what is said is what is found, whatever is heard on the telephone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.decision import Reason, said
from lockgate.model.prompt import Refused
from lockgate.model.support_code import (
    ALPHABET,
    BITS,
    format_support_code,
    parse_support_code,
    said_in,
    sentence,
)

numbers = st.integers(0, 2**BITS - 1)


@given(numbers, st.sampled_from(["-", "", " ", " - ", "\u2013", "."]), st.booleans(), st.data())
def test_a_code_is_read_however_it_is_written(number, between, lower, data):
    code = format_support_code(number)
    assert len(code) == 9
    assert set(code) <= {*ALPHABET, "-"}
    typed = code.replace("-", between)
    for meant, heard in (("0", "O"), ("1", "I"), ("1", "L")):
        if data.draw(st.booleans()):
            typed = typed.replace(meant, heard)
    assert parse_support_code(f" {typed.lower() if lower else typed}\n") == code
    assert said_in(f"No. {sentence(code)} Go away.") == code


@given(numbers, numbers)
def test_two_numbers_are_two_codes(one, other):
    assert (format_support_code(one) == format_support_code(other)) == (one == other)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "K7QD",
        "K7QD-2XM",
        "K7QD-2XMRR",
        "K7QD-2XMU",
        "K7QD_2XMR",
        "\u212a7QD-2XMR",
        "K7QD-2XM\u0660",
        "A" * 999,
    ],
)
def test_what_is_no_code(typed):
    assert parse_support_code(typed) is None


@pytest.mark.parametrize(
    "text", ["", "Support code: ", "Support code: K7QD-2XMRX", "Support code: k7qd-2xmr"]
)
def test_a_message_without_a_code(text):
    assert said_in(text) == ""


def test_a_refusal_fits_into_what_the_protocol_carries_and_keeps_its_code():
    reasons = tuple(f"reason number {number} of all of them ü" for number in range(20))
    refused = Refused("no-role", "Your account gives no access here.", "K7QD-2XMR", reasons)
    told = refused.told(253)
    assert len(told.encode()) <= 253
    assert told.startswith("Your account gives no access here. Reason number 0 of all")
    assert said_in(told) == "K7QD-2XMR"
    assert Refused("x", "No.").told(253) == "No."
    assert refused.lines()[-1] == "Support code: K7QD-2XMR"


def test_people_hear_of_reasons_only_what_is_said_to_them():
    reasons = (
        Reason("rule 'x' does not match", "realms/Users/rules/x", False),
        Reason("roles: Staff", "realms/Users", True, "your roles: Staff"),
        Reason("no rule allows it", "access_control", False, "nothing allows it"),
        Reason("no rule allows it", "access_control", False, "nothing allows it"),
    )
    assert said(reasons) == ("your roles: Staff", "nothing allows it")
    assert said(reasons, False) == ("nothing allows it",)
