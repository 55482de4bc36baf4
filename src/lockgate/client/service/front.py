"""Whoever sits in front of a connection: shown prompts, gives answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class FrontGone(Exception):
    """Nobody is there to answer."""


class Cancelled(Exception):
    """The user does not want to go on."""


class Front(Protocol):
    """The caller that asked for the connection."""

    async def ask(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Shows a prompt of the local API and returns the answer's fields. Raises FrontGone, Cancelled."""


class Nobody:
    """The front of a connection that was left in the background."""

    async def ask(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        raise FrontGone
