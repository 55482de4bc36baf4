"""`lockgate audit …` over a real store."""

import asyncio
import csv
import io
import json
import re

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from lockgate.cli.main import lockgate
from lockgate.server.audit import Audit
from lockgate.server.store import create_store, open_store
from lockgate.server.store.flows import packed
from tests.unit.server.store_support import place_of
from tests.unit.server.test_store_flows import DENIED, FLOW, group
from tests.unit.server.test_store_flows import entry as flows_entry

NASTY = '=HYPERLINK("x")'


@pytest.fixture
def place(tmp_path):
    """A gateway with five records."""

    async def make():
        directory = place_of(tmp_path)
        directory.config.write_text("")
        store = await create_store(directory)
        clock = iter([1_700_000_000.0 + hours * 3600 for hours in range(9)])
        audit = Audit(store.audit, lambda: next(clock))
        await audit.record("sign-in", ok=True, user="alice", source="192.0.2.1", session=2**62)
        await audit.record("sign-in", ok=False, reason="wrong-password", user=NASTY, source="192.0.2.2")
        await audit.record("session-open", ok=True, user="alice", text="10.0.0.2")
        await audit.record("config-commit", ok=True, actor="admin", text="rule added", revision=2)
        await audit.record("user-add", ok=True, user="dora", actor="uid 0", source="local", text="\x1b[31m")
        await store.close()
        return directory

    return asyncio.run(make())


def invoke(*arguments, status=0):
    result = CliRunner().invoke(lockgate, ["audit", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.stdout


def execute(place, statement):
    async def work():
        store = await open_store(place)
        await store.database.write(lambda connection: connection.execute(text(statement)))
        await store.close()

    asyncio.run(work())


def test_verify_says_yes_and_what_the_newest_record_is(place):
    said = invoke("verify", "--dir", place.path)
    assert "5 records are right: 1 to 5." in said
    known = re.search(r"newest: (\S+)", said)[1]
    assert invoke("verify", "--dir", place.path, "--known", known) == said
    document = json.loads(invoke("verify", "--dir", place.path, "--known", known, "--json"))
    assert (document["ok"], document["known"], document["checked"]) == (True, True, 5)
    other = f"4:{known.partition(':')[2]}"
    assert "record 4 is not the one" in invoke("verify", "--dir", place.path, "--known", other, status=1)
    newer = f"9:{known.partition(':')[2]}"  # the database is older than that
    assert (
        json.loads(invoke("verify", "--dir", place.path, "--known", newer, "--json", status=1))["known"]
        is False
    )
    for wrong in ("5", "5:ab", "x:" + 64 * "0", "5:" + 64 * "g"):
        invoke("verify", "--dir", place.path, "--known", wrong, status=1)


def test_verify_says_no_and_damage_can_be_accepted(place):
    assert "Nothing is wrong" in invoke("accept", "--dir", place.path, "--reason", "x")
    execute(place, "UPDATE audit_records SET text = 'nothing' WHERE number = 3")
    said = invoke("verify", "--dir", place.path, status=1)
    assert "WRONG: Record 3 was changed." in said
    assert "The 2 records before it are right." in said
    finding = json.loads(invoke("verify", "--dir", place.path, "--json", status=1))["finding"]
    assert finding == {"damage": "changed", "number": 3, "text": "Record 3 was changed."}
    assert "Accepted by record 6." in invoke("accept", "--dir", place.path, "--reason", "disk failure")
    assert "1 records are right: 6 to 6." in invoke("verify", "--dir", place.path)
    (record,) = json.loads(invoke("list", "--dir", place.path, "--event", "audit-accept", "--json"))
    assert record["text"] == "Record 3 was changed. disk failure"
    assert record["actor"].startswith("uid ")


LISTS = [
    ([], [1, 2, 3, 4, 5]), (["--limit", "2"], [4, 5]), (["--log", "admin"], [4, 5]), (["--user", "alice"], [1, 3]),
    (["--user", "admin"], [4]), (["--failed"], [2]), (["--text", "RULE"], [4]), (["--source", "192.0.2.1"], [1]),
    (["--since", "2023-11-14T23:13:20", "--until", "2023-11-15T01:13:20Z"], [2, 3]), (["--since", "1d"], []),
    (["--since", "2023-11-15"], [3, 4, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "numbers"), LISTS)
def test_list(place, options, numbers):
    found = json.loads(invoke("list", "--dir", place.path, *options, "--json"))
    assert [each["number"] for each in found] == numbers


def test_flows_are_listed_by_their_remote_end(place):
    async def work():
        store = await open_store(place)
        await store.audit.add_flows(packed([group(7, "alice", FLOW, DENIED)]), flows_entry, "1:2")
        await store.close()

    asyncio.run(work())
    for options, ports in (
        ((), [443, 22]),
        (("--port", "22"), [22]),
        (("--remote", "10.77.0.80", "--session", "7", "--failed"), [22]),
        (("--remote", "10.77.0.81"), []),
    ):
        found = json.loads(invoke("list", "--dir", place.path, "--log", "flows", *options, "--json"))
        assert [each["flow"]["port"] for each in found] == ports
    assert "allowed by rule 'Intranet web'" in invoke("list", "--dir", place.path, "--port", "443")
    assert "6 records are right" in invoke("verify", "--dir", place.path)
    execute(place, "UPDATE flow_pieces SET session = 8")
    assert "WRONG: Flows of record 6 were changed" in invoke("verify", "--dir", place.path, status=1)


def test_a_list_for_people_prints_nothing_that_acts(place):
    said = invoke("list", "--dir", place.path)
    assert "\x1b" not in said
    assert re.search(
        r"^5 +2023-11-15 02:13:20 +admin +user-add +ok +dora \(by uid 0\) +local ", said, re.MULTILINE
    )
    assert "failed: wrong-password" in said
    assert (
        "neither a date"
        in CliRunner().invoke(lockgate, ["audit", "list", "--dir", str(place.path), "--since", "x"]).output
    )


def test_export_in_every_form_and_that_it_happened(place):
    lines = [
        json.loads(line) for line in invoke("export", "--dir", place.path, "--user", "alice").splitlines()
    ]
    assert [(each["number"], each["session"]) for each in lines] == [(1, str(2**62)), (3, None)]
    assert lines[0]["when"] == "2023-11-14T22:13:20.000000Z"
    rows = list(csv.DictReader(io.StringIO(invoke("export", "--dir", place.path, "--format", "csv"))))
    assert [row["number"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert rows[1]["user"] == "'" + NASTY
    assert (rows[5]["event"], rows[5]["log"], rows[5]["text"]) == ("audit-export", "admin", "jsonl")
    syslog = invoke("export", "--dir", place.path, "--format", "syslog", "--failed").splitlines()
    assert len(syslog) == 1
    assert syslog[0].startswith("<132>1 2023-11-14T23:13:20.000000Z ")
    assert json.loads(invoke("verify", "--dir", place.path, "--json"))["checked"] == 8


def test_a_gateway_that_is_not_there(tmp_path):
    result = CliRunner().invoke(lockgate, ["audit", "verify", "--dir", str(tmp_path / "no"), "--json"])
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (1, "no-data-directory")
