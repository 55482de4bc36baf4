"""Waiting for facts: the only way tests and demo wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class LabError(Exception):
    """Something in the lab did not come true; the text says what, with the end of the logs that tell why."""


class HopelessError(LabError):
    """It cannot come true any more: waiting on is pointless."""


def wait_for(
    fact: Callable[[], T | None],
    what: str,
    *,
    deadline: float = 15.0,
    every: float = 0.05,
    explain: Callable[[], str] | None = None,
) -> T:
    """Call `fact` until it gives something true, and return that.

    deadline: seconds; generous, since it is only reached when the fact never comes.
    explain:  called on failure; its text (a log's end, say) goes into the error.
    raises:   LabError at the deadline. A HopelessError out of `fact` is passed on at once; any other
              exception counts as "not yet".
    """
    end = time.monotonic() + deadline
    last: Exception | None = None
    while True:
        try:
            value = fact()
            if value:
                return value
            last = None
        except HopelessError:
            raise
        except Exception as error:
            last = error
        if time.monotonic() >= end:
            detail = f" (last error: {last})" if last else ""
            story = f"\n{explain()}" if explain else ""
            raise LabError(f"waited {deadline:g} s in vain: {what}{detail}{story}")
        time.sleep(every)
