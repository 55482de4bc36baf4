"""Installer configuration: what a client is installed with (`.pulsepreconfig`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from lockgate.protocol.preconfig import serialize
from lockgate.server.installer_configuration import file_name, installer_configuration
from lockgate.server.web.api.route import Of, make_router, rights
from lockgate.server.web.downloads import attachment
from lockgate.server.web.principal import needs

router = make_router("installers")


class TextDownload(Response):
    media_type = "text/plain"


@router.get(
    "/installer-configuration/{component_set}",
    dependencies=[rights(needs("connections"))],
    response_class=TextDownload,
)
async def installer(
    services: Of,
    component_set: Annotated[str, Path(max_length=64)],
    server: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """The file for a component set. server: for connections that name none, instead of this gateway."""
    found = installer_configuration(services.in_force.tree, component_set, server=server)
    headers = {"Content-Disposition": attachment(file_name(component_set))}
    return TextDownload(serialize(found), headers=headers)
