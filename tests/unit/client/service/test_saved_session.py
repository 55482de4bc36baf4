from __future__ import annotations

import json
import stat
from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lockgate.client.service.clock import Clock
from lockgate.client.service.saved_session import SavedSession, SessionStore
from lockgate.client.settings import ConnectionSettings
from lockgate.model.problem import ProblemError
from lockgate.protocol.gateway_url import parse_gateway_url
from lockgate.protocol.secret import Secret

CLOCK = Clock(lambda: 5000.0, lambda: 1_700_000_000.0, "boot")


def session(connection: str = "a1", **changes: Any) -> SavedSession:
    settings = ConnectionSettings(
        server=parse_gateway_url("https://[2001:db8::1]:8443/users/"),
        name="work",
        user="alice",
        realm="staff",
        roots=(b"\x30\x00root",),
        pin=bytes(range(32)),
        esp=False,
        proxy="proxy.test:3128",
        background=True,
        trust_prompt=True,
    )
    given = {
        "connection": connection,
        "uid": 1000,
        "settings": settings,
        "session": 7,
        "generation": 3,
        "cookie": Secret(b"0123456789abcdef"),
        "key": Secret(bytes(32)),
        "server_pin": bytes(range(32, 64)),
        "verified": True,
        "started": 4000.0,
        "deadline": 9000.0,
        "idle": 600,
        "user": "alice",
        "realm": "staff",
        "configuration": b"\0\xff",
        "split": b"\0\0\0\0",
        "extended": True,
        "conn": 99,
        "peer": "[2001:db8::1]:8443",
        "proxy": "",
        "local": "2001:db8::2",
        "interface": "lockgate0",
        "suspended": True,
        "tls": ("TLS 1.3", "AES", "X25519"),
        "addresses": {"gw.test": (ip_address("192.0.2.1"), ip_address("2001:db8::1"))},
    }
    return SavedSession(**{**given, **changes})


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path, CLOCK)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "sessions").iterdir())


def test_every_field_comes_back(tmp_path: Path, store: SessionStore) -> None:
    saved = session()
    store.save(saved)
    [found] = SessionStore(tmp_path, CLOCK).load_all()
    for field in fields(SavedSession):
        assert getattr(found, field.name) == getattr(saved, field.name), field.name


def test_a_deadline_that_was_not_told_stays_so(store: SessionStore) -> None:
    store.save(session(deadline=0.0))
    assert store.load_all()[0].deadline == 0.0


def test_only_we_can_read_it(tmp_path: Path, store: SessionStore) -> None:
    store.save(session())
    [file] = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) & 0o077 == 0


def test_the_latest_counts_and_a_removed_one_is_gone(tmp_path: Path, store: SessionStore) -> None:
    store.save(session("a1"))
    store.save(session("b2"))
    store.save(session("a1", generation=4))
    assert [(one.connection, one.generation) for one in store.load_all()] == [("a1", 4), ("b2", 3)]
    store.remove("a1")
    store.remove("a1")  # twice does no harm
    assert [one.connection for one in store.load_all()] == ["b2"]
    assert len(files(tmp_path)) == 1


def test_what_the_disk_does_not_take_leaves_the_former_one(tmp_path: Path, store: SessionStore) -> None:
    store.save(session())
    (tmp_path / "sessions" / ".a1.json.new").mkdir()  # stands for a disk that is full
    with pytest.raises(ProblemError) as caught:
        store.save(session(generation=4))
    assert caught.value.problem.code == "state-not-written"
    assert store.load_all()[0].generation == 3


def test_a_file_of_before_names_were_followed_is_taken_up(tmp_path: Path, store: SessionStore) -> None:
    store.save(session("a1"))
    file = tmp_path / "sessions" / "a1.json"
    document = json.loads(file.read_text())
    del document["split"]
    file.write_text(json.dumps(document))
    assert store.load_all() == [session("a1", split=b"")]


@given(data=st.data())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_file_is_removed_and_hurts_no_other(
    tmp_path: Path, store: SessionStore, data: st.DataObject
) -> None:
    store.save(session("a1"))
    store.save(session("b2"))
    file = tmp_path / "sessions" / "a1.json"
    text = file.read_text()
    way = data.draw(st.sampled_from(["cut", "without", "bytes"]))
    if way == "cut":
        damaged = text[: data.draw(st.integers(0, len(text) - 1))].encode()
    elif way == "bytes":
        damaged = data.draw(st.binary(max_size=64))
    else:
        document = json.loads(text)
        # Files of before names were followed have no "split", and are good.
        del document[data.draw(st.sampled_from(sorted(document.keys() - {"split"})))]
        damaged = json.dumps(document).encode()
    file.write_bytes(damaged)
    assert [one.connection for one in store.load_all()] == ["b2"]
    assert not file.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("addresses", []),
        ("addresses", {"gw": ["nowhere"]}),
        ("cookie", "not base64!"),
        ("settings", {"server": "http://gw/"}),
        ("connection", "../../etc"),
        ("started", 1.0),
        ("deadline", "soon"),
        ("tls", []),
    ],
)
def test_another_kind_of_value_is_damage_too(
    tmp_path: Path, store: SessionStore, key: str, value: object
) -> None:
    store.save(session())
    [file] = files(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert store.load_all() == []
    assert not file.exists()


def test_a_link_is_not_followed(tmp_path: Path, store: SessionStore) -> None:
    store.save(session())
    [file] = files(tmp_path)
    other = tmp_path / "other.json"
    file.rename(other)
    file.symlink_to(other)
    assert store.load_all() == []
    assert other.exists()
