"""The audit: every sign-in attempt, session event and administrator's act, in the database and the log.

Three logs, as the console shows them: "user" (what users do: sign-ins, sessions), "admin" (what
administrators do, and what changes accounts and configuration), "events" (everything else). Texts from
outside are escaped and bounded here, once. An event that cannot be written down raises: what nobody can
see afterwards does not happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from lockgate.model.text import printable
from lockgate.server.store import interface
from lockgate.server.store.interface import AuditEntry, Log

log = structlog.get_logger("audit")

OK, FAILED = "ok", "failed"
# The columns' widths.
USER_LIMIT, SOURCE_LIMIT, TEXT_LIMIT = 128, 64, 512
EVENT_LIMIT, REASON_LIMIT = 32, 64

_USER_EVENTS = ("sign-in", "session-", "cookie-", "web-session-", "resume")
_ADMIN_EVENTS = ("user-", "config-", "token-", "admin-", "draft-", "revision-", "backup", "restore", "audit-")


def log_of(event: str) -> Log:
    """The log of an event whose writer names none."""
    if event.startswith(_USER_EVENTS):
        return "user"
    return "admin" if event.startswith(_ADMIN_EVENTS) else "events"


def with_code(text: str, code: str | None) -> str:
    """The text of an event with its support code in front, where nothing cuts it off."""
    return ": ".join(filter(None, (f"code {code}" if code else "", text)))


class Audit:
    """Writes events down."""

    def __init__(self, records: interface.Audit, clock: Callable[[], float] = time.time) -> None:
        self._records, self._clock = records, clock

    async def record(
        self,
        event: str,
        *,
        ok: bool,
        reason: str = "",
        user: str = "",
        source: str = "",
        session: int | None = None,
        text: str = "",
        log: Log | None = None,
        actor: str = "",
        revision: int | None = None,
    ) -> None:
        """Writes an event to the database and the log."""
        entry = self.entry(
            event,
            ok=ok,
            reason=reason,
            user=user,
            source=source,
            session=session,
            text=text,
            log=log,
            actor=actor,
            revision=revision,
        )
        await self.write(entry)

    async def write(self, entry: AuditEntry) -> None:
        """`record` of what `entry` made."""
        await self._records.add(entry)
        self.log(entry)

    def entry(
        self,
        event: str,
        *,
        ok: bool,
        reason: str = "",
        user: str = "",
        source: str = "",
        session: int | None = None,
        text: str = "",
        log: Log | None = None,
        actor: str = "",
        revision: int | None = None,
    ) -> AuditEntry:
        """An event of now, for a writer that has it written beside what it is about; `log` it afterwards.

        event, reason: codes of ours that never change. user: whom it is about, as typed. actor: who did
        it, where that is somebody else. text: more about it. log: None for that of the event.
        """
        return AuditEntry(
            time=float(self._clock()),
            event=printable(event, EVENT_LIMIT),
            outcome=OK if ok else FAILED,
            reason=printable(reason, REASON_LIMIT),
            user=printable(user, USER_LIMIT),
            source=printable(source, SOURCE_LIMIT),
            session=session,
            text=printable(text, TEXT_LIMIT),
            log=log or log_of(event),
            actor=printable(actor, USER_LIMIT),
            revision=revision,
        )

    @staticmethod
    def log(entry: AuditEntry) -> None:
        """The event as a line of the log."""
        write = log.info if entry.outcome == OK else log.warning
        write(
            entry.event,
            outcome=entry.outcome,
            reason=entry.reason,
            user=entry.user,
            source=entry.source,
            session=entry.session,
            text=entry.text,
            log=entry.log,
            actor=entry.actor,
            revision=entry.revision,
        )
