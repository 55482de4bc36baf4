"""The questions of a sign-in: what each puts into a packet, and what its answer must hold.

A question is a value; the conversation sends `request()` and hands the AVPs of the client's next packet
to `answer()`, which returns the event or raises PeerError. Questions with an inner EAP packet carry
the identifier of it, which the client must repeat.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lockgate.protocol.avp import Avp, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.codes import (
    AVP_VENDOR,
    EAP_MESSAGE,
    EAP_VENDOR,
    Code,
    EapKind,
    PasswordCode,
    avp,
)
from lockgate.protocol.pulse.events import (
    CredentialsGiven,
    NewPasswordGiven,
    NoticeAccepted,
    RealmChosen,
    SessionChosen,
    TokenGiven,
)
from lockgate.protocol.pulse.text import exact_text
from lockgate.protocol.secret import Secret

MAX_USER_NAME = 256
"""Bytes of a user name; the longest form in the field, a mail address, has at most 254."""

MAX_REALM = 256
"""Bytes of a realm name that a user types."""

MAX_CODE = 253
"""Bytes of a token code; the same as for passwords."""

MAX_PASSWORD = 253
"""Bytes of a password: its length, and 2, must fit one byte. Clients give up above that."""

MAX_REFUSAL = 253
"""Bytes of the text of a refusal, for the same reason."""

_PASSWORD_ANSWER = 0x02
_OLD_PASSWORD, _NEW_PASSWORD = 0x02, 0x03  # tags; in an answer to ASK the first is the only password


@dataclass(frozen=True, slots=True)
class Prompts:
    """What goes with a question for credentials or a token.

    second:        the client calls it secondary credentials; once it has, it does so to the end of
                   the sign-in, also where this is False.
    user_name:     ask for the name too, not only for the password or code.
    *_label:       text before the field, instead of the client's own.
    """

    second: bool = False
    user_name: bool = True
    user_label: str = ""
    password_label: str = ""

    def avps(self) -> list[Avp]:
        out = []
        if self.second:
            out.append(avp(Code.PROMPTS, struct.pack("!I", 1 if self.user_name else 3)))
        if self.user_label:
            code = Code.SECOND_USER_LABEL if self.second else Code.USER_LABEL
            out.append(avp(code, self.user_label.encode()))
        if self.password_label:
            code = Code.SECOND_PASSWORD_LABEL if self.second else Code.PASSWORD_LABEL
            out.append(avp(code, self.password_label.encode()))
        return out

    def name_in(self, avps: Sequence[Avp]) -> str | None:
        """The user name of the answer, if one was asked for."""
        return _text_in(avps, Code.USER_NAME, MAX_USER_NAME, "user name") if self.user_name else None


@dataclass(frozen=True, slots=True)
class RealmQuestion:
    """Choice among `names`, or, without any, a name to be typed."""

    names: tuple[str, ...]

    def request(self) -> list[Avp]:
        if not self.names:
            return [avp(Code.REALM_WANTED, b"")]
        return [avp(Code.REALM_OFFER, name.encode()) for name in self.names]

    def answer(self, avps: Sequence[Avp]) -> RealmChosen:
        name = _text_in(avps, Code.REALM, MAX_REALM, "realm name")
        if self.names and name not in self.names:
            raise PeerError("the client chose a realm that was not offered")
        return RealmChosen(name)


@dataclass(frozen=True, slots=True)
class CredentialsQuestion:
    inner_id: int
    code: PasswordCode  # ASK or RETRY
    prompts: Prompts

    def request(self) -> list[Avp]:
        return [_password_request(self.inner_id, bytes([self.code])), *self.prompts.avps()]

    def answer(self, avps: Sequence[Avp]) -> CredentialsGiven:
        [password] = _passwords_in(avps, self.inner_id, (_OLD_PASSWORD,))
        return CredentialsGiven(self.prompts.name_in(avps), password)


@dataclass(frozen=True, slots=True)
class NewPasswordQuestion:
    """The client asks for the old password once and for the new one twice, never for a name."""

    inner_id: int

    def request(self) -> list[Avp]:
        return [_password_request(self.inner_id, bytes([PasswordCode.CHANGE]))]

    def answer(self, avps: Sequence[Avp]) -> NewPasswordGiven:
        old, new = _passwords_in(avps, self.inner_id, (_OLD_PASSWORD, _NEW_PASSWORD))
        return NewPasswordGiven(old, new)


@dataclass(frozen=True, slots=True)
class TokenQuestion:
    """Generic token card (RFC 3748, section 5.6). The client shows `text` only when the question
    before was also one for a token."""

    inner_id: int
    text: str
    prompts: Prompts

    def request(self) -> list[Avp]:
        packet = EapPacket(EapCode.REQUEST, self.inner_id, EapType.GTC, self.text.encode())
        return [eap_message(packet), *self.prompts.avps()]

    def answer(self, avps: Sequence[Avp]) -> TokenGiven:
        packet = _inner_response(avps, self.inner_id)
        if packet.kind != EapType.GTC:
            raise PeerError("the client did not answer the question for a token with a token")
        if len(packet.data) > MAX_CODE:
            raise PeerError(f"a token code of {len(packet.data)} bytes")
        return TokenGiven(self.prompts.name_in(avps), _secret_text(packet.data, "token code"))


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """A session the user may end: its id, where it comes from, when it began (Unix seconds)."""

    id: str
    address: str
    started: int


@dataclass(frozen=True, slots=True)
class SessionQuestion:
    offers: tuple[SessionOffer, ...]

    def request(self) -> list[Avp]:
        return [
            avp(
                Code.SESSION,
                encode_avps(
                    [
                        avp(Code.SESSION_ID, offer.id.encode()),
                        avp(Code.SESSION_ADDRESS, offer.address.encode()),
                        avp(Code.SESSION_START, struct.pack("!Q", offer.started)),
                    ]
                ),
            )
            for offer in self.offers
        ]

    def answer(self, avps: Sequence[Avp]) -> SessionChosen:
        most = max(len(offer.id.encode()) for offer in self.offers)
        chosen = _text_in(avps, Code.SESSION_CHOICE, most, "session id")
        if chosen not in {offer.id for offer in self.offers}:
            raise PeerError("the client chose a session that was not offered")
        return SessionChosen(chosen)


@dataclass(frozen=True, slots=True)
class NoticeQuestion:
    text: str

    def request(self) -> list[Avp]:
        return [avp(Code.NOTICE, self.text.encode())]

    def answer(self, avps: Sequence[Avp]) -> NoticeAccepted:
        if data_of(avps, Code.NOTICE_ACCEPTED) != struct.pack("!I", 1):
            raise PeerError("the client did not accept the notice")
        return NoticeAccepted()


Question: TypeAlias = (
    RealmQuestion
    | CredentialsQuestion
    | NewPasswordQuestion
    | TokenQuestion
    | SessionQuestion
    | NoticeQuestion
)


def refusal(inner_id: int, text: str) -> list[Avp]:
    """The packet that ends a sign-in with a text for the user."""
    data = text.encode()
    if not 0 < len(data) <= MAX_REFUSAL:
        raise UsageError(f"a refusal text of {len(data)} bytes; 1 to {MAX_REFUSAL} are possible")
    return [_password_request(inner_id, bytes([PasswordCode.REFUSE, 1, len(data) + 2]) + data)]


def eap_message(packet: EapPacket) -> Avp:
    """The AVP around an inner EAP packet."""
    return Avp(EAP_MESSAGE, encode_eap(packet), mandatory=True)


def data_of(avps: Sequence[Avp], code: Code) -> bytes | None:
    """Data of the one AVP of this code, or None; PeerError if there are two."""
    found = [pair.data for pair in avps if pair.vendor == AVP_VENDOR and pair.code == code]
    if len(found) > 1:
        raise PeerError(f"AVP {code:#x} is there {len(found)} times")
    return found[0] if found else None


def _password_request(inner_id: int, data: bytes) -> Avp:
    return eap_message(
        EapPacket(EapCode.REQUEST, inner_id, EapType.EXPANDED, data, EAP_VENDOR, EapKind.PASSWORD)
    )


def _text_in(avps: Sequence[Avp], code: Code, most: int, what: str) -> str:
    if (data := data_of(avps, code)) is None:
        raise PeerError(f"the answer holds no {what}")
    return exact_text(data, most, what)


def _inner_response(avps: Sequence[Avp], inner_id: int) -> EapPacket:
    found = [pair.data for pair in avps if not pair.vendor and pair.code == EAP_MESSAGE]
    if len(found) != 1:
        raise PeerError(f"the answer holds {len(found)} inner EAP packets instead of one")
    packet = decode_eap(found[0])
    if packet.code != EapCode.RESPONSE or packet.identifier != inner_id:
        raise PeerError("the inner EAP packet is not the response to our request")
    return packet


def _passwords_in(avps: Sequence[Avp], inner_id: int, tags: tuple[int, ...]) -> list[Secret]:
    """The passwords of an answer: 02, then for each of `tags` the tag, length + 2, password."""
    packet = _inner_response(avps, inner_id)
    if (packet.kind, packet.vendor, packet.vendor_kind) != (EapType.EXPANDED, EAP_VENDOR, EapKind.PASSWORD):
        raise PeerError("the client did not answer the question for a password with a password")
    data = packet.data
    if not data or data[0] != _PASSWORD_ANSWER:
        raise PeerError("a password answer of unknown form")
    passwords = []
    at = 1
    for tag in tags:
        if len(data) - at < 2 or data[at] != tag:
            raise PeerError("a password is missing in the answer")
        length = data[at + 1]
        if not 2 <= length <= len(data) - at:
            raise PeerError("a password has a wrong length")
        passwords.append(_secret_text(data[at + 2 : at + length], "password"))
        at += length
    if at != len(data):
        raise PeerError("bytes behind the password")
    return passwords


def _secret_text(data: bytes, what: str) -> Secret:
    """UTF-8 text as a Secret. The control character NUL is refused: C libraries would cut there."""
    try:
        valid = "\0" not in data.decode()
    except UnicodeDecodeError:
        valid = False
    if not valid:
        raise PeerError(f"a {what} that is not UTF-8 text")
    return Secret(data)
