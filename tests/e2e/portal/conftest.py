"""A browser, and pages that complain by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

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
AXE = Path(__file__).parents[1] / "console" / "vendor" / "axe.min.js"
EXPECTED = ("status of 403", "status of 404", "status of 422")
"""What a browser's console says about answers that are as they should be."""

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")  # its event loop would be in the way of other modules
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Opens pages in browsers of their own; whatever their consoles complain about fails the test."""
    complaints: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in EXPECTED):
            complaints.append(message.text)

    def make(**options: object) -> Page:
        context = chromium.new_context(ignore_https_errors=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


def accessible(page: Page) -> None:
    """No rule of WCAG 2.2 AA that a program can check is broken, and nothing is wider than the window."""
    page.evaluate(AXE.read_text())  # not as an element of the page: its policy lets no such script in
    found = page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    assert [(each["id"], [n["html"] for n in each["nodes"]]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
