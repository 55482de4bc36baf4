"""The records of users: what the portal and administrators do with them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lockgate.model.user_record import Edits, Record, add, as_text, change, choose, delete, move, record_of

if TYPE_CHECKING:
    from lockgate.server.store.interface import UserRecords as Shelf


class UserRecords:
    """Of users by auth server and canonical name. One per application."""

    def __init__(self, shelf: Shelf, clock: Callable[[], float]) -> None:
        self._shelf, self._clock = shelf, clock

    async def get(self, server: str, user: str) -> Record:
        return record_of(await self._shelf.get(server, user))

    async def add(self, server: str, user: str, name: str, url: str, new_window: bool) -> None:
        """A bookmark behind the others; of what `parse_name` and `parse_url` gave. Raises ProblemError."""
        fresh = secrets.token_hex(16)
        await self._edit(server, user, lambda record: add(record, fresh, name, url, new_window))

    async def change(self, server: str, user: str, id: str, name: str, url: str, new_window: bool) -> None:
        """Raises ProblemError when the bookmark is not there, as those below."""
        await self._edit(server, user, lambda record: change(record, id, name, url, new_window))

    async def delete(self, server: str, user: str, id: str) -> None:
        await self._edit(server, user, lambda record: delete(record, id))

    async def move(self, server: str, user: str, id: str, up: bool) -> None:
        await self._edit(server, user, lambda record: move(record, id, up))

    async def choose(self, server: str, user: str, preferences: Mapping[str, object]) -> None:
        """Raises ValueError for what cannot be chosen."""
        edits = choose(preferences)
        await self._edit(server, user, lambda _: edits)

    async def clear(self, server: str, user: str) -> int:
        """Deletes all of it; how many items there were."""
        return await self._shelf.clear(server, user, self._now())

    async def _edit(self, server: str, user: str, edit: Callable[[Record], Edits]) -> None:
        def texts(items: Mapping[str, str]) -> dict[str, str | None]:
            edits = edit(record_of(items))
            return {item: None if value is None else as_text(value) for item, value in edits.items()}

        await self._shelf.change(server, user, texts, self._now())

    def _now(self) -> int:
        return int(self._clock() * 1000)
