import pytest

from lockgate.protocol.avp import MAX_AVPS, Avp, decode_avps, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, decode_eap, encode_eap
from lockgate.protocol.errors import PeerError, UsageError

# The client's password answer of the first captured conversation, from its EAP header on.
ANSWER = bytes.fromhex(
    "02040040fe000a4c00000001"
    "00000d6d8000001100000583616c696365000000"
    "0000004f4000001d02020015fe000a4c00000002020208736563726574000000"
)


def test_a_captured_packet() -> None:
    packet = decode_eap(ANSWER)
    assert packet == EapPacket(EapCode.RESPONSE, 4, EapType.EXPANDED, ANSWER[12:], 0xA4C, 1)
    name, message = decode_avps(packet.data)
    assert name == Avp(0xD6D, b"alice", 0x583)
    assert (message.code, message.vendor, message.mandatory) == (79, 0, True)
    inner = decode_eap(message.data)
    assert inner == EapPacket(EapCode.RESPONSE, 2, EapType.EXPANDED, b"\x02\x02\x08secret", 0xA4C, 2)
    assert encode_avps([name, message]) == packet.data
    assert encode_eap(packet) == ANSWER
    assert "secret" not in repr([packet, inner, name, message])


def test_the_last_padding_may_be_missing() -> None:
    assert decode_avps(ANSWER[12:-3]) == decode_avps(ANSWER[12:])


@pytest.mark.parametrize(
    "data",
    [
        "00000d6d",  # no length
        "00000d6d00000007",  # shorter than its header
        "00000d6d8000000b00000583",  # shorter than its header with vendor
        "00000d6d80000008",  # vendor word flagged, not there
        "00000d6d8000000e00000583ff",  # one byte missing
        "00000d6d80ffffff00000583",  # giant
        "00000d6d0000000800",  # one byte left over
    ],
)
def test_avps_of_wrong_length(data: str) -> None:
    with pytest.raises(PeerError):
        decode_avps(bytes.fromhex(data))


def test_the_number_of_avps_is_limited() -> None:
    one = encode_avps([Avp(1, b"")])
    assert len(decode_avps(one * MAX_AVPS)) == MAX_AVPS
    with pytest.raises(PeerError):
        decode_avps(one * (MAX_AVPS + 1))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "020100",
        "02010004",  # a response without type
        "02010006016100",  # longer than declared
        "0201000801616161",  # as declared, then cut by one
        "00010004",  # code 0
        "05010004",  # code 5
        "0301000500",  # success with data
        "0201000bfe000a4c000000",  # expanded type cut short
    ],
)
def test_broken_eap(data: str) -> None:
    raw = bytes.fromhex(data)
    raw = raw[:-1] if data == "0201000801616161" else raw
    with pytest.raises(PeerError):
        decode_eap(raw)


def test_success_is_four_bytes() -> None:
    assert encode_eap(EapPacket(EapCode.SUCCESS, 6)) == bytes.fromhex("03060004")
    assert decode_eap(bytes.fromhex("03060004")) == EapPacket(EapCode.SUCCESS, 6)


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(UsageError):
        encode_eap(EapPacket(EapCode.REQUEST, 1, EapType.GTC, bytes(65536)))
    with pytest.raises(UsageError):
        encode_avps([Avp(1, bytes(1 << 24))])
