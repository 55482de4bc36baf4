"""The answer of a proxy: how it is cut changes nothing, and little is held."""

from lockgate.protocol.errors import PeerError
from lockgate.protocol.http_connect import MAX_REASON, Answer, AnswerReader, Refused
from tests.fuzz import harness


def read(data: bytes, step: int) -> Answer | None:
    """The result for an answer fed `step` bytes at a time; PeerError as the reader has it."""
    reader = AnswerReader()
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader.result


def outcome(data: bytes, step: int) -> Answer | str | None:
    try:
        return read(data, step)
    except PeerError as error:
        return str(error)


def one_input(data: bytes) -> None:
    """First byte: size of the pieces; then the answer."""
    step, answer = (data[0] if data else 0) + 1, data[1:]
    result = outcome(answer, step)
    assert result == outcome(answer, len(answer) + 1)
    if isinstance(result, Refused):
        assert result.status == 101 or 300 <= result.status < 600
        assert result.status != 407
        assert len(result.reason) <= MAX_REASON


if __name__ == "__main__":
    harness.main("http_connect")
