"""Backup and restore: everything comes back, in either store; what is interrupted or wrong changes nothing."""

import fcntl
import io
import os
import signal
import stat
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import select

from lockgate.cli.main import lockgate
from lockgate.model.problem import ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.backup.contents import MAX_LINE, line, lines_of, write_file
from lockgate.server.backup.sealed_file import BLOCK, MAGIC, SealedReader, SealedWriter
from lockgate.server.datadir import DataDirectory
from lockgate.server.store.choice import conninfo_of
from lockgate.server.store.flows import packed
from lockgate.server.store.interface import AuditFilter, PeerRecord, Sample
from lockgate.server.store.tables import metadata
from lockgate.server.store.user_records import ORIGIN
from lockgate.server.store.verify import verify
from lockgate.server.vault import open_vault
from tests.unit.server.store_support import new_store, run, same_store, user
from tests.unit.server.test_store import POOLS, draft, noted
from tests.unit.server.test_store_flows import FLOW, group
from tests.unit.server.test_store_flows import entry as flows_entry
from tests.unit.server.test_store_records import NOTE, decision, revision, web

PASSPHRASE = "correct horse battery"
KINDS = ("sqlite", "postgresql")
FILES = {"config.toml": "[gateway]\n", "ca.pem": "CA", "tls/server.pem": "chain", "tls/server.key": "key",
         "ca/ca.key": "ca key"}  # fmt: skip


async def populate(place, name="alice"):
    """A gateway with something on every shelf."""
    for file, content in FILES.items():
        path = place.path / file
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(f"{content} of {name}")
        path.chmod(0o644 if file == "ca.pem" else 0o600)
    async with new_store(place) as store:
        await store.users.add(replace(user(name), full_name="Ünï \x7f", attributes={"mail": ("a@x",)}))
        await store.web_sessions.add(web(1, name))
        bound = replace(draft(name), public_key=bytes(range(32)), parent="w1")
        await store.sessions.open(bound, POOLS, 9, noted)
        from tests.unit.server.test_store import again

        await store.sessions.resume(again(bound, 1001.0), lambda _: None, noted)
        await store.handles.add(bytes(32), "w1", "https://gw/", 1.0)
        from lockgate.server.store.interface import DraftRecord, TokenRecord, UploadRecord

        await store.tokens.add(TokenRecord("t1", "x", bytes(32), "admin", ("*",), 1.0, 2.0))
        seed = revision(1, '{"secret": "ü\\u0000"}')
        await store.revisions.add(seed, 0, note=NOTE, logical_servers={"System Local": "Staff"})
        await store.user_records.change("System Local", name, lambda _: {"preference:colours": '"dark"'}, 5)
        await store.user_records.keep_peer(PeerRecord("west"))
        await store.audit.add_flows(packed([group(7, name, FLOW)]), flows_entry, "1:1")
        await store.drafts.add(DraftRecord("d1", "admin", 1, 1, 1.0, 1.0, "{}"))
        await store.decisions.add_many([decision(number) for number in range(700)])
        await store.samples.add(Sample(1.0, 10, {"users": 3.5}))
        await store.uploads.add(
            UploadRecord("u1", name, "System Local", "pc", 7, 1.0, 0, "x"), os.urandom(3 << 19)
        )
        await store.blobs.put(bytes(range(256)))
        await store.meta.set("seed", "x")
    (place.path / "run").mkdir(exist_ok=True)


async def dump(place, *, without=()):
    """All rows of all tables."""

    def work(connection):
        return {
            table.name: [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
            if table.name not in without
        }

    async with same_store(place) as store:
        return await store.database.read(work)


def files_of(place):
    return {
        str(path.relative_to(place.path)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in place.path.rglob("*")
        if path.is_file() and path.relative_to(place.path).parts[0] not in ("db", "run", "store.toml")
    }


@pytest.fixture(autouse=True)
def cheap(request, monkeypatch):
    """What a passphrase costs: microseconds."""
    if "earnest" not in request.fixturenames:
        monkeypatch.setattr("lockgate.server.backup.sealed_file.MEMORY_KIB", 64)
        monkeypatch.setattr("lockgate.server.backup.sealed_file.PASSES", 1)


@pytest.fixture
def earnest():
    """What a passphrase costs in earnest."""


@pytest.fixture
def command(tmp_path):
    """Runs a command of `lockgate` in this process with the passphrase in a file; its output."""
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")

    def invoke(*arguments, ok=True, passphrase=secret):
        result = CliRunner().invoke(lockgate, [*map(str, arguments), "--passphrase-file", str(passphrase)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert (result.exit_code == 0) == ok, result.output
        return result.output

    return invoke


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_everything_comes_back_in_either_store(new_place, command, tmp_path, source, target):
    old, out = new_place(source, "old"), tmp_path / "backup"
    run(populate(old))
    assert "rows" in command("backup", "--dir", old.path, "--out", out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    content = out.read_bytes()
    for plain in (b"alice", b"System Local", b"BEGIN", b"argon", b"ca key"):
        assert plain not in content.removeprefix(content[:300])
    before = run(dump(old))
    assert all(before.values()), [name for name, rows in before.items() if not rows]

    new = new_place(target, "new", alone=True)  # with an empty database of its own
    run(populate(new, "bob"))
    command("restore", "--dir", new.path, out, "--keep-sessions")
    assert (conninfo_of(new) is None) == (target == "sqlite")
    after = run(dump(new))
    restored = after["audit_records"].pop()
    assert restored[2:4] == ("admin", "restore")
    del after["audit_ends"], before["audit_ends"]
    # Records of users are exchanged anew: others know what this gateway has lost.
    assert after.pop("record_peers") == []
    del before["record_peers"]
    assert ORIGIN in dict(before["meta"])
    assert after["meta"] == [row for row in before["meta"] if row[0] != ORIGIN]
    before["meta"] = after["meta"]
    assert after == before
    assert files_of(new) == files_of(old)
    assert open_vault(new).subkey("x") == open_vault(old).subkey("x")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    async def use():
        async with same_store(new) as store:
            assert (await verify(store.audit)).ok
            assert (await store.users.find("System Local", "alice")).full_name == "Ünï \x7f"
            # Once more, over itself: what was there before is gone, also its tables.
            return (await store.audit.page(AuditFilter(event="backup"), 9))[0].entry.actor

    assert run(use()) == f"uid {os.getuid()}"
    command("restore", "--dir", new.path, out, "--keep-sessions")
    again = run(dump(new, without=("audit_records", "audit_ends", "record_peers")))
    assert again == {name: rows for name, rows in before.items() if name in again}
    if target == "postgresql":
        with psycopg.connect(conninfo_of(new)) as connection:
            found = connection.execute(
                "SELECT schemaname FROM pg_tables WHERE tablename = 'accounts'"
            ).fetchall()
        assert len(found) == 1


def test_sessions_of_a_backup_end_unless_somebody_wants_them(earnest, new_place, command, tmp_path):
    place, out = new_place("sqlite"), tmp_path / "backup"
    run(populate(place))
    command("backup", "--dir", place.path, "--out", out)
    assert "1 sessions of the backup were ended" in command("restore", "--dir", place.path, out)

    async def work():
        async with same_store(place) as store:
            assert await store.sessions.live() == await store.web_sessions.live() == []
            assert await store.handles.take(bytes(32), 0.0) is None
            await store.sessions.open(draft(now=9e9), POOLS, 9, noted)  # its address is free again
            return (await store.audit.page(AuditFilter(event="restore"), 1))[0].entry.text

    assert "1 sessions ended" in run(work())


def test_a_restore_makes_a_gateway_where_there_is_none(new_place, command, tmp_path):
    place, out = new_place("sqlite"), tmp_path / "backup"
    run(populate(place))
    command("backup", "--dir", place.path, "--out", out)
    command("restore", "--dir", tmp_path / "fresh", out)
    assert files_of(DataDirectory(tmp_path / "fresh")) == files_of(place)
    (tmp_path / "empty").mkdir()
    command("restore", "--dir", tmp_path / "empty", out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.odt").write_text("precious")
    assert "other things" in command("restore", "--dir", tmp_path / "other", out, ok=False)
    assert os.listdir(tmp_path / "other") == ["thesis.odt"]


def test_a_chosen_store_counts(new_place, command, tmp_path, postgresql):
    place, out, wanted = new_place("sqlite"), tmp_path / "backup", postgresql.database()
    run(populate(place))
    command("backup", "--dir", place.path, "--out", out)
    command("restore", "--dir", place.path, out, "--store", wanted)
    assert tomllib.loads(place.store_choice.read_text()) == {"postgresql": {"conninfo": wanted}}
    assert stat.S_IMODE(place.store_choice.stat().st_mode) == 0o600
    assert list(place.database.parent.iterdir()) == []
    command("restore", "--dir", place.path, out, "--store", "sqlite")
    assert not place.store_choice.exists()
    with psycopg.connect(wanted) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE tablename = 'accounts'"
        ).fetchone() == (0,)
    wrong = command("restore", "--dir", place.path, out, "--store", "postgresql://127.0.0.1:1/x", ok=False)
    assert "cannot be used" in wrong
    assert run(dump(place))["accounts"]


# -- refusals -------------------------------------------------------------------------------------------------


def test_a_running_server_is_not_restored(new_place, command, tmp_path):
    place, out = new_place("sqlite"), tmp_path / "backup"
    run(populate(place))
    command("backup", "--dir", place.path, "--out", out)
    before = run(dump(place))
    fd = os.open(place.path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # as the supervisor does
        assert "A server is running" in command("restore", "--dir", place.path, out, ok=False)
        command("backup", "--dir", place.path, "--out", out, "--force")  # that it may
    finally:
        os.close(fd)
    assert len(run(dump(place))["audit_records"]) == len(before["audit_records"]) + 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_wrong_passphrases_and_files_are_refused(new_place, command, tmp_path):
    place, out = new_place("sqlite"), tmp_path / "backup"
    run(populate(place))
    command("backup", "--dir", place.path, "--out", out)
    assert "is there already" in command("backup", "--dir", place.path, "--out", out, ok=False)
    other = tmp_path / "other"
    other.write_text("incorrect horse\n")
    before = run(dump(place)), files_of(place)
    wrong = command("restore", "--dir", place.path, out, ok=False, passphrase=other)
    assert "passphrase does not open" in wrong
    other.write_text("\n")
    assert "empty" in command("restore", "--dir", place.path, out, ok=False, passphrase=other)
    content = out.read_bytes()
    for damage, text in (
        (b"something else", "no backup"),
        (content[:-1], "its end is missing"),
        (content[: len(content) // 2], "its end is missing"),
        (content + b"x", "something follows"),
        (content[:5000] + bytes([content[5000] ^ 1]) + content[5001:], "was changed"),
    ):
        out.write_bytes(damage)
        said = command("restore", "--dir", place.path, out, ok=False)
        assert text in said, said
    assert (run(dump(place)), files_of(place)) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


KILLS = [
    # (kind, command, where it is held and killed and at which call, does the new state count)
    ("sqlite", "backup", "sealed_file.SealedWriter._seal", 3, False),
    ("sqlite", "restore", "contents.write_file", 3, False),
    ("sqlite", "restore", "contents.TableWriter.row", 500, False),
    ("sqlite", "restore", "restore.put_in_place", 1, False),
    ("sqlite", "restore", "restore.put_in_place", -1, True),
    ("postgresql", "restore", "restore.put_in_place", 1, False),
    ("postgresql", "restore", "restore.put_in_place", -1, True),
]
PROGRAM = """
import importlib, sys
from lockgate.cli.main import lockgate
target, count, *arguments = sys.argv[1:]
module, _, name = target.partition(".")
owner = importlib.import_module("lockgate.server.backup." + module)
import lockgate.server.backup as package
from lockgate.server.backup import sealed_file
sealed_file.MEMORY_KIB, sealed_file.PASSES = 64, 1
while "." in name:
    part, _, name = name.partition(".")
    owner = getattr(owner, part)
original, calls = getattr(owner, name), [0]
def held(*args, **kwargs):
    calls[0] += 1
    if int(count) < 0:
        original(*args, **kwargs)
    if calls[0] == abs(int(count)):
        print("held", flush=True)
        sys.stdin.read()
    return original(*args, **kwargs)
for place in (owner, package):
    if hasattr(place, name):
        setattr(place, name, held)
lockgate(arguments)
"""


@pytest.mark.parametrize(("kind", "name", "target", "count", "new"), KILLS)
def test_killed_in_the_middle(new_place, command, tmp_path, pytestconfig, kind, name, target, count, new):
    old, place, out = new_place(kind, "old"), new_place(kind, "D"), tmp_path / "backup"
    run(populate(old, "alice"))
    run(populate(place, "bob"))
    command("backup", "--dir", old.path, "--out", out)
    before = run(dump(place))
    options = ["--out", tmp_path / "second"] if name == "backup" else [out]
    arguments = [name, "--dir", place.path, *options, "--passphrase-file", tmp_path / "passphrase"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, target, str(count), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=pytestconfig.rootpath,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "second").exists()

    async def names():
        async with same_store(place) as store:
            assert (await verify(store.audit)).ok
            return [each.name for each in await store.users.all()]

    assert run(names()) == (["alice"] if new else ["bob"])
    if not new:
        after = run(dump(place))
        if name == "backup":  # that somebody asked for it is known
            for table in ("audit_records", "audit_ends"):
                assert len(after.pop(table)) >= len(before.pop(table))
        assert after == before
    # The next one is not in the way of what is left, and cleans it up.
    command("restore", "--dir", place.path, out)
    assert run(names()) == ["alice"]
    assert [path.name for path in tmp_path.glob(".D.restore-*")] == []


# -- the file ---------------------------------------------------------------------------------------------------


def sealed(*parts, passphrase=PASSPHRASE):
    file = io.BytesIO()
    writer = SealedWriter(file, Secret.of_text(passphrase))
    for part in parts:
        writer.write(part)
    writer.finish()
    return file.getvalue()


def opened(content, passphrase=PASSPHRASE):
    reader = SealedReader(io.BytesIO(content), Secret.of_text(passphrase))
    blocks = []
    while block := reader.read_block():
        blocks.append(block)
    return b"".join(blocks)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_what_was_sealed_is_opened(size):
    content = os.urandom(size)
    assert opened(sealed(content[:10], content[10:])) == content


def test_every_change_of_a_sealed_file_is_noticed():
    content = sealed(b"a" * BLOCK, b"b" * BLOCK, b"end")
    header = len(MAGIC) + 4 + int.from_bytes(content[len(MAGIC) :][:4])
    block = 4 + BLOCK + 16
    blocks = [content[header:][:block], content[header + block :][:block], content[header + 2 * block :]]
    wrong = {
        "left out": content[:header] + blocks[0] + blocks[2],
        "moved": content[:header] + blocks[1] + blocks[0] + blocks[2],
        "repeated": content[:header] + blocks[0] + blocks[0] + blocks[1] + blocks[2],
        "cut between blocks": content[:header] + blocks[0] + blocks[1],
        "continued": content + blocks[2],
        "of another file": sealed(b"x" * 9)[:header] + blocks[0] + blocks[1] + blocks[2],
        "a length": content[: header + 1] + b"\xff" + content[header + 2 :],
    }
    wrong |= {
        f"byte {at}": content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for at in range(0, header + 20)
    }
    for what, changed in wrong.items():
        with pytest.raises(ProblemError) as caught:
            opened(changed)
        codes = {"backup-damaged", "wrong-passphrase", "not-a-backup", "backup-format"}
        assert caught.value.problem.code in codes, what


HEADERS = [
    b"{}",
    b"[]",
    b"\xff",
    b"[" * 4000,
    b'{"format": 1, "salt": "00", "check": "", "memory_kib": 1e400}',
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_anybody_costs_nothing(header):
    with pytest.raises(ProblemError, match="damaged"):
        opened(MAGIC + len(header).to_bytes(4) + header)


@pytest.mark.parametrize(
    ("field", "value"), [("memory_kib", 1 << 30), ("passes", 1000), ("lanes", 0), ("memory_kib", 1)]
)
def test_a_cost_out_of_reason_is_refused(field, value):
    content = sealed(b"x")
    length = int.from_bytes(content[len(MAGIC) :][:4])
    import json

    header = json.loads(content[len(MAGIC) + 4 :][:length])
    header = json.dumps({**header, field: value}).encode()
    with pytest.raises(ProblemError, match="impossible"):
        opened(MAGIC + len(header).to_bytes(4) + header + content[len(MAGIC) + 4 + length :])


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "tls/../../x", "a//b", ".hidden", "db/x", "run/x", "", 5, "a\0b"]
)
def test_a_file_in_it_stays_where_it_belongs(tmp_path, name):
    with pytest.raises(ProblemError, match="damaged"):
        write_file(tmp_path, {"file": name, "mode": 0o600, "content": ""})
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_it_is_for_the_owner(tmp_path):
    write_file(tmp_path, {"file": "a/b/c", "mode": 0o4777, "content": "eA=="})
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o644
    with pytest.raises(FileExistsError):
        write_file(tmp_path, {"file": "a/b/c", "mode": 0o600, "content": ""})


def test_lines_may_be_longer_than_blocks_but_not_endless(monkeypatch):
    documents = [{"a": "x" * (3 * BLOCK)}, [1], {}]
    content = b"".join(map(line, documents))
    secret = Secret.of_text(PASSPHRASE)
    assert list(lines_of(SealedReader(io.BytesIO(sealed(content)), secret))) == documents
    monkeypatch.setattr("lockgate.server.backup.contents.MAX_LINE", BLOCK)
    assert MAX_LINE > BLOCK
    with pytest.raises(ProblemError, match="too long"):
        list(lines_of(SealedReader(io.BytesIO(sealed(content)), secret)))
    for wrong in (b"1\n", b"{", b"[" * 9999 + b"\n", b"{}\n{"):
        with pytest.raises(ProblemError, match="damaged"):
            list(lines_of(SealedReader(io.BytesIO(sealed(wrong)), secret)))


def test_the_program_of_the_kill_test_finds_its_targets():
    import importlib

    for _, _, target, _, _ in KILLS:
        module, _, name = target.partition(".")
        found = importlib.import_module(f"lockgate.server.backup.{module}")
        for part in name.split("."):
            found = getattr(found, part)
    assert Path(lockgate.name).name == "lockgate"
