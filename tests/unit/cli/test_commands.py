"""The commands as people call them: exit status, words, JSON, and no traceback."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lockgate.cli.lazy import Lazy, LazyGroup
from lockgate.cli.main import lockgate
from lockgate.cli.output import Command
from lockgate.server.datadir import DataDirectory, is_real_root

# They log, or have formats of their own.
WITHOUT_JSON = {("server", "run"), ("client", "run"), ("audit", "export")}


def call(*arguments, stdin=None):
    return CliRunner().invoke(lockgate, [str(argument) for argument in arguments], input=stdin)


def answered(*arguments, stdin=None):
    """The JSON of a command that succeeds."""
    result = call(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments, stdin=None):
    """The code of a command that fails; in both forms it says the same."""
    result = call(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 1, result.output
    problem = json.loads(result.stdout)["error"]
    plain = call(*arguments, stdin=stdin)
    assert plain.exit_code == 1
    assert plain.stdout == ""
    assert plain.stderr.splitlines()[-1].endswith(problem["fix"])
    assert f"error: {problem['summary']}" in plain.stderr
    return problem["code"]


@pytest.fixture
def gateway(tmp_path):
    """A data directory whose password hashes cost little."""
    path = tmp_path / "D"
    answered("server", "init", "--dir", path, "--hostname", "gw.example.org")
    config = path / "config.toml"
    config.write_text(config.read_text().replace("# memory_kib = 19456", "memory_kib = 64"))
    return path


def commands(group=lockgate, path=()):
    """Every command with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands()]
)
def test_every_command_has_help_examples_json_and_our_errors(words, command):
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert f"lockgate {' '.join(words)}" in result.output.partition("Examples:")[2]
    assert isinstance(command, Command)
    if words not in WITHOUT_JSON:
        assert "--json" in result.output


def test_the_list_of_commands_says_what_the_commands_say():
    def rows(group):
        for entry in group._table.values():
            if isinstance(entry, LazyGroup):
                yield from rows(entry)
            elif isinstance(entry, Lazy):
                yield entry

    for entry in rows(lockgate):
        assert entry.help.endswith(".")


def test_help_imports_no_heavy_module():
    program = (
        "import sys\nfrom lockgate.cli.main import lockgate\n"
        "lockgate(['server', '--help'], standalone_mode=False)\n"
        "heavy = {'pydantic', 'sqlalchemy', 'alembic', 'cryptography', 'argon2', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, timeout=60)


# -- server init ----------------------------------------------------------------------------------------


def test_init_with_defaults(tmp_path):
    made = answered("server", "init", "--dir", tmp_path / "D", "--hostname", "GW.example.org")
    assert made["hostname"] == "gw.example.org"
    assert made["listen"][0] == "0.0.0.0:443"
    assert made["admin_listen"] == "127.0.0.1:8443"
    assert made["pools"][0] == "10.88.0.0/16"
    assert made["pools"][1].startswith("fd")
    assert made["pools"][1].endswith("::/64")
    assert made["administrator"]["name"] == "admin"
    assert made["ca"] == str(tmp_path / "D" / "ca.pem")
    assert made["warnings"] == []
    assert answered("config", "check", made["config"])["ok"] is True


def test_init_with_everything(tmp_path):
    made = answered(
        *("server", "init", "--dir", tmp_path / "D", "--hostname", "192.0.2.1"),
        *("--listen", "192.0.2.1:443", "--listen", "[2001:db8::1]:8443", "--admin-listen", "[::1]:9443"),
        *("--pool", "10.99.0.0/24", "--dns", "10.77.0.53", "--split-include", "10.77.0.0/16"),
    )
    assert made["listen"] == ["192.0.2.1:443", "[2001:db8::1]:8443"]
    assert made["pools"] == ["10.99.0.0/24"]
    config = Path(made["config"]).read_text()
    for line in (
        'listen = ["192.0.2.1:443", "[2001:db8::1]:8443"]',
        'admin_listen = "[::1]:9443"',
        'pools = ["10.99.0.0/24"]',
        'dns = ["10.77.0.53"]',
        'split_include = ["10.77.0.0/16"]',
    ):
        assert f"\n{line}\n" in config


def test_init_shows_the_password_once_to_a_person(tmp_path):
    result = call("server", "init", "--dir", tmp_path / "D", "--hostname", "gw")
    assert result.exit_code == 0
    assert result.stdout.count("shown only now") == 1
    assert f"lockgate server run --dir {tmp_path / 'D'}" in result.stdout


BAD_OPTIONS = [
    (("--pool", "10.0.0.1/8"), 2, "this network is written 10.0.0.0/8"),
    (("--listen", "::1"), 2, "write [::1]:443"),
    (("--listen", "gw:443"), 2, "not an IP address"),
    (("--dns", "x"), 2, "not an IP address"),
    (("--hostname", "a b"), 2, "not a DNS name"),
    (("--pool", "10.0.0.0/31"), 1, "no room for a client"),
    (("--listen", "127.0.0.1:8443"), 1, "is where clients connect"),
    (("--certificate", __file__), 2, "go together"),
    (("--certificate", __file__, "--key", __file__), 1, "no PEM certificates"),
]


@pytest.mark.parametrize(("options", "status", "words"), BAD_OPTIONS)
def test_init_refuses_and_leaves_nothing(tmp_path, options, status, words):
    result = call("server", "init", "--dir", tmp_path / "D", "--hostname", "gw", *options)
    assert result.exit_code == status
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_takes_a_given_certificate(tmp_path):
    first = answered("server", "init", "--dir", tmp_path / "A", "--hostname", "gw")
    tls = Path(first["dir"]) / "tls"
    made = answered(
        *("server", "init", "--dir", tmp_path / "B", "--hostname", "other"),
        *("--certificate", tls / "server.pem", "--key", tls / "server.key"),
    )
    assert made["ca"] is None
    assert made["warnings"] == ["the certificate does not name other: clients will not accept it"]
    assert (tmp_path / "B/tls/server.pem").read_bytes() == (tls / "server.pem").read_bytes()
    assert not (tmp_path / "B/ca/ca.key").exists()


def test_init_twice(tmp_path):
    answered("server", "init", "--dir", tmp_path / "D", "--hostname", "gw")
    assert refused("server", "init", "--dir", tmp_path / "D", "--hostname", "gw") == "already-initialised"


def test_init_in_a_user_namespace_with_one_uid(tmp_path):
    """As a container without root has it: nothing can be handed over, and nothing needs to be."""
    inside = ["unshare", "--user", "--map-root-user", sys.executable, "-c"]
    if subprocess.run([*inside, ""], capture_output=True, timeout=60).returncode:
        pytest.skip("user namespaces are not allowed here")
    program = "import sys\nfrom lockgate.cli.main import main\nsys.argv[0] = 'lockgate'\nmain()"
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [*inside, program, "server", "init", "--dir", str(tmp_path / "D"), "--hostname", "gw", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["administrator"]["password"]
    assert (tmp_path / "D").stat().st_uid == os.getuid()


# -- user -------------------------------------------------------------------------------------------------


def test_a_users_life(gateway):
    def state():
        return {entry["user"]: entry["enabled"] for entry in answered("user", "list", "--dir", gateway)}

    assert state() == {}
    added = answered("user", "add", " Alice ", "--dir", gateway, "--password-stdin", stdin="wonderland\n")
    assert added == {"user": "alice", "warnings": []}
    assert state() == {"alice": True}
    assert answered("user", "disable", "ALICE", "--dir", gateway) == {"user": "alice", "ended_sessions": []}
    assert state() == {"alice": False}
    answered("user", "enable", "alice", "--dir", gateway)
    assert state() == {"alice": True}
    answered("user", "passwd", "alice", "--dir", gateway, "--password-stdin", stdin="looking-glass")
    answered("user", "delete", "alice", "--dir", gateway)
    assert state() == {}


def test_a_user_twice(gateway):
    answered("user", "add", "alice", "--dir", gateway, "--password-stdin", stdin="wonderland")
    code = refused("user", "add", "ALICE", "--dir", gateway, "--password-stdin", stdin="wonderland")
    assert code == "user-exists"


@pytest.mark.parametrize("command", ["disable", "enable", "delete"])
def test_nobody_is_a_problem(gateway, command):
    assert refused("user", command, "nobody", "--dir", gateway) == "no-such-user"


def test_nobody_gets_no_password(gateway):
    assert (
        refused("user", "passwd", "nobody", "--dir", gateway, "--password-stdin", stdin="x" * 8)
        == "no-such-user"
    )


@pytest.mark.parametrize("name", ["", " ", "a\tb", "x" * 65])
def test_a_name_that_cannot_be_one(gateway, name):
    assert (
        refused("user", "add", name, "--dir", gateway, "--password-stdin", stdin="wonderland")
        == "bad-user-name"
    )


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password-too-short"),
        ("\n", "password-too-short"),
        ("\nsecond line", "password-too-short"),
        ("x" * 254, "password-too-long"),
        ("\u00e9" * 127, "password-too-long"),
        (b"\xff\xfe", "password-not-text"),
    ],
)
def test_a_password_that_cannot_be_one(gateway, password, code):
    assert refused("user", "add", "alice", "--dir", gateway, "--password-stdin", stdin=password) == code


def test_without_a_terminal_the_password_comes_from_standard_input_or_not_at_all(gateway):
    assert refused("user", "add", "alice", "--dir", gateway, stdin="wonderland\n") == "no-password"


def test_a_short_password_is_a_warning(gateway):
    for words in (("add", "alice"), ("passwd", "alice")):
        result = call("user", *words, "--dir", gateway, "--password-stdin", stdin="secret\r\n")
        assert result.exit_code == 0
        assert "at least 8 characters" in result.stderr
    told = answered("user", "passwd", "alice", "--dir", gateway, "--password-stdin", stdin="secret-8\n")
    assert told["warnings"] == []


def test_the_longest_password_the_wire_carries(gateway):
    answered("user", "add", "alice", "--dir", gateway, "--password-stdin", stdin="x" * 253 + "\n")


def test_no_password_reaches_the_disk_or_the_output(gateway):
    result = call("user", "add", "alice", "--dir", gateway, "--password-stdin", stdin="canary-wonderland\n")
    assert "canary" not in result.output
    for file in gateway.rglob("*"):
        if file.is_file():
            assert b"canary" not in file.read_bytes()


def test_without_a_gateway(tmp_path):
    assert refused("user", "list", "--dir", tmp_path / "none") == "no-data-directory"
    assert refused("user", "list", "--dir", tmp_path) == "no-data-directory"


def test_with_a_broken_configuration(gateway):
    (gateway / "config.toml").write_text("[network]\nmtu = 1\n")
    result = call("user", "list", "--dir", gateway)
    assert result.exit_code == 1
    assert f"{gateway}/config.toml:2: network.mtu" in result.stderr


def test_a_running_server_is_told(gateway, monkeypatch):
    answered("user", "add", "alice", "--dir", gateway, "--password-stdin", stdin="wonderland")
    asked = []
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(gateway / "run")
    listener.bind("control.sock")
    listener.listen()

    def serve():
        with listener:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as stream:
                asked.append(json.loads(stream.readline()))
                stream.write(b'{"ended": []}\n')

    thread = threading.Thread(target=serve)
    thread.start()
    answered("user", "disable", "alice", "--dir", gateway)
    thread.join()
    assert asked == [{"op": "user-changed", "server": "System Local", "user": "alice"}]


@pytest.mark.skipif(not is_real_root(), reason="changes the owner of files")
def test_root_leaves_no_files_of_its_own_in_somebody_elses_directory(gateway):
    for folder in gateway.parents:
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    for name in [gateway, *gateway.rglob("*")]:
        os.chown(name, 12345, 12345)
    program = "import sys\nfrom lockgate.cli.main import main\nsys.argv[0] = 'lockgate'\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "user", "add", "alice", "--dir", str(gateway), "--password-stdin"],
        input="wonderland",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert {file.stat().st_uid for file in gateway.rglob("*")} == {12345}
    assert DataDirectory(gateway).database.exists()


# -- config check ---------------------------------------------------------------------------------------


def test_check_names_file_line_key_and_what_is_allowed(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[gateway]\nhostname = "gw"\ntls_minimum = "1.1"\n\n[network]\nmtu = 1\n')
    result = call("config", "check", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f'error: {file}:3: gateway.tls_minimum: "1.1" is not allowed; allowed: "1.2" or "1.3"',
        f"error: {file}:6: network.mtu: 1 is not allowed; allowed: a whole number from 576 to 9000 (bytes)",
    ]
    as_json = call("config", "check", file, "--json")
    assert as_json.exit_code == 1
    document = json.loads(as_json.stdout)
    assert document["ok"] is False
    assert [(error["line"], error["key"]) for error in document["errors"]] == [
        (3, "gateway.tls_minimum"),
        (6, "network.mtu"),
    ]
    assert document["errors"][0]["allowed"] == '"1.2" or "1.3"'


def test_check_shows_warnings_and_succeeds(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        '[gateway]\nhostname = "gw"\n[network]\ndns = ["9.9.9.9"]\nsplit_include = ["10.0.0.0/8"]\n'
    )
    result = call("config", "check", file)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {file}:4: network.dns[0]: 9.9.9.9 is outside split_include")
    assert "valid" in result.stdout


def test_check_of_nothing(tmp_path):
    assert refused("config", "check", tmp_path / "none.toml") == "config-unreadable"
