"""The event log: numbers, levels, words, and what keeps it from harming anybody."""

from __future__ import annotations

import json
import os
import resource
import socket
import string
from pathlib import Path

import pytest

from lockgate.client import event_log
from lockgate.client.event_log import KINDS, EventLog, Level
from lockgate.client.log_file import LogFile
from lockgate.protocol.errors import UsageError

ERRORS = {200, 303, 304, 307, 308, 400, 502, 600, 602, 603, 604, 605}
NOWHERE = Path("/nonexistent/socket")


@pytest.fixture
def make_log(tmp_path):
    made = []

    def make(journal=NOWHERE, syslog=NOWHERE):
        made.append(EventLog(tmp_path, journal=journal, syslog=syslog, clock=lambda: 1_700_000_000.25))
        return made[-1]

    yield make
    for log in made:
        log.close()


@pytest.fixture
def listener(tmp_path):
    """A datagram socket such as the journal's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "socket"))
        opened.settimeout(10)
        yield opened


def lines(tmp_path, name="events.log"):
    return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]


def test_the_list_is_complete():
    assert set(KINDS) == {
        *(1, 2, 200, 400, *range(100, 111), *range(300, 309), *range(500, 503), *range(600, 606))
    }
    assert {number for number, kind in KINDS.items() if kind.level is Level.ERROR} == ERRORS


@pytest.mark.parametrize("number", KINDS)
def test_every_text_names_its_facts(number):
    kind = KINDS[number]
    assert sorted(name for _, name, _, _ in string.Formatter().parse(kind.text) if name) == sorted(kind.facts)
    assert kind.text.endswith(".")
    assert len(set(kind.facts)) == len(kind.facts)


def test_a_line_of_the_file(make_log, tmp_path):
    log = make_log()
    log.write(303, connection="work", error="closed", peer="")
    log.write(2)
    first, second = lines(tmp_path)
    assert first == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "id": 303,
        "level": "error",
        "connection": "work",
        "text": "Connection work met an error: closed. Peer: unknown.",
        "facts": {"error": "closed", "peer": ""},
    }
    assert (second["connection"], second["facts"]) == (None, {})
    assert (tmp_path / "events.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        (3, {}),
        (2, {"connection": "x"}),
        (303, {"connection": "x"}),
        (303, {"connection": "x", "error": "e", "pear": "p"}),
    ],
)
def test_events_and_facts_that_do_not_go_together(make_log, tmp_path, event, facts):
    with pytest.raises(UsageError):
        make_log().write(event, **facts)
    assert not (tmp_path / "events.log").exists()


def test_facts_cannot_forge_lines_or_fields(make_log, tmp_path, listener):
    make_log(journal=tmp_path / "socket").write(
        300, connection="a\nPRIORITY=0", proxy="\r\x1b[31m\u2028{connection}" + "x" * 5000
    )
    fields = listener.recv(1 << 16).decode().split("\n")
    assert [field.partition("=")[0] for field in fields] == [
        *("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "LOCKGATE_EVENT", "LOCKGATE_CONNECTION", "")
    ]
    assert fields[1] == "PRIORITY=6"
    assert fields[3] == "LOCKGATE_EVENT=300"
    assert fields[4] == r"LOCKGATE_CONNECTION=a\nPRIORITY=0".replace(r"\n", r"\x0a")
    assert "{connection}" in fields[0]
    [entry] = lines(tmp_path)
    assert entry["facts"]["proxy"].startswith(r"\x0d\x1b[31m\u2028{connection}xxx")
    assert len(entry["facts"]["proxy"]) == event_log.FACT_LIMIT


def test_syslog_where_there_is_no_journal(make_log, tmp_path, listener):
    make_log(syslog=tmp_path / "socket").write(308, connection="work", reason="7", peer="192.0.2.1:443")
    datagram = listener.recv(1 << 16).decode()
    assert datagram.startswith("<27>Nov 1")  # daemon.err
    assert datagram.endswith(
        f"lockgate-client[{os.getpid()}]: event 308: The gateway ended connection work: 7. Peer: 192.0.2.1:443."
    )


def test_a_journal_that_is_started_anew_or_stays_away(make_log, tmp_path, listener):
    log = make_log(journal=tmp_path / "socket")
    log.write(1, version="1")
    listener.recv(1 << 16)
    listener.close()
    (tmp_path / "socket").unlink()
    log.write(2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as next_one:
        next_one.bind(str(tmp_path / "socket"))
        next_one.settimeout(10)
        log.write(1, version="2")
        assert b"version 2" in next_one.recv(1 << 16)
    assert len(lines(tmp_path)) == 3


def test_a_journal_that_does_not_read_holds_nobody_up(make_log, tmp_path, listener):
    log = make_log(journal=tmp_path / "socket")
    for _ in range(2000):
        log.write(2)
    assert len(lines(tmp_path)) == 2000


# -- the file -------------------------------------------------------------------------------------------


def test_at_its_limit_it_becomes_the_old_one(tmp_path):
    file = LogFile(tmp_path / "log", 30)
    for word in ("first", "second", "third", "fourth", "fifth", "x" * 50, "last"):
        file.write(word)
    file.close()
    assert (tmp_path / "log").read_text() == "last\n"
    assert (tmp_path / "log.old").read_text() == "x" * 50 + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.old"]
    assert file.lost == 0


@pytest.mark.parametrize("how", ["unlink", "rename", "replace"])
def test_somebody_tidies_up(tmp_path, how):
    path = tmp_path / "log"
    file = LogFile(path, 1000)
    file.write("before")
    if how == "unlink":
        path.unlink()
    elif how == "rename":
        path.rename(tmp_path / "elsewhere")
    else:
        path.chmod(0o644)
        (tmp_path / "new").write_text("theirs\n")
        (tmp_path / "new").replace(path)
    file.write("after")
    file.close()
    assert path.read_text() == ("theirs\nafter\n" if how == "replace" else "after\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_symbolic_link_is_followed(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "target")
    file = LogFile(tmp_path / "log", 1000)
    file.write("x")
    assert file.lost == 1
    assert not (tmp_path / "target").exists()


def test_a_full_disk_loses_whole_lines_and_nothing_else(tmp_path):
    """A limit on the size of files ends writes as a full disk does: first a part, then an error."""
    file = LogFile(tmp_path / "log", 1000)
    file.write("first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        file.write("second")  # four bytes of it fit
        file.write("third")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.write("fourth")
    file.close()
    assert (tmp_path / "log").read_text() == "first\nfourth\n"
    assert file.lost == 2


def test_without_the_directory(tmp_path):
    file = LogFile(tmp_path / "none" / "log", 1000)
    file.write("x")
    (tmp_path / "none").mkdir()
    file.write("y")
    file.close()
    assert (tmp_path / "none" / "log").read_text() == "y\n"
