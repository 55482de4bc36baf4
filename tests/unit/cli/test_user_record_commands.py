"""`lockgate user record` and `lockgate server peers` as people call them, without a server."""

import time

import pytest

from lockgate.server.datadir import DataDirectory
from lockgate.server.store import open_store
from lockgate.server.user_records import UserRecords
from tests.unit.cli.test_commands import answered, call, refused
from tests.unit.server.support import run

PEER = '{"interval_seconds": 15, "peers": [{"name": "Berlin", "url": "https://gw2.example.org:8443"}]}'


@pytest.fixture
def gateway(tmp_path):
    """Its alice has a bookmark and likes it dark."""
    path = tmp_path / "D"
    answered("server", "init", "--dir", path, "--hostname", "gw.example.org")

    async def fill():
        store = await open_store(DataDirectory(path))
        try:
            records = UserRecords(store.user_records, time.time)
            await records.add("System Local", "alice", "Wiki", "https://wiki.example.org/", True)
            await records.choose("System Local", "alice", {"colours": "dark"})
        finally:
            await store.close()

    run(fill())
    return path


def test_a_record_is_shown_and_deleted(gateway):
    told = call("user", "record", "Alice", "--dir", gateway).stdout
    assert told.splitlines()[:2] == ["colours: dark", "density: comfortable"]
    assert "Wiki  https://wiki.example.org/" in told
    found = answered("user", "record", "alice", "--dir", gateway)
    assert found["bookmarks"] == [
        {"name": "Wiki", "url": "https://wiki.example.org/", "new_window": True},
    ]
    assert answered("user", "record", "bob", "--dir", gateway)["bookmarks"] == []
    assert answered("user", "record", "alice", "--delete", "--dir", gateway) == {"items": 2}
    assert "no bookmarks" in call("user", "record", "alice", "--dir", gateway).stdout
    assert refused("user", "record", "alice", "--server", "None", "--dir", gateway) == "no-such-server"


def test_peers_say_how_far_the_exchange_is(gateway):
    assert call("server", "peers", "--dir", gateway).stdout == "no peers\n"
    answered("config", "set", "user_records", PEER, "--commit", "-m", "peer", "--dir", gateway)
    [peer] = answered("server", "peers", "--dir", gateway)
    assert (peer["name"], peer["succeeded"], peer["refused"]) == ("Berlin", None, 0)
    assert "Berlin" in (told := call("server", "peers", "--dir", gateway).stdout)
    assert "never" in told
