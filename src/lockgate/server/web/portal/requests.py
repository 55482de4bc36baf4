"""What a browser sent, and to which address."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from lockgate.model.session import ClientFacts
from lockgate.model.text import printable
from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url
from lockgate.server.web.peer import Peer

MAX_FORM = 32 << 10
"""Bytes of a form; the longest holds a few names and passwords."""

MAX_FIELDS = 20
USER_AGENT = 256  # characters kept

_FORM = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> Mapping[str, str] | None:
    """The fields of a form, each once; None for what no form of ours sends. The route limits its size."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return None
    form = await request.form(max_files=0, max_fields=MAX_FIELDS)
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    return fields if len(fields) == len(form.multi_items()) <= MAX_FIELDS else None


def client_of(request: Request) -> ClientFacts:
    """Who is there, as the edge and the browser say."""
    agent = printable(request.headers.get("user-agent", ""), USER_AGENT)
    return ClientFacts(source=Peer.of(request).address, user_agent=agent, host_name="")


def url_of(request: Request, path: str) -> GatewayUrl | None:
    """The address under which the browser reached us, with another path; None when it is none."""
    try:
        return parse_gateway_url(f"https://{request.headers.get('host', '')}{path}")
    except ValueError:
        return None
