"""What the server's tests share: a clock to turn, a cheap password, and what tests of the store share (`store_support`)."""

from __future__ import annotations

from lockgate.protocol.secret import Secret
from lockgate.server.auth.passwords import hash_password
from lockgate.server.config.tree.authentication import Argon2
from lockgate.server.sessions import Proof
from tests.unit.server.store_support import (
    CLIENT,
    facts,
    identity,
    new_store,
    place_of,
    run,
    same_store,
    user,
)

__all__ = [
    "CHEAP",
    "CLIENT",
    "HASH",
    "NO_PROOF",
    "PASSWORD",
    "Clock",
    "facts",
    "identity",
    "new_store",
    "place_of",
    "run",
    "same_store",
    "user",
]

CHEAP = Argon2(memory_kib=64, time_cost=1)  # what a test's password costs: microseconds
PASSWORD = "wonderland-7f3a"
HASH = hash_password(CHEAP, Secret.of_text(PASSWORD))
NO_PROOF = Proof(exporter=Secret(b""), signature=b"")


class Clock:
    """Wall-clock seconds that move when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
