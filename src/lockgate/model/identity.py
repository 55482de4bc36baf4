"""Identity: somebody who completed a sign-in.

"Authenticated" is this type and nothing else: no flag says it, no partial object implies it. Only
`server.auth.sign_in` may call `seal_identity`; a test reads the imports of the whole tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, how, and from where. Cannot be built, copied or unpickled elsewhere."""

    user: str  # canonical user name
    realm: str
    roles: tuple[str, ...]
    method: str  # how it was proved, for the audit: "password"
    source: str  # address the sign-in came from, as text
    # State of the account that was checked: a later change of the account makes this stale.
    serial: int
    signed_in_at: float  # seconds since 1970
    seal: object = field(repr=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("an Identity is made by the end of a sign-in only")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an Identity is not pickled or copied")


def seal_identity(
    *, user: str, realm: str, roles: tuple[str, ...], method: str, source: str, serial: int, now: float
) -> Identity:
    """For the last step of a complete sign-in, and nobody else."""
    return Identity(user, realm, roles, method, source, serial, now, _SEAL)
