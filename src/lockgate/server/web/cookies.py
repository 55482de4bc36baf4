"""Cookies as a request has them."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from lockgate.protocol.cookie_header import cookies_named


def cookie_values(request: HTTPConnection, name: str) -> list[str]:
    """Every value that the request has for a cookie; more than one is an attack or an accident."""
    return [value for header in request.headers.getlist("cookie") for value in cookies_named(header, name)]
