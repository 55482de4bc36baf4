"""The whole HTTP application over a real store and configuration, asked as the edge would ask it; no edge runs."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

from lockgate.model.identity import Identity, seal_identity
from lockgate.model.session import Session
from lockgate.server import pki
from lockgate.server.config.edits import SetValue
from lockgate.server.config.tree import Configuration
from lockgate.server.parts import Parts
from lockgate.server.sessions import Opened
from lockgate.server.store.interface import ADMIN_SERVER
from lockgate.server.store.open import SqlStore
from lockgate.server.web.app import make_app
from lockgate.server.web.listeners import Door
from lockgate.server.web.principal import AREAS
from lockgate.server.web.sessions import COOKIES, form_token
from lockgate.server.web.tokens import create_token
from tests.unit.server.asgi import exchange
from tests.unit.server.control_subject import HOST, control_plane, tree
from tests.unit.server.support import CLIENT, HASH, Clock, facts, identity, new_store, place_of, user

ADMIN_HOST = f"{HOST}:8443"
SOURCE, AGENT = "192.0.2.77", "test browser"
ADMIN_REALM, FULL = "Admin Users", ".Administrators"
CHAIN = pki.create(HOST, (), dt.datetime.fromtimestamp(1_000_000, dt.UTC)).chain.decode()
PUSH_TOKEN = "lgt_canary-of-a-push-target"


@dataclass
class Reply:
    """What came back. headers: lower-case names; the last of several with one name."""

    status: int
    headers: dict[str, str]
    content: bytes
    cookies: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """Of the problem."""
        return str(self.json["code"])


@dataclass(frozen=True)
class Caller:
    """Somebody who asks: what their requests have in common."""

    headers: tuple[tuple[str, str], ...] = ()

    def plus(self, *headers: tuple[str, str]) -> Caller:
        return replace(self, headers=(*self.headers, *headers))


NOBODY = Caller()


@dataclass
class Subject:
    """The application and what is behind it."""

    app: Door
    parts: Parts
    store: SqlStore
    clock: Clock

    async def ask(
        self,
        method: str,
        path: str,
        caller: Caller = NOBODY,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        listener: str | None = "admin",
        raw_path: bytes | None = None,
        source: str = SOURCE,
        declared: bool = True,
    ) -> Reply:
        """One request. body: a JSON value, or bytes as they are. listener: None for a request that is not the edge's."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = [("host", ADMIN_HOST if listener == "admin" else HOST), ("user-agent", AGENT)]
        if body is not None:
            headers.append(("content-type", "application/json"))
            if declared:
                headers.append(("content-length", str(len(content))))
        if listener is not None:
            headers += [("x-lockgate-listener", listener), ("x-lockgate-peer", f"{source}:40000")]
        given = {name for name, _ in caller.headers}
        headers = [each for each in headers if each[0] not in given or each[0] in ("x-lockgate-peer",)]
        headers += caller.headers
        where, _, asked = path.partition("?")
        if query is not None:
            asked = urlencode({key: value for key, value in query.items() if value is not None})
        status, pairs, received = await exchange(
            self.app,
            method,
            f"{where}?{asked}",
            headers,
            content,
            raw_path=quote(unquote(where), safe="/").encode() if raw_path is None else raw_path,
        )
        cookies = [value for name, value in pairs if name == "set-cookie"]
        return Reply(status, dict(pairs), received, cookies)

    async def get(self, path: str, caller: Caller = NOBODY, **rest: Any) -> Reply:
        return await self.ask("GET", path, caller, **rest)

    async def post(self, path: str, caller: Caller, body: Any, **rest: Any) -> Reply:
        return await self.ask("POST", path, caller, body=body, **rest)

    # -- people ------------------------------------------------------------------------------------

    def administrator(self, name: str, roles: tuple[str, ...] = (FULL,), source: str = SOURCE) -> Identity:
        """What the sign-in of an administrator gives; the account is there."""
        known = replace(
            facts(name, source=source, server=ADMIN_SERVER, realm=ADMIN_REALM),
            user_agent=AGENT,
            time=self.clock(),
        )
        return seal_identity(
            audience="administrators",
            roles=roles,
            chosen=(),
            method="password",
            serial=7,
            revision=1,
            facts=known,
        )

    async def console(self, name: str = "admin", *, forgery: bool = False) -> Caller:
        """Somebody signed in to the console. forgery: without the anti-forgery text."""
        record, cookie = await self.parts.web_sessions.start(
            self.administrator(name), "console", user_agent=AGENT
        )
        caller = Caller((("cookie", f"{COOKIES['console']}={cookie.reveal_text()}"),))
        return caller if forgery else caller.plus(("x-csrf-token", form_token(record.csrf)))

    async def token(self, *scopes: str, owner: str = "admin", seconds: float = 3600) -> Caller:
        _, token = await create_token(
            self.store.tokens, owner, ADMIN_SERVER, f"t{self.clock()}{scopes}", scopes, seconds, self.clock()
        )
        return Caller((("authorization", f"Bearer {token.reveal_text()}"),))

    async def portal(self, name: str = "alice") -> Caller:
        """A user who is signed in to the portal."""
        known = replace(identity(name), facts=facts(name))
        record, cookie = await self.parts.web_sessions.start(known, "portal", user_agent=CLIENT.user_agent)
        return Caller(
            (
                ("cookie", f"{COOKIES['portal']}={cookie.reveal_text()}"),
                ("x-csrf-token", form_token(record.csrf)),
            )
        )

    async def tunnel(self, name: str = "alice", parent: str | None = None) -> Session:
        opened = await self.parts.sessions.open(identity(name), CLIENT, parent=parent)
        assert isinstance(opened, Opened)
        return opened.session

    async def role(self, name: str, **rights: str) -> None:
        """Commits an admin role with these rights and none else, for the administrator of the same name."""
        edits = [
            SetValue(f"admin_roles/{name}", {"name": name, **rights}),
            SetValue(
                f"admin_realms/{ADMIN_REALM}/rules/{name}",
                {"name": name, "condition": {"kind": "user", "values": [name]}, "roles": [name]},
            ),
        ]
        await self.parts.config.apply("test", f"role {name}", edits)


def configuration(**parts: Any) -> Configuration:
    """The tree of a new gateway where only "admin" has full power."""
    rules = [
        {"name": "Full", "condition": {"kind": "user", "values": ["admin", "second"]}, "roles": [FULL]},
    ]
    realm = {"name": ADMIN_REALM, "server": ADMIN_SERVER, "rules": rules}
    return tree(**{"admin_realms": [realm], **parts})


@contextlib.asynccontextmanager
async def web(folder: Path, content: Configuration | None = None) -> AsyncIterator[Subject]:
    """A gateway's application with the users alice and bob, the administrators admin and second."""
    directory = place_of(folder)
    directory.run.mkdir(exist_ok=True)
    content, clock = content or configuration(), Clock()
    directory.write_run_file("certificate.pem", CHAIN)
    async with new_store(directory) as store:
        for name in ("alice", "bob"):
            await store.users.add(user(name, password_hash=HASH))
        for name in ("admin", "second", *AREAS):
            await store.users.add(user(name, password_hash=HASH, server=ADMIN_SERVER))
        async with control_plane(directory, store, content, clock) as parts:
            yield Subject(make_app(parts.services), parts, store, clock)
