"""The commands of `lockgate`, as an administrator meets them."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from tests.lab import Gateway, Lab
from tests.lab.gateway import PASSWORD

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))

COMMANDS = [
    ["server"], ["server", "init"], ["server", "run"], ["server", "status"], ["server", "sessions"],
    ["server", "disconnect"], ["user"], ["user", "add"], ["user", "passwd"], ["user", "disable"], ["user", "list"],
    ["user", "record"], ["server", "peers"],
    ["config"], ["config", "check"],
]  # fmt: skip


@pytest.fixture
def stopped(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    """A data directory without a server."""
    return Gateway(lab.gateway, tmp_path_factory.mktemp("stopped").name).initialise()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps(lab: Lab, command: list[str]) -> None:
    text = lab.gateway.run([LOCKGATE, *command, "--help"]).stdout
    assert "Usage: lockgate" in text
    if len(command) == 2:
        assert "Example" in text


def test_init_makes_a_closed_directory_and_shows_the_password_once(lab: Lab, stopped: Gateway) -> None:
    assert stat.S_IMODE(stopped.directory.stat().st_mode) == 0o700
    assert (stopped.directory / "config.toml").exists()
    assert stopped.ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert "assword" in stopped.init_output


def test_init_does_not_touch_what_is_there(lab: Lab, stopped: Gateway) -> None:
    before = (stopped.directory / "config.toml").read_bytes()
    again = [LOCKGATE, "server", "init", "--dir", str(stopped.directory), "--hostname", "other.example"]
    done = lab.gateway.run(again, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert (stopped.directory / "config.toml").read_bytes() == before


def test_init_needs_no_address_to_exist(lab: Lab) -> None:
    Gateway(lab.gateway, "elsewhere").initialise(listen=["192.0.2.200:443", "[2001:db8:ffff::1]:443"])


def test_users_without_a_server(lab: Lab, stopped: Gateway) -> None:
    stopped.add_user("alice")
    stopped.add_user("bob")
    stopped.user("disable", "bob")
    users = {user["user"]: user for user in json.loads(stopped.user("list", "--json"))}
    assert users["alice"]["enabled"] is True
    assert users["bob"]["enabled"] is False
    assert PASSWORD not in json.dumps(users)
    assert "$argon2" not in json.dumps(users)


def test_a_user_twice_is_an_error_that_says_so(lab: Lab, stopped: Gateway) -> None:
    stopped.add_user("alice")
    line = [LOCKGATE, "user", "add", "--dir", str(stopped.directory), "alice", "--password-stdin"]
    done = lab.gateway.run(line, input=f"{PASSWORD}\n", check=False)
    assert done.returncode != 0
    assert "alice" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["status", "sessions"])
def test_asking_a_stopped_server(lab: Lab, stopped: Gateway, command: str) -> None:
    done = lab.gateway.run([LOCKGATE, "server", command, "--dir", str(stopped.directory)], check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "not running" in done.stderr or "no server" in done.stderr.lower(), done.stderr


def test_config_check_names_file_line_key_and_what_is_allowed(lab: Lab, stopped: Gateway) -> None:
    good = str(stopped.directory / "config.toml")
    lab.gateway.run([LOCKGATE, "config", "check", good])
    stopped.set_config("network", "mtu", "99999")
    line = next(
        number
        for number, text in enumerate(Path(good).read_text().splitlines(), 1)
        if text.strip() == "mtu = 99999"
    )
    done = lab.gateway.run([LOCKGATE, "config", "check", good], check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for part in (good, str(line), "mtu", "576", "9000"):
        assert part in said


def test_a_server_with_a_wrong_configuration_does_not_start(lab: Lab, stopped: Gateway) -> None:
    stopped.set_config("network", "mtu", '"large"')
    done = lab.gateway.run([LOCKGATE, "server", "run", "--dir", str(stopped.directory)], check=False)
    assert done.returncode != 0
    assert "mtu" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_sessions_of_a_running_server(lab: Lab, gateway: Gateway) -> None:
    status = gateway.status()
    assert status["edge"] == "up"
    assert isinstance(gateway.sessions(), list)
    plain = lab.gateway.run([LOCKGATE, "server", "status", "--dir", str(gateway.directory)]).stdout
    assert "running" in plain


def test_a_second_server_on_the_same_directory_is_refused(lab: Lab, gateway: Gateway) -> None:
    done = lab.gateway.run([LOCKGATE, "server", "run", "--dir", str(gateway.directory)], check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert gateway.status()
