"""Opening a system file by a path that nobody weaker than us can bend.

Every directory on the way is opened relative to the one before, without following links; links are followed by
hand. A directory, link or file counts only if root or we own it; one that others may write to must be sticky.
"""

from __future__ import annotations

import errno
import functools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_CONTENT = 64 * 1024
"""Bytes of the largest file taken for a resolv.conf."""
_MAX_LINKS = 8
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UntrustedPathError(OSError):
    """The path exists and a weaker user could make it lead elsewhere."""


def open_trusted(path: Path, flags: int) -> int:
    """A descriptor of the regular file that `path` means. flags: O_RDONLY or O_RDWR; never creates.

    raises: UntrustedPathError; FileNotFoundError, also for a link to nowhere; other OSError as `open` does.
    """
    with _parent_of(path) as (directory, name):
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            found, shared = os.fstat(fd), os.fstat(directory).st_mode & _WRITABLE_BY_OTHERS
            # Where others may make entries, an entry of root's may be a second name of any file of root's.
            if not stat.S_ISREG(found.st_mode) or (shared and found.st_nlink != 1):
                raise UntrustedPathError(errno.EPERM, "no plain file", str(path))
            _check_owner(found, path)
        except BaseException:
            os.close(fd)
            raise
    return fd


def read(path: Path) -> bytes:
    """The content, by a trusted path. raises: as open_trusted; OSError (EFBIG) above MAX_CONTENT."""
    fd = open_trusted(path, os.O_RDONLY)
    try:
        return _read_fd(fd, path)
    finally:
        os.close(fd)


def read_anybodys(path: Path) -> bytes:
    """The content by whatever path, for what anybody may read and nothing is decided by. Empty on any error."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return _read_fd(fd, path) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def overwrite(path: Path, content: bytes) -> None:
    """Give the file this content without giving it another inode: it may be a mount point.

    raises: as open_trusted.
    """
    fd = open_trusted(path, os.O_RDWR)
    try:
        # One write and then the cut: a reader or a kill in between meets the whole new text, with a tail at worst.
        written = 0
        while written < len(content):
            written += os.pwrite(fd, content[written:], written)
        os.ftruncate(fd, len(content))
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: Path, content: bytes) -> None:
    """Put a new file, 0644, where `path` itself is: a link there goes, its target stays as it is."""
    with _directory_of(path) as (directory, name, spare):
        fd = os.open(
            spare,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o644,
            dir_fd=directory,
        )
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, content)
            os.fsync(fd)
            os.rename(spare, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(spare, dir_fd=directory)
            raise
        finally:
            os.close(fd)


def replace_by_link(path: Path, target: str) -> None:
    """Put a symbolic link where `path` itself is."""
    with _directory_of(path) as (directory, name, spare):
        os.symlink(target, spare, dir_fd=directory)
        try:
            os.rename(spare, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(spare, dir_fd=directory)
            raise


def remove(path: Path) -> None:
    with _directory_of(path) as (directory, name, _):
        os.unlink(name, dir_fd=directory)


def _read_fd(fd: int, path: Path) -> bytes:
    with os.fdopen(os.dup(fd), "rb") as file:
        content = file.read(MAX_CONTENT + 1)
    if len(content) > MAX_CONTENT:
        raise OSError(errno.EFBIG, "too large for a resolv.conf", str(path))
    return content


@contextmanager
def _directory_of(path: Path) -> Iterator[tuple[int, str, str]]:
    """The directory `path` lies in, its name there, and a name for a temporary entry beside it."""
    directory = _open_directory(path.parent)
    try:
        yield directory, path.name, f".{path.name}.lockgate-{secrets.token_hex(6)}"
    finally:
        os.close(directory)


def _open_directory(path: Path) -> int:
    with _parent_of(f"{path}/.") as (directory, _):
        return os.dup(directory)


@contextmanager
def _parent_of(path: Path | str) -> Iterator[tuple[int, str]]:
    """The directory in which the file that `path` means has its entry, and the entry's name: not a link."""
    todo = os.fspath(path).split("/")[::-1]
    directory = os.open("/", _DIRECTORY)
    links = 0
    try:
        while True:
            name = todo.pop() or "."
            target = _link_target(directory, name, path)
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, "too many links", os.fspath(path))
                if target.startswith("/"):
                    directory = _enter(directory, "/", path)
                todo += target.split("/")[::-1]
            elif todo:
                directory = _enter(directory, name, path)
            else:
                yield directory, name
                return
    finally:
        os.close(directory)


def _enter(directory: int, name: str, path: Path | str) -> int:
    """Another directory instead of this one."""
    inner = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        found = os.fstat(inner)
        _check_owner(found, path)
        if found.st_mode & _WRITABLE_BY_OTHERS and not found.st_mode & stat.S_ISVTX:
            raise UntrustedPathError(
                errno.EPERM, "others may write to a directory on the way", os.fspath(path)
            )
    except BaseException:
        os.close(inner)
        raise
    os.close(directory)
    return inner


def _link_target(directory: int, name: str, path: Path | str) -> str | None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None  # its opener says so
    if not stat.S_ISLNK(found.st_mode):
        return None
    _check_owner(found, path)
    return os.readlink(name, dir_fd=directory)


def _check_owner(found: os.stat_result, path: Path | str) -> None:
    if found.st_uid not in _owners():
        raise UntrustedPathError(errno.EPERM, "somebody else owns a part of the path", os.fspath(path))


@functools.cache
def _owners() -> frozenset[int]:
    """Whose entries count: root's, ours, and in a user namespace those of accounts that nobody in it can be."""
    owners = {0, os.geteuid()}
    try:
        unmapped = int(Path("/proc/sys/kernel/overflowuid").read_text())
        ranges = [
            list(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()
        ]
    except (OSError, ValueError):
        return frozenset(owners)
    if not any(first <= unmapped < first + count for first, _, count in ranges):
        owners.add(unmapped)
    return frozenset(owners)
