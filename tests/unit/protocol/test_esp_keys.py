import pytest

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.esp_keys import EspKeys, decode_answer, decode_offer, encode_answer, encode_offer
from lockgate.protocol.secret import Secret

SERVER = EspKeys(0xA137DA13, Secret(bytes(range(64))))
CLIENT = EspKeys(0xA1729FD6, Secret(bytes(range(64, 128))))


def test_the_little_endian_spi_and_the_lengths() -> None:
    offer = encode_offer(SERVER)
    assert (
        offer.hex()
        == (
            "00" * 16
            + "2120240000000000000000700000005401000000"
            + "13da37a1"
            + "0040"
            + bytes(range(64)).hex()
        )
        + "00" * 6
    )
    answer = encode_answer(CLIENT, SERVER)
    assert answer[:0x2A].hex() == "00" * 16 + "2120240000000000000000b00000009401000000" + "d69f72a1" + "0040"
    assert len(answer) == 0xC0 - 16


def test_both_ways() -> None:
    assert decode_offer(encode_offer(SERVER)) == SERVER
    assert decode_answer(encode_answer(CLIENT, SERVER)) == CLIENT


def test_a_short_secret_is_filled_with_zeros() -> None:
    short = decode_offer(encode_offer(EspKeys(256, Secret(b"x" * 36))))
    assert short.secret.reveal() == b"x" * 36 + bytes(28)


@pytest.mark.parametrize("at", [0x00, 0x10, 0x14, 0x1B, 0x1F, 0x20, 0x28, 0x29, 0x6F])
def test_a_byte_off_is_refused(at: int) -> None:
    answer = bytearray(encode_answer(CLIENT, SERVER))
    answer[at] ^= 0x20
    with pytest.raises(PeerError):
        decode_answer(bytes(answer))


def test_an_answer_is_not_an_offer() -> None:
    with pytest.raises(PeerError):
        decode_answer(encode_offer(SERVER))
    with pytest.raises(PeerError):
        decode_offer(encode_answer(CLIENT, SERVER))


def test_spi_zero_is_refused_both_ways() -> None:
    with pytest.raises(UsageError):
        encode_offer(EspKeys(0, SERVER.secret))
    answer = bytearray(encode_answer(CLIENT, SERVER))
    answer[0x24:0x28] = bytes(4)
    with pytest.raises(PeerError):
        decode_answer(bytes(answer))


def test_a_secret_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(UsageError):
        encode_offer(EspKeys(256, Secret(bytes(65))))
