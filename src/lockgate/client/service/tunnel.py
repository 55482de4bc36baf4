"""A session in the edge, seen from the service: how it is opened, rekeyed, closed, and what it reports."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from lockgate.client.service.hub import EdgeHub, Wire
from lockgate.protocol import edge_link
from lockgate.protocol.edge_link import Rule, Suite
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.protocol.pulse.esp_keys import SECRET, EspKeys
from lockgate.protocol.secret import Secret

LOWEST_SPI = 256  # RFC 4303, section 2.1: 0 .. 255 are reserved
NO_LIMIT = 30 * 86400  # seconds the edge keeps a session whose length the gateway did not tell

_ANY_PORT = (0, 65535)
# The gateway judges what may pass; the edge of the client only keeps foreign addresses out.
EVERYTHING = (
    Rule(True, None, bytes(4), 0, *_ANY_PORT, True),
    Rule(True, None, bytes(16), 0, *_ANY_PORT, True),
)

_SUITES = {
    (EspCipher.AES128_CBC, EspHmac.SHA1): Suite.AES128_CBC_SHA1,
    (EspCipher.AES256_CBC, EspHmac.SHA1): Suite.AES256_CBC_SHA1,
    (EspCipher.AES128_CBC, EspHmac.SHA256): Suite.AES128_CBC_SHA256,
    (EspCipher.AES256_CBC, EspHmac.SHA256): Suite.AES256_CBC_SHA256,
    (EspCipher.AES128_GCM, EspHmac.NONE): Suite.AES128_GCM,
    (EspCipher.AES256_GCM, EspHmac.NONE): Suite.AES256_GCM,
}
_EXTENDED_NUMBERS = {Suite.AES128_GCM, Suite.AES256_GCM}


def suite_of(offer: EspOffer) -> Suite | None:
    """The suite of an offer; None for a pair that nobody should offer."""
    return _SUITES.get((offer.cipher, offer.hmac))


def new_keys() -> EspKeys:
    """Fresh keys for packets that come to us."""
    spi = LOWEST_SPI + secrets.randbelow(2**32 - LOWEST_SPI)
    return EspKeys(spi, Secret(secrets.token_bytes(SECRET)))


def _sa(keys: EspKeys, suite: Suite) -> edge_link.Sa:
    return edge_link.Sa(spi=keys.spi, suite=suite, esn=suite in _EXTENDED_NUMBERS, secret=keys.secret)


@dataclass(frozen=True, slots=True)
class Esp:
    """ESP of one connection: the gateway's keys, and the UDP socket towards it."""

    offer: EspKeys
    descriptor: int


class Tunnel:
    """One generation of a session. `conversation` is in the tunnel phase, or about to be."""

    def __init__(
        self,
        hub: EdgeHub,
        session: int,
        generation: int,
        conn: int,
        conversation: ClientConversation,
        config: TunnelConfig,
    ) -> None:
        self._hub = hub
        self.session, self.generation, self.conn = session, generation, conn
        self.conversation, self.config = conversation, config
        self.suite = suite_of(config.esp) if config.esp is not None else None
        self.esp_started = False

    def open(self, wire: Wire, remaining: int, esp: Esp | None) -> None:
        """Opens the session in the edge, replacing an earlier generation, and starts it. The order loses
        nothing: our keys before the gateway hears of them, the connection before the first packet."""
        config, suite = self.config, self.suite
        ours = new_keys() if esp is not None and suite is not None else None
        self._hub.send(
            edge_link.OpenSession(
                session=self.session,
                generation=self.generation,
                address4=config.address4.packed if config.address4 else b"",
                address6=config.address6.packed if config.address6 else b"",
                mtu=config.mtu,
                remaining=remaining or NO_LIMIT,
                idle=0,
                fallback=config.esp.fallback if config.esp else 0,
                revision=0,
                rules=EVERYTHING,
                esp_in=_sa(ours, suite) if ours is not None and suite is not None else None,
                cross_family=bool(config.esp and config.esp.cross_family),
            )
        )
        if esp is not None and ours is not None and suite is not None:
            self._hub.send(edge_link.SetPort(session=self.session), [esp.descriptor])
            self.conversation.answer_esp(ours)
            self.flush()
            self._hub.send(self._out(esp.offer, suite))
        self._hub.send(edge_link.Attach(conn=wire.conn, session=self.session))
        self._hub.give_wire(wire, self.session)
        if ours is not None:
            self._hub.send(edge_link.StartEsp(session=self.session, extended=config.extended))
            self.esp_started = True

    def _out(self, keys: EspKeys, suite: Suite) -> edge_link.InstallEspOut:
        return edge_link.InstallEspOut(session=self.session, generation=self.generation, sa=_sa(keys, suite))

    def rekey(self, offer: EspKeys) -> None:
        """Answers new keys of the gateway with new ones of ours. Without ESP nothing is answered: that
        is how a gateway knows that a client does not use it."""
        if self.suite is None or not self.esp_started:
            return
        ours = new_keys()
        self._hub.send(
            edge_link.InstallEspIn(session=self.session, generation=self.generation, sa=_sa(ours, self.suite))
        )
        self.conversation.answer_esp(ours)
        self.flush()
        self._hub.send(self._out(offer, self.suite))

    def set_end(self, remaining: int) -> None:
        """The edge ends the session in so many seconds, whatever it was told before."""
        self._hub.send(edge_link.SetDeadline(session=self.session, remaining=remaining, idle=0))

    def flush(self) -> None:
        """Hands to the edge what the conversation wants to say."""
        for frame in self.conversation.take_frames():
            self.send(frame)

    def send(self, frame: Frame) -> None:
        if self.conn:
            self._hub.send(
                edge_link.LinkFrame(
                    conn=self.conn, vendor=frame.vendor, kind=int(frame.kind), body=frame.body
                )
            )

    def log_out(self) -> bool:
        """Tells the gateway that the session is over; False when there is no connection for it."""
        if not self.conn:
            return False
        self.conversation.log_out()
        self.flush()
        return True

    def close(self) -> None:
        """Ends the session in the edge, after what was said has been written."""
        self._hub.send(edge_link.CloseSession(session=self.session, fatal=None))
        self._hub.unregister(self.session)
