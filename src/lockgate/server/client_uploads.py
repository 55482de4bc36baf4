"""Logs that clients send over their session: who may, how much, and for how long they are kept.

An upload is stored by a random number and never looked into; the console hands it out as a download only.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.session import Session
from lockgate.server.audit import Audit
from lockgate.server.in_force import InForce
from lockgate.server.store.interface import UploadRecord, Uploads

MAX_NAME = 100
MAX_AT_ONCE = 4  # uploads that are read at the same time; the edge keeps the others waiting
DAY = 86400.0
_UNSAFE = re.compile(r"[^A-Za-z0-9._ ()-]+")

_OFF = Problem(
    "uploads-off", "This gateway takes no client logs.", "Save the logs and send them by other means."
)
_NOT_ALLOWED = Problem(
    "upload-not-allowed", "Your role does not allow to upload logs.", "Ask your administrator for it."
)
_BUSY = Problem("busy", "Others are uploading logs.", "Try again in a minute.")


class ClientUploads:
    """One per control plane."""

    def __init__(
        self, uploads: Uploads, in_force: InForce, audit: Audit, clock: Callable[[], float] = time.time
    ) -> None:
        self._uploads, self._in_force, self._audit, self._clock = uploads, in_force, audit, clock
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._uploading: set[int] = set()

    def judge(self, session: Session) -> None:
        """Raises ProblemError unless this session may upload now: "uploads-off", "upload-not-allowed"."""
        if not self._in_force.tree.client_logs.upload:
            raise ProblemError(_OFF)
        if not self._in_force.rights(session.roles).effective.session.upload_logs:
            raise ProblemError(_NOT_ALLOWED)

    async def accept(
        self, session: Session, name: str, declared: int | None, content: AsyncIterable[bytes]
    ) -> UploadRecord:
        """Stores an upload as a whole or not at all.

        name: what the client calls it. declared: its size in bytes, if the client said that.
        Raises ProblemError: as `judge`; "upload-too-large", "busy".
        """
        try:
            self.judge(session)
            if self._room.locked() or session.id in self._uploading:
                raise ProblemError(_BUSY)
            most = self._in_force.tree.client_logs.max_megabytes << 20
            if declared is not None and declared > most:
                raise _too_large(most)
            self._uploading.add(session.id)
            try:
                async with self._room:
                    record = await self._uploads.add(self._record(session, name), _limited(content, most))
            finally:
                self._uploading.discard(session.id)
        except ProblemError as error:
            await self._note(session, error.problem.code, "")
            raise
        await self._note(session, "", f"{record.name}, {record.size} bytes")
        await self.tidy()
        return record

    async def tidy(self) -> None:
        """Removes what is too old, and the oldest where all together are too large."""
        settings = self._in_force.tree.client_logs
        before = self._clock() - settings.keep_days * DAY
        await self._uploads.prune(before, settings.keep_total_megabytes << 20)

    def _record(self, session: Session, name: str) -> UploadRecord:
        return UploadRecord(
            id=secrets.token_hex(16),
            user=session.user,
            server=session.server,
            host_name=session.client.host_name,
            session=session.id,
            time=self._clock(),
            size=0,
            name=safe_name(name),
        )

    async def _note(self, session: Session, reason: str, text: str) -> None:
        await self._audit.record(
            "client-log-upload",
            ok=not reason,
            reason=reason,
            user=session.user,
            source=session.client.source,
            session=session.id,
            text=text,
            log="user",
        )


def safe_name(name: str) -> str:
    """A name that is one in every file system."""
    plain = _UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip(". ")[-MAX_NAME:]
    return plain or "client-logs"


async def _limited(content: AsyncIterable[bytes], most: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in content:
        size += len(piece)
        if size > most:
            raise _too_large(most)
        yield piece


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        Problem(
            "upload-too-large",
            f"The logs are larger than {most >> 20} MB.",
            "Save them and send them by other means, or choose a lower log level.",
        )
    )
