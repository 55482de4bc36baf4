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
        """event, reason: codes of ours that never change. user: as typed. text: more about it."""
        entry = AuditEntry(
            time=self._clock(),
            event=event,
            outcome="ok" if ok else "failed",
            reason=reason,
            user=printable(user, USER_LIMIT),
            source=printable(source, SOURCE_LIMIT),
            session=session,
            text=printable(text, TEXT_LIMIT),
        )
        await self._records.add(entry)
        write = log.info if ok else log.warning
        write(
            event,
            outcome=entry.outcome,
            reason=reason,
            user=entry.user,
            source=entry.source,
            session=session,
            text=entry.text,
        )
