"""The edge link: records, and messages in both directions."""

from lockgate.protocol import edge_link_codec
from lockgate.protocol.errors import PeerError
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    for decode in (edge_link_codec.decode_to_edge, edge_link_codec.decode_from_edge):
        try:
            message = decode(data)
        except PeerError:
            continue
        # Not the same bytes: MessagePack can say a number in several ways, we read them all.
        assert decode(edge_link_codec.encode(message)) == message
    reader = edge_link_codec.RecordReader()
    reader.feed(data)
    try:
        while (record := reader.next_record()) is not None:
            assert 0 < len(record) <= len(data)
    except PeerError:
        pass


if __name__ == "__main__":
    harness.main("edge_link")
