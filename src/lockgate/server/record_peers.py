"""Exchanges the records of users with other gateways.

Each gateway asks its peers for the changes that it has not seen (GET /user-records/changes) and sends them its own
(POST). Both are numbered where they are kept, so that an exchange goes on where the last one ended, also after a
gateway was away. A change is taken over only where it is later than what is there, so it comes to rest whatever
way it goes round.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

import structlog

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.model.user_record import MAX_TIME, Version, as_json, as_text, parse_item, parse_value
from lockgate.protocol.secret import Secret
from lockgate.server import tracing
from lockgate.server.auth.names import canonical
from lockgate.server.config.sealing import Vault
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import RecordPeer
from lockgate.server.other_server import Destination, NoAnswerError, Patience, ask
from lockgate.server.store.interface import Change, PeerRecord, UserRecords

PATH = "/api/v1/user-records/changes"
PAGE = 200  # changes in one request or answer
PAGES = 50  # of one exchange each way; the rest follows with the next
PATIENCE = Patience(each=10.0, whole=30.0, most=1 << 20)
LONGEST_PAUSE = 600.0  # seconds between attempts to reach one that cannot be reached
NOTED = 60.0  # seconds between two notes of a success that changed nothing else
MAX_NAMES = 200
MAX_ERROR = 512  # characters

log = structlog.get_logger("records")
T = TypeVar("T")


class BadChangeError(ValueError):
    """What came is no change."""


def change_of(document: object) -> Change | None:
    """A change from JSON; None for an item of a kind that this release does not know. Raises BadChangeError."""
    try:
        if not isinstance(document, dict) or set(document) != set(_FIELDS):
            raise ValueError
        logical, user, item, when, origin, value = (document[name] for name in _FIELDS)
        texts = isinstance(logical, str) and isinstance(user, str) and isinstance(origin, str)
        if not texts or not 1 <= len(logical) <= 64 or canonical(user) != user:
            raise ValueError
        if type(when) is not int or not 0 <= when <= MAX_TIME:
            raise ValueError
        if not _is_origin(origin):
            raise ValueError
    except ValueError:
        raise BadChangeError("this is no change of a user's record") from None
    try:
        known = parse_item(item)
        text = None if value is None else as_text(parse_value(known, value))
    except ValueError:
        return None
    return Change(logical, user, known, Version(when, origin, text))


def _is_origin(origin: object) -> bool:
    """Whether that is what a gateway is called in changes."""
    return isinstance(origin, str) and len(origin) == 32 and set(origin) <= set("0123456789abcdef")


_FIELDS = ("logical_server", "user", "item", "time", "origin", "value")


def told(change: Change) -> dict[str, Any]:
    """The inverse of `change_of`."""
    version = change.version
    value = None if version.text is None else as_json(parse_value(change.item, json.loads(version.text)))
    values = (change.logical, change.user, change.item, version.time, version.origin, value)
    return dict(zip(_FIELDS, values, strict=True))


@dataclass(slots=True)
class _Turn:
    """When a peer's turn is. failures: in a row."""

    next: float = 0.0
    failures: int = 0
    task: asyncio.Task[None] | None = None


class RecordPeers:
    """All peers of this gateway. One per server."""

    def __init__(
        self,
        records: UserRecords,
        tree: Callable[[], Configuration],
        vault: Vault,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._tree, self._vault = records, tree, vault
        self._clock, self._monotonic = clock, monotonic
        self._turns: dict[str, _Turn] = {}
        self._settled = False  # there is no peer, and nothing is known of one

    async def turn(self) -> None:
        """Begins the exchange with every peer whose turn it is; none waits for another."""
        tree = self._tree()
        peers = {peer.name: peer for peer in tree.user_records.peers if peer.token}
        if not peers and self._settled:
            return
        known = await self._records.peers()
        if set(known) - set(peers):
            await self._records.forget_peers(peers)
        self._settled = not peers
        for gone in set(self._turns) - set(peers):
            task = self._turns.pop(gone).task
            if task is not None:
                task.cancel()
        if not peers or not await self._records.logical_names():
            return
        for peer in peers.values():
            turn = self._turns.setdefault(peer.name, _Turn())
            if turn.task is not None and not turn.task.done():
                continue
            record = known.get(peer.name, PeerRecord(peer.name))
            if self._monotonic() >= turn.next or (
                not turn.failures and await self._records.waiting(record.sent)
            ):
                turn.task = asyncio.create_task(
                    self._exchange(peer, record, turn, tree.user_records.interval_seconds),
                    name=f"records with {peer.name}",
                )

    async def settle(self) -> None:
        """Waits for what `turn` began."""
        await asyncio.gather(*(turn.task for turn in self._turns.values() if turn.task is not None))

    async def _exchange(self, peer: RecordPeer, record: PeerRecord, turn: _Turn, interval: int) -> None:
        try:
            with tracing.operation("exchange records", {"lockgate.peer": peer.name}):
                after = await self.exchange(peer, record)
        except ProblemError as error:
            turn.failures += 1
            turn.next = self._monotonic() + min(LONGEST_PAUSE, 2.0 ** min(turn.failures, 16))
            known = (await self._records.peers()).get(peer.name, record)
            text = printable(error.problem.text(), MAX_ERROR)
            if known.error != text:
                log.warning("record-peer-failed", peer=peer.name, **error.problem.as_dict())
                await self._records.keep_peer(replace(known, error=text))
        except Exception:
            turn.failures += 1
            turn.next = self._monotonic() + LONGEST_PAUSE
            log.exception("internal-error", peer=peer.name)
        else:
            turn.failures, turn.next = 0, self._monotonic() + interval
            if record.error:
                log.info("record-peer-works", peer=peer.name)
            now = self._clock()
            changed = replace(after, succeeded=record.succeeded) != record
            if changed or record.succeeded is None or now - record.succeeded > NOTED:
                await self._records.keep_peer(after)

    async def exchange(self, peer: RecordPeer, record: PeerRecord) -> PeerRecord:
        """Fetches and sends what is new; how far it came. Raises ProblemError."""
        target = Destination(peer.name, peer.url, Secret.of_text(self._vault.open(peer.token)), peer.ca)
        record = await self._fetch(target, record)
        record = await self._send(target, record)
        return replace(record, succeeded=self._clock(), error="")

    async def _fetch(self, target: Destination, record: PeerRecord) -> PeerRecord:
        for _ in range(PAGES):
            query = urlencode({"after": record.fetched, "origin": record.origin, "limit": PAGE})
            answer = await self._ask(target, "GET", f"{PATH}?{query}")
            origin, names = answer.get("origin"), answer.get("names")
            changes, following = answer.get("changes"), answer.get("following")
            if (
                not isinstance(origin, str)
                or not _is_origin(origin)
                or not isinstance(names, list)
                or len(names) > MAX_NAMES
                or not isinstance(changes, list)
                or len(changes) > PAGE
                or type(following) is not int
                or not 0 <= following < 1 << 62
            ):
                raise _failed(target, "its answer is none of a Lockgate server", "Look at its address.")
            ours = await self._records.logical_names()
            common = frozenset(each for each in names if isinstance(each, str) and each in ours)
            if origin != record.origin or common - record.names:
                # It is another one, lost something, or has to do with more users than before: all anew.
                begin = record.fetched
                record = replace(record, origin=origin, names=common, sent=0, fetched=0, refused=0)
                await self._records.keep_peer(record)
                if begin:
                    continue
            record = replace(record, names=common)
            try:
                found = [change_of(each) for each in changes]
            except BadChangeError:
                raise _failed(
                    target, "it sent what is no change of a record", "Look at its release."
                ) from None
            merged = await self._records.merge(
                [each for each in found if each is not None], int(self._clock() * 1000)
            )
            if merged.refused.get("ahead"):
                raise _ahead(target, "its clock is ahead of ours")
            done = len(changes) < PAGE or following <= record.fetched
            if following != record.fetched:
                record = replace(record, fetched=following)
                await self._records.keep_peer(record)
            if done:
                break
        return record

    async def _send(self, target: Destination, record: PeerRecord) -> PeerRecord:
        for _ in range(PAGES):
            page = await self._records.changes(record.sent, PAGE)
            changes = [told(each) for each in page.changes if each.logical in record.names]
            if changes:
                body = await asyncio.to_thread(json.dumps, {"changes": changes})
                answer = await self._ask(target, "POST", PATH, body.encode())
                refused = answer.get("refused")
                if not isinstance(refused, dict) or not all(
                    type(each) is int and each >= 0 for each in refused.values()
                ):
                    raise _failed(target, "its answer is none of a Lockgate server", "Look at its address.")
                if refused.get("ahead"):
                    raise _ahead(target, "its clock is behind ours")
                record = replace(record, refused=min(record.refused + sum(refused.values()), 1 << 60))
            if page.following != record.sent:
                record = replace(record, sent=page.following)
                await self._records.keep_peer(record)
            if len(page.changes) < PAGE:
                break
        return record

    async def _ask(
        self, target: Destination, method: str, path: str, body: bytes | None = None
    ) -> dict[str, Any]:
        try:
            status, content = await _aside(lambda: ask(target, method, path, PATIENCE, body))
        except NoAnswerError as error:
            raise _failed(target, error.why, error.fix) from None
        try:
            document = json.loads(content) if len(content) <= PATIENCE.most else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise _failed(
                target, f"its answer ({status}) is none of a Lockgate server", "Look at its address."
            )
        if status != 200:
            why = printable(str(document.get("summary", status)), 300)
            raise _failed(
                target,
                f"it refused: {why}",
                "Give the peer a token of that gateway with the scope user_records:write.",
            )
        return document


async def _aside(work: Callable[[], T]) -> T:
    """Runs what blocks in a thread that nobody waits for when the server stops."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the server has stopped meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=copy_context().run, args=(body,), name="records", daemon=True).start()
    return await future


def _failed(target: Destination, why: str, fix: str) -> ProblemError:
    return ProblemError(
        Problem("records-not-exchanged", f"No records are exchanged with {target.name}: {why}.", fix)
    )


def _ahead(target: Destination, why: str) -> ProblemError:
    return _failed(target, f"{why} by more than five minutes", "Set both clocks right, by NTP for example.")
