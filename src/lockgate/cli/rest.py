"""How commands about a gateway call its REST interface, and whom they act for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lockgate.cli.gateway_option import enter

Query = Mapping[str, str | int | bool | None]


class Rest:
    """REST of the gateway in a data directory, whether its server runs or not.

    As root this process becomes the owner of the directory, for good: files that belong to the caller are opened
    before. Raises ProblemError when there is no gateway, and for every answer that is a problem.
    """

    def __init__(self, path: Path, *, alone: bool = True) -> None:
        """alone: whether a stopped gateway is asked too."""
        # `lockgate connect` is not to pay for it.
        from lockgate.server.web.local import caller

        self._actor, self._alone = caller(), alone
        self._directory = enter(path)

    def get(self, path: str, query: Query | None = None) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body={} if body is None else body)

    def delete(self, path: str) -> None:
        self.call("DELETE", path)

    def call(self, method: str, path: str, *, query: Query | None = None, body: Any = None) -> Any:
        """The body of the answer. path: below /api/v1, its parts as from `part`."""
        from lockgate.server.web.local import call

        return call(
            self._directory,
            method,
            f"/api/v1{path}",
            query=query,
            body=body,
            actor=self._actor,
            alone=self._alone,
        ).body


def part(text: str) -> str:
    """A part of a path, percent-encoded."""
    return quote(text, safe="")
