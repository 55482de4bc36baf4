"""The running gateway holds no more privilege than it needs, and nothing of it lies open."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lockgate.server.datadir import DataDirectory
from lockgate.server.supervisor import confinement
from tests.lab import Gateway, Lab
from tests.lab.gateway import PASSWORD


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
    administrators_password = next(
        word for line in gateway.init_output.splitlines() if "assword" in line for word in line.split()[-1:]
    )
    for pid in gateway.processes():
        for file in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{file}").read_bytes()
            for secret in (PASSWORD, administrators_password):
                assert secret.encode() not in content
    assert PASSWORD not in gateway.log()
    assert administrators_password not in gateway.log()


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


@pytest.mark.parametrize(
    ("name", "readable"),
    [("ca/ca.key", False), ("tls/server.key", False), ("config.toml", False), ("db/lockgate.db", True)],
)
def test_the_control_plane_sees_its_part_of_the_data_directory(
    gateway: Gateway, name: str, readable: bool
) -> None:
    writes = confinement.control_writes(DataDirectory(gateway.directory))
    command = confinement.confined("control", ["/bin/cat", str(gateway.directory / name)], write=writes)
    assert (
        gateway.host.run(["sh", "-c", '"$@" >/dev/null', "sh", *command], check=False).returncode == 0
    ) is readable
