"""The part of a sign-in in which a password is changed that must be changed before anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lockgate.model.decision import Reason
from lockgate.model.prompt import NewPassword, Prompt, Refused
from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from lockgate.server.auth.attempt import Attempt, Person
from lockgate.server.auth.credentials import BUSY, DISABLED, why
from lockgate.server.auth.passwords import Busy
from lockgate.server.auth.servers import NotChanged, Wrong

# New passwords that may be tried in one sign-in.
MAX_TRIED = 3

NOT_CHANGED = Refused("password-not-changed", "The password has to be changed first.")
MUST_CHANGE = "Your password has to be changed before you can go on."


class AskNewPassword:
    """Ends with the same person, whose account was looked up anew, or with a refusal."""

    def __init__(self, attempt: Attempt, person: Person) -> None:
        self._attempt, self._person = attempt, person
        self._failures = 0

    async def start(self) -> Prompt:
        return NewPassword(MUST_CHANGE)

    async def answer(self, fields: Mapping[str, object]) -> Prompt | Refused | Person:
        old, new = fields.get("old"), fields.get("new")
        if not isinstance(old, Secret) or not isinstance(new, Secret):
            raise UsageError("passwords are Secrets")
        attempt, shared, realm = self._attempt, self._attempt.shared, self._person.realm
        driver, name = shared.driver(realm.server), self._person.account.name
        try:
            account = await shared.passwords.check(driver, name, old, attempt.source)
            if isinstance(account, Wrong):
                result: list[int] | NotChanged = NotChanged("The old password is wrong.")
            elif new == old:
                result = NotChanged("The new password is the old one.")
            else:
                result = await driver.change_password(name, new)
        except Busy:
            return await self._refuse(BUSY, why(BUSY.code))
        if isinstance(result, NotChanged):
            self._failures += 1
            if self._failures >= MAX_TRIED:
                reason = Reason(f"the password was not changed: {result.text}", "", False)
                return await self._refuse(NOT_CHANGED, reason, result.text)
            await attempt.note(NOT_CHANGED.code, name, realm, text=result.text)
            return NewPassword(result.text)
        await shared.audit.record(
            "password-change", ok=True, user=name, source=attempt.source, text=driver.name, log="user"
        )
        await shared.cut_off()
        changed = await driver.lookup(name)
        if changed is None or not changed.enabled:
            return await self._refuse(DISABLED, Reason("the account was disabled meanwhile", "", False))
        return replace(self._person, account=changed)

    async def _refuse(self, refused: Refused, reason: Reason, text: str = "") -> Refused:
        attempt, realm = self._attempt, self._person.realm
        facts = attempt.facts(realm, self._person.account.name, attempt.shared.clock())
        return await attempt.refuse(refused, facts, realm, [reason], text=text)
