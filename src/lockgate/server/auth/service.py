"""Makes sign-in conversations and holds what they share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from lockgate.model.session import ClientFacts, EndCause
from lockgate.server.audit import Audit
from lockgate.server.auth.guard import Guard
from lockgate.server.auth.passwords import Hasher
from lockgate.server.auth.sign_in import Shared, SignIn
from lockgate.server.config.tree import SignIn as Settings
from lockgate.server.sessions import Sessions
from lockgate.server.store import Store

# Where somebody signed in this long ago still counts as a known place.
KNOWN_DAYS = 30
MAX_KNOWN = 50_000


class SignIns:
    """One per control plane."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        sessions: Sessions,
        audit: Audit,
        end_session: Callable[[int, EndCause], Awaitable[object]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """end_session: ends a session everywhere, also in the edge."""
        self._store, self._clock = store, clock
        self._hasher = Hasher(settings.argon2)
        self._guard = Guard(settings.guard)
        self._shared = Shared(
            settings=settings,
            users=store.users,
            hasher=self._hasher,
            guard=self._guard,
            audit=audit,
            at_limit=sessions.at_limit,
            end_session=end_session,
            clock=clock,
        )

    async def start(self) -> None:
        """Tells the guard where users have signed in from; a restart must not make them strangers."""
        since = self._clock() - KNOWN_DAYS * 86400
        for user, source in reversed(await self._store.sessions.known_sources(since, MAX_KNOWN)):
            self._guard.remember(user, source)

    def conversation(self, client: ClientFacts) -> SignIn:
        """A new sign-in of that client."""
        return SignIn(self._shared, client.source)

    def close(self) -> None:
        """Sign-ins that wait for a hash fail."""
        self._hasher.close()
