import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.protocol.errors import UsageError
from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url
from lockgate.protocol.launch_url import (
    LaunchUrl,
    format_launch_url,
    handle_text,
    parse_handle,
    parse_launch_url,
)
from lockgate.protocol.secret import Secret

HANDLE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
BASE = "pulsesecureclient://connect?name=Office&server=gw.example.org"

shown = st.characters(exclude_categories=["C", "Zl", "Zp"])
texts = st.text(shown, min_size=1, max_size=64).filter(lambda text: text == text.strip())
servers = st.sampled_from(
    ["gw.example.org", "https://gw.example.org:8443/staff/", "192.0.2.1", "[2001:db8::1]:8443", "gw/a%20b"]
).map(parse_gateway_url)


def test_the_link_of_the_guide() -> None:
    link = parse_launch_url(
        "pulsesecureclient://connect?name=Test Connection&server=https://pcssamlpcs.psecure.net/"
        "&userrealm=Users&username=test_user&store=true"
    )
    server = GatewayUrl("pcssamlpcs.psecure.net")
    assert link == LaunchUrl("Test Connection", server, "Users", "test_user", True)


def test_the_link_of_the_portal() -> None:
    link = LaunchUrl("Büro & Co", parse_gateway_url("gw:8443/staff/"), handle=Secret(bytes(range(32))))
    text = format_launch_url(link)
    assert text == (
        "pulsesecureclient://connect?name=B%C3%BCro%20%26%20Co&server=https://gw:8443/staff/&handle=" + HANDLE
    )
    assert parse_launch_url(text) == link
    assert HANDLE not in repr(link)


@given(texts, servers, texts | st.just(""), texts | st.just(""), st.none() | st.booleans())
def test_reading_undoes_writing(
    name: str, server: GatewayUrl, realm: str, user: str, store: bool | None
) -> None:
    link = LaunchUrl(name, server, realm, user, store)
    assert parse_launch_url(format_launch_url(link)) == link


@given(st.binary(min_size=32, max_size=32))
def test_a_handle_has_one_spelling(value: bytes) -> None:
    text = handle_text(Secret(value))
    assert parse_handle(text) == Secret(value)
    for last in string.ascii_letters + string.digits + "-_":
        try:
            again = parse_handle(text[:-1] + last)
        except ValueError:
            continue  # the last character has two bits that no byte has: of four spellings one is right
        assert (again == Secret(value)) == (last == text[-1])


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_a_link_or_refused_with_a_sentence(text: str, prefix: bool) -> None:
    link = BASE + text if prefix else text
    complaint = "."
    try:
        found = parse_launch_url(link)
    except ValueError as error:
        complaint = f"{type(error).__name__}: {error}"
    else:
        assert parse_launch_url(format_launch_url(found)) == found
    assert complaint == "." or (complaint.startswith("ValueError: ") and complaint.endswith("."))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://connect?name=Office&server=gw",
        "pulsesecureclient:connect?name=Office&server=gw",
        "pulsesecureclient://disconnect?name=Office&server=gw",
        "pulsesecureclient://connect/../disconnect?name=Office&server=gw",
        "pulsesecureclient://connect",
        "pulsesecureclient://connect?name=Office",
        "pulsesecureclient://connect?server=gw",
        BASE + "&",
        BASE + "&store",
        BASE + "&store=",
        BASE + "&store=yes",
        BASE + "&name=Other",
        BASE + "&Name=Other",
        BASE + "&password=x",
        BASE + "&userrealm=%",
        BASE + "&userrealm=%4",
        BASE + "&userrealm=%zz",
        BASE + "&userrealm=%00",
        BASE + "&userrealm=%0a",
        BASE + "&userrealm=%ff",
        BASE + "&userrealm=a%E2%80%AEb",
        BASE + "&userrealm=\u202e",
        BASE + "&userrealm=a\tb",
        BASE + '&userrealm="x"',
        BASE + "&userrealm=" + "a" * 65,
        BASE + "&username=" + "a" * 257,
        BASE + "&userrealm=x#fragment",
        BASE + "&handle=" + HANDLE[:-1],
        BASE + "&handle=" + HANDLE + "=",
        BASE + "&handle=" + HANDLE[:-1] + "9",
        BASE + "&handle=" + HANDLE.replace("A", "+"),
        BASE + "&username=alice&handle=" + HANDLE,
        BASE + "&store=true&handle=" + HANDLE,
        "pulsesecureclient://connect?name=Office&server=http://gw/",
        "pulsesecureclient://connect?name=Office&server=https://user:secret@gw/",
        "pulsesecureclient://connect?name=Office&server=-oProxyCommand=x",
        "pulsesecureclient://connect?name=Office&server=gw%2F..%2Fadmin",
        "pulsesecureclient://connect?name=Office&server=gw%3Fx",
        "pulsesecureclient://connect?name=%20&server=gw",
        BASE + "&username=" + "a" * 5000,
    ],
)
def test_what_is_not_exactly_a_link_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        parse_launch_url(text)
    assert "secret" not in str(caught.value)


def test_a_link_that_could_not_be_read_is_not_written() -> None:
    for wrong in (
        LaunchUrl("", GatewayUrl("gw")),
        LaunchUrl("a\nb", GatewayUrl("gw")),
        LaunchUrl("a" * 65, GatewayUrl("gw")),
        LaunchUrl("a", GatewayUrl("gw"), user="u", handle=Secret(bytes(32))),
        LaunchUrl("a", GatewayUrl("gw"), handle=Secret(bytes(16))),
    ):
        with pytest.raises(UsageError):
            format_launch_url(wrong)
