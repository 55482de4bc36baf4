"""A PostgreSQL of our own: a cluster in a temporary folder, reached by a Unix socket, gone with us.

PostgreSQL does not run as root: real root runs it as the account `postgres` of the Debian package, root of
a user namespace in which there are no other accounts gives it a name in one more user namespace.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.lab.program import Program
from tests.lab.waiting import LabError, wait_for

ACCOUNT = "postgres"
USER = "lockgate"

# Nothing has to outlive the machine here.
_FAST = ["fsync=off", "full_page_writes=off", "synchronous_commit=on"]
_LEAN = ["shared_buffers=64MB", "max_connections=60", "autovacuum=off", "log_min_messages=warning"]


class PostgreSQL:
    """One cluster; `schema()` makes an empty place for tables in it. Ends with `stop` or with this process."""

    def __init__(self, *, durable: bool = False) -> None:
        """durable: writes reach the disk as they would in earnest, for measurements."""
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        if not binaries:
            raise LabError("PostgreSQL is missing: run `scripts/system-packages build lab` or `make setup`")
        self._bin = binaries[-1]
        self._numbers = itertools.count(1)
        self._settings = _LEAN if durable else [*_FAST, *_LEAN]
        # Short: the path of a Unix socket has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="lockgate-pg-", dir="/tmp"))
        try:
            self._give_away()
            self._initialise()
            self._program = self._start()
            wait_for(self._answers, "PostgreSQL answers", deadline=60, explain=self._program.tail)
        except BaseException:
            self.stop()
            raise

    def database(self, name: str | None = None) -> str:
        """A new empty database; its conninfo."""
        name = name or f"d{next(self._numbers)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.conninfo(name)

    def schema(self) -> str:
        """A new empty schema of a database that all of them share; its conninfo. Cheaper than a database."""
        name = f"s{next(self._numbers)}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{self.conninfo('postgres')} options='-csearch_path={name}'"

    def conninfo(self, database: str) -> str:
        return f"host={self.folder} user={USER} dbname={database}"

    def restart(self) -> None:
        """All connections break, as when the machine of the database is restarted."""
        self._program.stop(signal.SIGINT, deadline=30)
        self._program = self._start()
        wait_for(self._answers, "PostgreSQL answers again", deadline=60, explain=self._program.tail)

    def stop(self) -> None:
        with contextlib.suppress(AttributeError):  # never started
            self._program.stop(signal.SIGQUIT, deadline=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PostgreSQL:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        psycopg.connect(self.conninfo("postgres")).close()
        return True

    def _give_away(self) -> None:
        if os.geteuid() == 0 and not _alone():
            account = pwd.getpwnam(ACCOUNT)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self.folder.chmod(0o755)  # the socket in it is for us

    def _initialise(self) -> None:
        command = [str(self._bin / "initdb"), "-D", str(self.folder / "data"), "-A", "trust", "-U", USER]
        command += ["--no-sync", "--locale=C.UTF-8", "--encoding=UTF8"]
        made = subprocess.run(
            [*_unprivileged(), *command], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise LabError(f"initdb failed:\n{made.stdout}{made.stderr}")

    def _start(self) -> Program:
        command = [str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        command += ["-c", "listen_addresses="]
        for setting in self._settings:
            command += ["-c", setting]
        log = self.folder / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*_unprivileged("--pdeathsig", "SIGQUIT"), *command],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        return Program("postgres", process, log)


def _alone() -> bool:
    """Whether we are the only account of our user namespace."""
    return all(line.split()[2] == "1" for line in Path("/proc/self/uid_map").read_text().splitlines())


def _unprivileged(*options: str) -> list[str]:
    """What comes before a command that must not be root's. options: of setpriv."""
    if os.geteuid() != 0:
        return ["setpriv", *options] if options else []
    account = pwd.getpwnam(ACCOUNT)
    if _alone():
        inner = ["unshare", "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}"]
        return [*inner, *(["setpriv", *options] if options else [])]
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, *options]
