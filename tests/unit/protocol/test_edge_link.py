import dataclasses
import json
import typing
from pathlib import Path

import msgpack
import pytest

from lockgate.protocol import edge_link as link
from lockgate.protocol import edge_link_codec
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.secret import Secret
from tests.vectors import write_edge_link

VECTORS = json.loads(Path(write_edge_link.FILE).read_text())
DECODE = {"to_edge": edge_link_codec.decode_to_edge, "from_edge": edge_link_codec.decode_from_edge}
RULE = link.Rule(True, 6, bytes(4), 0, 443, 443, False)
TRAFFIC = link.Traffic(0, 0, 0, 0, 0)


def test_the_vector_file_is_the_one_its_script_writes() -> None:
    assert write_edge_link.vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors_survive_decoding_and_encoding(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["hex"])
    message = DECODE[vector["name"].split("/")[0]](data)
    assert edge_link_codec.encode(message) == data


def test_there_is_a_vector_for_every_message() -> None:
    named = {"/".join(vector["name"].split("/")[:2]) for vector in VECTORS}
    assert named == {f"to_edge/{name}" for name in edge_link_codec._TO_EDGE} | {
        f"from_edge/{name}" for name in edge_link_codec._FROM_EDGE
    }


def test_messages_are_tables_of_their_direction() -> None:
    assert set(edge_link_codec._TO_EDGE.values()) == set(typing.get_args(link.ToEdge))
    assert set(edge_link_codec._FROM_EDGE.values()) == set(typing.get_args(link.FromEdge))


def test_records_are_cut_wherever_the_stream_is() -> None:
    messages: list[link.ToEdge] = [link.Keepalive(), link.CloseConn(7), link.Attach(7, 1)]
    reader = edge_link_codec.RecordReader()
    found = []
    for byte in b"".join(map(edge_link_codec.encode_record, messages)):
        reader.feed(bytes([byte]))
        while (record := reader.next_record()) is not None:
            found.append(edge_link_codec.decode_to_edge(record))
    assert found == messages


@pytest.mark.parametrize("length", [0, link.MAX_RECORD + 1, 0xFFFFFFFF])
def test_a_wrong_record_length_is_refused_before_the_record_comes(length: int) -> None:
    reader = edge_link_codec.RecordReader()
    reader.feed(length.to_bytes(4, "big"))
    with pytest.raises(PeerError):
        reader.next_record()


def attach(**fields: object) -> bytes:
    return packed({"attach": fields})


def packed(value: object) -> bytes:
    return msgpack.packb(value)


@pytest.mark.parametrize(
    ("what", "data"),
    {
        "nothing": b"",
        "garbage": b"\xc1",
        "two values": attach(conn=1, session=2) + b"\xc0",
        "cut short": attach(conn=1, session=2)[:-1],
        "not a map": packed(["attach"]),
        "two messages": packed({"keepalive": {}, "attach": {"conn": 1, "session": 2}}),
        "no message": packed({}),
        "unknown message": packed({"self_destruct": {}}),
        "message of the other direction": packed({"conn_closed": {"conn": 1, "session": 0, "cause": ""}}),
        "name is bytes": packed({b"keepalive": {}}),
        "name is a number": packed({1: {}}),
        "unknown field": attach(conn=1, session=2, mode=3),
        "missing field": attach(conn=1),
        "fields as an array": packed({"attach": [1, 2]}),
        "field twice": b"\x81\xa6attach\x83\xa4conn\x01\xa7session\x02\xa4conn\x01",
        "negative": attach(conn=-1, session=2),
        "too wide": packed({"hello": {"version": 2**32}}),
        "boolean for a number": attach(conn=True, session=2),
        "float for a number": attach(conn=1.0, session=2),
        "text for bytes": packed({"frame": {"conn": 1, "vendor": 2, "kind": 3, "body": "text"}}),
        "nil for bytes": packed({"frame": {"conn": 1, "vendor": 2, "kind": 3, "body": None}}),
        "long body": packed({"frame": {"conn": 1, "vendor": 2, "kind": 3, "body": bytes(65537)}}),
        "extension type": packed({"attach": {"conn": msgpack.ExtType(1, b"x"), "session": 2}}),
        "deep": packed({"attach": {"conn": json.loads("[" * 400 + "]" * 400), "session": 2}}),
        "giant array": b"\x81\xa6attach\x82\xa4conn\xdd\xff\xff\xff\xff",
        "bad text": b"\x81\xaddclose_session\x82",
        "unknown suite": edge_link_codec.encode(
            link.InstallEspIn(1, 2, link.Sa(256, link.Suite.AES256_GCM, False, Secret(b"")))
        ).replace(b"aes256-gcm", b"rot13--gcm"),
    }.items(),
)
def test_what_is_not_exact_is_refused(what: str, data: bytes) -> None:
    with pytest.raises(PeerError):
        edge_link_codec.decode_to_edge(data)


def opened(**changes: object) -> link.OpenSession:
    least = link.OpenSession(1, 0, b"", b"", 1280, 0, 0, 0, 0, (), None, False)
    return dataclasses.replace(least, **changes)


@pytest.mark.parametrize(
    "message",
    [
        link.Attach(-1, 0),
        link.Attach(2**64, 0),
        link.ControlHello(True),
        opened(address4=bytes(3)),
        opened(address4=bytes(16)),
        opened(address6=bytes(4)),
        opened(mtu=65536),
        opened(rules=[RULE]),
        opened(rules=(RULE,) * (link.MAX_RULES + 1)),
        opened(rules=("allow",)),
        opened(esp_in=b"keys"),
        link.LinkFrame(1, 2, 3, bytes(65537)),
        link.LinkFrame(1, 2, 3, bytearray(1)),
        link.CloseSession(1, link.Fatal(1, "x" * 1025)),
        link.CloseSession(1, link.Fatal(1, "\ud800")),
        link.InstallEspIn(1, 2, link.Sa(1, link.Suite.AES128_GCM, False, b"bare")),
        link.InstallEspIn(1, 2, link.Sa(1, "aes128-gcm", False, Secret(b""))),
        link.SessionEnded(1, 2, link.EndCause.IDLE, None),
        link.Stats((), (("dropped",),)),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_not_sent(message) -> None:
    with pytest.raises(UsageError):
        edge_link_codec.encode(message)


@pytest.mark.parametrize(
    ("address", "prefix", "low", "high"), [(bytes(4), 33, 0, 1), (bytes(16), 129, 0, 1), (bytes(4), 0, 2, 1)]
)
def test_rules_that_mean_nothing_are_refused_both_ways(
    address: bytes, prefix: int, low: int, high: int
) -> None:
    with pytest.raises(UsageError):
        link.Rule(True, None, address, prefix, low, high, False)
    good = edge_link_codec.encode(link.SetRules(1, 1, (link.Rule(True, None, address, 0, 0, 1, False),)))
    value = msgpack.unpackb(good)
    value["set_rules"]["rules"][0] |= {"prefix": prefix, "port_low": low, "port_high": high}
    with pytest.raises(PeerError):
        edge_link_codec.decode_to_edge(packed(value))


def test_all_rules_of_a_session_fit_one_record() -> None:
    rule = link.Rule(True, 255, bytes(16), 128, 65535, 65535, True)
    assert (
        len(edge_link_codec.encode(link.SetRules(2**64 - 1, 2**64 - 1, (rule,) * link.MAX_RULES)))
        <= link.MAX_RECORD
    )


def test_no_secret_shows() -> None:
    secret = Secret(b"canary")
    sa = link.Sa(1, link.Suite.AES128_GCM, False, secret)
    for message in (opened(esp_in=sa), link.InstallEspOut(1, 1, sa), link.LinkFrame(1, 2, 3, b"canary")):
        assert "canary" not in repr(message)


def test_the_limits_are_those_of_the_edge() -> None:
    source = (Path(__file__).parents[3] / "dataplane/core/src/link.rs").read_text()
    for line in (
        f"pub const VERSION: u32 = {link.VERSION};",
        f"pub const MAX_RECORD: usize = {link.MAX_RECORD >> 20} << 20;",
        f"pub const ORPHAN_SECONDS: u64 = {link.ORPHAN_SECONDS};",
        f"pub const MAX_RULES: usize = {link.MAX_RULES};",
        f"pub const MAX_BODY: usize = {link.MAX_BODY >> 10} << 10;",
        f"pub const MAX_FLOWS: usize = {link.MAX_FLOWS};",
    ):
        assert line in source


def test_rules_that_many_sessions_share_are_written_alike_for_each():
    rules = tuple(link.Rule(True, 6, bytes([10, 77, low, 0]), 24, low, 65535, False) for low in range(3))
    for turn in range(2 * edge_link_codec.MAX_KEPT_RULES):
        mine = tuple(rules[:2]) if turn % 2 else rules
        for session in (1, 2):
            message = link.SetRules(session=session, revision=turn, rules=mine)
            assert edge_link_codec.decode_to_edge(edge_link_codec.encode(message)) == message
    assert len(edge_link_codec._RULES) <= edge_link_codec.MAX_KEPT_RULES
