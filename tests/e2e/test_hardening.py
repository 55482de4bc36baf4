"""The running gateway holds no more privilege than it needs, and nothing of it lies open."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lockgate.server.datadir import DataDirectory
from lockgate.server.supervisor import confinement
from tests.e2e.conftest import Connect
from tests.lab import Gateway, Lab
from tests.lab.gateway import PASSWORD
from tests.lab.postgresql import PostgreSQL
from tests.lab.topology import GATEWAY4, INTRANET4


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("process", ["edge", "control"])
def test_processes_have_no_way_to_more_privilege(lab: Lab, gateway: Gateway, process: str) -> None:
    status = _status(gateway.pid(process))
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0, capabilities
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter


def test_the_supervisor_too(lab: Lab, gateway: Gateway) -> None:
    assert gateway.program is not None
    status = _status(gateway.program.pid)
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_the_edge_holds_no_file_of_the_control_plane(lab: Lab, gateway: Gateway) -> None:
    """Descriptors of the edge: sockets, the tunnel, its log; not the database, not a key file."""
    for link in Path(f"/proc/{gateway.pid('edge')}/fd").iterdir():
        target = str(link.readlink())
        assert "lockgate.db" not in target
        assert "/tls/" not in target


def test_the_data_directory_is_closed(lab: Lab, gateway: Gateway) -> None:
    for path in [gateway.directory, *gateway.directory.rglob("*")]:
        mode = path.lstat().st_mode
        if path == gateway.ca_file or stat.S_ISLNK(mode):
            continue
        assert not mode & 0o077, f"{path.relative_to(gateway.directory)} has mode {stat.filemode(mode)}"


def test_no_secret_in_arguments_environment_or_log(lab: Lab, gateway: Gateway) -> None:
    for pid in gateway.processes():
        for file in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{file}").read_bytes()
            for secret in (PASSWORD, gateway.admin_password):
                assert secret.encode() not in content
    assert PASSWORD not in gateway.log()
    assert gateway.admin_password not in gateway.log()


def test_listens_where_it_was_told_and_nowhere_else(lab: Lab, gateway: Gateway) -> None:
    pids = set(gateway.processes())
    lines = lab.gateway.run(["ss", "-Hlntup"]).stdout.splitlines()
    mine = [line.split() for line in lines if any(f"pid={pid}," in line for pid in pids)]
    # Edge and control plane may hold the same socket; each is named once.
    assert sorted({(fields[0], fields[4]) for fields in mine}) == [
        ("tcp", "127.0.0.1:8443"),
        ("tcp", "203.0.113.2:443"),
        ("tcp", "[2001:db8:2::2]:443"),
        ("udp", "203.0.113.2:4500"),
        ("udp", "[2001:db8:2::2]:4500"),
    ]


def _as_control_plane(gateway: Gateway, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command on the gateway's host under what holds the control plane."""
    directory = DataDirectory(gateway.directory)
    line = confinement.confined(
        "control",
        command,
        read=confinement.control_reads(directory),
        write=confinement.control_writes(directory),
        connect=confinement.control_connects(directory),
    )
    return gateway.host.run(line, check=False)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("ca/ca.key", False),
        ("tls/server.key", False),
        ("config.toml", False),
        ("db/lockgate.db", True),
        ("secrets/store.key", True),
    ],
)
def test_the_control_plane_sees_its_part_of_the_data_directory(
    gateway: Gateway, name: str, readable: bool
) -> None:
    file = str(gateway.directory / name)
    done = _as_control_plane(gateway, "/bin/sh", "-c", 'cat "$0" >/dev/null', file)
    assert (done.returncode == 0) is readable, done.stderr


def test_the_control_plane_cannot_change_its_key(gateway: Gateway) -> None:
    key = str(gateway.directory / "secrets" / "store.key")
    for attempt in ('echo x >>"$0"', 'rm "$0"', 'echo x >"$0.new"'):
        assert _as_control_plane(gateway, "/bin/sh", "-c", attempt, key).returncode != 0, attempt


_REACHES = """
import socket as s, sys
gateway, resolver = sys.argv[1:]
def tcp(): s.create_connection((gateway, 443), 10)
def udp(): s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b"x", (resolver, 53))
def names(): s.getaddrinfo("localhost", 443)
def pair(): s.socketpair()
def listen(): s.create_server(("127.0.0.1", 8444))
def packet(): s.socket(s.AF_PACKET, s.SOCK_DGRAM)
def raw(): s.socket(s.AF_INET, s.SOCK_RAW, s.IPPROTO_ICMP)
def ping(): s.socket(s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP)
def netfilter(): s.socket(s.AF_NETLINK, s.SOCK_RAW, 12)
def machine(): s.socket(s.AF_VSOCK)
def crypto(): s.socket(s.AF_ALG, s.SOCK_SEQPACKET)
for attempt in (tcp, udp, names, pair, listen, packet, raw, ping, netfilter, machine, crypto):
    try:
        attempt()
    except PermissionError:
        print(attempt.__name__, "refused")
    else:
        print(attempt.__name__, "works")
"""


def test_the_control_plane_reaches_servers_and_is_none(lab: Lab, gateway: Gateway) -> None:
    """Database, resolvers, log receivers, other gateways; nothing that a stranger could connect to."""
    arguments = ("-c", _REACHES, GATEWAY4, INTRANET4)
    done = _as_control_plane(gateway, sys.executable, "-P", "-s", *arguments)
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    works = {"tcp", "udp", "names", "pair"}
    if _landlock() < 4:  # the first version with rules for TCP
        found.pop("listen")
    assert {name for name, result in found.items() if result == "works"} == works


def test_a_local_database_is_reached_by_the_folder_of_its_socket(gateway: Gateway, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "D")
    directory.path.mkdir()
    assert confinement.control_connects(directory) == []
    folder, missing = tmp_path / "pg", tmp_path / "missing"
    folder.mkdir()
    for conninfo, wanted in (
        (f"host={folder} dbname=lockgate", [str(folder)]),
        (f"postgresql:///lockgate?host={folder}", [str(folder)]),
        (f"host={missing} dbname=lockgate", []),
        ("postgresql://lockgate@db.example.com/lockgate", []),
    ):
        directory.store_choice.write_text(f"[postgresql]\nconninfo = {json.dumps(conninfo)}\n")
        assert confinement.control_connects(directory) == wanted
    assert str(directory.store_choice) in confinement.control_reads(directory)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        server.listen()
        script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        for connect, works in (([str(folder)], True), ([], _landlock() < 9)):
            command = [sys.executable, "-P", "-s", "-c", script, str(folder / "s")]
            line = confinement.confined("control", command, write=["/dev/null"], connect=connect)
            assert (gateway.host.run(line, check=False).returncode == 0) is works


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    postgresql = PostgreSQL()
    yield postgresql
    postgresql.stop()


def test_a_gateway_on_postgresql_works_under_the_same_rules(
    postgresql: PostgreSQL, another_gateway: Callable[..., Gateway], connect: Connect
) -> None:
    gateway = another_gateway(store=postgresql.database())
    client = connect(gateway).wait_configured()
    assert gateway.session_of(client.user)["addresses"] == client.addresses()
    assert not list((gateway.directory / "db").iterdir())
    status = _status(gateway.pid("control"))
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"] == "2"


def _landlock() -> int:
    """The kernel's version of Landlock; 9 is the first that tells Unix sockets apart."""
    done = subprocess.run(
        [str(confinement.edge_binary()), "self-check"], capture_output=True, text=True, check=True
    )
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    return int(facts["landlock_abi"])
