import pytest

from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("gw", GatewayUrl("gw")),
        ("  gw.Example.ORG.\n", GatewayUrl("gw.example.org")),
        ("gw:8443", GatewayUrl("gw", 8443)),
        ("gw:00443", GatewayUrl("gw", 443)),
        ("gw/users", GatewayUrl("gw", path="/users")),
        ("https://gw", GatewayUrl("gw")),
        ("HTTPS://GW:443/Users/", GatewayUrl("gw", path="/Users/")),
        ("https://gw_1.test:1/a/b;c=d", GatewayUrl("gw_1.test", 1, "/a/b;c=d")),
        ("192.0.2.1", GatewayUrl("192.0.2.1", is_address=True)),
        ("https://192.0.2.1:65535/x", GatewayUrl("192.0.2.1", 65535, "/x", True)),
        ("[2001:DB8:0::1]", GatewayUrl("2001:db8::1", is_address=True)),
        ("https://[::1]:8443/x", GatewayUrl("::1", 8443, "/x", True)),
        ("bücher.example", GatewayUrl("xn--bcher-kva.example")),
        ("БЮРО.example", GatewayUrl("xn--90a0af9c.example")),
        ("xn--bcher-kva.example", GatewayUrl("xn--bcher-kva.example")),
        ("gw/büro", GatewayUrl("gw", path="/b%C3%BCro")),
        ("gw/b%c3%bcro%7e%41", GatewayUrl("gw", path="/b%C3%BCro~A")),
        ("gw/[x]", GatewayUrl("gw", path="/%5Bx%5D")),
        ("3com.example", GatewayUrl("3com.example")),
        ("https.example", GatewayUrl("https.example")),
    ],
)
def test_what_people_type(typed: str, url: GatewayUrl) -> None:
    assert parse_gateway_url(typed) == url
    assert parse_gateway_url(str(url)) == url


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "missing"),
        ("   ", "missing"),
        ("https://", "missing"),
        ("/users", "missing"),
        ("//gw", "missing"),
        (":443", "missing"),
        ("http://gw", "by https"),
        ("javascript://gw", "by https"),
        ("pulsesecure://gw", "by https"),
        ("https:/gw", "port"),
        ("https:gw", "port"),
        ("gw:", "port"),
        ("gw:0", "port"),
        ("gw:65536", "port"),
        ("gw:99999999", "port"),
        ("gw:+443", "port"),
        ("gw:٤٤٣", "port"),
        ("gw:8443x", "port"),
        ("[::1]:x", "port"),
        ("alice@gw", "user name"),
        ("https://alice:secret@gw", "user name"),
        ("https://gw:443@elsewhere", "user name"),
        ("gw?x=1", "'\\?'"),
        ("gw/#x", "'#'"),
        ("gw\\@elsewhere", "backslashes"),
        ("g w", "blanks"),
        ("gw\r\nHost: x", "blanks"),
        ("gw\0", "invisible"),
        ("g\N{ZERO WIDTH JOINER}w", "invisible"),
        ("g\N{SOFT HYPHEN}w", "invisible"),
        ("g\N{NO-BREAK SPACE}w", "invisible"),
        ("\udc80gw", "invisible"),
        ("::1", "brackets"),
        ("2001:db8::1", "brackets"),
        ("[::1", "brackets"),
        ("[::1]8443", "brackets"),
        ("[gw]", "brackets"),
        ("[fe80::1%eth0]", "IPv6"),
        ("[::12345]", "IPv6"),
        ("127.1", "IPv4"),
        ("2130706433", "IPv4"),
        ("0x7f000001", "IPv4"),
        ("0x7f.0.0.0x1", "IPv4"),
        ("192.0.2.256", "IPv4"),
        ("192.0.02.1", "IPv4"),
        ("gw.123", "IPv4"),
        ("%67w", "name of a host"),
        ("gw%2eexample", "name of a host"),
        ("-gw", "name of a host"),
        ("gw-", "name of a host"),
        ("gw..example", "name of a host"),
        (".gw", "name of a host"),
        ("gw!", "name of a host"),
        ("gw\N{FULLWIDTH SOLIDUS}x", "name of a host"),
        ("\N{ACCOUNT OF}.example", "name of a host"),  # becomes a/c
        ("\N{FULLWIDTH PERCENT SIGN}41", "name of a host"),
        ("x" * 64, "name of a host"),
        ("x." * 130 + "test", "name of a host"),
        ("ü." * 130 + "test", "name of a host"),
        ("ü" * 64, "name of a host"),
        ("straße.example", "xn--"),
        ("gw/../x", "path"),
        ("gw/%2e%2e/x", "path"),
        ("gw//x", "path"),
        ("gw/%", "path"),
        ("gw/%zz", "path"),
        ("gw/%%34B", "path"),
        ("gw/%00", "hides"),
        ("gw/%0d%0a", "hides"),
        ("gw/a%2fb", "hides"),
        ("gw/%2541", "hides"),
        ("x" * 3000, "2048"),
    ],
)
def test_what_has_no_meaning_or_two(typed: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_gateway_url(typed)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        (GatewayUrl("gw"), "gw"),
        (GatewayUrl("gw", 8443), "gw:8443"),
        (GatewayUrl("::1", is_address=True), "[::1]"),
        (GatewayUrl("::1", 8443, is_address=True), "[::1]:8443"),
    ],
)
def test_the_host_header(url: GatewayUrl, authority: str) -> None:
    assert url.authority == authority
