"""One IF-T connection, seen from the client.

    START → VERSION → CHALLENGE → SERVER_INFO → (WAITING ⇄ Asked)* → SUCCESS
          → CONFIGURING → TUNNEL → ENDED

The gateway speaks in every state but START and Asked, where a command is awaited. Frames go in and out
without header, as in `server.ServerConversation`. Whoever owns the connection verifies the
gateway's certificate before the first frame, decides how long silence may last, and carries data.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Self, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

from lockgate.protocol.avp import Avp, decode_avps, encode_avps
from lockgate.protocol.conversation import Conversation
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.errors import PeerError, UnsupportedError, UsageError
from lockgate.protocol.if_t import (
    HEADER,
    MAX_FRAME,
    VENDOR_JUNIPER,
    VENDOR_TCG,
    Frame,
    JuniperKind,
    TcgKind,
)
from lockgate.protocol.pulse import client_questions, esp_keys
from lockgate.protocol.pulse.client_events import (
    Authenticated,
    ClientEvent,
    ConfigurationEnded,
    Configured,
    CookieRefused,
    CredentialsAsked,
    EndMoved,
    EspOffered,
    Fatal,
    Licence,
    NewPasswordAsked,
    NoticeShown,
    RealmAsked,
    RegionAsked,
    ServerIntroduced,
    SessionAsked,
    SignedIn,
    SignInFailed,
    SignInRefused,
    SplitNetworksMoved,
    TokenAsked,
)
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.client_questions import Pending, Standing, Step, read_challenge
from lockgate.protocol.pulse.codes import AUTH_TYPE, EAP_VENDOR, ESP_READY, Code, EapKind
from lockgate.protocol.pulse.config import TunnelConfig, decode_config
from lockgate.protocol.pulse.config_blocks import MAGIC, MAGIC_WITH_PRE
from lockgate.protocol.pulse.config_frame import magic_of
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.pulse.questions import data_of
from lockgate.protocol.pulse.split_networks import decode_split_networks
from lockgate.protocol.pulse.text import shown_text
from lockgate.protocol.secret import Secret

MAX_CHALLENGES = 32
"""Packets of one sign-in after the introduction. A long one has ten; people give up before thirty."""

MAX_CONFIG_FRAMES = 64
"""Frames between sign-in and end of the configuration. Three are usual, and data may come early."""

MAX_SERVER_TEXT = 256
"""Bytes kept of the gateway's text about itself, of licence information and of a fatal error."""

_VERSION_REQUEST = bytes([0, 1, 2, 2])  # reserved, lowest, highest, preferred version
_IDENTITY = encode_eap(EapPacket(EapCode.RESPONSE, 1, EapType.IDENTITY, b"anonymous"))
_FATAL = re.compile(rb"errorType=(\d{1,10}) errorString=([^\n]*)")
_MD5 = re.compile(r"[0-9A-Fa-f]{32}")

_Q = TypeVar("_Q")


class Phase(Enum):
    """The states without data: what is awaited, or START and ENDED."""

    START = "start"
    VERSION = "version"
    CHALLENGE = "first challenge"
    SERVER_INFO = "server information"
    WAITING = "next step"
    SUCCESS = "success"
    CONFIGURING = "configuring"
    TUNNEL = "tunnel"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Asked:
    """Waiting for a command that answers. `then` is what came in the same packet as a notice."""

    pending: Pending
    then: Step | None = None


State: TypeAlias = Phase | Asked


class ClientConversation(Conversation):
    """The client side of one connection.

    `receive` takes a frame of the gateway and returns what it means; the other methods are commands
    and queue frames for `take_frames`. A command out of turn is a UsageError, what a person typed and
    cannot be sent an AnswerError (the question stands), a frame out of turn a PeerError: close then.
    """

    def __init__(self, introduction: ClientIntroduction) -> None:
        super().__init__()
        self._introduction = introduction
        self._state: State = Phase.START
        self._outer_id = 0  # of the request to answer next
        self._standing = Standing()
        self._challenges = 0
        self._config_frames = 0
        self._cookie_at_stake = introduction.cookie is not None
        self._configured = False
        self._esp_possible = False
        self._esp_offer: EspKeys | None = None
        self._esp_ready_told = False

    @classmethod
    def in_tunnel(cls) -> Self:
        """A conversation taken up in the tunnel phase by a restarted client service.

        An offer of ESP keys made before the restart is lost; the next rekey makes up for it.
        """
        conversation = cls(ClientIntroduction("", "", ""))
        conversation._state = Phase.TUNNEL
        conversation._configured = conversation._esp_possible = conversation._esp_ready_told = True
        return conversation

    @property
    def state(self) -> str:
        """Name of the state, for logs."""
        if isinstance(self._state, Asked):
            return type(self._state.pending.question).__name__
        return self._state.value

    @property
    def ended(self) -> bool:
        """Refused, failed, fatal or logged out: nothing more is said."""
        return self._state is Phase.ENDED

    # What the gateway says

    def receive(self, frame: Frame) -> list[ClientEvent]:
        """What a frame means; PeerError if it has no place here."""
        if HEADER + len(frame.body) > MAX_FRAME:
            raise PeerError(f"a frame body of {len(frame.body)} bytes")
        state = self._state
        if state is Phase.ENDED:
            return []  # a gateway that was told good-bye may have frames on their way
        key = (frame.vendor & 0xFFFFFF, frame.kind)
        if key == (VENDOR_JUNIPER, JuniperKind.FATAL) and state not in (Phase.START, Phase.VERSION):
            return [self._fatal(frame.body)]
        if state is Phase.START or isinstance(state, Asked):
            raise PeerError(f"frame {key[0]:#x}/{key[1]:#x} while it was our turn, in state {self.state!r}")
        match state:
            case Phase.VERSION:
                self._expect(key, TcgKind.VERSION_RESPONSE)
                if frame.body not in (b"\0\0\0\1", b"\0\0\0\2"):
                    raise PeerError("the gateway chose a version that was not offered")
                self._send(VENDOR_JUNIPER, JuniperKind.CLIENT_INFO, self._introduction.text())
                self._state = Phase.CHALLENGE
                return []
            case Phase.CHALLENGE:
                self._expect(key, TcgKind.CHALLENGE)
                if frame.body != AUTH_TYPE:
                    raise PeerError("the first challenge names another method, or asks for something")
                self._send(VENDOR_TCG, TcgKind.RESPONSE, AUTH_TYPE + _IDENTITY)
                self._state = Phase.SERVER_INFO
                return []
            case Phase.SERVER_INFO:
                self._expect(key, TcgKind.CHALLENGE)
                return self._receive_server_info(self._request(frame.body))
            case Phase.WAITING:
                self._expect(key, TcgKind.CHALLENGE)
                return self._receive_challenge(self._request(frame.body))
            case Phase.SUCCESS:
                self._expect(key, TcgKind.SUCCESS)
                if self._eap(frame.body).code != EapCode.SUCCESS:
                    raise PeerError("no EAP success at the end of the sign-in")
                self._state = Phase.CONFIGURING
                return [Authenticated()]
            case Phase.CONFIGURING:
                self._config_frames += 1
                if self._config_frames > MAX_CONFIG_FRAMES:
                    raise PeerError(f"more than {MAX_CONFIG_FRAMES} frames without an end of configuration")
        return self._receive_in_tunnel(key, frame.body)

    def _receive_server_info(self, data: bytes) -> list[ClientEvent]:
        avps = decode_avps(data)
        if data_of(avps, Code.FAILURE) is not None:
            return self._receive_challenge(data)
        events: list[ClientEvent] = [_introduced(avps)]
        self._respond(self._introduction.avps())
        return events

    def _receive_challenge(self, data: bytes) -> list[ClientEvent]:
        self._challenges += 1
        if self._challenges > MAX_CHALLENGES:
            raise PeerError(f"more than {MAX_CHALLENGES} packets without an end of the sign-in")
        challenge = read_challenge(data, self._standing)
        self._standing = challenge.standing
        refused = self._cookie_at_stake and not (
            challenge.notice is None and isinstance(challenge.step, SignedIn | SignInFailed)
        )
        self._cookie_at_stake = False
        if challenge.notice is not None:
            events = self._begin(Pending(challenge.notice), challenge.step)
        else:
            assert challenge.step is not None  # one of the two is there
            events = self._begin(challenge.step)
        if not refused:
            return events
        if isinstance(self._state, Asked):
            return [CookieRefused(self._state.pending.question)]
        return [CookieRefused(None), *events]

    def _begin(self, step: Step, then: Step | None = None) -> list[ClientEvent]:
        """Enter what a packet brings."""
        match step:
            case Pending(question):
                self._state = Asked(step, then)
                return [question]
            case SignedIn():
                self._respond([])
                self._state = Phase.SUCCESS
            case SignInRefused() | SignInFailed():
                self._state = Phase.ENDED
        return [step]

    def _receive_in_tunnel(self, key: tuple[int, int], body: bytes) -> list[ClientEvent]:
        vendor, kind = key
        if vendor == VENDOR_JUNIPER:
            match kind:
                case JuniperKind.CONFIG:
                    return self._receive_configuration(body)
                case JuniperKind.LICENCE:
                    return [Licence(shown_text(body.rstrip(b"\n\0"), MAX_SERVER_TEXT))]
                case JuniperKind.REMAINING if self._state is Phase.TUNNEL:
                    if len(body) != 4 or not any(body):
                        raise PeerError("a session's end that is no number of seconds")
                    return [EndMoved(int.from_bytes(body))]
                case JuniperKind.SPLIT_NETWORKS if self._state is Phase.TUNNEL:
                    return [SplitNetworksMoved(*decode_split_networks(body))]
                case JuniperKind.END_OF_CONFIG if self._state is Phase.CONFIGURING:
                    if not self._configured:
                        raise PeerError("the end of a configuration that never came")
                    self._state = Phase.TUNNEL
                    return [ConfigurationEnded()]
        self._ignored += 1
        return []

    def _receive_configuration(self, body: bytes) -> list[ClientEvent]:
        magic = magic_of(body)
        if magic in (MAGIC, MAGIC_WITH_PRE) and self._state is Phase.CONFIGURING:
            if self._configured:
                raise PeerError("a second configuration on one connection")
            config: TunnelConfig = decode_config(body)
            self._configured, self._esp_possible = True, config.esp is not None
            return [Configured(config)]
        if magic == esp_keys.MAGIC and self._esp_possible:
            try:
                offer = esp_keys.decode_offer(body)
            except PeerError:
                pass  # passed over, as clients in the field do: the tunnel works without
            else:
                self._esp_offer = offer
                return [EspOffered(offer)]
        self._ignored += 1
        return []

    def _fatal(self, body: bytes) -> Fatal:
        if self._state in (Phase.CONFIGURING, Phase.TUNNEL):
            self._send(VENDOR_JUNIPER, JuniperKind.LOGOUT, b"")
        self._state = Phase.ENDED
        found = _FATAL.match(body)
        if found is None:
            return Fatal(0, "")
        text = unquote_to_bytes(found[2].rstrip(b"\0").replace(b"+", b" "))
        return Fatal(int(found[1]), shown_text(text, MAX_SERVER_TEXT))

    def _expect(self, key: tuple[int, int], kind: TcgKind) -> None:
        if key != (VENDOR_TCG, kind):
            raise PeerError(f"frame {key[0]:#x}/{key[1]:#x} in state {self.state!r}")

    def _eap(self, body: bytes) -> EapPacket:
        if not body.startswith(AUTH_TYPE):
            raise PeerError("an authentication frame of another method")
        return decode_eap(body[len(AUTH_TYPE) :])

    def _request(self, body: bytes) -> bytes:
        """The AVPs of an EAP request, still encoded."""
        packet = self._eap(body)
        if packet.code != EapCode.REQUEST:
            raise PeerError(f"EAP code {packet.code} from a gateway")
        if packet.kind == EapType.TTLS:
            raise UnsupportedError("the gateway wants a client certificate by EAP-TTLS, which is not built")
        if (packet.kind, packet.vendor, packet.vendor_kind) != (EapType.EXPANDED, EAP_VENDOR, EapKind.AVPS):
            raise PeerError(f"EAP type {packet.kind} instead of AVPs")
        self._outer_id = packet.identifier
        return packet.data

    # Commands

    def start(self) -> None:
        """Say the first word, once the gateway has taken the HTTP upgrade."""
        if self._state is not Phase.START:
            raise UsageError(f"not possible in state {self.state!r}")
        self._send(VENDOR_TCG, TcgKind.VERSION_REQUEST, _VERSION_REQUEST)
        self._state = Phase.VERSION

    def answer_realm(self, name: str) -> None:
        self._answer(RealmAsked, lambda q, _: client_questions.realm_answer(q, name))

    def answer_region(self, name: str) -> None:
        self._answer(RegionAsked, lambda q, _: client_questions.region_answer(q, name))

    def answer_credentials(self, username: str | None, password: Secret) -> None:
        """What the question does not ask for is not sent."""
        self._answer(
            CredentialsAsked,
            lambda q, inner: client_questions.credentials_answer(q, inner, username, password),
        )

    def answer_new_password(self, old: Secret, new: Secret) -> None:
        self._answer(NewPasswordAsked, lambda _, inner: client_questions.new_password_answer(inner, old, new))

    def answer_token(self, username: str | None, code: Secret) -> None:
        """A user name that the question does not ask for is not sent."""
        self._answer(TokenAsked, lambda q, inner: client_questions.token_answer(q, inner, username, code))

    def answer_session(self, session: str) -> None:
        """The id of the session to end. There is no way to say "none": close the connection then."""
        self._answer(SessionAsked, lambda q, _: client_questions.session_answer(q, session))

    def accept_notice(self) -> list[ClientEvent]:
        """Somebody has agreed. What the packet held besides the notice comes now, as from `receive`.

        Then only that is answered: gateways in the field take the answer for the agreement.
        """
        state = self._state
        if isinstance(state, Asked) and isinstance(state.pending.question, NoticeShown) and state.then:
            return self._begin(state.then)
        self._answer(NoticeShown, lambda *_: client_questions.notice_answer())
        return []

    def answer_esp(self, ours: EspKeys) -> None:
        """Keys for packets to us, made by us, as the answer to the latest EspOffered. Before this is
        sent, be ready to receive under them."""
        offer = self._esp_offer
        if offer is None or self._state not in (Phase.CONFIGURING, Phase.TUNNEL):
            raise UsageError("no ESP keys to answer")
        self._send(VENDOR_JUNIPER, JuniperKind.CONFIG, esp_keys.encode_answer(ours, offer))
        self._esp_offer = None
        if not self._esp_ready_told:
            self._send(VENDOR_JUNIPER, JuniperKind.ESP_READY, ESP_READY)
            self._esp_ready_told = True

    def log_out(self) -> None:
        """End the session and its cookie. Does nothing once ended, and says nothing to a gateway that
        has not spoken yet."""
        if self._state not in (Phase.START, Phase.VERSION, Phase.ENDED):
            self._send(VENDOR_JUNIPER, JuniperKind.LOGOUT, b"")
        self._state = Phase.ENDED

    # Inner workings

    def _answer(self, kind: type[_Q], make: Callable[[_Q, int], list[Avp]]) -> None:
        state = self._state
        if not isinstance(state, Asked) or not isinstance(state.pending.question, kind):
            raise UsageError(f"{kind.__name__} is not to be answered in state {self.state!r}")
        self._respond(make(state.pending.question, state.pending.inner_id))

    def _respond(self, avps: list[Avp]) -> None:
        """Answer the last request; the gateway's turn."""
        packet = EapPacket(
            EapCode.RESPONSE, self._outer_id, EapType.EXPANDED, encode_avps(avps), EAP_VENDOR, EapKind.AVPS
        )
        self._send(VENDOR_TCG, TcgKind.RESPONSE, AUTH_TYPE + encode_eap(packet))
        self._state = Phase.WAITING

    def _send(self, vendor: int, kind: int, body: bytes) -> None:
        self._out.append(Frame(vendor, kind, body))


def _introduced(avps: list[Avp]) -> ServerIntroduced:
    """From the server information; nothing in it is worth losing the gateway."""

    def text(code: Code) -> str:
        found = [pair.data for pair in avps if pair.code == code]
        return shown_text(found[0].rstrip(b"\0"), MAX_SERVER_TEXT) if found else ""

    md5 = text(Code.CERTIFICATE_MD5)
    return ServerIntroduced(text(Code.SERVER_TEXT), md5.lower() if _MD5.fullmatch(md5) else "")
