"""For programs under libfaketime: its sleep fails when the moment to wake up has passed already.

clock_nanosleep(2) is to return at once then; libfaketime 0.9.10 makes a negative span of it, which is EINVAL. On a
busy machine that comes to everybody who sleeps for a millisecond, such as `subprocess`.
"""

import errno
import time

_sleep = time.sleep


def _patient(seconds: float) -> None:
    try:
        _sleep(seconds)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


time.sleep = _patient
