"""Drafts: trees that somebody is working on, each edit against a version, so that two tabs cannot mix theirs."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.server.config.bounds import check_bounds
from lockgate.server.config.changes import share
from lockgate.server.config.edits import MAX_EDITS, Edit, Insert, Remove, Rename, SetValue, apply
from lockgate.server.config.findings import path_text, shown
from lockgate.server.config.paths import Data, names_in, parse_path
from lockgate.server.config.sealing import Sealing, address_of, secrets_of
from lockgate.server.store.interface import Drafts as Records
from lockgate.server.store.records import DraftRecord

MAX_DRAFTS = 200  # of all administrators
MAX_KEPT = 8  # drafts whose trees are kept at hand
AUTHOR_LIMIT = 128  # the column's width
PIECE = 200  # objects that are written in one go
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Draft:
    """A tree in the making. `data` may be anything that JSON can hold below a table.

    version: 1, and one more with every edit.
    renamed: auth servers that got another name since the base, with their new one: their users follow.
    """

    id: str
    author: str
    base: int
    version: int
    created: float
    changed: float
    data: Data
    renamed: Mapping[str, str] = field(default_factory=lambda: _NONE)


class Drafts:
    """Drafts in the store, with their secrets sealed and their identities made."""

    def __init__(
        self, records: Records, sealing: Sealing, clock: Callable[[], float], like: Callable[[], Data]
    ) -> None:
        """like: a tree that most drafts are made from; what they have in common with it is there once."""
        self._records, self._sealing, self._clock, self._like = records, sealing, clock, like
        # By id, those used last. What is in one is said by its version, which is compared each time.
        self._kept: OrderedDict[str, Draft] = OrderedDict()

    async def create(self, author: str, base: int, data: Data, stored: Data) -> Draft:
        """stored: where secrets that `data` wants to keep stand."""
        now = self._clock()
        # In a thread, here and below: with thousands of roles and rules each of these takes tens of milliseconds.
        complete = await asyncio.to_thread(self._sealing.complete, data, stored)
        draft = Draft(
            id=secrets.token_hex(8),
            author=printable(author, AUTHOR_LIMIT),
            base=base,
            version=1,
            created=now,
            changed=now,
            data=complete,
        )
        if not await self._records.add(await asyncio.to_thread(_record, draft), MAX_DRAFTS):
            raise ProblemError(
                Problem(
                    code="too-many-drafts",
                    summary=f"There are {MAX_DRAFTS} drafts already.",
                    fix="Commit or discard some of them (`lockgate config drafts`).",
                )
            )
        return self._keep(draft)

    async def get(self, id: str) -> Draft:
        """Raises ProblemError "no-such-draft"."""
        usable = id.isascii() and len(id) <= 64
        if usable and (kept := self._kept.get(id)) is not None:
            head = await self._records.head(id)
            if head is not None and head.version == kept.version:
                return self._keep(kept)
        record = await self._records.get(id) if usable else None
        if record is None:
            self._kept.pop(id, None)
            raise ProblemError(
                Problem(
                    code="no-such-draft",
                    summary=f"There is no draft {shown(id)}; it was committed, discarded or never there.",
                    fix="`lockgate config drafts` lists those that there are.",
                )
            )
        return self._keep(await asyncio.to_thread(_draft, record, self._like()))

    async def all(self) -> list[Draft]:
        """Their heads, those changed last first; `data` is empty."""
        return [_head(record) for record in await self._records.all()]

    async def discard(self, id: str) -> Draft:
        draft = await self.get(id)
        await self._records.delete(draft.id)
        self._kept.pop(draft.id, None)
        return draft

    async def edit(self, id: str, version: int, edits: Iterable[Edit]) -> Draft:
        """All edits or none. Raises ProblemError "draft-changed", or that of the edit that cannot be done."""
        listed = list(edits)
        if len(listed) > MAX_EDITS:
            raise ProblemError(
                Problem(
                    code="too-many-edits",
                    summary=f"There are {len(listed)} edits, at most {MAX_EDITS} are done at once.",
                    fix="Send them in several steps, or replace the draft as a whole.",
                )
            )
        draft = await self._at(id, version)
        data = await asyncio.to_thread(apply, draft.data, listed)
        return await self._save(draft, data, follow(draft, listed), draft.base)

    async def replace(self, id: str, version: int, data: Any) -> Draft:
        draft = await self._at(id, version)
        if not isinstance(data, dict):
            raise ProblemError(
                Problem("config-malformed", f"{shown(data)} is no configuration.", "Give a table.")
            )
        there = set(names_in(data, "auth_servers"))
        renamed = {old: new for old, new in draft.renamed.items() if new in there}
        return await self._save(draft, data, renamed, draft.base)

    async def rebase(self, id: str, version: int, data: Data, base: int) -> Draft:
        """The same draft with `data`, made from another revision."""
        draft = await self._at(id, version)
        return await self._save(draft, data, draft.renamed, base)

    async def _at(self, id: str, version: int) -> Draft:
        draft = await self.get(id)
        if draft.version != version:
            raise changed(id)
        return draft

    async def _save(self, draft: Draft, data: Data, renamed: Mapping[str, str], base: int) -> Draft:
        def work() -> tuple[Data, str]:
            complete = self._sealing.complete(data, draft.data)
            check_bounds(complete, "draft")
            _refuse_redirected(complete, draft.data, self._like())
            return complete, _text(complete, renamed)

        now = self._clock()
        data, text = await asyncio.to_thread(work)
        if not await self._records.edit(draft.id, draft.version, text, now, base):
            raise changed(draft.id)
        return self._keep(
            Draft(draft.id, draft.author, base, draft.version + 1, draft.created, now, data, dict(renamed))
        )

    def _keep(self, draft: Draft) -> Draft:
        self._kept[draft.id] = draft
        self._kept.move_to_end(draft.id)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return draft


def _refuse_redirected(new: Data, before: Data, in_force: Data) -> None:
    """Raises ProblemError for secrets that were entered in the draft, for another address than they now have.

    Those that are in force, or were, are judged at the commit (`versions.redirected`).
    """
    entered = {sealed: address_of(before, path) for path, sealed in secrets_of(before).items()}
    known = set(secrets_of(in_force).values())
    for path, sealed in secrets_of(new).items():
        if sealed in entered and sealed not in known and entered[sealed] != address_of(new, path):
            raise ProblemError(
                Problem(
                    code="token-of-another-address",
                    summary=f"{path_text(path)} was entered for another address or CA.",
                    fix="Enter it again, together with the new address.",
                )
            )


def changed(id: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="draft-changed",
            summary=f"The draft {printable(id, 64)} has been changed since you looked at it.",
            fix="Look at it again; nothing of your last step has been saved.",
        )
    )


def follow(draft: Draft, edits: Iterable[Edit]) -> dict[str, str]:
    """Auth servers by the names that the base knows, with the names they have after the edits.

    One that is removed is gone: whatever gets its name later is another one, and inherits nothing.
    """
    origins: dict[str, str | None] = {name: name for name in names_in(draft.data, "auth_servers")}
    for old, new in draft.renamed.items():
        if origins.get(old) == old:
            origins[old] = None  # made after the one of that name had got another
        if new in origins:
            origins[new] = old
    for edit in edits:
        path = parse_path(edit.path)
        if path[:1] != ("auth_servers",) or len(path) > 2:
            continue
        match edit:
            case Rename(name=name) if len(path) == 2:
                origins[name] = origins.pop(path[1], None)
            case Remove():
                origins = {name: old for name, old in origins.items() if path[1:] not in ((), (name,))}
            case SetValue(value=value) if len(path) == 1:
                origins = {
                    name: origins.get(name) for name in names_in({"auth_servers": value}, "auth_servers")
                }
            case SetValue() | Insert():
                origins.setdefault(path[-1], None)
    return {old: new for new, old in origins.items() if old not in (None, new)}


def _record(draft: Draft) -> DraftRecord:
    return DraftRecord(
        draft.id,
        draft.author,
        draft.base,
        draft.version,
        draft.created,
        draft.changed,
        _text(draft.data, draft.renamed),
    )


def _text(data: Data, renamed: Mapping[str, str]) -> str:
    parts = ",".join(f"{_json(key)}:{_written(value)}" for key, value in data.items())
    return f'{{"data":{{{parts}}},"renamed":{_json(dict(renamed))}}}'


def _written(value: Any) -> str:
    # In pieces: whoever writes megabytes in one go keeps all threads waiting, the event loop's too.
    if not isinstance(value, list) or len(value) <= PIECE:
        return _json(value)
    pieces = (_json(value[start : start + PIECE])[1:-1] for start in range(0, len(value), PIECE))
    return f"[{','.join(pieces)}]"


def _json(value: Any) -> str:
    # ASCII: a draft may hold lone surrogates, which no database takes.
    return json.dumps(value, separators=(",", ":"))


def _draft(record: DraftRecord, like: Data) -> Draft:
    document = json.loads(record.tree)
    return Draft(
        record.id,
        record.author,
        record.base,
        record.version,
        record.created,
        record.changed,
        share(document["data"], like),
        document["renamed"],
    )


def _head(record: DraftRecord) -> Draft:
    return Draft(record.id, record.author, record.base, record.version, record.created, record.changed, {})
