"""The conversation on a fresh connection, up to the end of the configuration.

`Conversing` pairs the sans-IO conversation with a wire of the edge and puts the server's questions to the
front. It knows nothing of networks and states.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lockgate.client import problems
from lockgate.client.service.front import Cancelled, Front, FrontGone
from lockgate.client.service.hub import EdgeGone, EdgeHub, Wire
from lockgate.model.problem import Problem
from lockgate.model.support_code import said_in, sentence
from lockgate.protocol import edge_link
from lockgate.protocol.errors import AnswerError, PeerError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse import client_events as says
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.config import TunnelConfig
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.secret import Secret

SERVER_PATIENCE = 20.0  # seconds for the server's next word while it is its turn
CONFIGURATION_PATIENCE = 20.0  # seconds from the sign-in to the end of the configuration


class AttemptError(Exception):
    """This attempt comes to nothing. `final`: another one would not do better."""

    def __init__(self, problem: Problem, *, final: bool, system: bool = False) -> None:
        super().__init__(problem.text())
        self.problem, self.final, self.system = problem, final, system


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user said before anybody asked. A wish answers one question, once.

    by_link: the handle of a portal's link answers everything. A gateway that asks all the same is not the
    one that made the link, and nobody who only clicked Start types a password for it.
    """

    user: str = ""
    realm: str = ""
    by_link: bool = False


@dataclass(slots=True)
class Conversed:
    """What came of it."""

    cookie: Secret
    remaining: int
    idle: int
    user: str
    realm: str
    config: TunnelConfig | None = None
    offer: EspKeys | None = None
    configuration: bytes = field(default=b"", repr=False)


class Conversing:
    """One conversation. `on_signed_in` is awaited before the server hears that we have the session."""

    def __init__(
        self,
        hub: EdgeHub,
        wire: Wire,
        conversation: ClientConversation,
        front: Front,
        wishes: Wishes,
        on_signed_in: Callable[[Conversed], Awaitable[None]],
    ) -> None:
        self._hub, self._wire, self._talk = hub, wire, conversation
        self._front, self._wishes, self._on_signed_in = front, wishes, on_signed_in
        self._result: Conversed | None = None
        self._user, self._realm = wishes.user, wishes.realm
        self._realm_told = self._user_told = False
        self._until = math.inf  # time of the loop by which the configuration must be there
        self._cookie_refused = False
        self._support = ""  # code of the last wrong answer
        self._complaint = ""  # about the last answer, shown with the question when it is asked again

    async def run(self) -> Conversed:
        """Raises AttemptError."""
        try:
            self._talk.start()
            self._flush()
            while True:
                frame = await self._next_frame()
                for event in self._talk.receive(frame):
                    if await self._take(event, frame):
                        assert self._result is not None
                        return self._result
                self._flush()
        except PeerError as error:
            raise AttemptError(problems.server_broke_protocol(str(error)), final=False) from None
        except EdgeGone:
            raise AttemptError(problems.EDGE_DIED, final=False, system=True) from None
        except FrontGone:
            raise AttemptError(self._with_code(problems.NOBODY_TO_ASK), final=True) from None
        except Cancelled:
            raise AttemptError(self._with_code(problems.CANCELLED), final=True) from None

    def _with_code(self, problem: Problem) -> Problem:
        """After a wrong answer the gateway's code belongs to it."""
        if not self._support:
            return problem
        summary = f"{problem.summary} The last answer was wrong. {sentence(self._support)}."
        return replace(problem, summary=summary, support=self._support)

    async def _next_frame(self) -> Frame:
        while True:
            try:
                now = asyncio.get_running_loop().time()
                async with asyncio.timeout_at(min(now + SERVER_PATIENCE, self._until)):
                    message = await self._wire.next()
            except TimeoutError:
                raise AttemptError(problems.SERVER_SILENT, final=False) from None
            match message:
                case edge_link.LinkFrame(_, vendor, kind, body):
                    return Frame(vendor, kind, body)
                case edge_link.ConnClosed(_, _, cause):
                    raise AttemptError(problems.server_closed(cause), final=False)

    def _flush(self) -> None:
        for frame in self._talk.take_frames():
            self._hub.send(
                edge_link.LinkFrame(
                    conn=self._wire.conn, vendor=frame.vendor, kind=int(frame.kind), body=frame.body
                )
            )

    async def _take(self, event: says.ClientEvent, frame: Frame) -> bool:
        """Acts on one event; True when the configuration is complete."""
        match event:
            case says.SignedIn(cookie, remaining, idle):
                self._until = asyncio.get_running_loop().time() + CONFIGURATION_PATIENCE
                self._result = Conversed(cookie, remaining, idle, self._user, self._realm)
                # The cookie is on disk before the gateway takes it for ours: a crash loses no session.
                await self._on_signed_in(self._result)
            case says.Configured(config):
                assert self._result is not None
                self._result.config, self._result.configuration = config, frame.body
            case says.EspOffered(keys):
                assert self._result is not None
                self._result.offer = keys
            case says.ConfigurationEnded():
                if self._result is None or self._result.config is None:
                    raise PeerError("the configuration ended without one")
                return True
            case says.SignInRefused(text):
                problem = problems.session_refused if self._cookie_refused else problems.refused
                raise AttemptError(problem(text), final=True)
            case says.SignInFailed(code):
                raise AttemptError(problems.failed(code), final=True)
            case says.CookieRefused(None):
                self._cookie_refused = True  # its text follows
            case says.CookieRefused():
                raise AttemptError(problems.SESSION_GONE, final=True)
            case says.Fatal(code, text):
                raise AttemptError(problems.server_ended(code, text), final=True)
            case _:
                await self._answer(event)
        return False

    async def _answer(self, event: says.ClientEvent) -> None:
        """Puts a question to the user and the answer to the server; again when it cannot be sent."""
        while True:
            try:
                await self._answer_once(event)
                return
            except AnswerError as error:
                self._complaint = str(error)

    async def _ask(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        complaint, self._complaint = self._complaint, ""
        return await self._front.ask(kind, {**fields, "complaint": complaint} if complaint else fields)

    async def _answer_once(self, event: says.ClientEvent) -> None:
        if self._wishes.by_link and isinstance(event, _NOT_AFTER_A_LINK):
            raise AttemptError(problems.LINK_NOT_TAKEN, final=True)
        match event:
            case says.RealmAsked(choices):
                await self._answer_realm(choices)
            case says.CredentialsAsked():
                await self._answer_credentials(event)
            case says.NewPasswordAsked():
                fields = await self._ask("new-password", {})
                self._talk.answer_new_password(_secret(fields, "old"), _secret(fields, "new"))
            case says.TokenAsked(text):
                fields = await self._ask("token", {"text": text})
                self._talk.answer_token(self._user if event.username else None, _secret(fields, "code"))
            case says.SessionAsked(options):
                sessions = [{"id": o.id, "address": o.address, "started": o.started} for o in options]
                fields = await self._ask("session", {"sessions": sessions})
                self._talk.answer_session(_choice(fields, "session", [option.id for option in options]))
            case says.NoticeShown(text):
                fields = await self._ask("notice", {"text": text})
                if fields.get("accept") is not True:
                    raise Cancelled
                for follows in self._talk.accept_notice():
                    await self._answer(follows)
            case says.RegionAsked(choices):
                fields = await self._ask("realm", {"choices": list(choices), "region": True})
                self._talk.answer_region(_choice(fields, "realm", choices))
            case _:
                pass  # what is only told

    async def _answer_realm(self, choices: tuple[str, ...]) -> None:
        wish = "" if self._realm_told else self._wishes.realm
        self._realm_told = True
        if wish and choices:
            same = [name for name in choices if name.casefold() == wish.casefold()]
            if not same:
                names = ", ".join(choices)
                raise AttemptError(problems.no_such_realm(wish, names), final=True)
            name = same[0]
        elif wish:
            name = wish
        elif len(choices) == 1:
            name = choices[0]
        else:
            fields = await self._ask("realm", {"choices": list(choices)})
            name = _choice(fields, "realm", choices) if choices else _plain(fields, "realm")
        self._realm = name
        self._talk.answer_realm(name)

    async def _answer_credentials(self, asked: says.CredentialsAsked) -> None:
        wish = "" if self._user_told else self._wishes.user
        self._support = said_in(asked.password_label) if asked.retry else ""
        fields = await self._ask(
            "credentials",
            {
                "username": asked.username,
                "password": asked.password,
                "user": wish,
                "user_label": asked.user_label,
                "password_label": asked.password_label,
                "retry": asked.retry,
                "secondary": asked.secondary,
            },
        )
        user: str | None = None
        if asked.username:
            user = _plain(fields, "username") if fields.get("username") else wish
            if not asked.secondary:
                self._user = user
        password = _secret(fields, "password") if asked.password else Secret(b"")
        self._talk.answer_credentials(user, password)


# Not among them: a notice to agree to, and which session is to end.
_NOT_AFTER_A_LINK = (
    says.RealmAsked,
    says.RegionAsked,
    says.CredentialsAsked,
    says.NewPasswordAsked,
    says.TokenAsked,
)


def _plain(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise Cancelled
    return value


def _secret(fields: Mapping[str, Any], key: str) -> Secret:
    value = fields.get(key)
    if not isinstance(value, str):
        raise Cancelled
    return Secret.of_text(value)


def _choice(fields: Mapping[str, Any], key: str, choices: tuple[str, ...] | list[str]) -> str:
    value = _plain(fields, key)
    if value not in choices:
        raise Cancelled
    return value


def said_meanwhile(wire: Wire, conversation: ClientConversation) -> list[edge_link.FromEdge]:
    """What came while the network was set up, for the tunnel to hear. AttemptError when the connection has
    ended: a tunnel on it would never learn that."""
    try:
        said = wire.take()
    except EdgeGone:
        raise AttemptError(problems.EDGE_DIED, final=False, system=True) from None
    except PeerError as error:
        raise AttemptError(problems.server_broke_protocol(str(error)), final=False) from None
    for message in said:
        if isinstance(message, edge_link.ConnClosed):
            raise _ended(said, message.cause, conversation)
    return said


def _ended(said: list[edge_link.FromEdge], cause: str, conversation: ClientConversation) -> AttemptError:
    """With the gateway's own reason if it gave one."""
    with contextlib.suppress(PeerError):
        for message in said:
            if isinstance(message, edge_link.LinkFrame):
                for event in conversation.receive(Frame(message.vendor, message.kind, message.body)):
                    if isinstance(event, says.Fatal):
                        return AttemptError(problems.server_ended(event.code, event.text), final=True)
    return AttemptError(problems.server_closed(cause), final=False)
