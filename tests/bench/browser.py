"""`python -m tests.bench.browser`: an administrator's browser and a program with a token, timed.

Runs on the gateway's host, where the administrators' listener is, and goes through the edge as everybody does:
one TLS connection, kept open, one request at a time. Signs in, follows every link of the console's menu and asks
for every address of the API that needs no arguments, each so many times; prints {"pages": {address: [ms, …]},
"api": {…}} as one line of JSON. Standard input is {"password": …, "token": …}.
"""

from __future__ import annotations

import argparse
import html
import http.client
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from tests.lab import LabError

HOME = "/admin/"
SIGN_IN = "/admin/sign-in"
API = "/api/v1"
EXPLAIN = f"{API}/explain?" + urlencode(
    {"user": "u0", "target": "10.77.0.10", "port": 443, "protocol": "tcp"}
)


class Browser:
    """One connection to the administrators' listener; cookies are kept as a browser keeps them."""

    def __init__(self, address: tuple[str, int], name: str, ca_file: str) -> None:
        self._address, self._name = address, name
        self._context = ssl.create_default_context(cafile=ca_file)
        self._cookies: dict[str, str] = {}
        self._connection: http.client.HTTPConnection | None = None

    @property
    def origin(self) -> str:
        return f"https://{self._name}:{self._address[1]}"

    def ask(
        self, method: str, path: str, *, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        """One request; the answer with its text."""
        sent = {"Host": self.origin.removeprefix("https://"), **(headers or {})}
        if self._cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, path, body, sent)
        answer = self._connection.getresponse()
        text = answer.read().decode(errors="replace")
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        if answer.will_close:
            self._connection.close()
            self._connection = None
        return answer, text

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._name)
        plain = socket.create_connection(self._address, 30)
        connection.sock = self._context.wrap_socket(plain, server_hostname=self._name)
        return connection

    def sign_in(self, user: str, password: str) -> None:
        _, page = self.ask("GET", SIGN_IN)
        fields = hidden(page) | {"username": user, "password": password}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
        answer, page = self.ask("POST", SIGN_IN, body=urlencode(fields), headers=headers)
        if answer.status != 303:
            raise LabError(f"sign-in: status {answer.status}\n{page[:2000]}")


def hidden(page: str) -> dict[str, str]:
    """What a form says by itself."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in found}


def menu(page: str) -> list[str]:
    """Every page of the console that this one leads to, in order."""
    found = (html.unescape(each) for each in re.findall(r'href="(/admin/[^"#]*)"', page))
    pages = (each for each in found if "/static/" not in each and not each.endswith((".csv", "/sign-out")))
    return list(dict.fromkeys([HOME, *pages]))


def plain_gets(document: Mapping[str, object]) -> list[str]:
    """Addresses of an OpenAPI document that answer a GET without arguments."""
    paths = document["paths"]
    assert isinstance(paths, dict)
    found = []
    for path, methods in paths.items():
        get = methods.get("get")
        if get is None or "{" in path:
            continue
        if any(parameter.get("required") for parameter in get.get("parameters", ())):
            continue
        found.append(path if path.startswith(API) else API + path)
    return found


def timed(
    browser: Browser, paths: Iterable[str], times: int, headers: Mapping[str, str] | None = None
) -> dict[str, list[float]]:
    """Milliseconds from request to the last byte of the answer. Raises LabError for an answer that is none."""
    taken = {}
    for path in paths:
        samples = []
        for _ in range(times):
            begun = time.perf_counter()
            answer, text = browser.ask("GET", path, headers=headers)
            samples.append((time.perf_counter() - begun) * 1e3)
            if answer.status != 200:
                raise LabError(f"GET {path}: status {answer.status}\n{text[:1000]}")
        taken[path] = samples
    return taken


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.browser")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args(arguments)
    secrets = json.load(sys.stdin)
    browser = Browser(("127.0.0.1", options.port), options.name, options.ca)
    browser.sign_in(options.user, secrets["password"])
    pages = timed(browser, menu(browser.ask("GET", HOME)[1]), options.times)
    token = {"Authorization": f"Bearer {secrets['token']}"}
    program = Browser(("127.0.0.1", options.port), options.name, options.ca)
    document = json.loads(program.ask("GET", f"{API}/openapi.json", headers=token)[1])
    addresses = [*plain_gets(document), EXPLAIN, f"{API}/sessions?limit=50"]
    api = timed(program, addresses, options.times, token)
    print(json.dumps({"pages": pages, "api": api}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
