"""`server init` makes all of a data directory or nothing of it."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from lockgate.model.problem import ProblemError
from lockgate.server import setup
from lockgate.server.config.seed.load import parse_configuration, read_file
from lockgate.server.config.seed.tree import Seed, SignIn
from lockgate.server.config.tree.system import Gateway
from lockgate.server.datadir import DataDirectory, become_owner, is_real_root, open_directory
from lockgate.server.store import open_store
from tests.unit.server.support import CHEAP, run

CONFIGURATION = Seed(gateway=Gateway(hostname="gw.example.org"), sign_in=SignIn(argon2=CHEAP))

as_root = pytest.mark.skipif(not is_real_root(), reason="changes the owner of files")


def create(path):
    return setup.create(path, CONFIGURATION, None)


def everything(path):
    return {str(file.relative_to(path)) for file in path.rglob("*")}


FILES = {
    "ca.pem",
    "config.toml",
    "db",
    "db/lockgate.db",
    "secrets",
    "secrets/store.key",
    "run",
    "tls",
    "ca",
    "ca/ca.key",
    "tls/server.key",
    "tls/server.pem",
}


@pytest.mark.parametrize("there", ["missing", "empty", "no parents"])
def test_a_data_directory_is_made(tmp_path, there):
    path = tmp_path / ("a/b/D" if there == "no parents" else "D")
    if there == "empty":
        path.mkdir(mode=0o755)
    created = create(path)
    assert created.directory == open_directory(path) == DataDirectory(path)
    assert everything(path) == FILES
    assert [file.name for file in path.parent.iterdir()] == ["D"]
    file = created.directory.config
    assert parse_configuration(read_file(file), file) == CONFIGURATION


def test_everything_is_closed_to_others(tmp_path):
    create(tmp_path / "D")
    for file in [tmp_path / "D", *(tmp_path / "D").rglob("*")]:
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o644 if file.name == "ca.pem" else 0o700 if file.is_dir() else 0o600), file


def test_the_administrator_has_the_password_that_is_shown(tmp_path):
    created = create(tmp_path / "D")

    async def work():
        store = await open_store(created.directory)
        try:
            return await store.users.find("Administrators", "admin")
        finally:
            await store.close()

    record = run(work())
    password = created.password.reveal_text()
    assert PasswordHasher().verify(record.password_hash, password)
    assert len(password.replace("-", "")) == 20
    for file in (tmp_path / "D").rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes()
    assert password not in repr(created)


def test_there_is_no_second_gateway_in_one_place(tmp_path):
    create(tmp_path / "D")
    before = {file: file.read_bytes() for file in (tmp_path / "D").rglob("*") if file.is_file()}
    with pytest.raises(ProblemError) as caught:
        create(tmp_path / "D")
    assert caught.value.problem.code == "already-initialised"
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(("make", "code"), [("folder", "directory-not-empty"), ("file", "not-a-directory")])
def test_somebody_elses_things_are_left_alone(tmp_path, make, code):
    path = tmp_path / "D"
    if make == "folder":
        path.mkdir()
        (path / "letter").write_text("mine")
    else:
        path.write_text("mine")
    with pytest.raises(ProblemError) as caught:
        create(path)
    assert caught.value.problem.code == code
    assert everything(tmp_path) == ({"D", "D/letter"} if make == "folder" else {"D"})


PLACES = ["D", "a/b/D", "empty"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("step", ["create_store", "hash_password", "sync_folder"])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, place, step):
    (tmp_path / "empty").mkdir()

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(setup, step, broken)
    if step == "sync_folder":
        monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(ProblemError, match="No space left on device"):
        create(tmp_path / place)
    assert everything(tmp_path) == {"empty"}


def test_a_place_whose_parent_is_closed_is_filled_from_inside(tmp_path, monkeypatch):
    """As a package leaves /var/lib/lockgate to its account."""
    path = tmp_path / "D"
    path.mkdir(mode=0o755)
    monkeypatch.setattr(os, "access", lambda folder, mode: Path(folder) != tmp_path)
    create(path)
    assert everything(path) == FILES
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    file = path / "config.toml"
    assert parse_configuration(read_file(file), file) == CONFIGURATION


def test_a_failure_inside_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "D"
    path.mkdir()
    monkeypatch.setattr(os, "access", lambda folder, mode: Path(folder) != tmp_path)
    original = Path.rename

    def no_configuration(self, target):
        if self.name == "config.toml":
            raise OSError(5, "Input/output error")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", no_configuration)
    with pytest.raises(ProblemError, match="Input/output error"):
        create(path)
    assert everything(tmp_path) == {"D"}


def test_a_link_is_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    created = create(tmp_path / "link")
    assert created.directory.path == tmp_path / "real"
    assert (tmp_path / "link").is_symlink()


@as_root
def test_with_the_account_everything_is_handed_over(tmp_path, monkeypatch):
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(setup.pwd, "getpwnam", lambda name: nobody)
    monkeypatch.setattr(setup, "_may_enter", lambda folder, account: True)
    created = create(tmp_path / "D")
    assert created.owner == "nobody"
    owners = {
        (file.stat().st_uid, file.stat().st_gid) for file in [tmp_path / "D", *(tmp_path / "D").rglob("*")]
    }
    assert owners == {(nobody.pw_uid, nobody.pw_gid)}


@as_root
def test_a_place_that_the_account_cannot_enter_stays_with_root(tmp_path, monkeypatch):
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(setup.pwd, "getpwnam", lambda name: nobody)
    tmp_path.chmod(0o700)
    created = create(tmp_path / "D")
    assert (tmp_path / "D").stat().st_uid == 0
    assert "cannot enter" in created.warnings[0]


BECOME = """
import sys
from pathlib import Path
from lockgate.server.datadir import DataDirectory, become_owner
import os
become_owner(DataDirectory(Path(sys.argv[1])))
(Path(sys.argv[1]) / "made").touch()
print(os.getresuid(), os.getresgid(), os.getgroups())
"""


def become_in_a_process(path):
    done = subprocess.run(
        [sys.executable, "-c", BECOME, str(path)],
        extra_groups=[7],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip(), done.stderr


@as_root
def test_root_becomes_the_owner_for_good(shared_path):
    path = shared_path / "D"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 54321)
    out, err = become_in_a_process(path)
    assert out == "(12345, 12345, 12345) (54321, 54321, 54321) []", err
    assert (path / "made").stat().st_uid == 12345


@as_root
def test_an_owner_that_cannot_reach_the_directory_is_a_problem(shared_path):
    path = shared_path / "closed" / "D"
    path.mkdir(parents=True)
    path.parent.chmod(0o700)
    os.chown(path, 12345, 54321)
    out, err = become_in_a_process(path)
    assert out == ""
    assert "cannot enter it" in err


def test_the_owner_stays_the_owner(tmp_path):
    become_owner(DataDirectory(tmp_path))
    assert os.geteuid() == tmp_path.stat().st_uid


def test_no_gateway_is_a_problem(tmp_path):
    with pytest.raises(ProblemError) as caught:
        open_directory(tmp_path)
    assert caught.value.problem.code == "no-data-directory"


def test_a_run_file_is_replaced_in_one_step(tmp_path):
    directory = create(tmp_path / "D").directory
    directory.write_run_file("pids.json", "1")
    directory.write_run_file("pids.json", "2")
    assert (directory.run / "pids.json").read_text() == "2"
    assert os.listdir(directory.run) == ["pids.json"]


@pytest.fixture
def shared_path():
    """A folder that every account may enter; pytest's own is closed."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
