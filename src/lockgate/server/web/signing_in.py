"""Who is signing in by HTTP: the conversations, in a bounded table, by a cookie of their own.

Whoever answers takes the entry out and puts it back with the next step, so that of two answers at the
same time one has nothing to answer. At the end the entry is gone and the session gets a fresh cookie: a
cookie that somebody planted before the sign-in is worth nothing after it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from starlette.requests import HTTPConnection
from starlette.responses import Response

from lockgate.model.prompt import Conversation, Prompt
from lockgate.protocol.secret import Secret
from lockgate.server.auth.guard import source_key
from lockgate.server.store.records import WebAudience
from lockgate.server.web.cookies import cookie_values

Front: TypeAlias = WebAudience | Literal["network-connect"]
"""Whose forms a conversation is shown in; one of them cannot go on with another's."""

COOKIES: dict[Front, str] = {
    "console": "__Host-lockgate-console-sign-in",
    "portal": "__Host-lockgate-sign-in",
    "network-connect": "__Host-lockgate-nc-sign-in",
}

# A conversation is some 2 KB. The oldest goes when the table is full, of one place first.
MAX_TOTAL = 4096
MAX_PER_PLACE = 64
PATIENCE = 600.0  # seconds for a person to answer everything


@dataclass(frozen=True, slots=True)
class SigningIn:
    """One browser's conversation, waiting for the answer to `prompt`.

    csrf:  key of the anti-forgery text of its forms (`sessions.form_token`).
    where: where the browser goes after signing in, as the front wants to remember it.
    """

    audience: Front
    place: str  # where it comes from (`guard.source_key`)
    conversation: Conversation = field(repr=False)
    prompt: Prompt
    csrf: bytes = field(repr=False)
    started: float
    where: str = ""


class SigningIns:
    """All of them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, SigningIn] = OrderedDict()  # by hash of the cookie, oldest first

    def __len__(self) -> int:
        return len(self._entries)

    def begin(
        self, audience: Front, source: str, conversation: Conversation, prompt: Prompt, where: str = ""
    ) -> tuple[Secret, SigningIn]:
        """A new entry and its cookie."""
        place = source_key(source)
        self._make_room(place)
        cookie = Secret.of_text(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="))
        entry = SigningIn(
            audience, place, conversation, prompt, secrets.token_bytes(32), self._clock(), where
        )
        self._entries[_key(cookie)] = entry
        return cookie, entry

    def look(self, cookie: Secret, audience: Front) -> SigningIn | None:
        """The entry of a cookie, to show its prompt again; it stays."""
        entry = self._entries.get(_key(cookie))
        return entry if entry is not None and self._fits(entry, audience) else None

    def take(self, cookie: Secret, audience: Front) -> SigningIn | None:
        """The entry of a cookie, to be answered; it is out of the table until `put`."""
        if self.look(cookie, audience) is None:
            return None
        return self._entries.pop(_key(cookie))

    def put(self, cookie: Secret, entry: SigningIn, prompt: Prompt) -> SigningIn:
        """Back, with the next prompt."""
        entry = replace(entry, prompt=prompt)
        self._entries[_key(cookie)] = entry
        return entry

    def _fits(self, entry: SigningIn, audience: Front) -> bool:
        return entry.audience == audience and 0 <= self._clock() - entry.started < PATIENCE

    def _make_room(self, place: str) -> None:
        now = self._clock()
        for key in [key for key, each in self._entries.items() if now - each.started >= PATIENCE]:
            del self._entries[key]
        of_place = [key for key, each in self._entries.items() if each.place == place]
        for key in of_place[: max(0, len(of_place) - MAX_PER_PLACE + 1)]:
            del self._entries[key]
        while len(self._entries) >= MAX_TOTAL:
            self._entries.popitem(last=False)


def cookie_of(request: HTTPConnection, audience: Front) -> Secret | None:
    """The cookie of the browser's conversation; None when there is none or more than one."""
    values = cookie_values(request, COOKIES[audience])
    return Secret.of_text(values[0]) if len(values) == 1 else None


def set_cookie(response: Response, audience: Front, cookie: Secret) -> None:
    """SameSite=Strict also for the portal: only our own forms continue a conversation."""
    response.set_cookie(
        COOKIES[audience], cookie.reveal_text(), path="/", secure=True, httponly=True, samesite="strict"
    )


def clear_cookie(response: Response, audience: Front) -> None:
    response.delete_cookie(COOKIES[audience], path="/", secure=True, httponly=True, samesite="strict")


def _key(cookie: Secret) -> bytes:
    return hashlib.sha256(cookie.reveal()).digest()
