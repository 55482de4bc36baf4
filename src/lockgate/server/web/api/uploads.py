"""Logs that clients have sent: listed, handed out as downloads only, deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import Response, StreamingResponse

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.store.records import UploadRecord
from lockgate.server.web.api.models import Told
from lockgate.server.web.api.route import Of, Who, make_router, rights
from lockgate.server.web.downloads import attachment
from lockgate.server.web.principal import needs
from lockgate.server.web.services import Services

router = make_router("client logs")

Id = Annotated[str, Path(max_length=64)]


class UploadTold(Told):
    """A client's log. size in bytes."""

    id: str
    user: str
    server: str
    host_name: str
    session: str | None
    time: float
    size: int
    name: str


class UploadList(Told):
    uploads: list[UploadTold]


def upload_told(record: UploadRecord) -> UploadTold:
    return UploadTold(
        id=record.id,
        user=record.user,
        server=record.server,
        host_name=record.host_name,
        session=None if record.session is None else str(record.session),
        time=record.time,
        size=record.size,
        name=record.name,
    )


@router.get("/uploads", dependencies=[rights(needs("system"))])
async def list_uploads(services: Of) -> UploadList:
    """All of them, newest first."""
    return UploadList(uploads=[upload_told(each) for each in await services.store.uploads.all()])


@router.get(
    "/uploads/{upload}/content", dependencies=[rights(needs("system"))], response_class=StreamingResponse
)
async def content(who: Who, services: Of, upload: Id) -> Response:
    """The log itself. That somebody read it is written down."""
    found = await _find(services, upload)
    await services.audit.record(
        "upload-read",
        ok=True,
        user=found.user,
        actor=who.actor,
        source=who.source,
        text=f"{found.id} {found.name}",
        log="admin",
    )
    headers = {"Content-Disposition": attachment(found.name), "Content-Length": str(found.size)}
    return StreamingResponse(
        services.store.uploads.content(upload), media_type="application/octet-stream", headers=headers
    )


@router.delete("/uploads/{upload}", dependencies=[rights(needs("system", "write"))], status_code=204)
async def delete(who: Who, services: Of, upload: Id) -> None:
    """Deletes a log."""
    found = await _find(services, upload)
    await services.store.uploads.delete(upload)
    await services.audit.record(
        "upload-delete",
        ok=True,
        user=found.user,
        actor=who.actor,
        source=who.source,
        text=f"{found.id} {found.name}",
        log="admin",
    )


async def _find(services: Services, upload: str) -> UploadRecord:
    found = await services.store.uploads.get(upload) if upload.isascii() and upload.isalnum() else None
    if found is None:
        raise ProblemError(
            Problem("no-such-upload", "There is no such client log.", "List the client logs again.")
        )
    return found
