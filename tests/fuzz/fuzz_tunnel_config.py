"""Configuration and ESP keys messages, as a client and as the server read them."""

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.config import decode_config, encode_config
from lockgate.protocol.pulse.esp_keys import decode_answer, decode_offer, encode_offer
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    for decode in (decode_answer, decode_offer):
        try:
            keys = decode(data)
        except PeerError:
            continue
        assert decode_offer(encode_offer(keys)) == keys
    try:
        config = decode_config(data)
    except PeerError:
        return
    try:
        again = encode_config(config)
    except UsageError:
        return  # larger than we would ever say it
    assert decode_config(again) == config


if __name__ == "__main__":
    harness.main("tunnel_config")
