from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.linux.journal import DAMAGED, Journal
from lockgate.model.problem import ProblemError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_what_was_put_is_there_after_a_crash(state: Path) -> None:
    Journal(state).put("dns", {"file": "nameserver 192.0.2.1\n"})  # never closed
    with Journal(state) as journal:
        assert journal.get("dns") == {"file": "nameserver 192.0.2.1\n"}
        assert list(journal.keys()) == ["dns"]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_an_empty_journal_is_no_file(state: Path) -> None:
    with Journal(state) as journal:
        for key in ("dns", "network"):
            journal.put(key, 1)
        for key in ("dns", "network", "network"):
            journal.forget(key)
    assert os.listdir(state) == []


def test_killed_while_writing(state: Path) -> None:
    with Journal(state) as journal:
        journal.put("dns", 1)
        (state / "journal.new").write_text('{"version": 1, "entr')
    with Journal(state) as journal:
        assert journal.get("dns") == 1
        journal.put("dns", 2)
    with Journal(state) as journal:
        assert journal.get("dns") == 2


@pytest.mark.parametrize("failing", ["open", "fsync", "rename"])
@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EROFS, "state-not-writable")]
)
def test_a_disk_that_takes_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int, code: str
) -> None:
    with Journal(state) as journal:
        journal.put("dns", 1)

        def fail(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, failing, fail)
            with pytest.raises(ProblemError) as refusal:
                journal.put("dns", 2)
            journal.forget("nothing")
        assert refusal.value.problem.code == code
        assert journal.get("dns") == 1
    with Journal(state) as journal:
        assert journal.get("dns") == 1


def test_forgetting_works_on_a_full_disk(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(state) as journal:
        journal.put("dns", 1)
        journal.put("network", 1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            journal.forget("dns")
            assert journal.get("dns") is None


@given(
    st.binary(max_size=60)
    | st.sampled_from([b'{"version":2,"entries":{}}', b'{"version":1}', b"[" * 100_000])
)
def test_damage_is_set_aside_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    state = tmp_path_factory.mktemp("state", numbered=True)
    state.chmod(0o700)
    (state / "journal.json").write_bytes(content)
    with Journal(state) as journal:
        assert journal.damaged
        assert not list(journal.keys())
        journal.put("dns", 1)
    assert (state / DAMAGED).read_bytes() == content


def test_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    state.mkdir(mode=0o700)
    target = tmp_path / "elsewhere"
    target.write_text('{"version": 1, "entries": {"dns": 1}}')
    (state / "journal.json").symlink_to(target)
    with Journal(state) as journal:
        assert journal.damaged
        journal.put("dns", 2)
    assert '"dns": 1' in target.read_text()


def test_a_directory_that_others_write_in_is_not_trusted(state: Path) -> None:
    state.mkdir()
    state.chmod(0o770)
    with pytest.raises(ProblemError) as refusal:
        Journal(state)
    assert refusal.value.problem.code == "state-dir-unsafe"


def test_nothing_at_all(tmp_path: Path) -> None:
    with Journal.nothing() as journal:
        journal.forget("dns")
        with pytest.raises(ProblemError):
            journal.put("dns", 1)
