"""Frames as the real client sends them, for tests that steer a conversation by hand."""

import struct

from lockgate.protocol.avp import Avp, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse import esp_keys
from lockgate.protocol.pulse.codes import AUTH_TYPE, AVP_VENDOR, EAP_MESSAGE, Code
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.secret import Secret

VERSION = Frame(0x5597, 1, bytes.fromhex("00010202"))
HOST_INFO = Frame(0xA4C, 0x88, b"clientHostName=laptop1 clientIp=10.99.0.2\n\0")
IDENTITY = Frame(
    0x5597, 6, AUTH_TYPE + encode_eap(EapPacket(EapCode.RESPONSE, 1, EapType.IDENTITY, b"anonymous"))
)
LOGOUT = Frame(0xA4C, 0x89, b"")
ESP_READY = Frame(0xA4C, 5, b"ncmo=1\n\0")
KEYS = esp_keys.EspKeys(0xC1C1C1C1, Secret(bytes(64)))
KEYS_ANSWER = Frame(0xA4C, 1, esp_keys.encode_answer(KEYS, KEYS))
COOKIE = Secret(b"00c0ffee00c0ffee00c0ffee00c0ffee")


def own(code: int, data: bytes) -> Avp:
    return Avp(code, data, AVP_VENDOR)


def inner(identifier: int, data: bytes, kind: int = EapType.EXPANDED) -> Avp:
    """An inner EAP response: a password answer, or with `kind` GTC a token code."""
    if kind == EapType.EXPANDED:
        packet = EapPacket(EapCode.RESPONSE, identifier, kind, data, 0xA4C, 2)
    else:
        packet = EapPacket(EapCode.RESPONSE, identifier, kind, data)
    return Avp(EAP_MESSAGE, encode_eap(packet), mandatory=True)


def password(text: bytes) -> bytes:
    return b"\x02\x02" + bytes([len(text) + 2]) + text


def response(identifier: int, *avps: Avp) -> Frame:
    packet = EapPacket(EapCode.RESPONSE, identifier, EapType.EXPANDED, encode_avps(avps), 0xA4C, 1)
    return Frame(0x5597, 6, AUTH_TYPE + encode_eap(packet))


def last_identifier(conversation: ServerConversation) -> int:
    """Identifier of the last request among the frames to send; takes them."""
    return decode_eap(conversation.take_frames()[-1].body[4:]).identifier


def introduced(*facts: Avp) -> ServerConversation:
    """A conversation in which the client has introduced itself; it waits for the first command."""
    conversation = ServerConversation()
    for frame in (VERSION, HOST_INFO, IDENTITY):
        assert conversation.receive(frame) == []
    [_] = conversation.receive(response(last_identifier(conversation), *facts))
    return conversation


def answer(conversation: ServerConversation, *avps: Avp) -> object:
    """The event for an answer to the question just asked."""
    [event] = conversation.receive(response(last_identifier(conversation), *avps))
    return event


def signed_in() -> ServerConversation:
    """A conversation that waits for the configuration of the tunnel."""
    conversation = introduced(own(Code.USER_AGENT, b"test"))
    conversation.signed_in(COOKIE, 3600, 600)
    answer(conversation)
    conversation.take_frames()
    return conversation


def number(value: int) -> bytes:
    return struct.pack("!I", value)
