"""AVPs: refused, or read so that writing and reading again gives the same."""

from lockgate.protocol.avp import MAX_AVPS, decode_avps, encode_avps
from lockgate.protocol.errors import PeerError
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    try:
        avps = decode_avps(data)
    except PeerError:
        return
    assert len(avps) <= MAX_AVPS
    assert sum(len(avp.data) for avp in avps) <= len(data)
    assert decode_avps(encode_avps(avps)) == avps


if __name__ == "__main__":
    harness.main("avp")
