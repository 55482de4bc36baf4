import pytest

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import MAX_FRAME, Frame, FrameReader, encode_frame

# Version request of the real client, with the sequence number set to 0x1f5.
WIRE = bytes.fromhex("00005597 00000001 00000014 000001f5 00010202")
FRAME = Frame(0x5597, 1, bytes.fromhex("00010202"))


def test_a_frame_as_on_the_wire() -> None:
    assert encode_frame(FRAME, 0x1F5) == WIRE
    reader = FrameReader()
    reader.feed(WIRE)
    received = reader.next_frame()
    assert received is not None
    assert received.frame == FRAME
    assert received.sequence == 0x1F5
    assert reader.next_frame() is None


def test_the_reserved_byte_of_the_vendor_is_ignored() -> None:
    reader = FrameReader()
    reader.feed(b"\xff" + WIRE[1:])
    received = reader.next_frame()
    assert received is not None
    assert received.frame.vendor == 0x5597


@pytest.mark.parametrize("length", [0, 15, MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_wrong_length_is_refused_before_the_body_comes(length: int) -> None:
    reader = FrameReader()
    reader.feed(WIRE[:8] + length.to_bytes(4, "big") + WIRE[12:16])
    with pytest.raises(PeerError):
        reader.next_frame()


def test_a_frame_that_fits_no_tls_record_is_not_sent() -> None:
    assert len(encode_frame(Frame(0xA4C, 4, bytes(MAX_FRAME - 16)), 0)) == MAX_FRAME
    with pytest.raises(UsageError):
        encode_frame(Frame(0xA4C, 4, bytes(MAX_FRAME - 15)), 0)


def test_sequence_numbers_wrap() -> None:
    assert encode_frame(FRAME, 2**32)[12:16] == bytes(4)


def test_the_repr_of_a_frame_does_not_show_its_body() -> None:
    assert "canary" not in repr(Frame(0xA4C, 1, b"canary"))
