"""Archives of custom sign-in pages: uploaded, listed, handed out again.

An archive that was uploaded does nothing by itself: a sign-in page of the configuration names it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import Path
from pydantic import Field
from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.sign_in_pages import MAX_ARCHIVE, PageArchives, read_archive
from lockgate.server.web.api.models import Given, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights, takes
from lockgate.server.web.downloads import attachment
from lockgate.server.web.principal import needs

router = make_router("sign-in page archives")

# In base64 inside JSON, and as much again: an archive that is too large hears so, not only that the body is.
UPLOAD_LIMIT = 3 * MAX_ARCHIVE


class ArchiveGiven(Given):
    """A ZIP file in base64. skip_validation: take pages that may not work; nothing that could do harm."""

    archive: Annotated[str, Field(max_length=UPLOAD_LIMIT)]
    skip_validation: bool = False


class ArchiveTold(Told):
    """sha256: what `sign_in_pages/…/templates` names. size in bytes. used_by: sign-in pages that show it."""

    sha256: str
    size: int
    templates: list[str]
    files: list[str]
    used_by: list[str]


class ArchiveList(Told):
    archives: list[ArchiveTold]


@router.post(
    "/sign-in-page-archives", dependencies=[rights(needs("authentication", "write"))], status_code=201
)
@takes(UPLOAD_LIMIT)
async def upload(who: Who, services: Of, given: ArchiveGiven) -> ArchiveTold:
    """Stores an archive after all checks."""
    try:
        data = base64.b64decode(given.archive, validate=True)
    except (ValueError, binascii.Error):
        raise ProblemError(
            Problem("bad-request", "The archive is not in base64.", "Encode the ZIP file as RFC 4648 says.")
        ) from None
    digest = await PageArchives(services.store.blobs).accept(data, skip_validation=given.skip_validation)
    await services.audit.record(
        "sign-in-pages-upload", ok=True, user=who.actor, source=who.source, text=digest, log="admin"
    )
    return await _told(services, digest, data)


@router.get("/sign-in-page-archives", dependencies=[rights(needs("authentication"))])
async def list_archives(services: Of) -> ArchiveList:
    """Those that sign-in pages show."""
    used = {page.templates for page in services.in_force.tree.sign_in_pages if page.templates}
    found = [(digest, await services.store.blobs.get(digest)) for digest in sorted(used)]
    return ArchiveList(archives=[await _told(services, name, data) for name, data in found if data])


@router.get(
    "/sign-in-page-archives/{sha256}", dependencies=[rights(needs("authentication"))], response_class=Response
)
async def content(services: Of, sha256: Annotated[str, Path(max_length=64)]) -> Response:
    """The ZIP file."""
    found = await PageArchives(services.store.blobs).get(sha256)
    data = None if found is None else await services.store.blobs.get(sha256)
    if data is None:
        raise ProblemError(
            Problem("no-such-archive", "There is no such archive of sign-in pages.", "Upload it again.")
        )
    headers = {"Content-Disposition": attachment(f"sign-in-pages-{sha256[:12]}.zip")}
    return Response(data, media_type="application/zip", headers=headers)


async def _told(services: Of, digest: str, data: bytes) -> ArchiveTold:
    archive = read_archive(data, skip_validation=True)
    pages = services.in_force.tree.sign_in_pages
    return ArchiveTold(
        sha256=digest,
        size=len(data),
        templates=sorted(archive.templates),
        files=sorted(archive.assets),
        used_by=[page.name for page in pages if page.templates == digest],
    )
