"""debuglog.log: structlog in front, a bounded file behind, and no secret in between."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
import structlog

from lockgate.client import debug_log
from lockgate.client.debug_log import annotate, configure
from lockgate.protocol.if_t import Frame
from lockgate.protocol.secret import Secret

CANARY = "canary-wonderland"
log = structlog.get_logger("test")  # made before the log is configured, as in modules


@pytest.fixture(autouse=True)
def _restored():
    """Tests elsewhere have their own logging."""
    yield
    structlog.reset_defaults()
    debug_log._current.close()


def lines(tmp_path, name="debuglog.log"):
    return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]


def test_a_line(tmp_path):
    configure(tmp_path)
    log.warning(
        "what-happened", peer="a\n\x1b\N{RIGHT-TO-LEFT OVERRIDE}", address=IPv4Address("10.0.0.1"), n=3
    )
    [line] = lines(tmp_path)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "what-happened",
        "level": "warning",
        "peer": "a\n\x1b\N{RIGHT-TO-LEFT OVERRIDE}",
        "address": "10.0.0.1",
        "n": 3,
    }
    assert (tmp_path / "debuglog.log").read_text().rstrip("\n").isprintable()
    assert (tmp_path / "debuglog.log").stat().st_mode & 0o777 == 0o600


def test_the_levels_and_changing_between_them(tmp_path):
    for level in (3, 5, 3):
        configure(tmp_path, level)
        log.debug("detail", at=level)
        log.info("normal", at=level)
    seen = [(line["event"], line["at"]) for line in lines(tmp_path)]
    assert seen == [("normal", 3), ("detail", 5), ("normal", 5), ("normal", 3)]
    with pytest.raises(KeyError):
        configure(tmp_path, 4)


@dataclass
class Holder:
    name: str
    inside: object
    unseen: str = field(default=CANARY, repr=False)


def test_no_secret_gets_in(tmp_path):
    configure(tmp_path, 5)
    secret = Secret.of_text(CANARY)
    log.debug(
        "everything",
        plain=secret,
        nested={"a": [secret, (secret, {"b": secret})]},
        held=Holder("x", Holder("y", secret)),
        raw=CANARY.encode(),
        array=bytearray(CANARY.encode()),
        view=memoryview(CANARY.encode()),
        frame=Frame(0xA4C, 1, CANARY.encode()),
        Password=CANARY,
        fields={"cookie": CANARY},
    )
    with pytest.raises(TypeError):
        log.debug(f"{secret}")
    try:
        raise ValueError("without it")
    except ValueError:
        log.exception("failed", cookie=CANARY)
    text = (tmp_path / "debuglog.log").read_text()
    assert "canary" not in text
    first, second = lines(tmp_path)
    assert first["plain"] == first["Password"] == first["fields"]["cookie"] == "<secret>"
    assert first["nested"] == {"a": ["<secret>", ["<secret>", {"b": "<secret>"}]]}
    assert first["held"] == {
        "type": "Holder",
        "name": "x",
        "inside": {"type": "Holder", "name": "y", "inside": "<secret>"},
    }
    assert first["raw"] == "<17 bytes>"
    assert "ValueError: without it" in second["exception"]


def test_what_contains_itself_ends_somewhere(tmp_path):
    configure(tmp_path)
    endless = {}
    endless["more"] = endless
    log.info("endless", endless=endless)
    assert len(lines(tmp_path)) == 1


def test_a_remark_is_found_again_at_every_level(tmp_path):
    configure(tmp_path, 3)
    annotate("here\nit happens" + "x" * 5000, 1000)
    [line] = lines(tmp_path)
    assert line["uid"] == 1000
    assert line["event"] == "annotation"
    assert line["text"].startswith(r"here\x0ait happens")
    assert len(line["text"]) == debug_log.NOTE_LIMIT


def test_at_ten_megabytes_it_becomes_the_old_one(tmp_path):
    assert debug_log.FILE_LIMIT == 10_000_000
    configure(tmp_path)
    for at in range(21):
        log.info("large", at=at, text="x" * 1_000_000)
    assert [line["at"] for line in lines(tmp_path)] == [18, 19, 20]
    assert [line["at"] for line in lines(tmp_path, "debuglog.log.old")] == list(range(9, 18))
    assert len(list(tmp_path.iterdir())) == 2


def test_deleted_while_running_it_is_made_anew(tmp_path):
    configure(tmp_path)
    log.info("before")
    (tmp_path / "debuglog.log").unlink()
    log.info("after")
    assert [line["event"] for line in lines(tmp_path)] == ["after"]
