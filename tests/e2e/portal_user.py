"""Somebody with a browser without script: signs in to the portal, fills in forms, prints the pages.

    python -m tests.e2e.portal_user HOST PORT < steps.json > pages.json

In: {"user", "password", "steps": [[path, {field: value} or null], …]}, null for a page that is only looked at. Out:
the pages, the home page first; the last of a redirection.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import sys
from html import unescape
from urllib.parse import urlencode

NAME = "gw.lab.test"
_INPUT = re.compile(r"<input\b[^>]*>")
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')


class Browser:
    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._cookies: dict[str, str] = {}

    def open(self, path: str, form: dict[str, str] | None = None) -> str:
        """The page in the end."""
        for _ in range(5):
            status, page, location = self._ask(path, form)
            if status not in (302, 303):
                return page
            path, form = location, None
        raise RuntimeError("redirected without end")

    def submit(self, page: str, path: str, typed: dict[str, str]) -> str:
        """Sends a form of a page: its hidden fields and what is typed."""
        tags = (dict(_ATTRIBUTE.findall(tag)) for tag in _INPUT.findall(page))
        token = next(unescape(tag["value"]) for tag in tags if tag.get("name") == "csrf")
        return self.open(path, {"csrf": token, **typed})

    def _ask(self, path: str, form: dict[str, str] | None) -> tuple[int, str, str]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(*self._place, timeout=20, context=context)
        port = self._place[1]
        host = NAME if port == 443 else f"{NAME}:{port}"
        headers = {"Host": host, "Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())}
        if form is None:
            connection.request("GET", path, headers=headers)
        else:
            headers |= {
                "Origin": f"https://{host}",
                "Sec-Fetch-Site": "same-origin",
                "Content-Type": "application/x-www-form-urlencoded",
            }
            connection.request("POST", path, urlencode(form), headers)
        with connection.getresponse() as answer:
            for cookie in answer.headers.get_all("set-cookie") or ():
                name, _, rest = cookie.partition("=")
                self._cookies[name] = rest.partition(";")[0]
            return answer.status, answer.read().decode(), answer.headers.get("location", "")


def main() -> None:
    browser, task = Browser(sys.argv[1], int(sys.argv[2])), json.load(sys.stdin)
    page = browser.open("/")
    page = browser.submit(page, "/", {"username": task["user"], "password": task["password"]})
    pages = [page]
    for path, form in task["steps"]:
        pages.append(browser.open(path) if form is None else browser.submit(pages[-1], path, form))
    json.dump(pages, sys.stdout)


if __name__ == "__main__":
    main()
