"""The audit: every sign-in attempt, session event and administrator's act, in the database and the log.

Texts from outside are escaped and bounded here, once. An event that cannot be written down raises:
what nobody can see afterwards does not happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from lockgate.model.text import printable
from lockgate.server.store import interface
from lockgate.server.store.interface import AuditEntry

log = structlog.get_logger("audit")

OK, FAILED = "ok", "failed"
# The columns' widths.
USER_LIMIT, SOURCE_LIMIT, TEXT_LIMIT = 128, 64, 512


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
    ) -> None:
        """Writes an event to the database and the log."""
        entry = self.entry(event, ok=ok, reason=reason, user=user, source=source, session=session, text=text)
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
    ) -> AuditEntry:
        """An event of now, for a writer that has it written beside what it is about; `log` it afterwards.

        event, reason: codes of ours that never change. user: as typed. text: more about it.
        """
        return AuditEntry(
            time=self._clock(),
            event=event,
            outcome=OK if ok else FAILED,
            reason=reason,
            user=printable(user, USER_LIMIT),
            source=printable(source, SOURCE_LIMIT),
            session=session,
            text=printable(text, TEXT_LIMIT),
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
        )
