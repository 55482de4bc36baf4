"""What all conversations without I/O have: messages that wait to be sent, and a count of those passed over."""

from lockgate.protocol.if_t import Frame


class Conversation:
    """Commands and answers queue frames; whoever does the I/O takes them."""

    def __init__(self) -> None:
        self._out: list[Frame] = []
        self._ignored = 0

    @property
    def ignored(self) -> int:
        """Frames passed over because their kind is unknown or not for us."""
        return self._ignored

    def take_frames(self) -> list[Frame]:
        """Frames to send, in order, each in one TLS record of its own; they are handed out once."""
        frames, self._out = self._out, []
        return frames
