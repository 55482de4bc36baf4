"""One IF-T connection, seen from the server.

    VERSION → CLIENT_INFO → IDENTITY → CLIENT_FACTS → (DECIDING ⇄ Asked)* → ACKNOWLEDGE
            → CONFIGURING → TUNNEL → ENDED

The client speaks in every state but DECIDING, where it waits for a command; in CONFIGURING and TUNNEL
both speak. Frames go in and out without header: cutting the stream and counting the frames is the
edge's work, as is carrying data frames once the connection is attached to a session.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self, TypeAlias
from urllib.parse import quote

from lockgate.protocol.avp import Avp, decode_avps, encode_avps
from lockgate.protocol.conversation import Conversation
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import (
    HEADER,
    MAX_FRAME,
    VENDOR_JUNIPER,
    VENDOR_TCG,
    Frame,
    JuniperKind,
    TcgKind,
)
from lockgate.protocol.pulse.client_facts import HostInfo, choose_version, read_client, read_host_info
from lockgate.protocol.pulse.codes import (
    AUTH_TYPE,
    EAP_VENDOR,
    ESP_READY,
    Code,
    EapKind,
    PasswordCode,
    avp,
    refuse_unknown_mandatory,
)
from lockgate.protocol.pulse.config import Network, TunnelConfig, encode_config
from lockgate.protocol.pulse.esp_keys import EspKeys, decode_answer, encode_offer
from lockgate.protocol.pulse.events import EspKeysAnswered, EspReady, Event, LoggedOut, SignInAcknowledged
from lockgate.protocol.pulse.questions import (
    CredentialsQuestion,
    NewPasswordQuestion,
    NoticeQuestion,
    Prompts,
    Question,
    RealmQuestion,
    SessionOffer,
    SessionQuestion,
    TokenQuestion,
    refusal,
)
from lockgate.protocol.pulse.split_networks import encode_split_networks
from lockgate.protocol.pulse.text import COOKIE_CHARACTERS
from lockgate.protocol.secret import Secret

MAX_SIGN_IN_FRAMES = 64
"""Frames one client may send before its tunnel: four to introduce itself, one to confirm, and room
for more questions than any sign-in has. Password guessing is limited elsewhere, and far earlier."""

MAX_FATAL_TEXT = 256
"""Bytes of the text of a fatal frame, before escaping."""

_END_OF_CONFIG = bytes(4)


class Phase(Enum):
    """The states without data."""

    VERSION = "version"
    CLIENT_INFO = "client information"
    IDENTITY = "identity"
    CLIENT_FACTS = "client facts"
    DECIDING = "deciding"
    ACKNOWLEDGE = "acknowledge"
    CONFIGURING = "configuring"
    TUNNEL = "tunnel"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Asked:
    """Waiting for the answer to a question."""

    question: Question


State: TypeAlias = Phase | Asked


class ServerConversation(Conversation):
    """The server side of one connection.

    `receive` takes a frame of the client and returns what it means; the other methods are commands
    and queue frames for `take_frames`. A command out of turn is a UsageError, a frame out of turn a
    PeerError: close the connection then, without a word.
    """

    def __init__(self, server_text: str = "Lockgate") -> None:
        """`server_text` is sent to clients before they have signed in; none shows it."""
        super().__init__()
        self._server_text = server_text
        self._state: State = Phase.VERSION
        self._frames_before_tunnel = 0
        self._host = HostInfo("", "")
        self._outer_id = 1  # the last one used; 1 is what clients give their unasked identity
        self._inner_id = 1
        self._prompts_fixed = False
        self._offers = 0  # of ESP keys, made on this connection
        self._unanswered = 0

    @classmethod
    def in_tunnel(cls) -> Self:
        """A conversation taken up in the tunnel phase by a restarted control plane.

        An offer of ESP keys made before the restart may still be unanswered: one answer and one
        EspReady are let through.
        """
        conversation = cls()
        conversation._state = Phase.TUNNEL
        conversation._offers = conversation._unanswered = 1
        return conversation

    @property
    def state(self) -> str:
        """Name of the state, for logs."""
        if isinstance(self._state, Asked):
            return type(self._state.question).__name__
        return self._state.value

    @property
    def ended(self) -> bool:
        """Refused, failed, fatal or logged out: nothing more is said."""
        return self._state is Phase.ENDED

    # What the client says

    def receive(self, frame: Frame) -> list[Event]:
        """What a frame means; PeerError if it has no place here."""
        if HEADER + len(frame.body) > MAX_FRAME:
            raise PeerError(f"a frame body of {len(frame.body)} bytes")
        state = self._state
        if state is Phase.ENDED:
            return []  # a client that was told to go may have frames on their way
        key = (frame.vendor & 0xFFFFFF, frame.kind)
        if key == (VENDOR_JUNIPER, JuniperKind.LOGOUT) and state is not Phase.VERSION:
            self._state = Phase.ENDED
            return [LoggedOut()]
        if state in (Phase.CONFIGURING, Phase.TUNNEL):
            return self._receive_in_tunnel(key, frame.body)
        self._frames_before_tunnel += 1
        if self._frames_before_tunnel > MAX_SIGN_IN_FRAMES:
            raise PeerError(f"more than {MAX_SIGN_IN_FRAMES} frames without a finished sign-in")
        match state:
            case Phase.VERSION:
                self._expect(key, VENDOR_TCG, TcgKind.VERSION_REQUEST)
                version = choose_version(frame.body)
                self._send(VENDOR_TCG, TcgKind.VERSION_RESPONSE, struct.pack("!I", version))
                self._state = Phase.CLIENT_INFO
                return []
            case Phase.CLIENT_INFO:
                self._expect(key, VENDOR_JUNIPER, JuniperKind.CLIENT_INFO)
                self._host = read_host_info(frame.body)
                self._send(VENDOR_TCG, TcgKind.CHALLENGE, AUTH_TYPE)  # with more in it, clients give up
                self._state = Phase.IDENTITY
                return []
            case Phase.DECIDING:
                raise PeerError("the client spoke while it was our turn")
        self._expect(key, VENDOR_TCG, TcgKind.RESPONSE)
        return self._receive_response(self._response(frame.body))

    def _receive_response(self, packet: EapPacket) -> list[Event]:
        state = self._state
        if state is Phase.IDENTITY:
            if packet.kind != EapType.IDENTITY:
                raise PeerError("the client did not begin with its EAP identity")
            self._request(self._server_info())
            self._state = Phase.CLIENT_FACTS
            return []
        avps = self._answer(packet)
        event: Event
        if isinstance(state, Asked):
            event = state.question.answer(avps)
            self._state = Phase.DECIDING
        elif state is Phase.CLIENT_FACTS:
            event = read_client(avps, self._host)
            self._state = Phase.DECIDING
        else:  # ACKNOWLEDGE: an answer without AVPs; any in it mean nothing
            event = SignInAcknowledged()
            self._authenticate(TcgKind.SUCCESS, encode_eap(EapPacket(EapCode.SUCCESS, self._outer_id)))
            self._state = Phase.CONFIGURING
        return [event]

    def _receive_in_tunnel(self, key: tuple[int, int], body: bytes) -> list[Event]:
        if key == (VENDOR_JUNIPER, JuniperKind.CONFIG):
            if not self._unanswered:
                raise PeerError("ESP keys that were not asked for")
            keys = decode_answer(body)
            self._unanswered -= 1
            return [EspKeysAnswered(keys.spi, keys.secret)]
        if key == (VENDOR_JUNIPER, JuniperKind.ESP_READY) and body.rstrip(b"\n\0") == ESP_READY.rstrip(
            b"\n\0"
        ):
            if not self._offers:
                raise PeerError("the client has ESP ready without keys")
            return [EspReady()]
        self._ignored += 1
        return []

    def _expect(self, key: tuple[int, int], vendor: int, kind: int) -> None:
        if key != (vendor, kind):
            raise PeerError(f"frame {key[0]:#x}/{key[1]:#x} in state {self.state!r}")

    def _response(self, body: bytes) -> EapPacket:
        """The EAP response in an authentication frame."""
        if not body.startswith(AUTH_TYPE):
            raise PeerError("an authentication frame of another method")
        packet = decode_eap(body[len(AUTH_TYPE) :])
        if packet.code != EapCode.RESPONSE:
            raise PeerError(f"EAP code {packet.code} from a client")
        return packet

    def _answer(self, packet: EapPacket) -> list[Avp]:
        """The AVPs of a response to our last request."""
        if packet.identifier != self._outer_id:
            raise PeerError("an EAP response to another request")
        if (packet.kind, packet.vendor, packet.vendor_kind) != (EapType.EXPANDED, EAP_VENDOR, EapKind.AVPS):
            raise PeerError(f"EAP type {packet.kind} instead of AVPs")
        avps = decode_avps(packet.data)
        refuse_unknown_mandatory(avps)
        return avps

    # Commands of the sign-in

    def ask_realm(self, names: Iterable[str]) -> None:
        """Let the user choose among realm names; even one is a question."""
        names = tuple(names)
        if not names:
            raise UsageError("no realm to choose from")
        self._ask(RealmQuestion(names))

    def ask_realm_name(self) -> None:
        """Let the user type the name of a realm."""
        self._ask(RealmQuestion(()))

    def ask_credentials(
        self,
        retry: bool = False,
        username: bool = True,
        secondary: bool = False,
        user_label: str = "",
        password_label: str = "",
    ) -> None:
        """Ask for user name and password; `retry` says that the last ones were wrong.

        Without `username`, or with `secondary`, the client calls the form "secondary credentials",
        now and for the rest of the sign-in.
        """
        self._our_turn()
        code = PasswordCode.RETRY if retry else PasswordCode.ASK
        prompts = self._prompts(username, secondary, user_label, password_label)
        self._ask(CredentialsQuestion(self._next_inner(), code, prompts))

    def ask_new_password(self) -> None:
        """Ask for the old and a new password, because the old one has expired."""
        self._our_turn()
        self._ask(NewPasswordQuestion(self._next_inner()))

    def ask_token(
        self, text: str, username: bool = False, user_label: str = "", password_label: str = ""
    ) -> None:
        """Ask for a token code.

        openconnect shows `text` only right after another such question, and only where the user name
        is asked for too; without `username` it shows nothing but `password_label`.
        """
        self._our_turn()
        if not text:
            raise UsageError("a question for a token needs a text")
        prompts = self._prompts(username, False, user_label, password_label)
        self._ask(TokenQuestion(self._next_inner(), text, prompts))

    def ask_session(self, offers: Iterable[SessionOffer]) -> None:
        """Let the user choose a session to end. openconnect cannot answer "none"."""
        offers = tuple(offers)
        if not offers or not all(o.id and o.address and 0 < o.started < 1 << 64 for o in offers):
            raise UsageError("sessions to choose from need an id, an address and a start time")
        self._ask(SessionQuestion(offers))

    def notify(self, text: str) -> None:
        """Show a text that must be accepted."""
        self._ask(NoticeQuestion(text))

    def refuse(self, text: str) -> None:
        """End the sign-in with a text for the user, 1 to 253 bytes."""
        self._our_turn()
        self._request(refusal(self._next_inner(), text))
        self._state = Phase.ENDED

    def fail(self, code: int) -> None:
        """End the sign-in with a number: codes.FailureCode, or any other shown as it is."""
        self._our_turn()
        self._request([avp(Code.FAILURE, struct.pack("!I", code))])
        self._state = Phase.ENDED

    def signed_in(self, cookie: Secret, remaining: int, idle: int) -> None:
        """End the sign-in with success.

        remaining: seconds until the session ends, 0 if that is not told.
        idle: seconds without traffic until it ends, 0 for never.
        """
        self._our_turn()
        text = cookie.reveal()
        if not text or not COOKIE_CHARACTERS.issuperset(text):
            raise UsageError("a session cookie must be printable ASCII without ; = , \\ quotes and blanks")
        avps = [avp(Code.COOKIE, text), avp(Code.REMAINING, struct.pack("!I", remaining))]
        if idle:
            avps.append(avp(Code.IDLE, struct.pack("!I", idle)))
        self._request(avps)
        self._state = Phase.ACKNOWLEDGE

    # Commands of the tunnel

    def configure(self, config: TunnelConfig) -> None:
        """Send the main configuration."""
        self._only_in(Phase.CONFIGURING)
        self._send(VENDOR_JUNIPER, JuniperKind.CONFIG, encode_config(config))

    def offer_esp(self, spi: int, secret: Secret) -> None:
        """Send keys for packets from the client: first after `configure`, later as a rekey.

        The client may never answer (ESP switched off there), so wait for nothing.
        """
        self._only_in(Phase.CONFIGURING, Phase.TUNNEL)
        self._send(VENDOR_JUNIPER, JuniperKind.CONFIG, encode_offer(EspKeys(spi, secret)))
        self._offers += 1
        self._unanswered += 1

    def end_configuration(self) -> None:
        """Tell the client that it has everything; it starts its tunnel now."""
        self._only_in(Phase.CONFIGURING)
        self._send(VENDOR_JUNIPER, JuniperKind.END_OF_CONFIG, _END_OF_CONFIG)
        self._state = Phase.TUNNEL

    def tell_remaining(self, seconds: int) -> None:
        """Say that the session ends in so many seconds now, 1 to 2**32 - 1; only to a client that announced
        `extensions.SESSION_OPTIONS`."""
        self._only_in(Phase.TUNNEL)
        if not 0 < seconds < 1 << 32:
            raise UsageError(f"a session that ends in {seconds} seconds")
        self._send(VENDOR_JUNIPER, JuniperKind.REMAINING, struct.pack("!I", seconds))

    def tell_split_networks(self, include: Sequence[Network], exclude: Sequence[Network]) -> None:
        """Say which networks belong in the tunnel now; only to a client that announced
        `extensions.SPLIT_NETWORKS`."""
        self._only_in(Phase.TUNNEL)
        body = encode_split_networks(include, exclude)
        self._send(VENDOR_JUNIPER, JuniperKind.SPLIT_NETWORKS, body)

    def nudge_esp(self, text: str = "maxUsers=0") -> None:
        """Make a client that waits for ESP probe at once; others pass over it.

        It is a message about licences whose `text` clients do not read; they act on its coming.
        """
        self._only_in(Phase.TUNNEL)
        self._send(VENDOR_JUNIPER, JuniperKind.LICENCE, text.encode() + b"\n\0")

    def fatal(self, code: int, text: str) -> None:
        """End the tunnel for good with a reason (codes.FatalCode) and a text; the client does not
        come back by itself."""
        self._only_in(Phase.TUNNEL)
        if len(text.encode()) > MAX_FATAL_TEXT:
            raise UsageError(f"the text of a fatal error has more than {MAX_FATAL_TEXT} bytes")
        line = f"errorType={code} errorString={quote(text, safe='')}\n"
        self._send(VENDOR_JUNIPER, JuniperKind.FATAL, line.encode())
        self._state = Phase.ENDED

    # Inner workings

    def _our_turn(self) -> None:
        self._only_in(Phase.DECIDING)

    def _only_in(self, *phases: Phase) -> None:
        if self._state not in phases:
            raise UsageError(f"not possible in state {self.state!r}")

    def _prompts(self, username: bool, secondary: bool, user_label: str, password_label: str) -> Prompts:
        # Once a client has been told "secondary" it stays with that, and with the last choice of
        # fields: from then on say every time which fields are wanted.
        self._prompts_fixed = self._prompts_fixed or secondary or not username
        return Prompts(self._prompts_fixed, username, user_label, password_label)

    def _ask(self, question: Question) -> None:
        self._our_turn()
        self._request(question.request())
        self._state = Asked(question)

    def _server_info(self) -> list[Avp]:
        """What gateways in the field send here; clients do not look at it."""
        return [
            avp(Code.INFO_49, struct.pack("!I", 4)),
            avp(Code.INFO_4A, struct.pack("!I", 1)),
            avp(Code.SERVER_TEXT, self._server_text.encode()),
        ]

    def _request(self, avps: list[Avp]) -> None:
        identifier = (self._outer_id + 1) % 256
        packet = EapPacket(
            EapCode.REQUEST, identifier, EapType.EXPANDED, encode_avps(avps), EAP_VENDOR, EapKind.AVPS
        )
        self._authenticate(TcgKind.CHALLENGE, encode_eap(packet))
        self._outer_id = identifier

    def _next_inner(self) -> int:
        self._inner_id = (self._inner_id + 1) % 256
        return self._inner_id

    def _authenticate(self, kind: TcgKind, packet: bytes) -> None:
        self._send(VENDOR_TCG, kind, AUTH_TYPE + packet)

    def _send(self, vendor: int, kind: int, body: bytes) -> None:
        if HEADER + len(body) > MAX_FRAME:
            raise UsageError(f"a frame of type {kind:#x} with {len(body)} bytes does not fit one TLS record")
        self._out.append(Frame(vendor, kind, body))
