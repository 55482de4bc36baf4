"""The configuration file: a tree, or messages with a place each, whatever the bytes."""

from lockgate.server.config.seed.load import check_bytes
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    checked = check_bytes(data, "config.toml")
    assert (checked.configuration is None) == bool(checked.errors)
    for message in (*checked.errors, *checked.warnings):
        text = str(message)
        assert text.startswith("config.toml")
        assert text.isprintable()
        assert message.line is None or 1 <= message.line <= data.count(b"\n") + 1


if __name__ == "__main__":
    harness.main("config")
