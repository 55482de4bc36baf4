"""How the Python processes are confined: `lockgate-edge confine` drops privileges, then executes them."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import DataDirectory

_POSTGRESQL_FOLDERS = ("/var/run/postgresql", "/tmp")  # noqa: S108  # where libpq looks, by distribution


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


def _resolver_configuration() -> list[str]:
    """Where /etc/resolv.conf really is when a service of the machine writes it.

    The folder, since such services replace the file; never all of /run, nor what is readable anyway.
    """
    file = Path("/etc/resolv.conf").resolve()
    if not file.is_file() or file.is_relative_to("/etc"):
        return []
    return [str(file if file.parent in (Path("/"), Path("/run")) else file.parent)]


def control_reads(directory: DataDirectory) -> list[str]:
    """What the control plane reads beside interpreter and libraries: the key of its secrets, where its
    database is, and which resolvers to ask for the names in access rules."""
    own = [directory.store_key.parent, directory.store_choice]
    return [*(str(path) for path in own if path.exists()), *_resolver_configuration()]


def control_writes(directory: DataDirectory) -> list[str]:
    """What the control plane may change, and with `control_reads` all it sees of the data directory."""
    return [str(directory.database.parent), str(directory.run), "/dev/null"]


def control_connects(directory: DataDirectory) -> list[str]:
    """Folders with Unix sockets that the control plane connects to: those of a local PostgreSQL.

    A folder that is not there yet is left out; where the kernel tells Unix sockets apart, the server
    has to be started again once it is. Raises ProblemError for a store.toml that says nothing useful.
    """
    if not directory.store_choice.exists():
        return []
    from lockgate.server.store.choice import conninfo_of  # takes time, and few gateways need it
    from lockgate.server.store.postgresql import connection_parameters

    parameters = connection_parameters(conninfo_of(directory) or "")
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    folders = [folder for host in hosts for folder in ([host] if host else _POSTGRESQL_FOLDERS)]
    return [folder for folder in folders if folder.startswith("/") and Path(folder).is_dir()]


def confined(
    profile: str,
    command: Sequence[str],
    *,
    read: Sequence[str] = (),
    write: Sequence[str],
    connect: Sequence[str] = (),
    account: tuple[int, int] | None = None,
) -> list[str]:
    """The argument list that runs `command` under `profile` ("supervisor" or "control").

    read:    folders the program may read, beside interpreter and libraries.
    write:   folders and devices the program may change; everything else is read-only or out of sight.
    connect: folders whose Unix sockets the program may connect to, beside those it may change.
    account: uid and gid to change to; only real root can.
    """
    arguments = [str(edge_binary()), "confine", "--profile", profile]
    if account is not None:
        arguments += ["--uid", str(account[0]), "--gid", str(account[1])]
    for path in (*readable_paths(), *read):
        arguments += ["--read", path]
    for path in write:
        arguments += ["--write", path]
    for path in connect:
        arguments += ["--connect", path]
    return [*arguments, "--", *command]


def python_command(module: str, *arguments: str) -> list[str]:
    """Runs a module of ours in the same interpreter, without user site folders or the current folder."""
    return [sys.executable, "-P", "-s", "-m", module, *arguments]
