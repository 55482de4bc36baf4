"""What people who are signed in to the portal ask about themselves: "may I reach …?"

Asked are their own roles alone, and answered is in words for them; what decided, with its place in the
configuration, is recorded for the help desk under the support code of the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lockgate.model.access_rule import Address
from lockgate.model.decision import QUESTION, Reason, said
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Bookmark
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.user_record import OwnBookmark
from lockgate.policy import access, why
from lockgate.protocol.host_name import canonical_host
from lockgate.server.decisions import Decisions, Question
from lockgate.server.in_force import InForce, local_time
from lockgate.server.support_codes import new_support_code

MAX_TYPED = 260  # characters: a name, a port and some of an address bar
PER_MINUTE = 20  # questions of one user; somebody who tries what there is gets tired
MAX_REMEMBERED = 10_000  # users whose questions are counted
PARALLEL = 4  # names looked up at a time: the rules' own names come first

_PORTS = {"https": 443, "http": 80, "ssh": 22, "rdp": 3389, "ftp": 21}

TOO_MANY = Problem("too-many-attempts", "That were many questions in a short time.", "Wait a minute.")


@dataclass(frozen=True, slots=True)
class Answer:
    """asked: the question in words. reasons: sentences without a full stop. code: for the help desk."""

    asked: str
    allow: bool
    reasons: tuple[str, ...]
    code: str


@dataclass(frozen=True, slots=True)
class _Asker:
    """times: of the last questions. turn: held while a name is looked up, one at a time."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=PER_MINUTE))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class OwnQuestions:
    """One per control plane."""

    def __init__(
        self,
        decisions: Decisions,
        in_force: InForce,
        resolve: Callable[[str], Awaitable[Sequence[Address]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._in_force = decisions, in_force
        self._resolve, self._clock = resolve, clock
        self._askers: OrderedDict[tuple[str, str], _Asker] = OrderedDict()
        self._slots = asyncio.Semaphore(PARALLEL)

    async def ask(
        self,
        facts: SignInFacts,
        roles: tuple[str, ...],
        typed: str,
        port: str,
        protocol: str,
        own: Sequence[OwnBookmark] = (),
    ) -> Answer:
        """facts, roles: of the person who asks, now. typed: address, name, URL or bookmark; port: may be empty.

        own: bookmarks that the person keeps; they count where a role allows them, behind those of the roles.
        Raises ProblemError for the person to read: "bad-question", "too-many-attempts".
        """
        mine = self._in_force.rights(roles).effective
        bookmarks: list[Bookmark | OwnBookmark] = [*mine.bookmarks]
        if mine.own_bookmarks:
            bookmarks += own
        question = read_question(typed, port, protocol, bookmarks)
        asker = self._count((facts.server, facts.user))
        policy, number = self._in_force.policy, access.PROTOCOLS[question.protocol]
        resolved = dict(self._in_force.resolved)
        host = canonical_host(question.target)
        # Whoever has no VPN has no way to ask our name servers either. A name of a rule is asked for as any other:
        # an answer at once would tell that there is a rule, of whatever role.
        if mine.vpn and not host.is_address:
            async with asker.turn, self._slots:
                found_now = tuple(await self._resolve(host.text))
            resolved.setdefault(host.text, found_now)
        now = local_time(self._clock())

        def explain() -> why.Explanation:
            return why.explain(policy, facts, roles, question.target, number, question.port, resolved, now)

        found = explain()
        code = new_support_code()
        self._decisions.note(
            QUESTION,
            facts,
            roles,
            found.allow,
            found.revision,
            (Reason(f"asked: {found.question}"), *found.reasons),
            code=code,
            question=question,
        )
        if found.allow:
            # What does not count for a yes is no reason for it.
            told = [each for each in found.reasons if each.ok is not False]
        else:
            # The same for a name that is denied and for one that does not exist: nobody lists our names here.
            resolved.pop(host.text, None)
            told = list(explain().reasons)
        return Answer(_in_words(question), found.allow, said(told), code)

    def _count(self, user: tuple[str, str]) -> _Asker:
        now = self._clock()
        asker = self._askers.get(user)
        if asker is None:
            asker = self._askers[user] = _Asker()
        self._askers.move_to_end(user)
        if len(self._askers) > MAX_REMEMBERED:
            self._askers.popitem(last=False)
        times = asker.times
        if len(times) == PER_MINUTE and now - times[0] < 60:
            raise ProblemError(TOO_MANY)
        times.append(now)
        return asker


def read_question(
    typed: str, port: str, protocol: str, bookmarks: Sequence[Bookmark | OwnBookmark]
) -> Question:
    """What somebody typed into the form. bookmarks: of that person. ProblemError where it names nothing."""
    text = typed.strip()
    if not text or len(text) > MAX_TYPED:
        raise _bad("Type an address, a name or one of your bookmarks.")
    if protocol not in access.PROTOCOLS:
        raise _bad("The protocol is TCP, UDP or ICMP.")
    bookmark = next((each for each in bookmarks if each.name.casefold() == text.casefold()), None)
    host, number = _host_and_port(text if bookmark is None else bookmark.url)
    if port.strip():
        number = _port(port.strip())
    if protocol == "icmp":
        number = None
    try:
        return Question(canonical_host(host).text, number, protocol)
    except ValueError as error:
        raise _bad(str(error)) from None


def _host_and_port(text: str) -> tuple[str, int | None]:
    """From a URL, "name", "name:port", an address, "[IPv6]:port"."""
    if text.count(":") > 1 and not text.startswith("[") and "/" not in text:
        return text, None  # IPv6 as it stands
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, number = parts.hostname or "", parts.port
    except ValueError:
        raise _bad("This is neither an address nor a name.") from None
    if not host.isascii():
        raise _bad("Type the name as it stands in the address bar, in letters without accents.")
    return host, number or _PORTS.get(parts.scheme)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) <= 65535):
        raise _bad("A port is a number from 1 to 65535.")
    return int(text)


def _in_words(question: Question) -> str:
    port = "" if question.port is None else f" port {question.port}"
    return f"{question.target}, {question.protocol.upper()}{port}"


def _bad(summary: str) -> ProblemError:
    return ProblemError(Problem("bad-question", summary, "For example wiki.example.com or 192.0.2.9:443."))
