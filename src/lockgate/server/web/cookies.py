"""Cookies as a request has them."""

from __future__ import annotations

from starlette.requests import HTTPConnection


def cookie_values(request: HTTPConnection, name: str) -> list[str]:
    """Every value that the request has for a cookie; more than one is an attack or an accident."""
    found = []
    for header in request.headers.getlist("cookie"):
        for part in header.split(";"):
            key, separator, value = part.strip().partition("=")
            if separator and key == name:
                found.append(value)
    return found
