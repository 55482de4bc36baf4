"""Session cookies: 128 random bits in 32 hexadecimal digits that name a row and mean nothing else."""

from __future__ import annotations

import hashlib
import re
import secrets

from lockgate.protocol.secret import Secret

_FORM = re.compile(rb"[0-9a-f]{32}")
_NUMBER = re.compile(r"[0-9]{1,19}")


def new_cookie() -> Secret:
    return Secret(secrets.token_hex(16).encode())


def stored_form(cookie: Secret) -> bytes | None:
    """The SHA-256 that the store looks up; None for what is no cookie of ours.

    A look-up by hash tells nothing by its time: who times it does not choose the hash.
    """
    value = cookie.reveal()
    return hashlib.sha256(value).digest() if _FORM.fullmatch(value) else None


def new_session_id() -> int:
    """1 .. 2**63 - 1, random: numbers of sessions say nothing about their count or order."""
    return secrets.randbelow(2**63 - 1) + 1


def session_number(text: str) -> int | None:
    """The number that somebody names a session by; None for what no session has, and no database could look up."""
    number = int(text) if _NUMBER.fullmatch(text) else 0
    return number if 1 <= number < 2**63 else None
