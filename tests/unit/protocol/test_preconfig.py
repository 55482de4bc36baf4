import contextlib
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.protocol.preconfig import (
    MACHINE,
    SCHEMA,
    Block,
    Document,
    PreconfigError,
    document,
    parse,
    read,
    serialize,
)

GUIDE = Path(__file__).parents[2] / "vectors" / "guide.pulsepreconfig"  # figure 96
TEXT = GUIDE.read_text()

keys = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=20).map(lambda t: f"x{t}")
values = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)
quoting = st.text('"\\ax', max_size=12)
entries = st.dictionaries(keys, values | quoting, max_size=6).map(lambda found: tuple(found.items()))
connections = st.dictionaries(
    st.uuids().map(str),
    st.tuples(st.sampled_from(["ive", "8021x", "sdp", "next kind"]), entries),
    max_size=4,
)


def test_the_guides_file_is_read_and_written_to_the_letter() -> None:
    found = parse(TEXT)
    assert serialize(found) == TEXT
    assert (found.server_id, found.version) == ("0241ML82AOPRD1VR", 14)
    assert [block.kind for block in found.connections] == ["ive", "8021x"]
    vpn = found.connections[0]
    assert (vpn.get("uri"), vpn.flag("use-for-connect", False)) == ("10.64.78.34", True)
    assert found.machine.get("unknown", "none") == "none"


def test_forms_of_the_field_are_read() -> None:
    """Four blanks, no free lines, line ends and mark of Windows, empty values, names that contain capitals."""
    field = TEXT.replace("\n\n", "\n").replace("  ", "    ").replace("}", '    FIPSClient: "false"\n}', 2)
    crlf = b"\xef\xbb\xbf" + field.replace("\n", "\r\n").encode()
    found = read(crlf)
    plain = parse(TEXT).machine
    assert found.machine == replace(plain, entries=(*plain.entries, ("FIPSClient", "false")))
    assert found.connections == parse(TEXT).connections


@given(entries, connections)
def test_reading_undoes_writing(
    machine: tuple[tuple[str, str], ...], found: dict[str, tuple[str, tuple[tuple[str, str], ...]]]
) -> None:
    blocks = [Block(kind, guid, pairs) for guid, (kind, pairs) in found.items()]
    made = document(machine, blocks)
    assert parse(serialize(made)) == made
    assert serialize(parse(serialize(made))) == serialize(made)


@given(st.lists(st.sampled_from([*TEXT.splitlines(), "{", "}", '  a: "b"', '"', "x", ""]), max_size=60))
def test_a_text_is_read_or_refused_with_its_line(lines: list[str]) -> None:
    complaint: PreconfigError | None = None
    try:
        found = parse("\n".join(lines))
    except PreconfigError as error:
        complaint = error
    else:
        assert parse(serialize(found)) == found
    if complaint is not None:
        assert 1 <= complaint.line <= max(len(lines), 1)
        assert complaint.reason


@given(st.binary(max_size=300))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(PreconfigError):
        assert parse(serialize(read(data))) is not None


def test_a_backslash_is_written_as_files_in_the_field_have_it() -> None:
    text = serialize(document([("outer-username", "CORP\\alice"), ("path", "C:\\"), ("said", 'a "b" \\')]))
    assert '  outer-username: "CORP\\alice"\n' in text
    assert '  path: "C:\\\\"\n' in text
    assert parse(text).machine.get("said") == 'a "b" \\'


HEAD = 'schema version {\n  version: "1"\n}\n'
WHOLE = HEAD + "machine settings {\n}\n"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "begins with"),
        ("machine settings {\n}\n", 1, "begins with"),
        (HEAD, 4, "is missing"),
        (HEAD.replace('"1"', '"2"') + "machine settings {\n}\n", 1, "schema version"),
        (WHOLE + WHOLE, 6, "second time"),
        (WHOLE + "ive {\n}\n", 6, "needs a guid"),
        (WHOLE + 'ive "../../etc" {\n}\n', 6, "guid is not one"),
        (WHOLE + 'machine settings "a" {\n}\n', 6, "has no guid"),
        (WHOLE + 'ive "a" {\n  guid: "b"\n}\n', 6, "not the one in its head"),
        (WHOLE + 'ive "a" {\n}\n8021x "a" {\n}\n', 8, "same guid"),
        (WHOLE + 'ive "a"\n{\n}\n', 6, "begins here"),
        (WHOLE + 'ive "a" {\n  uri: "gw"\n', 6, "no } at its end"),
        (WHOLE + 'ive "a" {\n  uri: gw\n}\n', 7, "key:"),
        (WHOLE + 'ive "a" {\n  uri: "a"b"\n}\n', 7, "quote inside"),
        (WHOLE + 'ive "a" {\n  uri: "gw"\n  uri: "gw2"\n}\n', 8, "second time"),
        (WHOLE + 'ive "a" {\n  use-for-connect: "yes"\n}\n', 7, '"true" or "false"'),
        (WHOLE + 'ive "a" {\n  version: "-1"\n}\n', 7, "whole number"),
        (WHOLE + 'ive "a" {\n  uri: "g\x00w"\n}\n', 7, "cannot be printed"),
        (WHOLE + 'ive "a" {\n' + "".join(f'  k{n}: "v"\n' for n in range(300)) + "}\n", 263, "more than"),
        (WHOLE + "".join(f'ive "{n}" {{\n}}\n' for n in range(600)), 1006, "more than"),
        (WHOLE + " " * (1 << 20), 1, "more than"),
    ],
)
def test_malformed_files_are_refused_with_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(PreconfigError) as caught:
        parse(text)
    assert (caught.value.line, reason in caught.value.reason) == (line, True), caught.value


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(PreconfigError) as caught:
        read(WHOLE.encode() + b"\xff\n")
    assert caught.value.line == 6


def test_what_could_not_be_read_again_is_not_written() -> None:
    schema = Block(SCHEMA, entries=(("version", "1"),))
    for wrong in (
        Document(schema, Block(MACHINE, entries=(("a b", "c"),))),
        Document(schema, Block(MACHINE, entries=(("a", "c\nd"),))),
        Document(schema, Block(MACHINE, entries=(("a", "1"), ("a", "2")))),
        Document(schema, Block(MACHINE), (Block("ive"),)),
        Document(schema, Block(MACHINE), (Block("ive", "a"), Block("ive", "a"))),
        Document(Block(SCHEMA), Block(MACHINE)),
    ):
        with pytest.raises(PreconfigError):
            serialize(wrong)
