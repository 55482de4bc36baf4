"""A whole conversation of our client: frames of a gateway and commands of the client in any order.

The input is a script as in `fuzz_pulse_server`: one byte that names a step, two bytes of length, data.
Besides raw frames there are steps that put the data where only a well-formed packet brings it.
"""

from collections.abc import Callable

from lockgate.protocol.avp import Avp, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, encode_eap
from lockgate.protocol.errors import AnswerError, PeerError, UsageError
from lockgate.protocol.if_t import HEADER, MAX_FRAME, VENDOR_JUNIPER, VENDOR_TCG, Frame, JuniperKind
from lockgate.protocol.pulse import client_events as events
from lockgate.protocol.pulse.client import MAX_CHALLENGES, ClientConversation
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.codes import AUTH_TYPE, AVP_VENDOR, EAP_MESSAGE, EAP_VENDOR, Code
from lockgate.protocol.pulse.config_blocks import MAGIC
from lockgate.protocol.pulse.config_frame import wrap
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.secret import Secret
from tests.fuzz import harness
from tests.fuzz.fuzz_pulse_server import steps

FRAMES = [
    *((0x5597, kind) for kind in (2, 5, 7, 1, 3, 6)),
    *((0xA4C, kind) for kind in (0x01, 0x8F, 0x93, 0x96, 0x04, 0x05, 0x88, 0x89)),
    (0xFF000A4C, 0x93),
    (0, 0),
    (0xA4C, 0x4C01),
    (0xA4C, 0x4C02),
]
COMMANDS: list[Callable[[ClientConversation], object]] = [
    lambda c: c.start(),
    lambda c: c.answer_realm("Users"),
    lambda c: c.answer_region("North"),
    lambda c: c.answer_credentials("alice", Secret(b"secret")),
    lambda c: c.answer_credentials(None, Secret(b"")),
    lambda c: c.answer_new_password(Secret(b"old"), Secret(b"new")),
    lambda c: c.answer_token("alice", Secret(b"123456")),
    lambda c: c.answer_session("5e551001"),
    lambda c: c.accept_notice(),
    lambda c: c.answer_esp(EspKeys(256, Secret(bytes(64)))),
    lambda c: c.log_out(),
]
ANSWERS = {  # by question, for seeds
    events.RealmAsked: 1,
    events.RegionAsked: 2,
    events.CredentialsAsked: 3,
    events.NewPasswordAsked: 5,
    events.TokenAsked: 6,
    events.SessionAsked: 7,
    events.NoticeShown: 8,
    events.EspOffered: 9,
}
# Steps beyond raw frames: a packet of AVPs, an inner packet, one AVP, a configuration by its blocks.
AVPS, PASSWORD, TOKEN, ONE, CONFIG = 0x40, 0x41, 0x42, 0x43, 0x44
COMMAND = 0x80  # and above: a command, by its place in COMMANDS
CODES = list(Code)
MOST_FRAMES = 2
"""What one frame or command makes the client say: an answer for ESP keys and ncmo=1."""


def challenge(avps: bytes) -> Frame:
    packet = EapPacket(EapCode.REQUEST, 2, EapType.EXPANDED, avps, EAP_VENDOR, 1)
    return Frame(VENDOR_TCG, 5, AUTH_TYPE + encode_eap(packet))


def frame(name: int, data: bytes) -> Frame:
    """The frame of a step."""
    if name == AVPS:
        return challenge(data)
    if name == PASSWORD:
        kind, data = (data[0], data[1:]) if data else (2, b"")
        packet = EapPacket(EapCode.REQUEST, 3, EapType.EXPANDED, data, EAP_VENDOR, kind)
        return challenge(encode_avps([Avp(EAP_MESSAGE, encode_eap(packet), mandatory=True)]))
    if name == TOKEN:
        packet = EapPacket(EapCode.REQUEST, 3, EapType.GTC, data)
        return challenge(encode_avps([Avp(EAP_MESSAGE, encode_eap(packet), mandatory=True)]))
    if name == ONE:
        code = CODES[data[0] % len(CODES)] if data else Code.REALM_WANTED
        return challenge(encode_avps([Avp(code, data[1:], AVP_VENDOR)]))
    if name == CONFIG:
        return Frame(VENDOR_JUNIPER, JuniperKind.CONFIG, wrap(MAGIC, data))
    return Frame(*FRAMES[name % len(FRAMES)], data)


def introduction(data: bytes) -> ClientIntroduction:
    cookie = Secret(b"00c0ffee") if data[:1] == b"\1" else None
    return ClientIntroduction("laptop1", "10.99.0.2", "Lockgate/0 (Linux)", cookie=cookie)


def one_input(data: bytes) -> None:
    """First byte: 1 for a resumption, 2 for a conversation taken up in the tunnel."""
    if data[:1] == b"\2":
        conversation = ClientConversation.in_tunnel()
    else:
        conversation = ClientConversation(introduction(data))
    questions = 0
    for name, content in steps(data[1:]):
        before = conversation.state
        produced: list[events.ClientEvent] = []
        try:
            if name >= COMMAND:
                result = COMMANDS[(name - COMMAND) % len(COMMANDS)](conversation)
                produced = result if isinstance(result, list) else []
            else:
                produced = conversation.receive(frame(name, content[: MAX_FRAME - 100]))
        except (UsageError, AnswerError):
            assert name >= COMMAND
            assert conversation.state == before
            assert conversation.take_frames() == []
            continue
        except PeerError:
            assert name < COMMAND
            return
        for event in produced:
            assert len(repr(event)) < 10 * MAX_FRAME
            assert not isinstance(event, events.EndMoved) or 0 < event.remaining < 1 << 32
            questions += isinstance(event, tuple(ANSWERS)) and not isinstance(event, events.EspOffered)
        assert len(produced) <= 2
        assert questions <= 2 * MAX_CHALLENGES  # twice: a notice may come with each
        sent = conversation.take_frames()
        assert len(sent) <= MOST_FRAMES
        assert all(HEADER + len(one.body) <= MAX_FRAME for one in sent)
        if conversation.ended:
            assert conversation.receive(Frame(0, 0, b"")) == []


if __name__ == "__main__":
    harness.main("pulse_client")
