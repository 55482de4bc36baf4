"""A `.pulsepreconfig` file: a document, which is written and read to the same again, or a line and a reason."""

from lockgate.protocol.preconfig import PreconfigError, parse, read, serialize
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    complaint: PreconfigError | None = None
    try:
        document = read(data)
    except PreconfigError as error:
        complaint = error
    if complaint is not None:
        assert 1 <= complaint.line <= data.count(b"\n") + 1
        assert complaint.reason
        return
    assert parse(serialize(document)) == document


if __name__ == "__main__":
    harness.main("preconfig")
