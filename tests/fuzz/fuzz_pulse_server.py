"""A whole conversation: frames of a client and commands of the gateway in any order.

The input is a script of steps: one byte that names it, two bytes of length, data. Besides raw frames
there are steps that put the data where only a well-formed packet brings it, with the identifiers the
conversation expects.
"""

from collections.abc import Callable, Iterator

from lockgate.protocol.avp import Avp, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import HEADER, MAX_FRAME, VENDOR_TCG, Frame
from lockgate.protocol.pulse.codes import AUTH_TYPE, AVP_VENDOR, EAP_MESSAGE, EAP_VENDOR, Code
from lockgate.protocol.pulse.questions import SessionOffer
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.secret import Secret
from tests.fuzz import harness
from tests.transcripts.configurations import CONFIGURATIONS

FRAMES = [
    *((0x5597, kind) for kind in (1, 6, 2, 3, 5, 7)),
    *((0xA4C, kind) for kind in (0x88, 0x01, 0x04, 0x05, 0x89, 0x8F, 0x93, 0x96)),
    (0xFF000A4C, 0x89),
    (0, 0),
]
COMMANDS: list[Callable[[ServerConversation], None]] = [
    lambda c: c.ask_realm(["Users", "Admins"]),
    lambda c: c.ask_realm_name(),
    lambda c: c.ask_credentials(),
    lambda c: c.ask_credentials(retry=True, secondary=True, user_label="u", password_label="p"),
    lambda c: c.ask_credentials(username=False),
    lambda c: c.ask_new_password(),
    lambda c: c.ask_token("Code"),
    lambda c: c.ask_token("Code", username=True),
    lambda c: c.ask_session([SessionOffer("1", "192.0.2.1", 1), SessionOffer("2", "192.0.2.2", 2)]),
    lambda c: c.notify("Welcome"),
    lambda c: c.refuse("no"),
    lambda c: c.fail(0x0D),
    lambda c: c.signed_in(Secret(b"00c0ffee"), 3600, 600),
    lambda c: c.configure(CONFIGURATIONS["both families"]),
    lambda c: c.offer_esp(256, Secret(bytes(64))),
    lambda c: c.end_configuration(),
    lambda c: c.nudge_esp(),
    lambda c: c.fatal(8, "timed out"),
    lambda c: c.tell_remaining(7200),
    lambda c: c.tell_split_networks(CONFIGURATIONS["both families"].include, ()),
]
AVPS, WITH_NAME_AND_PASSWORD, WITH_TOKEN, ANSWER = 0x40, 0x41, 0x42, 0x43  # steps beyond raw frames
COMMAND = 0x80  # and above: a command, by its place in COMMANDS
ANSWERS = list(Code)


def steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + 3])
        yield data[at], data[at + 3 : at + 3 + length]
        at += 3 + length


def step(name: int, data: bytes = b"") -> bytes:
    """The bytes of one step."""
    return bytes([name]) + len(data).to_bytes(2) + data


def response(identifier: int, avps: bytes) -> Frame:
    packet = EapPacket(EapCode.RESPONSE, identifier, EapType.EXPANDED, avps, EAP_VENDOR, 1)
    return Frame(VENDOR_TCG, 6, AUTH_TYPE + encode_eap(packet))


def frame(name: int, data: bytes, outer: int, inner: int) -> Frame:
    """The frame of a step, given the identifiers of the last requests."""
    if name == AVPS:
        return response(outer, data)
    if name == WITH_NAME_AND_PASSWORD:
        packet = EapPacket(EapCode.RESPONSE, inner, EapType.EXPANDED, data, EAP_VENDOR, 2)
        avps = [Avp(Code.USER_NAME, b"alice", AVP_VENDOR), Avp(EAP_MESSAGE, encode_eap(packet))]
        return response(outer, encode_avps(avps))
    if name == WITH_TOKEN:
        packet = EapPacket(EapCode.RESPONSE, inner, EapType.GTC, data)
        return response(outer, encode_avps([Avp(EAP_MESSAGE, encode_eap(packet))]))
    if name == ANSWER:
        code = ANSWERS[data[0] % len(ANSWERS)] if data else Code.REALM
        return response(outer, encode_avps([Avp(code, data[1:], AVP_VENDOR)]))
    return Frame(*FRAMES[name % len(FRAMES)], data)


def one_input(data: bytes) -> None:
    """First byte: whether the conversation is taken up in the tunnel."""
    conversation = ServerConversation.in_tunnel() if data[:1] == b"\1" else ServerConversation()
    outer = inner = 1
    for name, content in steps(data[1:]):
        before = conversation.state
        try:
            if name >= COMMAND:
                COMMANDS[(name - COMMAND) % len(COMMANDS)](conversation)
            else:
                sent = frame(name, content[: MAX_FRAME - 100], outer, inner)
                for event in conversation.receive(sent):
                    repr(event)
        except UsageError:
            assert name >= COMMAND
            assert conversation.state == before
            continue
        except PeerError:
            return
        for produced in conversation.take_frames():
            assert HEADER + len(produced.body) <= MAX_FRAME
            if produced.vendor == VENDOR_TCG and produced.kind == 5 and len(produced.body) > 4:
                packet = decode_eap(produced.body[4:])
                outer = packet.identifier
                if packet.data[:4] == EAP_MESSAGE.to_bytes(4):
                    inner = packet.data[9]
        if conversation.ended:
            assert conversation.receive(Frame(0, 0, b"")) == []


if __name__ == "__main__":
    harness.main("pulse_server")
