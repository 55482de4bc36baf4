"""Prompts of a sign-in as somebody at a terminal sees them, and what becomes of the words typed."""

from __future__ import annotations

import json
from collections import deque

import pytest

from lockgate.cli.details import state_line
from lockgate.cli.output import duration, print_json, print_json_line
from lockgate.cli.person import OnStandardInput
from lockgate.cli.plain import plain, plain_lines, size
from lockgate.cli.questions import answer
from lockgate.model.problem import ProblemError
from lockgate.protocol.secret import Secret


class Typist:
    """A person with everything typed in advance."""

    present = True

    def __init__(self, *typed):
        self.typed, self.heard = deque(typed), []

    def tell(self, *lines):
        self.heard += lines

    def ask(self, text):
        self.heard.append(text)
        return self.typed.popleft()

    def secret(self, text, *, again=""):
        return Secret.of_text(self.ask(text))


def asked(kind, fields, *typed):
    """The answer, and all that was shown, for which nothing is left untyped."""
    typist = Typist(*typed)
    result = answer({"kind": kind, **fields}, typist)
    assert not typist.typed
    return result, "\n".join(typist.heard)


CREDENTIALS = {"username": True, "user": "", "user_label": "", "password_label": "", "retry": False}
SESSIONS = [
    {"id": "81", "address": "192.0.2.7", "started": 1_700_000_000},
    {"id": "82", "address": "x\n\x1b", "started": "soon"},
]
ANSWERS = [
    # Realms: by name first, in any case of letters, else by number.
    ("realm", {"choices": ["A", "B"]}, ["b"], {"realm": "B"}),
    ("realm", {"choices": ["A", "B"]}, [" 1 "], {"realm": "A"}),
    ("realm", {"choices": ["2", "1"]}, ["1"], {"realm": "1"}),
    ("realm", {"choices": ["a", "A"]}, ["A"], {"realm": "A"}),
    ("realm", {"choices": ["A", "B"]}, ["", "0", "3", "C", "²", "2"], {"realm": "B"}),
    ("realm", {"choices": ["Only"]}, [], {"realm": "Only"}),
    ("realm", {"choices": []}, ["Staff"], {"realm": "Staff"}),
    ("credentials", CREDENTIALS, ["alice ", "pw "], {"username": "alice", "password": "pw "}),
    ("credentials", CREDENTIALS | {"user": "bob"}, ["pw"], {"username": "bob", "password": "pw"}),
    ("credentials", CREDENTIALS | {"user": "bob", "retry": True}, ["", "pw"], {"username": "bob", "password": "pw"}),
    ("credentials", CREDENTIALS | {"user": "bob", "retry": True}, ["al", "pw"], {"username": "al", "password": "pw"}),
    ("credentials", CREDENTIALS | {"username": False}, ["pw"], {"password": "pw"}),
    ("token", {"text": "Code?"}, ["123"], {"code": "123"}),
    ("session", {"sessions": SESSIONS}, ["3", "2"], {"session": "82"}),
    ("notice", {"text": "Rules"}, ["y", "YES"], {"accept": True}),
    ("notice", {"text": "Rules"}, ["no"], {"accept": False}),
    ("certificate", {"reason": "untrusted", "names": None}, ["", "yes"], {"accept": True}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "typed", "expected"), ANSWERS)
def test_what_is_typed_becomes_the_answer(kind, fields, typed, expected):
    result, _ = asked(kind, fields, *typed)
    shown = {
        name: value.reveal_text() if isinstance(value, Secret) else value for name, value in result.items()
    }
    assert shown == expected


def test_a_certificate_is_shown_with_what_is_needed_to_judge_it():
    pin = "sha256:" + "ab" * 32
    _, shown = asked(
        "certificate",
        {
            "reason": "expired",
            "subject": "gw\x1b[0m",
            "issuer": "Nobody",
            "not_before": "2020-01-01T00:00:00+00:00",
            "not_after": 0,
            "pin": pin,
            "names": ["gw.example.org", "192.0.2.1"],
        },
        "no",
    )
    for words in ("has expired", "gw[0m", "Nobody", "2020-01-01", "1970", pin, "gw.example.org 192.0.2.1"):
        assert words in shown
    assert "\x1b" not in shown


def test_sessions_are_shown_with_time_and_place():
    _, shown = asked("session", {"sessions": SESSIONS}, "1")
    assert "2023-11-1" in shown
    assert "from 192.0.2.7" in shown
    assert "since ?  from x\n" in shown


def test_the_code_of_a_wrong_answer_outlives_the_question():
    label = {"retry": True, "user": "alice", "password_label": "Password (Support code: K7QD-2XMR):"}
    nobody = OnStandardInput(lambda text, *, hidden: None)
    prompt = {"kind": "credentials", **CREDENTIALS, **label}
    with pytest.raises(ProblemError) as caught:
        answer(prompt, nobody)
    assert caught.value.problem.as_dict()["support_code"] == "K7QD-2XMR"
    with pytest.raises(ProblemError) as caught:
        answer(prompt | {"retry": False}, nobody)
    assert "support_code" not in caught.value.problem.as_dict()


def test_labels_of_the_server_are_plain_and_short():
    labels = {"user_label": "Badge\n\x1b[2J:", "password_label": "x" * 500}
    _, shown = asked("credentials", CREDENTIALS | labels, "a", "b")
    assert shown == f"Badge[2J: \n{'x' * 99}…: "
    _, shown = asked("credentials", CREDENTIALS | {"secondary": True}, "a", "b")
    assert shown == "Secondary user name: \nSecondary password: "


# -- texts ------------------------------------------------------------------------------------------------


def test_plain():
    assert plain("a\tb\r\n\x1b[31m\x9b\N{RIGHT-TO-LEFT OVERRIDE}\ud800é", 20) == "ab[31mé"
    assert plain("x" * 10, 5) == "xxxx…"
    assert plain(None) == "None"
    assert plain_lines("a\r\nb\n\n\tc\n") == ["a", "b", "", "    c"]
    assert plain_lines("\n".join("abcdef"), 3) == ["a", "b", "c", "…"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (1 << 50, "1024.0 TiB")],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00:00"),
        (-5, "00:00:00"),
        (86399, "23:59:59"),
        (86400, "1 day 00:00:00"),
        (266645.9, "3 days 02:04:05"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("text", ["ü\\", "\x1b\x7f\x9b\u2028\u202e\ud800\n", "\U000e0001"])
def test_json_stays_json_and_steers_no_terminal(capsys, text):
    for show in (print_json, print_json_line):
        show({"text": text})
        shown = capsys.readouterr().out
        assert json.loads(shown) == {"text": text}
        assert shown.replace("\n", "").isprintable()
    assert shown.count("\n") == 1


def test_a_state_in_words():
    assert state_line({"state": "connected", "transport": "tls"}) == "connected over TLS"
    assert (
        state_line({"state": "connecting", "attempt": 1, "note": "trying 192.0.2.1"})
        == "connecting: trying 192.0.2.1"
    )
    assert state_line({"state": "failed", "problem": {"summary": "It broke."}}) == "failed: It broke."
