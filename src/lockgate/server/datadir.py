"""The data directory D: where a gateway keeps everything.

    config.toml      configuration (`config`)
    ca.pem           the CA certificate alone; clients may trust it
    tls/server.pem   server certificate, followed by its intermediates
    tls/server.key   its private key
    ca/ca.key        the CA's private key; no running process can read it
    db/lockgate.db   users, sessions, audit (`store`), unless store.toml names another database
    store.toml       where the database is; not there for db/lockgate.db (`store.choice`)
    secrets/store.key  what seals the secrets of the database and its audit (`vault`)
    run/             sockets and process numbers of a running server

D and its folders belong to one account and are closed to everybody else.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lockgate.model.problem import Problem, ProblemError

ACCOUNT = "lockgate"
"""Who owns a data directory on a machine with this account, and whom the server's processes become there."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Names of what is in D; see the module."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def ca_certificate(self) -> Path:
        return self.path / "ca.pem"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def ca_key(self) -> Path:
        return self.path / "ca" / "ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.tls / "server.pem"

    @property
    def server_key(self) -> Path:
        return self.tls / "server.key"

    @property
    def database(self) -> Path:
        return self.path / "db" / "lockgate.db"

    @property
    def store_choice(self) -> Path:
        return self.path / "store.toml"

    @property
    def store_key(self) -> Path:
        return self.path / "secrets" / "store.key"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def edge_socket(self) -> Path:
        """The edge listens here for the control plane."""
        return self.run / "edge.sock"

    @property
    def http_socket(self) -> Path:
        """The control plane listens here for HTTP that the edge passes on."""
        return self.run / "http.sock"

    @property
    def control_socket(self) -> Path:
        """The control plane listens here for the commands of `lockgate` (`control_client`)."""
        return self.run / "control.sock"

    def write_run_file(self, name: str, text: str) -> None:
        """Replaces run/`name` in one step, readable by the owner only."""
        temporary = self.run / f".{name}.{os.getpid()}"
        write_private(temporary, text.encode())
        temporary.replace(self.run / name)


def open_directory(path: Path) -> DataDirectory:
    """The data directory at `path`. Raises ProblemError when there is none."""
    directory = DataDirectory(path)
    try:
        status = directory.config.stat()
    except PermissionError:
        raise ProblemError(_closed(path)) from None
    except OSError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise ProblemError(
            Problem(
                code="no-data-directory",
                summary=f"There is no gateway in {path}.",
                fix=f"Create one with `lockgate server init --dir {path} --hostname NAME`, or name another directory.",
            )
        )
    return directory


def become_owner(directory: DataDirectory) -> None:
    """As root: turns this process into the owner of D, for good.

    A file made by root in D (SQLite's -wal and -shm appear whenever a database is opened) would
    shut out the server that runs as the owner. Does nothing when the two are the same or there is no D. Raises
    ProblemError for anybody else, and when the owner cannot be taken on.
    """
    try:
        owner = directory.path.stat()
    except FileNotFoundError:
        return  # `open_directory` says so
    except OSError as error:
        raise ProblemError(_closed(directory.path, error.strerror)) from None
    if owner.st_uid == os.geteuid():
        return
    if os.geteuid() != 0:
        raise ProblemError(_closed(directory.path))
    try:
        # A user namespace without groups refuses this, and has none to drop.
        with contextlib.suppress(PermissionError):
            os.setgroups([])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
    except OSError:
        raise ProblemError(_closed(directory.path)) from None
    if not os.access(directory.path, os.R_OK | os.W_OK | os.X_OK):
        raise ProblemError(
            Problem(
                code="owner-shut-out",
                summary=f"The owner of {directory.path} (uid {owner.st_uid}) cannot enter it.",
                fix="Open the folders that lead to it for that account (chmod o+x), or keep it elsewhere.",
            )
        )


def write_private(path: Path, content: bytes) -> None:
    """Creates `path` for the owner only; it must not exist. On disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes names in `folder` outlive a power failure."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_real_root() -> bool:
    """True for uid 0 of the machine; uid 0 of a user namespace cannot become somebody else."""
    if os.geteuid() != 0:
        return False
    try:
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    except OSError:
        return True


def _closed(path: Path, why: str | None = None) -> Problem:
    return Problem(
        code="data-directory-closed",
        summary=f"{path} cannot be opened{f': {why}' if why else ' by this user'}.",
        fix="Run the command as the owner of the directory or as root.",
    )
