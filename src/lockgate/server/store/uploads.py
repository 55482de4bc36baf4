"""Statements on logs that clients sent. Contents come and go in pieces: nobody holds a whole one."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update

from lockgate.server.store.database import Database
from lockgate.server.store.records import UploadRecord
from lockgate.server.store.sql import row_of
from lockgate.server.store.tables import upload_pieces, uploads

PIECE = 1 << 20  # bytes; what one statement holds the database for
COMING = -1  # size of one that is not there as a whole yet
ABANDONED = 86400.0  # seconds after which one that never came to its end is removed

_WHOLE = uploads.c.size != COMING


class SqlUploads:
    """`interface.Uploads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: UploadRecord, content: bytes | AsyncIterable[bytes]) -> UploadRecord:
        row = {**row_of(record, uploads), "size": COMING}
        await self._database.change(insert(uploads).values(row), sync=False)
        try:
            size = number = 0
            async for piece in _pieces(content):
                row = {"upload": record.id, "number": number, "content": piece}
                await self._database.change(insert(upload_pieces).values(row), sync=False)
                number, size = number + 1, size + len(piece)
            await self._database.change(update(uploads).where(uploads.c.id == record.id).values(size=size))
        except BaseException:
            await self._database.change(delete(uploads).where(uploads.c.id == record.id), sync=False)
            raise
        return replace(record, size=size)

    async def get(self, upload: str) -> UploadRecord | None:
        statement = select(uploads).where(uploads.c.id == upload, _WHOLE)
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else _record(row)

    async def content(self, upload: str) -> AsyncIterator[bytes]:
        number = 0
        while True:
            wanted = select(upload_pieces.c.content).where(
                upload_pieces.c.upload == upload, upload_pieces.c.number == number
            )
            piece: bytes | None = await self._database.read(
                lambda connection, wanted=wanted: connection.execute(wanted).scalar()  # type: ignore[misc]
            )
            if piece is None:
                return
            yield piece
            number += 1

    async def all(self) -> list[UploadRecord]:
        statement = select(uploads).where(_WHOLE).order_by(uploads.c.time.desc(), uploads.c.id)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_record(row) for row in rows]

    async def delete(self, upload: str) -> bool:
        return await self._database.change(delete(uploads).where(uploads.c.id == upload, _WHOLE)) == 1

    async def prune(self, before: float, max_bytes: int) -> list[str]:
        newest = select(func.max(uploads.c.time))
        at = await self._database.read(lambda connection: connection.execute(newest).scalar())
        if at is None:
            return []
        gone, kept = [], 0
        for record in await self.all():
            kept += record.size
            if record.time < before or kept > max_bytes:
                gone.append(record.id)
                await self.delete(record.id)
        abandoned = uploads.c.time < min(at, before) - ABANDONED
        await self._database.change(delete(uploads).where(~_WHOLE, abandoned), sync=False)
        return gone


async def _pieces(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The content in pieces of at most PIECE bytes, the last one perhaps smaller."""
    if isinstance(content, bytes):
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]
        return
    waiting = bytearray()
    async for part in content:
        waiting += part
        while len(waiting) >= PIECE:
            yield bytes(waiting[:PIECE])
            del waiting[:PIECE]
    if waiting:
        yield bytes(waiting)


def _record(row: Row[Any]) -> UploadRecord:
    return UploadRecord(**row._mapping)
