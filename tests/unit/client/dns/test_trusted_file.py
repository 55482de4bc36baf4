from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lockgate.client.linux.dns import trusted_file
from lockgate.client.linux.dns.trusted_file import UntrustedPathError

STRANGER = 12345


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it look like a stranger's: only root of the whole machine could really give it away."""
    inode = path.lstat().st_ino

    def told(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def tell(*arguments: Any, **options: Any) -> os.stat_result:
            found = real(*arguments, **options)
            owner = STRANGER if found.st_ino == inode else found.st_uid
            return os.stat_result((*found[:4], owner, *found[5:10]))

        return tell

    monkeypatch.setattr(os, "fstat", told(os.fstat))
    monkeypatch.setattr(os, "stat", told(os.stat))


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o755)
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    (directory / "resolv.conf").write_bytes(b"old and rather long content\n")
    return directory


def test_overwriting_keeps_the_inode_and_cuts_the_rest_off(etc: Path) -> None:
    path = etc / "resolv.conf"
    path.chmod(0o640)
    before = path.stat()
    trusted_file.overwrite(path, b"new\n")
    assert trusted_file.read(path) == b"new\n"
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)
    assert os.listdir(etc) == ["resolv.conf"]


@pytest.mark.parametrize("target", ["../run/real", "{root}/run/real", "./../etc/../run/./real", "second"])
def test_links_are_followed(etc: Path, target: str) -> None:
    real, path = etc.parent / "run" / "real", etc / "resolv.conf"
    real.write_bytes(b"real\n")
    (etc / "second").symlink_to("../run/real")
    path.unlink()
    path.symlink_to(target.format(root=etc.parent))
    assert trusted_file.read(path) == b"real\n"
    trusted_file.overwrite(path, b"new\n")
    assert path.is_symlink()
    assert real.read_bytes() == b"new\n"


def test_a_directory_that_others_may_write_to_is_not_trusted(etc: Path) -> None:
    (etc.parent / "run" / "real").write_bytes(b"real\n")
    (etc / "resolv.conf").unlink()
    (etc / "resolv.conf").symlink_to("../run/real")
    (etc.parent / "run").chmod(0o777)
    with pytest.raises(UntrustedPathError):
        trusted_file.read(etc / "resolv.conf")
    (etc.parent / "run").chmod(0o1777)  # sticky: nobody else may rename our file away
    assert trusted_file.read(etc / "resolv.conf") == b"real\n"
    os.link(etc.parent / "run" / "real", etc / "second name")
    with pytest.raises(UntrustedPathError):
        trusted_file.read(etc / "resolv.conf")


@pytest.mark.parametrize("part", ["run", "run/real", "etc/resolv.conf"])
def test_nothing_on_the_way_may_be_a_strangers(etc: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    (etc.parent / "run" / "real").write_bytes(b"real\n")
    (etc / "resolv.conf").unlink()
    (etc / "resolv.conf").symlink_to("../run/real")
    assert trusted_file.read(etc / "resolv.conf") == b"real\n"
    with monkeypatch.context() as patch:
        give_away(etc.parent / part, patch)
        with pytest.raises(UntrustedPathError):
            trusted_file.overwrite(etc / "resolv.conf", b"new\n")
    assert (etc.parent / "run" / "real").read_bytes() == b"real\n"


def test_a_pipe_is_refused_without_waiting_for_a_writer(etc: Path) -> None:
    os.mkfifo(etc / "pipe")
    with pytest.raises(UntrustedPathError):
        trusted_file.read(etc / "pipe")
    assert trusted_file.read_anybodys(etc / "pipe") == b""


def test_a_circle_of_links_ends(etc: Path) -> None:
    (etc / "a").symlink_to("b")
    (etc / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many links"):
        trusted_file.read(etc / "a")


def test_a_large_file_is_refused(etc: Path) -> None:
    (etc / "resolv.conf").write_bytes(b"#" * (trusted_file.MAX_CONTENT + 1))
    with pytest.raises(OSError, match="too large"):
        trusted_file.read(etc / "resolv.conf")


def test_a_link_is_put_aside_and_laid_back(etc: Path) -> None:
    path = etc / "resolv.conf"
    path.unlink()
    path.symlink_to("../run/nowhere")
    trusted_file.replace(path, b"ours\n")
    assert not path.is_symlink()
    assert path.read_bytes() == b"ours\n"
    assert path.stat().st_mode & 0o777 == 0o644
    trusted_file.replace_by_link(path, "../run/nowhere")
    assert os.readlink(path) == "../run/nowhere"
    assert os.listdir(etc) == ["resolv.conf"]
