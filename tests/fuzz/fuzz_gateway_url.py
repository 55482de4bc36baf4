"""What a person types: a URL in canonical form, which says the same again, or a sentence."""

from urllib.parse import urlsplit

from lockgate.protocol.gateway_url import parse_gateway_url
from lockgate.protocol.http_connect import ConnectRequest
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    complaint = ""
    try:
        url = parse_gateway_url(text)
    except ValueError as error:
        complaint = f"{type(error).__name__} {error}"
    if complaint:
        assert complaint.startswith("ValueError ")  # none that a codec raised
        assert complaint.endswith(".")
        return
    assert parse_gateway_url(str(url)) == url
    seen = urlsplit(str(url))  # and another program sees the same in it
    assert (seen.scheme, seen.hostname, seen.port or 443) == ("https", url.host, url.port)
    assert (seen.path, seen.query, seen.fragment, seen.username) == (url.path, "", "", None)
    assert str(url).isascii()
    assert str(url).isprintable()
    request = ConnectRequest(url.host, url.port).encode()
    assert request.count(b"\r\n") == 3
    assert request.count(b"\n") == request.count(b"\r") == 3


if __name__ == "__main__":
    harness.main("gateway_url")
