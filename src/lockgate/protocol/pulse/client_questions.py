"""What a gateway's sign-in packet asks, and what goes into the answer: `questions` from the other end.

A packet holds exactly one question (or an end), a notice may come with it, and what is said about
prompts, labels and times stays in force for the rest of the sign-in.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lockgate.protocol.avp import Avp, decode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap
from lockgate.protocol.errors import AnswerError, PeerError, UnsupportedError
from lockgate.protocol.pulse.client_events import (
    ClientQuestion,
    CredentialsAsked,
    NewPasswordAsked,
    NoticeShown,
    RealmAsked,
    RegionAsked,
    SessionAsked,
    SignedIn,
    SignInFailed,
    SignInRefused,
    TokenAsked,
)
from lockgate.protocol.pulse.client_facts import MAX_COOKIE
from lockgate.protocol.pulse.codes import (
    AVP_VENDOR,
    EAP_MESSAGE,
    EAP_VENDOR,
    Code,
    EapKind,
    PasswordCode,
    avp,
    refuse_unknown_mandatory,
)
from lockgate.protocol.pulse.questions import (
    MAX_CODE,
    MAX_PASSWORD,
    MAX_REALM,
    MAX_REFUSAL,
    MAX_USER_NAME,
    SessionOffer,
    data_of,
    eap_message,
)
from lockgate.protocol.pulse.text import COOKIE_CHARACTERS, exact_text, shown_lines, shown_text
from lockgate.protocol.secret import Secret

MAX_LABEL = 128
"""Bytes kept of the label of a field: a line on any screen."""

MAX_TOKEN_TEXT = 2048
"""Bytes kept of the text of a token question: a RADIUS packet carries at most 4 KiB, a screen less."""

MAX_NOTICE = 16384
"""Bytes kept of a notice, that is all of it: nobody can agree to half a text."""

MAX_SESSION_TEXT = 256
"""Bytes of id or address of a session."""

LATEST_START = 253402300799
"""Last second of the year 9999: calendars end there."""

_ONLY_PASSWORD = (3, 15)
_ONLY_USER_NAME = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """What packets of this sign-in have said so far that holds until the next one says otherwise.

    prompts: value of AVP d73, None before the first; labels by their AVP code.
    """

    prompts: int | None = None
    labels: tuple[tuple[Code, str], ...] = ()
    remaining: int = 0
    idle: int = 0

    def after(self, avps: Sequence[Avp]) -> "Standing":
        """With what this packet says."""
        labels = dict(self.labels)
        for code in (
            Code.USER_LABEL,
            Code.PASSWORD_LABEL,
            Code.SECOND_USER_LABEL,
            Code.SECOND_PASSWORD_LABEL,
        ):
            if (label := data_of(avps, code)) is not None:
                labels[code] = shown_text(label, MAX_LABEL)
        return Standing(
            _number(avps, Code.PROMPTS, self.prompts),
            tuple(labels.items()),
            _number(avps, Code.REMAINING, self.remaining) or 0,
            _number(avps, Code.IDLE, self.idle) or 0,
        )

    @property
    def secondary(self) -> bool:
        return self.prompts is not None

    @property
    def user_label(self) -> str:
        return dict(self.labels).get(Code.SECOND_USER_LABEL if self.secondary else Code.USER_LABEL, "")

    @property
    def password_label(self) -> str:
        code = Code.SECOND_PASSWORD_LABEL if self.secondary else Code.PASSWORD_LABEL
        return dict(self.labels).get(code, "")


@dataclass(frozen=True, slots=True)
class Pending:
    """A question, and the identifier that the inner EAP packet of its answer must repeat."""

    question: ClientQuestion
    inner_id: int = 0


Step: TypeAlias = Pending | SignedIn | SignInRefused | SignInFailed


@dataclass(frozen=True, slots=True)
class Challenge:
    """One packet: `notice` is to be accepted before `step`; at least one of the two is there."""

    notice: NoticeShown | None
    step: Step | None
    standing: Standing


def read_challenge(data: bytes, standing: Standing) -> Challenge:
    """What a packet of AVPs after the introduction says; PeerError unless it is one thing."""
    avps = decode_avps(data)
    failure = _number(avps, Code.FAILURE, None)
    if failure is not None:  # first: whatever else is in there does not count any more
        return Challenge(None, SignInFailed(failure), standing)
    refuse_unknown_mandatory(avps)
    standing = standing.after(avps)
    steps = [*_outer_steps(avps, standing), *_inner_steps(avps, standing)]
    notice = data_of(avps, Code.NOTICE)
    if len(steps) > 1 or (not steps and notice is None):
        raise PeerError(f"a sign-in packet with {len(steps)} questions instead of one")
    shown = None if notice is None else NoticeShown(shown_lines(notice, MAX_NOTICE))
    return Challenge(shown, steps[0] if steps else None, standing)


def _outer_steps(avps: Sequence[Avp], standing: Standing) -> list[Step]:
    steps: list[Step] = []
    if (cookie := data_of(avps, Code.COOKIE)) is not None:
        if not 0 < len(cookie) <= MAX_COOKIE or not COOKIE_CHARACTERS.issuperset(cookie):
            raise PeerError("a session cookie that is no plain text")
        steps.append(SignedIn(Secret(cookie), standing.remaining, standing.idle))
    if data_of(avps, Code.REALM_WANTED) is not None:
        steps.append(Pending(RealmAsked(())))
    if realms := _names(avps, Code.REALM_OFFER, "realm name"):
        steps.append(Pending(RealmAsked(realms)))
    if regions := _names(avps, Code.REGION_OFFER, "region name"):
        steps.append(Pending(RegionAsked(regions)))
    if sessions := _all_of(avps, Code.SESSION):
        steps.append(Pending(SessionAsked(tuple(map(_session, sessions)))))
    return steps


def _inner_steps(avps: Sequence[Avp], standing: Standing) -> list[Step]:
    found = [pair.data for pair in avps if not pair.vendor and pair.code == EAP_MESSAGE]
    return [_inner_step(decode_eap(data), standing) for data in found]


def _inner_step(packet: EapPacket, standing: Standing) -> Step:
    if packet.code != EapCode.REQUEST:
        raise PeerError(f"an inner EAP packet of code {packet.code} from a gateway")
    username = standing.prompts not in _ONLY_PASSWORD
    if packet.kind == EapType.GTC:
        text = shown_lines(packet.data, MAX_TOKEN_TEXT)
        return Pending(
            TokenAsked(text, username, standing.user_label, standing.password_label), packet.identifier
        )
    if packet.kind != EapType.EXPANDED or packet.vendor != EAP_VENDOR:
        raise UnsupportedError(f"the gateway wants to sign in by EAP type {packet.kind}, which is not built")
    match packet.vendor_kind:
        case EapKind.PASSWORD:
            return _password_step(packet, username, standing)
        case EapKind.HOST_CHECK:
            raise UnsupportedError("the gateway wants a host check (EAP type a4c/3), which is not built")
        case EapKind.FIXED_PASSWORD:
            raise UnsupportedError(
                "the gateway wants a password of fixed size (EAP type a4c/5), which is not built"
            )
    raise UnsupportedError(
        f"the gateway wants to sign in by EAP type a4c/{packet.vendor_kind:x}, which is not built"
    )


def _password_step(packet: EapPacket, username: bool, standing: Standing) -> Step:
    match list(packet.data):
        case [PasswordCode.ASK | PasswordCode.RETRY as code]:
            question = CredentialsAsked(
                username=username,
                password=standing.prompts != _ONLY_USER_NAME,
                retry=code == PasswordCode.RETRY,
                secondary=standing.secondary,
                user_label=standing.user_label,
                password_label=standing.password_label,
            )
            return Pending(question, packet.identifier)
        case [PasswordCode.CHANGE]:
            return Pending(NewPasswordAsked(), packet.identifier)
        case [PasswordCode.REFUSE, 1, length, *text] if text and length == len(text) + 2:
            return SignInRefused(shown_lines(bytes(text), MAX_REFUSAL))
    raise PeerError("a password request of unknown form")


def _session(group: bytes) -> SessionOffer:
    avps = decode_avps(group)
    name = data_of(avps, Code.SESSION_ID)
    address = data_of(avps, Code.SESSION_ADDRESS)
    start = data_of(avps, Code.SESSION_START)
    if not name or address is None or start is None or len(start) != 8:
        raise PeerError("a session to choose from lacks id, address or start")
    started = int.from_bytes(start)
    if not 0 < started <= LATEST_START:
        raise PeerError("a session to choose from began at no time")
    return SessionOffer(
        exact_text(name, MAX_SESSION_TEXT, "session id"), shown_text(address, MAX_SESSION_TEXT), started
    )


def _names(avps: Sequence[Avp], code: Code, what: str) -> tuple[str, ...]:
    """The texts, which are compared and sent back: exact, none empty, none twice."""
    names = tuple(exact_text(data, MAX_REALM, what) for data in _all_of(avps, code))
    if "" in names or len(set(names)) < len(names):
        raise PeerError(f"a {what} that is empty, or there twice")
    return names


def _all_of(avps: Sequence[Avp], code: Code) -> list[bytes]:
    return [pair.data for pair in avps if pair.vendor == AVP_VENDOR and pair.code == code]


def _number(avps: Sequence[Avp], code: Code, otherwise: int | None) -> int | None:
    if (data := data_of(avps, code)) is None:
        return otherwise
    if len(data) != 4:
        raise PeerError(f"AVP {code:#x} has {len(data)} bytes instead of 4")
    return int.from_bytes(data)


# Answers


def realm_answer(question: RealmAsked, name: str) -> list[Avp]:
    return [avp(Code.REALM, _choice(question.choices, name, MAX_REALM, "realm"))]


def region_answer(question: RegionAsked, name: str) -> list[Avp]:
    return [avp(Code.REGION, _choice(question.choices, name, MAX_REALM, "region"))]


def session_answer(question: SessionAsked, name: str) -> list[Avp]:
    ids = tuple(option.id for option in question.options)
    return [avp(Code.SESSION_CHOICE, _choice(ids, name, MAX_SESSION_TEXT, "session"))]


def notice_answer() -> list[Avp]:
    return [avp(Code.NOTICE_ACCEPTED, struct.pack("!I", 1))]


def credentials_answer(
    question: CredentialsAsked, inner_id: int, username: str | None, password: Secret
) -> list[Avp]:
    data = b"\2" + _tagged(2, password if question.password else Secret(b""))
    return [*_user_name(question.username, username), _password_response(inner_id, data)]


def new_password_answer(inner_id: int, old: Secret, new: Secret) -> list[Avp]:
    return [_password_response(inner_id, b"\2" + _tagged(2, old) + _tagged(3, new))]


def token_answer(question: TokenAsked, inner_id: int, username: str | None, code: Secret) -> list[Avp]:
    data = _typed_secret(code, MAX_CODE, "code")
    packet = EapPacket(EapCode.RESPONSE, inner_id, EapType.GTC, data)
    return [*_user_name(question.username, username), eap_message(packet)]


def _choice(choices: tuple[str, ...], name: str, most: int, what: str) -> bytes:
    if choices and name not in choices:
        raise AnswerError(f"This {what} is not among those offered.")
    return _typed(name, most, what)


def _user_name(wanted: bool, name: str | None) -> list[Avp]:
    if not wanted:
        return []
    if name is None:
        raise AnswerError("A user name is wanted too.")
    return [avp(Code.USER_NAME, _typed(name, MAX_USER_NAME, "user name"))]


def _typed(text: str, most: int, what: str) -> bytes:
    try:
        data = text.encode()
        exact_text(data, most, what)
    except (PeerError, UnicodeEncodeError):
        raise AnswerError(
            f"This {what} is longer than {most} bytes or holds characters that cannot be seen."
        ) from None
    return data


def _typed_secret(secret: Secret, most: int, what: str) -> bytes:
    data = secret.reveal()
    if len(data) > most:
        raise AnswerError(f"This {what} is longer than the {most} bytes that can be sent.")
    try:
        valid = "\0" not in data.decode()
    except UnicodeDecodeError:
        valid = False
    if not valid:  # raised outside the handler: a UnicodeDecodeError carries the bytes
        raise AnswerError(f"This {what} holds characters that cannot be sent.")
    return data


def _tagged(tag: int, password: Secret) -> bytes:
    data = _typed_secret(password, MAX_PASSWORD, "password")
    return bytes([tag, len(data) + 2]) + data


def _password_response(inner_id: int, data: bytes) -> Avp:
    return eap_message(
        EapPacket(EapCode.RESPONSE, inner_id, EapType.EXPANDED, data, EAP_VENDOR, EapKind.PASSWORD)
    )
