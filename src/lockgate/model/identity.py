"""Identity: somebody who completed a sign-in.

"Authenticated" is this type and nothing else: no flag says it, no partial object implies it. Only
`server.auth.sign_in` may call `seal_identity`; a test reads the imports of the whole tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NoReturn

from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Audience

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, how, and from where. Cannot be built, copied or unpickled elsewhere."""

    audience: Audience  # "administrators": realm and roles are administrators' ones
    user: str  # canonical user name
    server: str  # auth server that knows the user
    realm: str
    roles: tuple[str, ...]  # at least one
    chosen: tuple[str, ...]  # what the user chose where there was a choice; later decisions keep to it
    method: str  # how it was proved, for the audit: "password"
    # State of the account that was checked: a later change of the account makes this stale.
    serial: int
    revision: int  # of the configuration that decided
    facts: SignInFacts  # what it was decided by; the next decision about the session begins with them
    seal: object = field(repr=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("an Identity is made by the end of a sign-in only")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an Identity is not pickled or copied")

    @property
    def source(self) -> str:
        """Address the sign-in came from, as text."""
        return self.facts.source


def seal_identity(
    *,
    audience: Audience,
    roles: tuple[str, ...],
    chosen: tuple[str, ...],
    method: str,
    serial: int,
    revision: int,
    facts: SignInFacts,
) -> Identity:
    """For the last step of a complete sign-in, and nobody else."""
    return Identity(
        audience, facts.user, facts.server, facts.realm, roles, chosen, method, serial, revision, facts, _SEAL
    )
