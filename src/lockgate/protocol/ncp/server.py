"""One Network Connect tunnel, seen from the server.

    DECIDING → NAMING → CONFIGURING → TUNNEL

The client has shown its cookie in HTTP before there is anything to say here, and waits for an answer: `accept`, or
the end of the connection, which it sees as an HTTP status. Then it says the name of its machine. The end of a
session is a record of the edge's. What is called as in `pulse.server` means the same, so that a gateway can run the
tunnels of both protocols alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self, TypeAlias

from lockgate.protocol.conversation import Conversation
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.ncp.config import encode_config
from lockgate.protocol.ncp.messages import (
    KmpKind,
    decode_host_name,
    decode_keys,
    decode_options,
    encode_keys,
)
from lockgate.protocol.pulse.config import Network, TunnelConfig
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.pulse.events import EspKeysAnswered, EspReady
from lockgate.protocol.secret import Secret

VENDOR = 0
"""Of frames on the edge link that are KMP messages; their kind is the KMP type."""


class _Phase(Enum):
    DECIDING = "deciding"
    NAMING = "naming"
    CONFIGURING = "configuring"
    TUNNEL = "tunnel"


@dataclass(frozen=True, slots=True)
class HostNameTold:
    """What the client calls its machine: printable, at most 255 bytes; perhaps empty."""

    name: str


Event: TypeAlias = EspKeysAnswered | EspReady | HostNameTold


class ServerConversation(Conversation):
    """The server side of one connection.

    `receive` takes a message of the client and returns what it means; the other methods are commands and queue
    messages for `take_frames`. A command out of turn is a UsageError, a message out of turn a PeerError: close
    the connection then.
    """

    ended = False
    """Nobody logs out in this protocol: that is an HTTP request."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = _Phase.DECIDING
        self._config: TunnelConfig | None = None
        self._keys: EspKeys | None = None
        self._unanswered = 0

    @classmethod
    def in_tunnel(cls) -> Self:
        """A conversation taken up by a restarted control plane. Keys offered before may still be unanswered:
        one answer is let through."""
        conversation = cls()
        conversation._phase = _Phase.TUNNEL
        conversation._unanswered = 1
        return conversation

    @property
    def state(self) -> str:
        """Name of the state, for logs."""
        return self._phase.value

    # What the client says

    def receive(self, frame: Frame) -> list[Event]:
        """What a message means; PeerError if it has no place here."""
        if frame.vendor != VENDOR:
            raise PeerError(f"a frame of vendor {frame.vendor:#x}")
        if self._phase is _Phase.NAMING and frame.kind == KmpKind.HOST_NAME:
            self._phase = _Phase.CONFIGURING
            return [HostNameTold(decode_host_name(frame.body))]
        if self._phase is not _Phase.TUNNEL:
            raise PeerError(f"message {frame.kind} in state {self.state!r}")
        match frame.kind:
            case KmpKind.KEYS:
                if not self._unanswered:
                    raise PeerError("ESP keys that were not asked for")
                keys = decode_keys(frame.body)
                self._unanswered -= 1
                return [EspKeysAnswered(keys.spi, keys.secret)]
            case KmpKind.OPTIONS:
                # The echo of the MTU says nothing new; that it left ESP is acted on in the edge.
                return [EspReady()] if decode_options(frame.body).uses_esp else []
        self._ignored += 1
        return []

    # Commands

    def accept(self) -> None:
        """The client may have its tunnel; it says next what its machine is called."""
        self._only_in(_Phase.DECIDING)
        self._send(KmpKind.ACCEPT, b"")
        self._phase = _Phase.NAMING

    def configure(self, config: TunnelConfig) -> None:
        """What the client is told; sent by `end_configuration`."""
        self._only_in(_Phase.CONFIGURING)
        self._config = config

    def offer_esp(self, spi: int, secret: Secret) -> None:
        """Keys for packets from the client: first within its configuration, later as a rekey.

        The client may never answer (ESP switched off there), so wait for nothing.
        """
        keys = EspKeys(spi, secret)
        if self._phase is _Phase.CONFIGURING:
            self._keys = keys
        else:
            self._only_in(_Phase.TUNNEL)
            self._send(KmpKind.KEYS, encode_keys(keys))
        self._unanswered += 1

    def end_configuration(self) -> None:
        """Send the configuration, with the keys if there are some; the client starts its tunnel now."""
        self._only_in(_Phase.CONFIGURING)
        if self._config is None:
            raise UsageError("there is no configuration to end")
        self._send(KmpKind.CONFIG, encode_config(self._config, self._keys))
        self._config = self._keys = None
        self._phase = _Phase.TUNNEL

    def tell_remaining(self, seconds: int) -> None:
        """Clients of this protocol do not hear when their session ends."""

    def tell_split_networks(self, include: Sequence[Network], exclude: Sequence[Network]) -> None:
        """Clients of this protocol keep the networks that they connected with."""

    def nudge_esp(self) -> None:
        """Nothing makes a client probe again; the edge answers the probes that came before its keys."""

    # Inner workings

    def _only_in(self, phase: _Phase) -> None:
        if self._phase is not phase:
            raise UsageError(f"not possible in state {self.state!r}")

    def _send(self, kind: KmpKind, body: bytes) -> None:
        self._out.append(Frame(VENDOR, kind, body))
