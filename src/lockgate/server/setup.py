"""Makes the data directory of a new gateway: all of it, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import pwd
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server import pki
from lockgate.server.auth.passwords import hash_password
from lockgate.server.config.seed.render import render
from lockgate.server.config.seed.tree import Seed
from lockgate.server.datadir import ACCOUNT, DataDirectory, is_real_root, sync_folder, write_private
from lockgate.server.store import create_store
from lockgate.server.store.choice import choose_postgresql
from lockgate.server.store.records import ADMIN_SERVER, UserRecord
from lockgate.server.store.users import new_serial

ADMINISTRATOR = "admin"
# Letters and digits that nobody confuses; 20 of them are 99 bits.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 5, 4


@dataclass(frozen=True, slots=True)
class GivenCertificate:
    """A certificate chain and key from elsewhere, in PEM."""

    chain: bytes
    key: Secret


@dataclass(frozen=True, slots=True)
class Created:
    """A new data directory. `password` exists nowhere else."""

    directory: DataDirectory
    administrator: str
    password: Secret
    has_ca: bool
    owner: str
    warnings: tuple[str, ...]


def create(
    path: Path, configuration: Seed, given: GivenCertificate | None, *, postgresql: str | None = None
) -> Created:
    """Makes the data directory at `path`, which must not exist or be empty. Raises ProblemError.

    postgresql: where the store is, as libpq says it; None keeps it in the directory.
    Built beside its place and moved there at the end: a failure leaves nothing.
    """
    # What is checked is what is used: links on the way are followed once, here.
    path = Path(os.path.realpath(path))
    _check_free(path)
    material = _certificates(configuration, given)
    warnings = list(material.warnings)
    account, complaint = _account(path)
    if complaint:
        warnings.append(complaint)
    password = _new_password()
    try:
        with _staged(path) as stage:
            _fill(DataDirectory(stage), configuration, material, password, postgresql)
            if account is not None:
                _hand_over(stage, account)
    except OSError as error:
        raise ProblemError(
            Problem(
                code="init-failed",
                summary=f"{path} cannot be made: {error.strerror or error}.",
                fix="Choose a place that this user may write to and that has some megabytes free.",
            )
        ) from None
    return Created(
        directory=DataDirectory(path),
        administrator=ADMINISTRATOR,
        password=password,
        has_ca=material.ca is not None,
        owner=account.pw_name if account is not None else _user_name(os.geteuid()),
        warnings=tuple(warnings),
    )


def _check_free(path: Path) -> None:
    try:
        present = {entry.name for entry in path.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ProblemError(
            Problem("not-a-directory", f"{path} is not a directory.", "Name another place.")
        ) from None
    except OSError as error:
        raise ProblemError(
            Problem("init-failed", f"{path} cannot be looked at: {error.strerror}.", "Name another place.")
        ) from None
    if DataDirectory(path).config.name in present:
        raise ProblemError(
            Problem(
                code="already-initialised",
                summary=f"There is a gateway in {path} already.",
                fix=f"Run it with `lockgate server run --dir {path}`, or name another directory.",
            )
        )
    if present:
        raise ProblemError(
            Problem(
                code="directory-not-empty",
                summary=f"{path} is not empty.",
                fix="Name a new or empty directory: the gateway's belongs to it alone.",
            )
        )


def _certificates(configuration: Seed, given: GivenCertificate | None) -> pki.Material:
    gateway = configuration.gateway
    now = dt.datetime.now(dt.UTC)
    if given is not None:
        return pki.check(given.chain, given.key, gateway.hostname, now)
    return pki.create(gateway.hostname, gateway.addresses, now)


def _account(path: Path) -> tuple[pwd.struct_passwd | None, str]:
    """Who shall own the directory (None: who runs this), and what is to be said about it."""
    if not is_real_root():
        return None, ""
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None, ""
    for folder in path.parents:
        if folder.exists() and not _may_enter(folder, account):
            return None, (
                f"{path} stays with root, because the account {ACCOUNT} cannot enter {folder}; "
                f"a place such as /var/lib/lockgate lets the gateway run without root"
            )
    return account, ""


def _may_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    status = folder.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid in os.getgrouplist(account.pw_name, account.pw_gid):
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A folder that becomes `path` when the block ends well, and goes away when it does not."""
    made = _make_parents(path.parent)
    inside = path.is_dir() and (os.path.ismount(path) or not os.access(path.parent, os.W_OK | os.X_OK))
    stage = Path(tempfile.mkdtemp(prefix=".lockgate-init-", dir=path if inside else path.parent))
    try:
        yield stage
        if inside:
            _move_up(stage, path)
        else:
            stage.replace(path)
            sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _make_parents(folder: Path) -> list[Path]:
    """Makes what is missing of `folder`; returns it, innermost first."""
    made: list[Path] = []
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o755)
        made.insert(0, parent)
    return made


def _move_up(stage: Path, path: Path) -> None:
    """The content of `stage` to `path` above it, the configuration last: it is what makes a gateway."""
    last = DataDirectory(stage).config.name
    moved: list[Path] = []
    try:
        for name in sorted(os.listdir(stage), key=lambda name: name == last):
            target = path / name
            (stage / name).rename(target)
            moved.append(target)
    except BaseException:
        for target in moved:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        raise
    path.chmod(0o700)
    stage.rmdir()
    sync_folder(path)


def _fill(
    directory: DataDirectory,
    configuration: Seed,
    material: pki.Material,
    password: Secret,
    postgresql: str | None,
) -> None:
    for folder in (directory.tls, directory.database.parent, directory.run):
        folder.mkdir(mode=0o700)
    write_private(directory.config, render(configuration).encode())
    write_private(directory.server_certificate, material.chain)
    write_private(directory.server_key, material.key.reveal())
    if material.ca is not None:
        write_private(directory.ca_certificate, material.ca)
        directory.ca_certificate.chmod(0o644)
    if material.ca_key is not None:
        directory.ca_key.parent.mkdir(mode=0o700)
        write_private(directory.ca_key, material.ca_key.reveal())
    if postgresql is not None:
        choose_postgresql(directory, postgresql)
    now = time.time()
    administrator = UserRecord(
        name=ADMINISTRATOR,
        password_hash=hash_password(configuration.sign_in.argon2, password),
        enabled=True,
        serial=new_serial(),
        created=now,
        changed=now,
        server=ADMIN_SERVER,
    )
    # Last: a database elsewhere is not removed with the folder when something fails.
    asyncio.run(_create_database(directory, administrator))


async def _create_database(directory: DataDirectory, administrator: UserRecord) -> None:
    store = await create_store(directory)
    try:
        await store.users.add(administrator)
    finally:
        await store.close()


def _hand_over(stage: Path, account: pwd.struct_passwd) -> None:
    for folder, _, files in os.walk(stage):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            os.chown(name, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _new_password() -> Secret:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return Secret.of_text("-".join(groups))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
