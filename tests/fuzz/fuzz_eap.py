"""EAP packets: refused, or read and written back to the same bytes."""

from lockgate.protocol.eap import decode_eap, encode_eap
from lockgate.protocol.errors import PeerError
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    try:
        packet = decode_eap(data)
    except PeerError:
        return
    assert encode_eap(packet) == data
    assert len(packet.data) <= len(data)


if __name__ == "__main__":
    harness.main("eap")
