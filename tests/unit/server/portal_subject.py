"""The portal over a real store, and a browser without a network: cookies, forms, what the edge attaches."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lockgate.model.prompt import Refused
from lockgate.model.session import ClientFacts
from lockgate.protocol.launch_url import parse_launch_url
from lockgate.server.auth.request import SignInRequest
from lockgate.server.config.tree import Configuration
from lockgate.server.sessions import Opened
from lockgate.server.web import app as web
from lockgate.server.web.access import Access
from lockgate.server.web.listeners import Door
from lockgate.server.web.services import Services
from tests.unit.server.asgi import exchange
from tests.unit.server.control_subject import HOST, control_plane, tree
from tests.unit.server.support import HASH, PASSWORD, Clock, new_store, place_of, user

_COOKIE = re.compile(r"([^=]+)=([^;]*)(.*)")
_INPUT = re.compile(r"<input\b[^>]*>")
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')


def part(configuration: Configuration, collection: str, **changes: Any) -> list[dict[str, Any]]:
    """A collection of the tree with its first entry changed."""
    first, *others = configuration.model_dump(mode="json")[collection]
    return [first | changes, *others]


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def fields(self) -> dict[str, str]:
        """What the inputs of the page hold before anybody types."""
        found: dict[str, str] = {}
        for tag in _INPUT.findall(self.text):
            attributes = dict(_ATTRIBUTE.findall(tag))
            if attributes.get("type") != "radio" and "name" in attributes:
                found.setdefault(attributes["name"], html.unescape(attributes.get("value", "")))
        return found

    def options(self, name: str) -> list[str]:
        """Values to choose from."""
        tags = (dict(_ATTRIBUTE.findall(tag)) for tag in _INPUT.findall(self.text))
        return [html.unescape(tag["value"]) for tag in tags if tag.get("name") == name]


@dataclass
class Browser:
    """One browser at one address."""

    app: Any
    source: str = "192.0.2.9"
    agent: str = "Mozilla/5.0 (X11; Linux x86_64) Chrome/130 Safari/537.36"
    cookies: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)  # headers

    async def get(self, path: str = "/", **headers: str) -> Reply:
        return await self._send("GET", path, b"", headers)

    async def post(self, path: str, form: Mapping[str, str] | bytes, **headers: str) -> Reply:
        if isinstance(form, bytes):
            return await self._send("POST", path, form, headers)
        given = {"content-type": "application/x-www-form-urlencoded", **headers}
        return await self._send("POST", path, urlencode(form).encode(), given)

    async def submit(self, page: Reply, path: str = "/", **typed: str) -> Reply:
        """Fills in the form of a page and sends it, as its own origin."""
        form = {key: value for key, value in page.fields().items() if key != "decline"} | typed
        return await self.post(path, form, origin=f"https://{HOST}", **{"sec-fetch-site": "same-origin"})

    async def follow(self, reply: Reply) -> Reply:
        assert reply.status in (303, 308), reply.text
        return await self.get(reply.header("location"))

    async def sign_in(self, user: str = "alice", password: str = PASSWORD, path: str = "/") -> Reply:
        page = await self.get(path)
        reply = await self.submit(page, path, username=user, password=password)
        return await self.follow(reply)

    async def _send(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        given = {
            "host": HOST,
            "user-agent": self.agent,
            "x-lockgate-listener": "gateway",
            "x-lockgate-peer": f"[{self.source}]:4000" if ":" in self.source else f"{self.source}:4000",
            "content-length": str(len(body)),
            **({"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}),
            **self.extra,
            **headers,
        }
        status, answer, content = await exchange(self.app, method, target, given.items(), body)
        for key, value in answer:
            if key == "set-cookie" and (found := _COOKIE.match(value)):
                if "Max-Age=0" in found[3]:
                    self.cookies.pop(found[1], None)
                else:
                    self.cookies[found[1]] = found[2]
        return Reply(status, answer, content)


class Portal:
    """A server without its edge."""

    def __init__(self, services: Services, clock: Any) -> None:
        self.services, self.clock = services, clock
        # One listener: what the other one serves needs none of this, and takes a while to make.
        access = Access(services, web.make_tokens(services))
        self.app = Door({"gateway": web._application(services, access, web.gateway_routes(services))})

    def browser(self, **facts: Any) -> Browser:
        return Browser(self.app, **facts)

    async def adopt(self, configuration: Configuration) -> None:
        """Another revision is in force."""
        await self.services.in_force.adopt(configuration, self.services.in_force.revision + 1)

    async def events(self, event: str) -> list[str]:
        """Reasons, or outcomes, of what the audit has under that name."""
        newest = await self.services.store.audit.newest(1000)
        return [entry.reason or entry.outcome for entry in newest if entry.event == event]

    async def launch(self, link: str, *, source: str = "192.0.2.9", at: str = "") -> Opened | Refused:
        """What the gateway does with a client that comes with this link, as `Entrance` does it.

        at: host and path that the client asks for, those of the link if empty.
        """
        found = parse_launch_url(link)
        host, _, path = (at or f"{found.server.authority}{found.server.path}").partition("/")
        client = ClientFacts(source=source, user_agent="Lockgate/0 (Linux)", host_name="laptop")
        request = SignInRequest("users", host, f"/{path}", client, None, "tunnel")
        launches, sign_ins = self.services.launch_handles, self.services.sign_ins
        assert launches is not None
        assert sign_ins is not None
        assert found.handle is not None
        session = await launches.redeem(found.handle, host=host, path=f"/{path}", source=source)
        if isinstance(session, Refused):
            return session
        outcome = await sign_ins.go_on(session, request)
        if isinstance(outcome, Refused):
            return outcome
        return await self.services.sessions.open(outcome.identity, client, parent=session.id)


@contextlib.asynccontextmanager
async def portal(
    folder: Path, configuration: Configuration | None = None, clock: Any = None
) -> AsyncIterator[Portal]:
    """A portal with the users alice, dora (disabled) and mia (must change her password).

    clock: a `Clock` unless given.
    """
    place, clock = place_of(folder), clock or Clock()
    async with new_store(place) as store:
        await store.users.add(user("alice", password_hash=HASH))
        await store.users.add(user("dora", password_hash=HASH, enabled=False))
        await store.users.add(replace(user("mia", password_hash=HASH), must_change=True))
        async with control_plane(place, store, configuration or tree(), clock) as parts:
            yield Portal(parts.services, clock)
