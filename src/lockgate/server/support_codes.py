"""New support codes, and how many refusals of strangers are worth a record.

A code is random, and every refusal has another one: codes tell neither how many there were nor, by being the
same or not, why somebody was refused. Whoever guesses passwords gets one for every try, as everybody does, but
only so many tries are recorded as decisions. The log has all of them with their codes.
"""

from __future__ import annotations

import secrets

from lockgate.model.support_code import BITS, format_support_code
from lockgate.server.auth.guard import source_key

WINDOW = 60.0  # seconds that the two limits are for
# Tries that are recorded. People who forgot their password make three, a whole office behind one address some dozens.
PER_PLACE = 30
IN_ALL = 600


def new_support_code() -> str:
    """Forty random bits."""
    return format_support_code(secrets.randbits(BITS))


class Strangers:
    """How many tries of people of whom nothing is known are recorded. Time is an argument, in seconds."""

    def __init__(self) -> None:
        self._window, self._in_all = 0, 0
        self._places: dict[str, int] = {}  # no more than IN_ALL of them

    def worth_a_record(self, source: str, now: float) -> bool:
        """source: address of the try."""
        place, window = source_key(source), int(now // WINDOW)
        if window != self._window:
            self._window, self._in_all, self._places = window, 0, {}
        of_place = self._places.get(place, 0)
        if self._in_all >= IN_ALL or of_place >= PER_PLACE:
            return False
        self._in_all += 1
        self._places[place] = of_place + 1
        return True
