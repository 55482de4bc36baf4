# ruff: noqa: ASYNC240 - a small file on a disk nobody else uses
from __future__ import annotations

import json
import os
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lockgate.client.linux.dns import plain_file, resolv_conf
from lockgate.client.linux.dns.driver import Driver
from lockgate.client.linux.dns.forwarding import ADDRESS, Routes
from lockgate.client.linux.dns.plain_file import PlainFile
from lockgate.client.linux.dns.wish import DnsWish
from lockgate.model.problem import ProblemError

pytestmark = pytest.mark.anyio

FORMER = b"# home\nnameserver 192.0.2.53\nsearch lan\noptions ndots:2\n\n\xff"
FULL = DnsWish((ip_address("10.0.0.53"), ip_address("fd00::53")), ("corp.example",), False, "tun0", 7)
SPLIT = replace(FULL, split=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_bytes(FORMER)
    return path


@pytest.fixture(autouse=True)
def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[Routes | None]:
    """What drivers wanted of a forwarder; none runs."""
    wanted: list[Routes | None] = []

    async def forward(self: Driver, routes: Routes | None) -> None:
        wanted.append(routes)

    monkeypatch.setattr(Driver, "_forward", forward)
    monkeypatch.setattr(Driver, "_forwarding", property(lambda self: bool(wanted) and wanted[-1] is not None))
    return wanted


async def journalled(driver: Driver, wish: DnsWish) -> dict[str, Any]:
    return json.loads(json.dumps(await driver.saved(wish)))


async def test_all_names_inside(path: Path) -> None:
    driver = PlainFile(path)
    saved = await journalled(driver, FULL)
    assert path.read_bytes() == FORMER
    await driver.apply(FULL)
    told = resolv_conf.parse(path.read_bytes())
    assert told.servers == FULL.servers
    assert told.search == ("corp.example",)  # not the home network's
    assert "ndots:2" in told.options
    assert await driver.verify(FULL)
    await driver.revert(saved)
    assert path.read_bytes() == FORMER


async def test_divided_names_go_to_the_forwarder(path: Path, forwarded: list[Routes | None]) -> None:
    driver = PlainFile(path)
    saved = await journalled(driver, SPLIT)
    await driver.apply(SPLIT)
    told = resolv_conf.parse(path.read_bytes())
    assert told.servers == (ADDRESS,)
    assert told.search == ("corp.example", "lan")
    assert forwarded == [
        Routes(SPLIT.servers, "tun0", ("corp.example",), (ip_address("192.0.2.53"),), ("lan",))
    ]
    assert await driver.verify(SPLIT)
    await driver.revert(saved)
    assert forwarded[-1] is None


async def test_somebody_elses_new_content_becomes_the_one_to_give_back(path: Path) -> None:
    driver = PlainFile(path)
    await journalled(driver, FULL)
    await driver.apply(FULL)
    path.write_bytes(b"nameserver 198.51.100.1\n")  # a DHCP client
    assert not await driver.verify(FULL)
    saved = await journalled(driver, FULL)
    await driver.apply(FULL)
    assert resolv_conf.parse(path.read_bytes()).servers == FULL.servers
    assert await driver.verify(FULL)
    await driver.revert(saved)
    assert path.read_bytes() == b"nameserver 198.51.100.1\n"


async def test_our_own_file_is_never_taken_for_the_original(path: Path) -> None:
    """A service that dies and comes again, even without its journal."""
    first = PlainFile(path)
    await first.saved(FULL)
    await first.apply(FULL)
    second = PlainFile(path)
    saved = await journalled(second, SPLIT)
    await second.apply(SPLIT)
    assert plain_file.restore(saved, path) == [f"{path}: former content restored"]
    assert path.read_bytes() == FORMER


async def test_our_file_changed_by_a_line_is_still_ours(path: Path) -> None:
    driver = PlainFile(path)
    await driver.saved(FULL)
    await driver.apply(FULL)
    with path.open("ab") as file:
        file.write(b"nameserver 6.6.6.6\n")
    assert not await driver.verify(FULL)
    saved = await journalled(driver, FULL)
    await driver.apply(FULL)
    assert await driver.verify(FULL)
    plain_file.restore(saved, path)
    assert path.read_bytes() == FORMER


async def test_restoring_leaves_what_somebody_else_wrote(path: Path) -> None:
    driver = PlainFile(path)
    saved = await journalled(driver, FULL)
    await driver.apply(FULL)
    path.write_bytes(b"nameserver 198.51.100.1\n")
    assert "left as it is" in plain_file.restore(saved, path)[0]
    assert path.read_bytes() == b"nameserver 198.51.100.1\n"
    path.unlink()
    assert "left as it is" in plain_file.restore(saved, path)[0]


async def test_restoring_twice_does_no_harm(path: Path) -> None:
    driver = PlainFile(path)
    saved = await journalled(driver, FULL)
    await driver.apply(FULL)
    for _ in range(2):
        plain_file.restore(saved, path)
        assert path.read_bytes() == FORMER


async def test_a_link_to_nowhere_is_put_aside_and_laid_back(path: Path) -> None:
    path.unlink()
    path.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    driver = PlainFile(path)
    saved = await journalled(driver, FULL)
    await driver.apply(FULL)
    assert not path.is_symlink()
    assert await driver.verify(FULL)
    plain_file.restore(saved, path)
    assert os.readlink(path) == "../run/systemd/resolve/stub-resolv.conf"


async def test_a_link_into_a_weaker_users_directory_is_not_written_through(
    path: Path, tmp_path: Path, forwarded: list[Routes | None]
) -> None:
    weak = tmp_path / "weak"
    weak.mkdir()
    weak.chmod(0o777)
    (weak / "list").write_bytes(b"nameserver 192.0.2.7\n")
    path.unlink()
    path.symlink_to("weak/list")
    driver = PlainFile(path)
    saved = await journalled(driver, SPLIT)
    await driver.apply(SPLIT)
    assert (weak / "list").read_bytes() == b"nameserver 192.0.2.7\n"
    assert forwarded[-1] is not None
    assert forwarded[-1].outside == (ip_address("192.0.2.7"),)
    plain_file.restore(saved, path)
    assert os.readlink(path) == "weak/list"


async def test_a_missing_file_is_missing_again(path: Path) -> None:
    path.unlink()
    driver = PlainFile(path)
    saved = await journalled(driver, FULL)
    await driver.apply(FULL)
    assert await driver.verify(FULL)
    plain_file.restore(saved, path)
    assert not path.exists()


async def test_a_file_that_cannot_be_written_is_a_problem(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    driver = PlainFile(path)
    await driver.saved(FULL)
    monkeypatch.setattr("lockgate.client.linux.dns.trusted_file.overwrite", refuse)
    with pytest.raises(ProblemError) as caught:
        await driver.apply(FULL)
    assert caught.value.problem.code == "dns-not-writable"
