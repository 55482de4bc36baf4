"""What was changed on this machine, written down before it is changed, so that a crash can be undone.

One JSON file in the state directory, one value a key; each key's owner knows what its value means.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from lockgate.model.problem import Problem, ProblemError

FILE = "journal.json"
DAMAGED = "journal.damaged"
_NEW = "journal.new"
_VERSION = 1
_LARGEST = 4 << 20  # bytes; the largest value is a copy of a small text file


class Journal:
    """The journal of one state directory. All calls are short and block: they wait for the disk.

    damaged: what was found could not be read. It lies beside, as `journal.damaged`, and this one is empty.
    """

    def __init__(self, state_dir: Path) -> None:
        """Makes the directory (0700) if need be, and reads.

        raises: ProblemError state-dir-unsafe (others can write there), state-not-writable.
        """
        self.path = state_dir / FILE
        self.damaged = False
        self._directory = _open_directory(state_dir)
        try:
            self._entries = self._read()
        except BaseException:
            self.close()
            raise

    @classmethod
    def nothing(cls) -> Journal:
        """An empty one of no directory, for when that cannot be had. `put` raises state-not-writable."""
        journal = cls.__new__(cls)
        journal.path, journal.damaged = Path(FILE), False
        journal._directory, journal._entries = -1, {}
        return journal

    def get(self, key: str) -> Any:
        """The value, or None."""
        return self._entries.get(key)

    def keys(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def put(self, key: str, value: Any) -> None:
        """Returns when value is on the disk: only then change what it is about. value: JSON.

        raises: ProblemError disk-full, state-not-writable; then the journal is what it was before.
        """
        if key in self._entries and self._entries[key] == value:
            return
        self._write({**self._entries, key: value})

    def forget(self, key: str) -> None:
        """After undoing. Never fails: what is undone a second time does no harm, a full disk now would."""
        if key not in self._entries:
            return
        rest = {name: value for name, value in self._entries.items() if name != key}
        with contextlib.suppress(ProblemError):
            if rest:
                self._write(rest)
            else:
                # Needs no space.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(FILE, dir_fd=self._directory)
                os.fsync(self._directory)
        self._entries = rest

    def close(self) -> None:
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        try:
            fd = os.open(
                FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._directory
            )
        except FileNotFoundError:
            return {}
        except OSError:
            return self._set_aside()
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return self._set_aside()
            try:
                content = json.loads(file.read(_LARGEST + 1))
                if content["version"] != _VERSION:
                    return self._set_aside()
                return dict(content["entries"])
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                return self._set_aside()

    def _set_aside(self) -> dict[str, Any]:
        self.damaged = True
        with contextlib.suppress(OSError):
            os.rename(FILE, DAMAGED, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        return {}

    def _write(self, entries: dict[str, Any]) -> None:
        data = json.dumps({"version": _VERSION, "entries": entries}, indent=1).encode()
        if len(data) > _LARGEST:
            raise ProblemError(_not_writable(self.path, OSError(errno.EFBIG, os.strerror(errno.EFBIG))))
        try:
            # Left by a process that was killed while writing.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_NEW, dir_fd=self._directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_NEW, flags, 0o600, dir_fd=self._directory)
            try:
                with open(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(fd)
                os.rename(_NEW, FILE, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(_NEW, dir_fd=self._directory)
                raise
            os.fsync(self._directory)
        except OSError as error:
            raise ProblemError(_not_writable(self.path, error)) from None
        self._entries = entries


def _open_directory(path: Path) -> int:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ProblemError(_not_writable(path, error)) from None
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(fd)
        raise ProblemError(
            Problem(
                "state-dir-unsafe",
                f"Others than the client service can write in {path}, so nothing in there can be trusted.",
                f"Give it to the service alone: `chown root: {path}` and `chmod 700 {path}`.",
            )
        )
    return fd


def _not_writable(path: Path, error: OSError) -> Problem:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(
            "disk-full",
            f"The disk is full: {path} cannot be written, so nothing was changed on this machine.",
            "Make room, then connect again.",
        )
    return Problem(
        "state-not-writable",
        f"{path} cannot be written ({error.strerror}), so nothing was changed on this machine.",
        "The state directory must be on a writable disk and belong to the client service.",
    )
