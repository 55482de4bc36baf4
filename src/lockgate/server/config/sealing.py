"""What a tree gets before it is kept: its secrets sealed, its identities made."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from lockgate.model.problem import ProblemError
from lockgate.server.config import paths
from lockgate.server.config.changes import KEPT
from lockgate.server.config.findings import Finding
from lockgate.server.config.paths import Data
from lockgate.server.config.schema import Names, Node, transform
from lockgate.server.config.tree.fields import SEALED


class Vault(Protocol):
    """The part of `server.vault.Vault` that a configuration needs."""

    def seal(self, text: str) -> str: ...
    def open(self, sealed: str) -> str:
        """Raises ProblemError for what was sealed with another key."""


def new_guid() -> str:
    return secrets.token_hex(16)


class Sealing:
    """Completes trees on their way into the store."""

    def __init__(self, vault: Vault, guid: Callable[[], str] = new_guid) -> None:
        self._vault, self._guid = vault, guid

    def complete(self, data: Data, stored: Data) -> Data:
        """`data` with plain secrets sealed, KEPT replaced by what `stored` has at the same place, and
        identities for connection sets and connections that have none.
        """
        kept = secrets_of(stored)

        def seal(path: Names, _: Node, value: Any) -> Any:
            if value == KEPT:
                return kept.get(path, "")
            if not isinstance(value, str) or not value or value.startswith(SEALED):
                return value
            if self._says(kept.get(path, ""), value) and address_of(data, path) == address_of(stored, path):
                return kept[path]  # entered again: no change
            return self._vault.seal(value)

        sealed = transform(data, "secret", seal)
        assert isinstance(sealed, dict)
        return self._with_guids(sealed)

    def open(self, sealed: str) -> str:
        return self._vault.open(sealed)

    def _says(self, sealed: str, text: str) -> bool:
        try:
            return bool(sealed) and hmac.compare_digest(self._vault.open(sealed).encode(), text.encode())
        except ProblemError:
            return False

    def unreadable(self, data: Data) -> Iterator[Finding]:
        """Secrets that were sealed with another key, or by nobody."""
        for path, value in secrets_of(data).items():
            try:
                self._vault.open(value)
            except ProblemError:
                yield Finding(
                    path,
                    "the secret cannot be opened with this server's key",
                    "the secret itself, entered again",
                )

    def _with_guids(self, data: Data) -> Data:
        sets = data.get("connection_sets")
        if not isinstance(sets, list):
            return data
        done = [self._with_guid(each, "connections") for each in sets]
        return (
            data
            if all(a is b for a, b in zip(done, sets, strict=True))
            else {**data, "connection_sets": done}
        )

    def _with_guid(self, entry: Any, inner: str | None = None) -> Any:
        if not isinstance(entry, dict):
            return entry
        if not entry.get("guid"):
            entry = {**entry, "guid": self._guid()}
        below = entry.get(inner) if inner else None
        if inner and isinstance(below, list):
            done = [self._with_guid(each) for each in below]
            if any(a is not b for a, b in zip(done, below, strict=True)):
                entry = {**entry, inner: done}
        return entry


def address_of(data: Data, path: Names) -> list[Any]:
    """Where a secret is sent: whoever enters it again for another address has said so (`versions.redirected`)."""
    try:
        around = paths.get(data, path[:-1])
    except ProblemError:
        return []
    return [around.get(key, "") for key in ("url", "ca")] if isinstance(around, dict) else []


def secrets_of(data: Data) -> dict[Names, str]:
    """Path → sealed secret, of those that are set."""
    found: dict[Names, str] = {}

    def look(path: Names, _: Node, value: Any) -> Any:
        if isinstance(value, str) and value:
            found[path] = value
        return value

    transform(data, "secret", look)
    return found
