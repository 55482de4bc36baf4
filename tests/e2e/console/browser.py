"""Chromium on a host of the lab, driven from here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

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


@contextmanager
def chromium(host: Host) -> Iterator[Browser]:
    """A browser in the host's network. It is driven through pipes, which lead into any namespace."""
    script = host.directory / "chromium"
    line = " ".join(map(shlex.quote, host.command([CHROMIUM])))
    script.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    script.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(script), args=ARGUMENTS)
        yield browser
        browser.close()
