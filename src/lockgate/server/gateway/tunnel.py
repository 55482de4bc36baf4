"""One session in the edge: its connection, its ESP keys, and what its client says in the tunnel phase."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container

from lockgate.model.session import Session
from lockgate.policy.split import Split
from lockgate.protocol import edge_link
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse.events import EspKeysAnswered, LoggedOut
from lockgate.protocol.secret import Secret
from lockgate.server.gateway.connection import Wire
from lockgate.server.in_force import Mapped, Rights

ESP_SECRET_BYTES = 64  # esp.md, section 2.2: cipher key, then HMAC key or salt, rest unused
LOWEST_SPI = 256  # RFC 4303, section 2.1: 0 .. 255 are reserved
# Those that only Lockgate's own clients do, with 64-bit sequence numbers.
_WITH_ESN = frozenset([edge_link.Suite.AES128_GCM, edge_link.Suite.AES256_GCM])


def new_sa(suite: edge_link.Suite, taken: Container[int]) -> edge_link.Sa:
    """Fresh keys for packets from the client, under an SPI that is not taken."""
    while True:
        spi = LOWEST_SPI + secrets.randbelow(2**32 - LOWEST_SPI)
        if spi not in taken:
            break
    return sa_of(spi, suite, Secret(secrets.token_bytes(ESP_SECRET_BYTES)))


def sa_of(spi: int, suite: edge_link.Suite, secret: Secret) -> edge_link.Sa:
    """One direction of a suite, with the sequence numbers that belong to it."""
    return edge_link.Sa(spi=spi, suite=suite, esn=suite in _WITH_ESN, secret=secret)


class Tunnel:
    """A session that the edge holds. `conn` is 0 while its client is away.

    suite:   what its ESP packets were opened with and all its keys are for; None without ESP.
    rights:  what the edge was told last; None before it was told anything.
    mapping: what its roles were given by; None where that is not known.
    closing: its end has begun: whatever it was given is taken away, and nothing is given any more.
    tells:   its client wants to hear of another length.
    follows: its client wants to hear of other split-tunnel networks.
    split:   includes and excludes that its client was told last, and when; None where that is not known.
    """

    def __init__(
        self,
        session: Session,
        conversation: Wire | None,
        conn: int,
        suite: edge_link.Suite | None,
        send: Callable[[edge_link.ToEdge], None],
    ) -> None:
        self.session = session
        self.conversation = conversation
        self.conn = conn
        self.transport = edge_link.Transport.NONE
        self.peer = ""
        self.traffic = edge_link.Traffic(0, 0, 0, 0, 0)
        self.quiet_since = session.last_seen
        self.spis: tuple[int, ...] = ()  # of packets from the client, newest first
        self.esp_answered = False  # the client takes part in ESP, so that a rekey makes sense
        self.suite = suite
        self.rights: Rights | None = None
        self.mapping: Mapped | None = None
        self.closing = False
        self.tells = False
        self.follows = False
        self.split: tuple[Split, float] | None = None
        self.away_since: float | None = None  # when its connection was lost; None while it has one
        self._send = send

    def offer_esp(self, sa: edge_link.Sa) -> None:
        """Sends keys that the edge has installed already (a probe may overtake the answer)."""
        assert self.conversation is not None
        self.spis = (sa.spi, *self.spis[:1])
        self.conversation.offer_esp(sa.spi, sa.secret)
        self.flush()

    def rekey(self, sa: edge_link.Sa) -> None:
        """New keys for packets from the client, which answers with its own."""
        self._send(edge_link.InstallEspIn(session=self.session.id, generation=self.session.generation, sa=sa))
        self.offer_esp(sa)

    def tell_remaining(self, seconds: int) -> None:
        """The session ends in so many seconds now."""
        if self.tells and seconds and self.conversation is not None and not self.conversation.ended:
            self.conversation.tell_remaining(seconds)
            self.flush()

    def tell_split_networks(self, split: Split, now: float) -> None:
        """These networks belong in the tunnel now."""
        if self.conversation is not None and not self.conversation.ended:
            self.conversation.tell_split_networks(split.include, split.exclude)
            self.split = (split, now)
            self.flush()

    def receive(self, frame: Frame) -> bool:
        """Takes a frame of the tunnel phase; True when the client logged out. Raises PeerError."""
        assert self.conversation is not None
        for event in self.conversation.receive(frame):
            match event:
                case EspKeysAnswered(spi, secret) if self.suite is not None:
                    self._install_answer(sa_of(spi, self.suite, secret))
                case LoggedOut():
                    return True
                case _:
                    pass
        self.flush()
        return False

    def _install_answer(self, sa: edge_link.Sa) -> None:
        assert self.conversation is not None
        self._send(
            edge_link.InstallEspOut(session=self.session.id, generation=self.session.generation, sa=sa)
        )
        if not self.esp_answered:
            # A probe that came before this answer could not be replied to: ask for another one.
            self.conversation.nudge_esp()
            self.esp_answered = True

    def flush(self) -> None:
        assert self.conversation is not None
        for frame in self.conversation.take_frames():
            self._send(
                edge_link.LinkFrame(
                    conn=self.conn, vendor=frame.vendor, kind=int(frame.kind), body=frame.body
                )
            )

    def disconnected(self, now: float) -> None:
        """The connection is gone; the session waits for its cookie."""
        self.conn, self.away_since = 0, now
        self.split = None
        self.conversation = None
        self.esp_answered = False
        self.peer = ""
