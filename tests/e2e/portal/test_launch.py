"""From the portal's Start to a running tunnel: a real browser and our own client on one machine of the lab."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.client.conftest import url
from tests.lab import Gateway, Lab
from tests.lab.browser import chromium
from tests.lab.gateway import PASSWORD
from tests.lab.host import Host
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY_NAME, INTRANET4

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
DEADLINE = 60.0  # seconds


@pytest.fixture
def page(lab: Lab) -> Iterator[Page]:
    """A page of a browser that runs on the client host."""
    with chromium(lab.client) as browser:
        yield browser.new_context(ignore_https_errors=True).new_page()


@pytest.fixture
def clients(lab: Lab) -> Iterator[Callable[[Host], OwnClient]]:
    """Starts our own client on a host; nothing of it is left afterwards."""
    started: list[OwnClient] = []

    def start(host: Host) -> OwnClient:
        started.append(OwnClient(host).start())
        return started[-1]

    yield start
    for client in started:
        client.command("client", "stop", check=False)
        client.stop()
        client.reset()


def link_of(page: Page) -> str:
    """What Start would open. In a tab of its own: one that could not open its link tells no more of what it loads."""
    tab = page.context.new_page()
    tab.goto(page.url)
    with tab.expect_response("**/portal/start") as answer:
        tab.get_by_role("button", name="Start", exact=True).click()
    link: str = answer.value.json()["link"]
    tab.close()
    return link


def sign_in(page: Page, address: str, user: str) -> None:
    page.goto(address)
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name=f"Hello, {user}")).to_be_visible()


def open_link(client: OwnClient, link: str, gateway: Gateway) -> tuple[int, str]:
    """`lockgate connect LINK` as somebody at a terminal does it who says yes: its status and what was shown."""
    master, slave = os.openpty()
    line = ["setsid", "--ctty", LOCKGATE, "connect", link, "--ca", str(gateway.ca_file), "--background"]
    process = subprocess.Popen(
        client.host.command(line, client.environment), stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown, answered, end = "", False, time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.1)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            shown += os.read(master, 4096).decode(errors="replace")
        except OSError:
            break
        if not answered and "(yes/no)" in shown:
            os.write(master, b"yes\n")
            answered = True
    os.close(master)
    return process.wait(DEADLINE), shown


def test_start_opens_a_tunnel_without_a_password(
    lab: Lab,
    gateway: Gateway,
    new_user: Callable[[Gateway], str],
    page: Page,
    clients: Callable[[Host], OwnClient],
) -> None:
    user, client, guest = new_user(gateway), clients(lab.client), clients(lab.guest)
    sign_in(page, url(gateway), user)

    # Another machine has the link: refused, and spent.
    link = link_of(page)
    status, shown = open_link(guest, link, gateway)
    assert (status, "This link is not good" in shown) == (1, True), shown
    status, shown = open_link(client, link, gateway)
    assert (status, "This link is not good" in shown) == (1, True), shown
    assert gateway.sessions_of(user) == []

    link = link_of(page)
    status, shown = open_link(client, link, gateway)
    assert status == 0, shown
    assert "assword" not in shown
    assert f"https://{GATEWAY_NAME}/" in shown
    client.wait_state("connected", transport="esp")
    assert gateway.session_of(user)["user"] == user
    lab.client.run(["ping", "-c1", "-W5", INTRANET4])
    page.goto(url(gateway))
    expect(page.get_by_text("VPN", exact=True)).to_be_visible()

    # Signing out of the portal ends the tunnel that it started, and the link is worth nothing any more.
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    gateway.wait_no_sessions(user)
    client.wait_gone()
    status, shown = open_link(client, link, gateway)
    assert (status, "This link is not good" in shown) == (1, True), shown
    log = client.debug_log() + client.log() + gateway.log()
    assert link.rpartition("=")[2] not in log
