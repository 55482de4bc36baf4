"""Support codes: what a person who was refused reads to the help desk, and the help desk finds the decision by.

Forty random bits as eight characters of Crockford's base 32 in two groups, such as "K7QD-2XMR". The alphabet has
no I, L, O and U; whoever types them, or hears them on the telephone, means 1, 1, 0 and nothing.
"""

from __future__ import annotations

import re

BITS = 40
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MAX_TYPED = 40  # characters that are looked at; a code with blanks between all of them has 15

_LENGTH = BITS // 5
_MEANT = str.maketrans({"O": "0", "I": "1", "L": "1"})
_SPACERS = re.compile(r"[\s\-\u2010-\u2015.]+")
_SAID = re.compile(rf"Support code: ([{ALPHABET}]{{4}}-[{ALPHABET}]{{4}})(?![\w-])")


def format_support_code(number: int) -> str:
    """number: 0 .. 2**40 - 1."""
    letters = "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))
    return f"{letters[:4]}-{letters[4:]}"


def parse_support_code(typed: str) -> str | None:
    """The code as it is stored, whatever the case, the hyphens and the letters that look alike; None for none."""
    if len(typed) > MAX_TYPED:
        return None
    letters = _SPACERS.sub("", typed).upper().translate(_MEANT)
    if len(letters) != _LENGTH or not set(letters) <= set(ALPHABET):
        return None
    return f"{letters[:4]}-{letters[4:]}"


def sentence(code: str) -> str:
    """How every message of a gateway says its code; empty for none."""
    return f"Support code: {code}" if code else ""


def said_in(text: str) -> str:
    """The code in a message of a gateway; empty when it says none."""
    found = _SAID.findall(text)
    return found[-1] if found else ""
