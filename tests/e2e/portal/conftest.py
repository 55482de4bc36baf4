"""A browser, and pages that complain by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.lab import browser
from tests.lab.browser import Pages

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")  # its event loop would be in the way of other modules
def chromium() -> Iterator[Browser]:
    with browser.chromium() as chromium:
        yield chromium


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[NewPage]:
    """Opens pages in browsers of their own; whatever their consoles complain about fails the test."""
    pages = Pages(chromium, 403, 404, 422)
    yield pages.open
    pages.close()


def accessible(page: Page) -> None:
    """No rule of WCAG 2.2 AA that a program can check is broken, and nothing is wider than the window."""
    assert browser.violations(page) == []
