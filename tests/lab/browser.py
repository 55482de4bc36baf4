"""Chromium, driven from here: pages whose complaints are kept, and what a program can find wrong with a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.lab.host import Host

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",  # the lab's root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 30_000  # milliseconds: on a busy machine a page may take seconds
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def chromium(host: Host | None = None) -> Iterator[Browser]:
    """A browser in the host's network, or in ours. It is driven through pipes, which lead into any namespace."""
    program = CHROMIUM
    if host is not None:
        script = host.directory / "chromium"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(host.command([CHROMIUM]))} "$@"\n')
        script.chmod(0o755)
        program = str(script)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Pages:
    """Opens pages, each in a browser without a session.

    expected: statuses of answers that are as they should be; whatever else the browser's console complains about
    fails `close`.
    """

    def __init__(self, browser: Browser, *expected: int) -> None:
        self._browser = browser
        self._expected = re.compile(f"status of ({'|'.join(map(str, expected))})\\b")
        self._complaints: list[str] = []
        self._contexts: list[BrowserContext] = []

    def open(self, **options: Any) -> Page:
        """options: of playwright's `new_context`."""
        context = self._browser.new_context(ignore_https_errors=True, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        return page

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self._expected.search(message.text):
            self._complaints.append(f"{message.text} {message.location}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        complaints, self._complaints = self._complaints, []
        assert complaints == []


def enter_console(page: Page, user: str, password: str) -> None:
    """Fills in the page that asks an administrator for name and password."""
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1, name="Overview").wait_for()
    page.wait_for_load_state()  # the heading is there before the page's scripts hear any key


def violations(page: Page, part: str = "html") -> list[str]:
    """What a program can find against WCAG 2.2 AA, and content that is wider than the window."""
    # Not as an element of the page: its content policy lets no such script in.
    page.evaluate(AXE.read_text())
    found = page.evaluate("([part, rules]) => axe.run(part, {runOnly: rules})", [part, RULES])
    lines = [
        f"{page.url}: {each['id']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        for each in found["violations"]
    ]
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return lines if over <= 0 else [*lines, f"{page.url}: {over} px wider than the window"]
