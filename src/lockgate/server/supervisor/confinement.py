"""How the Python processes are confined: `lockgate-edge confine` drops privileges, then executes them."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import DataDirectory


def edge_binary() -> Path:
    """`lockgate-edge` beside the running interpreter. Raises ProblemError when it is not installed."""
    binary = Path(sys.prefix) / "bin" / "lockgate-edge"
    if not binary.is_file():
        raise ProblemError(
            Problem(
                code="edge-missing",
                summary=f"The data plane program {binary} is not installed.",
                fix="Run `make setup` in the source tree, or install the package again.",
            )
        )
    return binary


def readable_paths() -> list[str]:
    """What a confined Python needs to read: interpreter, libraries, our own code, name resolution."""
    code = {str(Path(entry).resolve()) for entry in sys.path if entry and Path(entry).exists()}
    interpreter = {
        sys.prefix,
        sys.base_prefix,
        str(Path(sys.executable).resolve().parent),
        sysconfig.get_paths()["stdlib"],
        sysconfig.get_paths()["platstdlib"],
    }
    system = {"/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys/devices/system/cpu", "/dev/urandom"}
    return sorted(path for path in code | interpreter | system if os.path.exists(path))


def control_writes(directory: DataDirectory) -> list[str]:
    """What the control plane may change, and all it sees of the data directory."""
    return [str(directory.database.parent), str(directory.run), "/dev/null"]


def confined(
    profile: str,
    command: Sequence[str],
    *,
    read: Sequence[str] = (),
    write: Sequence[str],
    account: tuple[int, int] | None = None,
) -> list[str]:
    """The argument list that runs `command` under `profile` ("supervisor" or "control").

    read:    folders the program may read, beside interpreter and libraries.
    write:   folders and devices the program may change; everything else is read-only or out of sight.
    account: uid and gid to change to; only real root can.
    """
    arguments = [str(edge_binary()), "confine", "--profile", profile]
    if account is not None:
        arguments += ["--uid", str(account[0]), "--gid", str(account[1])]
    for path in (*readable_paths(), *read):
        arguments += ["--read", path]
    for path in write:
        arguments += ["--write", path]
    return [*arguments, "--", *command]


def python_command(module: str, *arguments: str) -> list[str]:
    """Runs a module of ours in the same interpreter, without user site folders or the current folder."""
    return [sys.executable, "-P", "-s", "-m", module, *arguments]
