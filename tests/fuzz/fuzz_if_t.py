"""The stream of IF-T frames: how it is cut changes nothing, and what is read can be written."""

from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import FrameReader, Received, encode_frame
from tests.fuzz import harness


def read(data: bytes, step: int) -> tuple[list[Received], bool]:
    """The frames of the stream fed `step` bytes at a time, and whether it was refused in the end."""
    reader, frames = FrameReader(), []
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        try:
            while (received := reader.next_frame()) is not None:
                frames.append(received)
        except PeerError:
            return frames, True
    return frames, False


def one_input(data: bytes) -> None:
    """First byte: size of the pieces; then the stream."""
    step, stream = (data[0] if data else 0) + 1, data[1:]
    frames, refused = read(stream, step)
    assert (frames, refused) == read(stream, len(stream) + 1)
    written = b"".join(encode_frame(received.frame, received.sequence) for received in frames)
    again, _ = read(written, len(written) + 1)
    assert again == frames


if __name__ == "__main__":
    harness.main("if_t")
