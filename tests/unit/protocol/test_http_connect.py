import pytest

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.http_connect import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_LINE,
    Answer,
    AnswerReader,
    Connected,
    ConnectRequest,
    NeedsCredentials,
    Refused,
)
from lockgate.protocol.secret import Secret


def read(*pieces: bytes) -> Answer | None:
    reader = AnswerReader()
    for piece in pieces:
        reader.feed(piece)
    return reader.result


@pytest.mark.parametrize(
    ("request_", "wire"),
    [
        (ConnectRequest("gw.test", 443), b"CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test:443\r\n\r\n"),
        (
            ConnectRequest("192.0.2.1", 8443),
            b"CONNECT 192.0.2.1:8443 HTTP/1.1\r\nHost: 192.0.2.1:8443\r\n\r\n",
        ),
        (
            ConnectRequest("2001:DB8::1", 443),
            b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
        ),
        (
            # RFC 7617, section 2
            ConnectRequest("gw.test", 443, Secret(b"Aladdin:open sesame")),
            b"CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test:443\r\n"
            b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
        ),
        (
            # RFC 7617, section 2.1
            ConnectRequest("gw.test", 443, Secret.of_text("test:123£")),
            b"CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test:443\r\n"
            b"Proxy-Authorization: Basic dGVzdDoxMjPCow==\r\n\r\n",
        ),
    ],
)
def test_requests(request_: ConnectRequest, wire: bytes) -> None:
    assert request_.encode() == wire


def test_long_credentials_stay_on_one_line() -> None:
    wire = ConnectRequest("gw", 1, Secret(b"u:" + b"x" * 1000)).encode()
    assert wire.count(b"\r\n") == wire.count(b"\n") == 4


@pytest.mark.parametrize(
    "host",
    [
        "",
        "gw test",
        "gw\r\nX: y",
        "gw\0",
        "gw/",
        "gw:443",
        "[::1]",
        "gw@",
        "fe80::1%eth0",
        "-gw",
        "bü",
        "1.2.3",
    ],
)
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(UsageError):
        ConnectRequest(host, 443).encode()


def test_parts_that_cannot_be_sent() -> None:
    for port in (0, 65536, -1):
        with pytest.raises(UsageError):
            ConnectRequest("gw", port).encode()
    for credentials in (b"canary", b"canary:a\r\nb", b"canary:\0", b"canary:" + b"x" * 1024):
        with pytest.raises(UsageError) as error:
            ConnectRequest("gw", 443, Secret(credentials)).encode()
        assert "canary" not in repr(error.value)
    assert "canary" not in repr(ConnectRequest("gw", 443, Secret(b"canary:x")))


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", Connected()),
        (b"HTTP/1.0 200 OK\r\nVia: 1.1 proxy\r\n\r\n", Connected()),
        (b"HTTP/1.1 204\r\n\r\n", Connected()),
        (b"HTTP/1.1 299 \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Connected()),
        (b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Connected()),
        (b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\n\r\nbody', NeedsCredentials(True)),
        (
            b"HTTP/1.1 407 No\r\nproxy-authenticate:NTLM\r\nPROXY-AUTHENTICATE: bAsIc\r\n\r\n",
            NeedsCredentials(True),
        ),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate, Basic realm=x\r\n\r\n", NeedsCredentials(True)),
        (
            b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="a, basic b"\r\n\r\n',
            NeedsCredentials(False),
        ),
        (b"HTTP/1.1 407 No\r\nWWW-Authenticate: Basic\r\n\r\n", NeedsCredentials(False)),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", Refused(403, "Forbidden")),
        (
            b"HTTP/1.1 502 a\tb\xff\r\n\r\n",
            Refused(502, "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
        ),
        (b"HTTP/1.1 503 " + b"x" * 500 + b"\r\n\r\n", Refused(503, "x" * 128)),
        (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\n\r\n", Refused(302, "Found")),
        (b"HTTP/1.1 101 Switching\r\n\r\n", Refused(101, "Switching")),
        (b"HTTP/1.1 200 OK\r\n", None),
        (b"", None),
    ],
)
def test_answers(answer: bytes, result: Answer | None) -> None:
    assert read(answer) == result
    assert read(*(answer[at : at + 1] for at in range(len(answer)))) == result


@pytest.mark.parametrize(
    "answer",
    [
        b"\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\n\r\n",
        b"HTTP/1.1 200 OK\rX\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rX-Y: z\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\0\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n",
        b"HTTP/1.1 200 OK\r\n: b\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 600 OK\r\n",
        b"HTTP/1.1 200OK\r\n",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/0.9 200 OK\r\n",
        b"http/1.1 200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1),
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_LINE,
        b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"x" * 8000 + b"\r\n") * 3,
        b"x" * (MAX_LINE + 1),
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 25 + 1),
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    with pytest.raises(PeerError):
        read(answer)
    with pytest.raises(PeerError):
        read(*(answer[at : at + 7] for at in range(0, len(answer), 7)))


def test_a_proxy_that_speaks_later_in_the_gateways_place() -> None:
    with pytest.raises(PeerError):
        read(b"HTTP/1.1 200 OK\r\n\r\n", b"x")
    assert read(b"HTTP/1.1 403 No\r\n\r\n", b"x" * 10**6) == Refused(403, "No")
