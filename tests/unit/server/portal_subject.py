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
from lockgate.model.session import ClientFacts, EndCause
from lockgate.protocol.launch_url import parse_launch_url
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.auth.passwords import hash_password
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.service import SignIns
from lockgate.server.config.defaults import default_configuration
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import SignIn
from lockgate.server.config.tree.system import Gateway
from lockgate.server.decisions import Decisions
from lockgate.server.in_force import InForce
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.sessions import Opened, Sessions
from lockgate.server.vault import Vault
from lockgate.server.web import app as web
from lockgate.server.web.access import Access
from lockgate.server.web.listeners import Door
from lockgate.server.web.services import Services
from lockgate.server.web.sessions import WebSessions
from tests.unit.server.support import CHEAP, Clock, new_store, place_of, user

PASSWORD = "wonderland-7f3a"
HASH = hash_password(CHEAP, Secret.of_text(PASSWORD))
HOST = "gw.example.org"
_COOKIE = re.compile(r"([^=]+)=([^;]*)(.*)")
_INPUT = re.compile(r"<input\b[^>]*>")
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')


def default_tree(**changes: Any) -> Configuration:
    """The tree of a new gateway with cheap passwords, and these parts of it replaced (JSON values)."""
    guids = iter(f"{number:032x}" for number in range(1, 100))
    tree = default_configuration(Gateway(hostname=HOST), lambda: next(guids))
    data = tree.model_dump(mode="json") | changes
    data["sign_in"] |= {"argon2": SignIn(argon2=CHEAP).argon2.model_dump(mode="json")}
    return Configuration.model_validate(data)


def part(tree: Configuration, collection: str, **changes: Any) -> list[dict[str, Any]]:
    """A collection of the tree with its first entry changed."""
    first, *others = tree.model_dump(mode="json")[collection]
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
        path, _, query = target.partition("?")
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
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(key.lower().encode(), value.encode()) for key, value in given.items()],
            "client": None,
            "server": None,
        }
        sent: list[dict[str, Any]] = []
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return pieces.pop() if pieces else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start = next(message for message in sent if message["type"] == "http.response.start")
        answer = [(key.decode().lower(), value.decode()) for key, value in start["headers"]]
        for key, value in answer:
            if key == "set-cookie" and (found := _COOKIE.match(value)):
                if "Max-Age=0" in found[3]:
                    self.cookies.pop(found[1], None)
                else:
                    self.cookies[found[1]] = found[2]
        content = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        return Reply(start["status"], answer, content)


class Portal:
    """A server without its edge."""

    def __init__(self, services: Services, clock: Any) -> None:
        self.services, self.clock = services, clock
        # One listener: what the other one serves needs none of this, and takes a while to make.
        access = Access(services, web.make_tokens(services))
        self.app = Door({"gateway": web._application(services, access, web.gateway_routes(services))})

    def browser(self, **facts: Any) -> Browser:
        return Browser(self.app, **facts)

    async def adopt(self, tree: Configuration) -> None:
        """Another revision is in force."""
        await self.services.in_force.adopt(tree, self.services.in_force.revision + 1)

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
async def portal(folder: Path, tree: Configuration | None = None, clock: Any = None) -> AsyncIterator[Portal]:
    """A portal with the users alice, dora (disabled) and mia (must change her password).

    clock: a `Clock` unless given.
    """
    place, clock = place_of(folder), clock or Clock()
    async with new_store(place) as store:
        await store.users.add(user("alice", password_hash=HASH))
        await store.users.add(user("dora", password_hash=HASH, enabled=False))
        await store.users.add(replace(user("mia", password_hash=HASH), must_change=True))
        tree = tree or default_tree()
        in_force, audit = InForce(tree, tree, 1), Audit(store.audit, clock)

        async def nobody(*_: object) -> None:
            return None

        async def nothing(_: str) -> list[Any]:
            return []

        decisions = Decisions(store, in_force, nobody, nothing, clock)
        sessions = Sessions(store, in_force, audit, decisions, clock)

        async def end(session: int, cause: EndCause) -> object:
            return await sessions.end(session, cause)

        async def cut_off() -> None:
            pass

        sign_ins = SignIns(
            store=store,
            in_force=in_force,
            sessions=sessions,
            decisions=decisions,
            audit=audit,
            end_session=end,
            cut_off=cut_off,
            clock=clock,
        )
        services = Services(
            directory=place,
            store=store,
            vault=Vault(Secret(bytes(32))),
            audit=audit,
            config=None,  # type: ignore[arg-type]  # the portal reads what is in force
            in_force=in_force,
            sessions=sessions,
            web_sessions=WebSessions(store, in_force, audit, clock, end_tunnel=end),
            decisions=decisions,
            sign_ins=sign_ins,
            gateway=_Gateway(end),  # type: ignore[arg-type]
            launch_handles=LaunchHandles(store.handles, store.web_sessions, audit, clock),
            clock=clock,
            started=clock(),
        )
        try:
            yield Portal(services, clock)
        finally:
            sign_ins.close()


class _Gateway:
    """What of a gateway the portal uses."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.edge_is_up = True
