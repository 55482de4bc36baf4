"""A password, checked by its auth server under the guard's eyes."""

from __future__ import annotations

import time
from collections.abc import Callable

from lockgate.protocol.secret import Secret
from lockgate.server import tracing
from lockgate.server.auth.guard import Guard, Verdict
from lockgate.server.auth.servers import Account, AuthServerDriver, Wrong


class PasswordCheck:
    """One for all sign-ins. What is counted is counted for the user of one auth server."""

    def __init__(self, guard: Guard, clock: Callable[[], float] = time.time) -> None:
        self._guard, self._clock = guard, clock

    async def check(
        self, driver: AuthServerDriver, name: str | None, password: Secret, source: str, shortest: int = 0
    ) -> Account | Wrong:
        """Whose password it is. Wrong, locked and unknown take the same time. Raises `passwords.Busy`.

        name: canonical, None for what cannot be one. shortest: characters; a shorter password is not
        shown to the auth server.
        """
        with tracing.part("password check", {"lockgate.auth_server": driver.name}) as trace:
            result = await self._check(driver, name, password, source, shortest)
            trace.note({"lockgate.outcome": result.reason if isinstance(result, Wrong) else "right"})
            return result

    async def _check(
        self, driver: AuthServerDriver, name: str | None, password: Secret, source: str, shortest: int
    ) -> Account | Wrong:
        user = None if name is None else guarded(driver.name, name)
        verdict = self._guard.check(user, source, self._clock())
        if verdict is Verdict.OPEN:
            async with driver.slot():
                # Again: others may have failed while this one waited.
                verdict = self._guard.begin(user, source, self._clock())
                if verdict is Verdict.OPEN:
                    return await self._compare(driver, name, user, password, source, shortest)
        await driver.pretend()
        return Wrong(verdict.value)

    async def _compare(
        self,
        driver: AuthServerDriver,
        name: str | None,
        user: str | None,
        password: Secret,
        source: str,
        shortest: int,
    ) -> Account | Wrong:
        short = bool(shortest) and len(password.reveal().decode(errors="replace")) < shortest
        # Verified as nobody's, so that the answer takes its time.
        result = await driver.verify(None if short else name, password)
        if short or isinstance(result, Wrong):
            self._guard.failed(user, source, self._clock())
            return Wrong("password-too-short") if short else result
        if result.enabled:
            self._guard.succeeded(guarded(driver.name, result.name), source)
        return result


def guarded(server: str, name: str) -> str:
    """What the guard calls a user: no name of a server holds a slash."""
    return f"{server}/{name}"
