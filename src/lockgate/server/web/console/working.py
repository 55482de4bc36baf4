"""The draft that an administrator's changes in the console go to: the one of theirs that was changed last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lockgate.model.problem import ProblemError
from lockgate.server.config import edits as editing
from lockgate.server.config.checks import Checked
from lockgate.server.config.drafts import Draft
from lockgate.server.config.edits import Edit
from lockgate.server.config.paths import Data
from lockgate.server.config.sealing import Sealing
from lockgate.server.config.tree.fields import SEALED
from lockgate.server.web.principal import Principal
from lockgate.server.web.services import Services

MAX_KNOWN = 50  # drafts whose figures are remembered


@dataclass(frozen=True, slots=True)
class Pending:
    """What the top bar says about a draft."""

    id: str
    changes: int
    errors: int
    outdated: bool  # others committed since its base


class _Placeholder:
    """Seals nothing: for judging what is not stored yet."""

    def seal(self, text: str) -> str:
        return SEALED + "AAAA"

    def open(self, sealed: str) -> str:
        return sealed


class Working:
    """One per console."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        self._sealing = Sealing(_Placeholder())

    async def draft(self, principal: Principal) -> Draft | None:
        """The administrator's draft, with its data."""
        head = await self._head(principal)
        return None if head is None else await self._services.config.draft(head.id)

    async def data(self, principal: Principal) -> Data:
        """The tree as the administrator sees it: their draft's, or the one in force."""
        draft = await self.draft(principal)
        return self._services.config.data if draft is None else draft.data

    async def edit(self, principal: Principal, edits: Iterable[Edit]) -> Draft:
        """Changes their draft, or makes one first."""
        config = self._services.config
        draft = await self.draft(principal)
        if draft is None:
            draft = await config.create_draft(principal.actor, source=principal.source)
        return await config.edit(draft.id, draft.version, edits)

    async def judge(self, data: Data, edits: list[Edit]) -> tuple[Data, Checked]:
        """The tree after the edits, and all findings about it. Raises ProblemError of an edit that cannot be
        done."""
        after = self._sealing.complete(editing.apply(data, edits), data)
        return after, await self._services.config.check(after)

    async def pending(self, principal: Principal) -> Pending | None:
        head = await self._head(principal)
        if head is None:
            return None
        key = (head.id, head.version)
        if key not in self._known:
            try:
                changes = len(await self._services.config.draft_changes(head.id))
                errors = len((await self._services.config.validate(head.id)).errors)
            except ProblemError:
                return None  # gone meanwhile
            self._known[key] = (changes, errors)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        changes, errors = self._known[key]
        return Pending(head.id, changes, errors, head.base != self._services.config.number)

    async def _head(self, principal: Principal) -> Draft | None:
        mine = [each for each in await self._services.config.drafts() if each.author == principal.actor]
        return max(mine, key=lambda each: each.changed, default=None)


def names_in(data: Data, collection: str) -> list[str]:
    """The names of a collection, which may stand below the top: "certificates/trusted_client_cas"."""
    value: Any = data
    for key in collection.split("/"):
        value = value.get(key) if isinstance(value, dict) else None
    entries = value if isinstance(value, list) else []
    return [str(each["name"]) for each in entries if isinstance(each, dict) and each.get("name")]
