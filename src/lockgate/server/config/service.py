"""The configuration of a running server: the tree in force, drafts, and revisions.

Nothing changes the tree but a commit, and a commit is one transaction of the store: the revision, the end of the
draft and the line in the audit are there together or not at all. Whoever follows the tree subscribes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.protocol.secret import Secret
from lockgate.server import tracing
from lockgate.server.audit import Audit
from lockgate.server.config import transfer
from lockgate.server.config.changes import Change, areas, diff, same, share
from lockgate.server.config.checks import Checked, InvalidError
from lockgate.server.config.drafts import AUTHOR_LIMIT, Draft, Drafts, changed, follow
from lockgate.server.config.edits import Edit, apply
from lockgate.server.config.findings import Finding
from lockgate.server.config.incremental import Validator
from lockgate.server.config.judges import traces
from lockgate.server.config.merge import Conflict, ConflictError, Prefer, conflicts, merge
from lockgate.server.config.paths import Data, names_in
from lockgate.server.config.reach import reached
from lockgate.server.config.revision import (
    Revision,
    RevisionInfo,
    committed,
    data_of,
    info_of,
    record_of,
    revision_of,
)
from lockgate.server.config.sealing import Sealing, Vault
from lockgate.server.config.tree import Configuration
from lockgate.server.config.versions import raise_versions, redirected, tokens_that_came, waiting
from lockgate.server.store.interface import Store
from lockgate.server.store.records import AuditEntry, RevisionRecord

log = structlog.get_logger("config")

T = TypeVar("T")

REASON_LIMIT = 500  # characters
KEPT_TREES = 4  # of older revisions, for comparing; a large one takes a few megabytes
KEPT_COMPARISONS = 4  # pages of one are asked for one by one
KEPT_FOUND = 24  # answers about drafts: findings, changes, conflicts of eight of them
SEED_DIGEST = "config.toml"
"""Key in `meta`: SHA-256 of the config.toml that was taken over last."""


Permit = Callable[[frozenset[str]], None]
"""Gets the areas that a commit changes; raises ProblemError when the author may not."""
Follower = Callable[[Configuration, Revision], Awaitable[None]]
"""Gets the tree that was in force and the revision that is now."""


class ConfigService:
    """See the module. ProblemError codes: "config-invalid" (with every error as a detail), "conflict",
    "draft-changed", "nothing-changed", "no-such-draft", "no-such-revision", and those of `edits` and `transfer`.
    """

    def __init__(
        self, store: Store, vault: Vault, audit: Audit, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._audit, self._clock = store, audit, clock
        self._sealing = Sealing(vault)
        self._drafts = Drafts(store.drafts, self._sealing, clock, lambda: self.data)
        self._validator = Validator()
        # What was found about a draft in one version, by a key that says all that it depends on; whoever asks
        # gets their part of it elsewhere (`web/api/visible.py`).
        self._found: OrderedDict[tuple[str, str, int, int], Any] = OrderedDict()
        self._current: Revision | None = None
        self._followers: list[Follower] = []
        self._lock = asyncio.Lock()  # one commit, and one round of followers, at a time
        self._older: OrderedDict[int, Data] = OrderedDict()
        self._compared: OrderedDict[tuple[int, int], tuple[Change, ...]] = OrderedDict()

    # What is in force

    @property
    def current(self) -> Revision:
        """The revision in force. Only after `load`."""
        assert self._current is not None, "the configuration was not loaded"
        return self._current

    @property
    def number(self) -> int:
        return self.current.number

    @property
    def tree(self) -> Configuration:
        return self.current.tree

    @property
    def data(self) -> Data:
        """The tree's JSON form, with secrets sealed; `changes.mask` before it is shown."""
        return self.current.data

    async def load(self) -> None:
        """Reads the newest revision. Raises ProblemError "no-configuration" or "revision-unreadable"."""
        record = await self._store.revisions.current()
        if record is None:
            raise ProblemError(
                Problem(
                    code="no-configuration",
                    summary="There is no configuration in the store.",
                    fix="Start the server once: it takes config.toml over.",
                )
            )
        self._current = await asyncio.to_thread(self._committed, record)

    def subscribe(self, follower: Follower) -> None:
        """Followers are called one after the other, in the order of their subscription, after each commit."""
        self._followers.append(follower)

    async def refresh(self) -> None:
        """Picks up what another process has committed. Cheap when there is nothing."""
        if await self._store.revisions.current_number() == self.number:
            return
        with tracing.operation("take revision over"):
            async with self._lock:
                await self._catch_up()

    # Drafts

    async def create_draft(self, author: str, base: int | None = None, *, source: str = "") -> Draft:
        """A draft that begins as the current revision, or as revision `base`."""
        revision = self.number if base is None else base
        data = await self._data_of(revision)
        draft = await self._drafts.create(author, revision, data, data)
        await self._note("config-draft-created", author, source, draft.id)
        return draft

    async def draft(self, id: str) -> Draft:
        return await self._drafts.get(id)

    async def drafts(self) -> list[Draft]:
        """Heads, without data."""
        return await self._drafts.all()

    async def discard(self, id: str, *, author: str = "", source: str = "") -> None:
        draft = await self._drafts.discard(id)
        await self._note("config-draft-discarded", author or draft.author, source, draft.id)

    async def edit(self, id: str, version: int, edits: Iterable[Edit]) -> Draft:
        return await self._drafts.edit(id, version, edits)

    async def replace(self, id: str, version: int, data: Any) -> Draft:
        return await self._drafts.replace(id, version, data)

    async def validate(self, id: str) -> Checked:
        """All findings about a draft, with warnings about what would take effect later."""
        draft = await self._drafts.get(id)
        known = await self._once("findings", draft, 0, lambda: self._findings(draft.data))
        return await self._judge(draft.data, known)

    async def check(self, data: Any) -> Checked:
        """`checks.validate`, quick for a tree that has most of its objects from a draft or from what is in force."""
        return await asyncio.to_thread(self._validator.validate, data)

    async def draft_changes(self, id: str) -> tuple[Change, ...]:
        """What a draft changes, against its base."""
        draft = await self._drafts.get(id)
        base = await self._data_of(draft.base)
        return await self._once("changes", draft, draft.base, lambda: diff(base, draft.data))

    async def conflicts(self, id: str) -> tuple[Conflict, ...]:
        """What others committed since the draft's base and the draft changes too, otherwise."""
        return await self._conflicts(await self._drafts.get(id))

    async def rebase(self, id: str, version: int, prefer: Prefer = "neither") -> Draft:
        """The draft's changes, made to the current revision instead of an older one.

        prefer: whose value counts where both changed the same; "neither" raises ProblemError "conflict" there.
        """
        draft = await self._drafts.get(id)
        if draft.version != version:
            raise changed(id)
        if draft.base == self.number:
            return draft
        found = await self._conflicts(draft)
        if found and prefer == "neither":
            raise _conflict(found)
        base = await self._data_of(draft.base)
        data = await asyncio.to_thread(merge, base, draft.data, self.data, prefer)
        return await self._drafts.rebase(id, version, data, self.number)

    # Commits

    async def commit(
        self,
        id: str,
        version: int,
        author: str,
        reason: str,
        *,
        source: str = "",
        permit: Permit | None = None,
    ) -> Revision:
        """Makes a draft the configuration in force. The draft ends."""
        async with self._commit_lock():
            draft = await self._drafts.get(id)
            if draft.version != version:
                raise changed(id)
            if draft.base != self.number:
                raise _conflict(await self._conflicts(draft), self.current)
            return await self._commit(
                draft.data,
                author,
                reason,
                base=draft.base,
                source=source,
                permit=permit,
                draft=draft,
                renamed=draft.renamed,
            )

    async def apply(
        self,
        author: str,
        reason: str,
        edits: Iterable[Edit],
        base: int | None = None,
        *,
        source: str = "",
        permit: Permit | None = None,
    ) -> Revision:
        """Edits and commits in one step. base: the revision that the author looked at."""
        listed = list(edits)
        async with self._commit_lock():
            if base is not None and base != self.number:
                raise _conflict((), self.current)
            data = await asyncio.to_thread(apply, self.data, listed)
            draft = Draft("", author, self.number, 1, 0.0, 0.0, self.data)
            return await self._commit(
                await asyncio.to_thread(self._sealing.complete, data, self.data),
                author,
                reason,
                base=self.number,
                source=source,
                permit=permit,
                renamed=follow(draft, listed),
            )

    async def rollback(
        self,
        number: int,
        author: str,
        reason: str,
        *,
        source: str = "",
        permit: Permit | None = None,
    ) -> Revision:
        """A new revision that says what revision `number` said."""
        async with self._commit_lock():
            data = await self._data_of(number)
            return await self._commit(
                data,
                author,
                reason or f"back to revision {number}",
                base=number,
                source=source,
                permit=permit,
                least_version=self.number + 1,
            )

    # Revisions

    async def log(self, limit: int = 50, before: int | None = None) -> list[RevisionInfo]:
        """Heads, newest first; those with numbers below `before`."""
        return [info_of(record) for record in await self._store.revisions.log(limit, before)]

    async def revision(self, number: int) -> Revision:
        """Raises ProblemError "no-such-revision", or "revision-unreadable" for one that this release cannot use."""
        if number == self.number:
            return self.current
        return await asyncio.to_thread(committed, await self._record(number))

    async def compare(self, a: int, b: int) -> tuple[Change, ...]:
        """What changed from revision a to revision b."""
        if (a, b) not in self._compared:
            old, new = await self._data_of(a), await self._data_of(b)
            self._compared[a, b] = await asyncio.to_thread(diff, old, new)
            while len(self._compared) > KEPT_COMPARISONS:
                self._compared.popitem(last=False)
        return self._compared[a, b]

    # Documents

    async def export(
        self,
        parts: Iterable[str] | None = None,
        passphrase: Secret | None = None,
        revision: int | None = None,
    ) -> dict[str, Any]:
        """A document of the whole tree or of parts of it; see `transfer`."""
        number = self.number if revision is None else revision
        data = await self._data_of(number)
        blobs = {digest: await self._blob(digest) for digest in _uploads(data)}
        return await asyncio.to_thread(
            transfer.export,
            data,
            parts,
            revision=number,
            now=self._clock(),
            open_secret=self._sealing.open,
            blobs={digest: content for digest, content in blobs.items() if content is not None},
            passphrase=passphrase,
        )

    async def import_(
        self,
        document: Any,
        mode: transfer.Mode,
        author: str,
        passphrase: Secret | None = None,
        *,
        source: str = "",
    ) -> Draft:
        """A draft of the current revision with what `document` says; nothing is in force before its commit."""
        imported = await asyncio.to_thread(transfer.import_, document, self.data, mode, passphrase)
        for content in imported.blobs.values():
            await self._store.blobs.put(content, self._clock())
        draft = await self._drafts.create(author, self.number, imported.data, self.data)
        if imported.seed_digest is not None:
            await self._store.meta.set(SEED_DIGEST, imported.seed_digest[:64])
        await self._note("config-imported", author, source, f"draft {draft.id}, {mode}")
        return draft

    # Inside

    @contextlib.asynccontextmanager
    async def _commit_lock(self) -> AsyncIterator[None]:
        with tracing.operation("commit"):
            async with self._lock:
                await self._catch_up()
                yield

    async def _catch_up(self) -> None:
        number = await self._store.revisions.current_number()
        if number == self.number:
            return
        record = await self._store.revisions.current()
        assert record is not None, "revisions do not vanish"
        await self._take(await asyncio.to_thread(self._committed, record))

    async def _take(self, revision: Revision) -> None:
        old, self._current = self.current, revision
        tracing.current().note({"lockgate.revision": revision.number})
        self._keep_older(old.number, old.data)  # drafts were made from it a moment ago
        try:
            for follower in self._followers:
                try:
                    await follower(old.tree, revision)
                except Exception:
                    # The revision is in force whatever a follower makes of it; the others must hear of it.
                    log.exception("follower-failed", revision=revision.number)
        except BaseException:
            # Whoever asked for it does not wait any more. The next `refresh` tells all followers again.
            self._current = old
            raise

    async def _commit(
        self,
        data: Data,
        author: str,
        reason: str,
        *,
        base: int,
        source: str,
        permit: Permit | None,
        draft: Draft | None = None,
        renamed: Mapping[str, str] | None = None,
        least_version: int = 1,
    ) -> Revision:
        current = self.current
        with tracing.part("judge"):
            known = await asyncio.to_thread(self._findings, data)
            checked = await self._judge(data, known)
            tree = raise_versions(checked.require(), current.tree, least_version)
            await self._refuse_old_tokens(tree)
        new = await asyncio.to_thread(self._written, tree, current.data)
        if same(new, current.data):
            raise ProblemError(
                Problem(
                    code="nothing-changed",
                    summary=f"The configuration says what revision {current.number} says already.",
                    fix="Change something first, or discard the draft.",
                )
            )
        found = await asyncio.to_thread(diff, current.data, new)
        moved = _servers(renamed or {}, current.data, new)
        if permit is not None:
            permit(areas(found) | reached(current.tree, tree, found, moved))
        head = RevisionInfo(
            number=current.number + 1,
            time=self._clock(),
            author=printable(author, AUTHOR_LIMIT),
            reason=printable(reason, REASON_LIMIT),
            base=base,
        )
        record = await asyncio.to_thread(record_of, head, new)
        note = self._audit.entry(
            "config-committed",
            ok=True,
            user=author,
            source=source,
            text=f"{_summary(found)}; {reason}",
            log="admin",
            revision=record.number,
        )
        await self._write(record, tree, note, draft, moved)
        self._audit.log(note)
        revision = revision_of(record, tree, new, checked.warnings)
        await self._take(revision)
        return revision

    async def _write(
        self,
        record: RevisionRecord,
        tree: Configuration,
        note: AuditEntry,
        draft: Draft | None,
        moved: Mapping[str, str],
    ) -> None:
        """Stores a revision of `tree`, with its line in the audit and the end of its draft. moved: auth servers, from
        their former names. Raises ProblemError where another process was quicker."""
        before = record.number - 1
        with tracing.part("store"):
            added = await self._store.revisions.add(
                record,
                before,
                draft=draft.id if draft else None,
                draft_version=draft.version if draft else None,
                note=note,
                renamed_servers=moved,
                logical_servers={
                    each.name: each.logical_auth_server_name
                    for each in tree.auth_servers
                    if each.user_record_synchronization
                },
            )
        if not added:
            # With a commit, or with an edit of the draft.
            await self._catch_up()
            raise (
                _conflict((), self.current) if self.number != before else changed(draft.id if draft else "")
            )

    def _findings(self, data: Data) -> tuple[Checked, tuple[Finding, ...]]:
        """What depends on a tree alone, and on this server's key."""
        checked = self._validator.validate(data)
        if checked.configuration is None:
            return checked, ()
        return checked, (
            *self._sealing.unreadable(data),
            *traces.judge_here(checked.configuration, self._sealing.open),
        )

    def _written(self, tree: Configuration, like: Data) -> Data:
        """The JSON form of a valid tree."""
        data: Data = share(tree.model_dump(mode="json"), like)
        self._validator.know(data, tree)
        return data

    def _committed(self, record: RevisionRecord) -> Revision:
        """`committed`, whose objects drafts are going to be made of."""
        revision = committed(record)
        if self._current is not None:
            revision = replace(revision, data=share(revision.data, self._current.data))
        self._validator.know(revision.data, revision.tree)
        return revision

    async def _judge(self, data: Data, known: tuple[Checked, tuple[Finding, ...]]) -> Checked:
        """All findings: `known` ones, and what only this server knows: its uploads, what is in force."""
        checked, unreadable = known
        if checked.configuration is None:
            return checked
        found = [
            *unreadable,
            *redirected(checked.configuration, self.tree),
            *waiting(checked.configuration, self.tree),
        ]
        for page in checked.configuration.sign_in_pages:
            if page.templates and await self._blob(page.templates) is None:
                found.append(
                    Finding(
                        ("sign_in_pages", page.name, "templates"),
                        "the templates were not uploaded to this server",
                        "an uploaded archive, or an import that brings it",
                    )
                )
        wrong = any(not each.warning for each in found)
        findings = tuple(sorted((*checked.findings, *found), key=lambda each: each.warning))
        return Checked(None if wrong else checked.configuration, findings)

    async def _refuse_old_tokens(self, tree: Configuration) -> None:
        """Raises InvalidError for tokens of older revisions that have got another address.

        Who takes a target away and brings it back with another address gets its token no more than who edits it.
        """
        found: list[Finding] = []
        for token in tokens_that_came(tree, self.tree):
            record = await self._store.revisions.holding(token)
            if record is not None:
                older = await asyncio.to_thread(committed, record)
                found += redirected(tree, older.tree, {token})
        if found:
            raise InvalidError(tuple(found))

    async def _blob(self, digest: str) -> bytes | None:
        return await self._store.blobs.get(digest)

    async def _conflicts(self, draft: Draft) -> tuple[Conflict, ...]:
        if draft.base == self.number:
            return ()
        base, current = await self._data_of(draft.base), self.current
        return await self._once(
            "conflicts", draft, current.number, lambda: conflicts(base, draft.data, current.data)
        )

    async def _once(self, what: str, draft: Draft, number: int, work: Callable[[], T]) -> T:
        """What `work` finds in a thread. number: of the revision that it depends on, 0 for none."""
        key = what, draft.id, draft.version, number
        if key not in self._found:
            self._found[key] = await asyncio.to_thread(work)
            while len(self._found) > KEPT_FOUND:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        found: T = self._found[key]
        return found

    async def _data_of(self, number: int) -> Data:
        if number == self.number:
            return self.data
        if number not in self._older:
            record = await self._record(number)
            self._keep_older(number, await asyncio.to_thread(data_of, record, self.data))
        self._older.move_to_end(number)
        return self._older[number]

    def _keep_older(self, number: int, data: Data) -> None:
        self._older[number] = data
        self._older.move_to_end(number)
        while len(self._older) > KEPT_TREES:
            self._older.popitem(last=False)

    async def _record(self, number: int) -> RevisionRecord:
        record = await self._store.revisions.get(number) if 0 < number < 1 << 62 else None
        if record is None:
            raise ProblemError(
                Problem(
                    code="no-such-revision",
                    summary=f"There is no revision {printable(str(number), 20)}.",
                    fix="`lockgate config log` lists them.",
                )
            )
        return record

    async def _note(self, event: str, author: str, source: str, text: str) -> None:
        await self._audit.record(event, ok=True, user=author, source=source, text=text, log="admin")


def _summary(found: tuple[Change, ...]) -> str:
    """Where a commit changed something, never what."""
    listed = ", ".join(change.path for change in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{len(found)} change{'s' if len(found) != 1 else ''}: {listed}{more}"


def _servers(renamed: Mapping[str, str], old: Data, new: Data) -> dict[str, str]:
    """Renamed auth servers: the old name is free afterwards and the new one was before, or another one goes with it.

    Otherwise users would come to be those of a server that the tree shows as unchanged.
    """
    before, after = set(names_in(old, "auth_servers")), set(names_in(new, "auth_servers"))
    real: dict[str, str] = {}
    kept = {a: b for a, b in renamed.items() if a in before and b in after}
    while kept != real:
        real = kept
        kept = {
            a: b
            for a, b in real.items()
            if (b not in before or b in real) and (a not in after or a in real.values())
        }
    return real


def _uploads(data: Data) -> list[str]:
    pages = data.get("sign_in_pages", [])
    return [page["templates"] for page in pages if page.get("templates")]


def _conflict(found: tuple[Conflict, ...], current: Revision | None = None) -> ConflictError:
    if current is None:
        return ConflictError("Others changed the same settings since you began.", found)
    return ConflictError(f"{current.author} committed revision {current.number} since you began.", found)
