"""A launch link: its values, which say the same again, or a sentence without any of them."""

from lockgate.protocol.launch_url import format_launch_url, parse_launch_url
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    complaint = ""
    try:
        link = parse_launch_url(text)
    except ValueError as error:
        complaint = f"{type(error).__name__} {error}"
    if complaint:
        assert complaint.startswith("ValueError ")
        assert complaint.endswith(".")
        return
    again = format_launch_url(link)
    assert parse_launch_url(again) == link
    assert again.isascii()
    assert again.isprintable()
    assert " " not in again
    for value in (link.name, link.user, link.realm):
        assert not set(value) & set("\r\n\0\x1b")


if __name__ == "__main__":
    harness.main("launch_url")
