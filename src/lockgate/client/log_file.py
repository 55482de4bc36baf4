"""A file of lines that cannot fill the disk and cannot stop the service.

At its limit it is renamed to `NAME.old`, in place of the former one. When somebody deletes or moves it,
the next line begins a new file. When the disk is full, lines are lost and counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

MODE = 0o600


class LogFile:
    """Lines are written whole or not at all."""

    def __init__(self, path: Path, limit: int) -> None:
        """limit: bytes of the file before it is renamed; together with the old one at most twice that."""
        self._path, self._limit = path, limit
        self._old = path.with_name(path.name + ".old")
        self._fd = -1
        self._lost = 0
        self._lock = threading.Lock()  # workers of the service log too

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._lost

    def write(self, line: str) -> None:
        """Appends a line; `line` is without its end and has no line end inside. Never raises OSError."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._lock:
            try:
                self._append(data)
            except OSError:
                self._lost += 1

    def close(self) -> None:
        with self._lock:
            self._close()

    def _append(self, data: bytes) -> None:
        size = self._opened()
        if size and size + len(data) > self._limit:
            self._close()
            os.replace(self._path, self._old)
            size = self._opened()
        written = os.write(self._fd, data)
        if written < len(data):
            # The disk is full: half a line would spoil the next one.
            os.ftruncate(self._fd, size)
            self._lost += 1

    def _opened(self) -> int:
        """Size of the file that has our name now; opens or makes it as needed."""
        if self._fd >= 0:
            ours = os.fstat(self._fd)
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(self._path, follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return ours.st_size
            self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, MODE)
        # Somebody's laxer file from before does not stay readable.
        os.fchmod(self._fd, MODE)
        return os.fstat(self._fd).st_size

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
