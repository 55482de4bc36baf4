"""A gateway of its own, a browser beside it, and pages of an administrator who is signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page

from tests.lab import Gateway, Lab
from tests.lab.browser import Pages, chromium, enter_console


@dataclass
class Console:
    """The console of one gateway, as a browser on the same machine sees it."""

    gateway: Gateway
    pages: Pages

    @property
    def url(self) -> str:
        return self.gateway.console_url

    def open(self, **options: object) -> Page:
        """A browser without a session."""
        return self.pages.open(viewport={"width": 1280, "height": 900}, **options)

    def signed_in(self, user: str = "admin", password: str = "", **options: object) -> Page:
        page = self.open(**options)
        page.goto(self.url)
        enter_console(page, user, password or self.gateway.admin_password)
        return page


@pytest.fixture(scope="module")
def _console(lab: Lab, another_gateway: Callable[..., Gateway]) -> Iterator[Console]:
    with chromium(lab.gateway) as browser:
        yield Console(another_gateway(), Pages(browser, 403, 404, 409, 422))


@pytest.fixture
def console(_console: Console) -> Iterator[Console]:
    """Whatever the browser complains about fails the test."""
    yield _console
    _console.pages.close()
