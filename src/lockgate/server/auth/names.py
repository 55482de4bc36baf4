"""One canonical form of every user name.

Made once, before anything looks the name up: limits, records and sessions know only this form, so
that another spelling is never another user.
"""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 64  # characters of the canonical form
MAX_TYPED = 256  # characters looked at; a longer text is no name


def canonical(typed: str) -> str | None:
    """NFKC and case folding, without space around; None for what cannot be a name.

    A name is 1 to 64 characters that all print. Invisible and direction-changing characters do not.
    """
    if len(typed) > MAX_TYPED:
        return None
    # Folding can leave what NFKC would change again (Unicode 3.13, toNFKC_Casefold); a second round settles it.
    name = typed
    for _ in range(2):
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    name = name.strip()
    return name if 1 <= len(name) <= MAX_LENGTH and name.isprintable() else None
