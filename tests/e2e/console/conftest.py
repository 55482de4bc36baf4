"""A gateway of its own, a browser beside it, and pages of an administrator who is signed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.e2e.console.browser import chromium
from tests.lab import Gateway, Lab

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
EXPECTED = re.compile(r"status of 4(03|04|09|22)")
"""What a browser's console says about answers that are as they should be."""


@dataclass
class Console:
    """The console of one gateway, as a browser on the same machine sees it."""

    gateway: Gateway
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{8443 + self.gateway.place}/admin/"

    @property
    def password(self) -> str:
        found = re.search(r"Password:\s+(\S+)", self.gateway.init_output)
        assert found, self.gateway.init_output
        return found[1]

    def open(self, **options: object) -> Page:
        """A browser without a session."""
        context = self.browser.new_context(
            ignore_https_errors=True, viewport={"width": 1280, "height": 900}, **options
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def signed_in(self, user: str = "admin", password: str = "", **options: object) -> Page:
        page = self.open(**options)
        page.goto(self.url)
        page.get_by_label("User name").fill(user)
        page.get_by_label("Password").fill(password or self.password)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", level=1, name="Overview").wait_for()
        return page

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.complaints.append(f"{message.text} {message.location}")

    def close_pages(self) -> None:
        for context in self.contexts:
            context.close()
        self.contexts.clear()
        complaints, self.complaints = self.complaints, []
        assert complaints == []


@pytest.fixture(scope="module")
def _console(lab: Lab, another_gateway: Callable[..., Gateway]) -> Iterator[Console]:
    with chromium(lab.gateway) as browser:
        yield Console(another_gateway(), browser)


@pytest.fixture
def console(_console: Console) -> Iterator[Console]:
    """Whatever the browser complains about fails the test."""
    yield _console
    _console.close_pages()


def violations(page: Page, part: str = "html") -> list[str]:
    """What a program can find against WCAG 2.2 AA, and content that is wider than the window."""
    # Not as an element of the page: its content policy lets no such script in.
    page.evaluate(AXE)
    found = page.evaluate("([part, rules]) => axe.run(part, {runOnly: rules})", [part, RULES])
    lines = [
        f"{page.url}: {each['id']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        for each in found["violations"]
    ]
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return lines if over <= 0 else [*lines, f"{page.url}: {over} px wider than the window"]
