"""Small private files of the service: read whole, replaced atomically."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lockgate.model.problem import Problem, ProblemError

MAX_FILE = 4 << 20  # bytes; ours have a few thousand


def private_directory(path: Path, mode: int) -> None:
    """Makes a directory that only this user can write. ProblemError when it is another's or open to others."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        found = path.lstat()
        if path.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise ProblemError(
                Problem(
                    "directory-not-ours",
                    f"{path} belongs to another user, or others may write into it.",
                    f"Remove it, or run `chown root {path}` and `chmod go-w {path}`.",
                )
            )
        path.chmod(mode)
    except OSError as error:
        raise ProblemError(
            Problem(
                "directory-unusable",
                f"{path} cannot be made: {error.strerror}.",
                "Start as root, or choose other directories with --state-dir and --run-dir.",
            )
        ) from None


def read_private(path: Path) -> str | None:
    """The text of a file of ours, or None when there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        return file.read(MAX_FILE)


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once or not at all; mode 0600. ProblemError when the disk does not take it."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ProblemError(
            Problem(
                "state-not-written",
                f"{path} cannot be written: {error.strerror}.",
                "Free space on that disk, or choose another with --state-dir.",
            )
        ) from None
