import pytest

from lockgate.protocol.avp import Avp
from lockgate.protocol.eap import EapCode, EapPacket, EapType, encode_eap
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import MAX_FRAME, Frame
from lockgate.protocol.pulse.client_facts import MAX_CLIENT_INFO, MAX_COOKIE, MAX_USER_AGENT
from lockgate.protocol.pulse.codes import AUTH_TYPE, Code
from lockgate.protocol.pulse.events import (
    ClientReady,
    CredentialsGiven,
    EspKeysAnswered,
    EspReady,
    LoggedOut,
    NewPasswordGiven,
    RealmChosen,
    SessionChosen,
    TokenGiven,
)
from lockgate.protocol.pulse.questions import SessionOffer
from lockgate.protocol.pulse.server import MAX_SIGN_IN_FRAMES, ServerConversation
from lockgate.protocol.secret import Secret
from tests.transcripts.configurations import CONFIGURATIONS
from tests.unit.protocol.openconnect_frames import (
    COOKIE,
    ESP_READY,
    HOST_INFO,
    IDENTITY,
    KEYS,
    KEYS_ANSWER,
    LOGOUT,
    VERSION,
    answer,
    inner,
    introduced,
    last_identifier,
    number,
    own,
    password,
    response,
    signed_in,
)

NAME = own(Code.USER_NAME, b"alice")


# Introduction


@pytest.mark.parametrize(
    ("offer", "version"), [("00010202", 2), ("00010201", 2), ("00010101", 1), ("00020909", 2)]
)
def test_version_two_where_the_client_has_it(offer: str, version: int) -> None:
    conversation = ServerConversation()
    conversation.receive(Frame(0x5597, 1, bytes.fromhex(offer)))
    [frame] = conversation.take_frames()
    assert (frame.vendor, frame.kind, frame.body) == (0x5597, 2, number(version))
    assert conversation.take_frames() == []


@pytest.mark.parametrize("offer", ["", "000102", "0001020200", "00030404", "00020100"])
def test_versions_without_a_common_one(offer: str) -> None:
    with pytest.raises(PeerError):
        ServerConversation().receive(Frame(0x5597, 1, bytes.fromhex(offer)))


def test_the_reserved_byte_of_the_vendor_is_ignored() -> None:
    assert ServerConversation().receive(Frame(0xFF005597, 1, VERSION.body)) == []


def ready(host_info: bytes, *facts: Avp) -> ClientReady:
    conversation = ServerConversation()
    for frame in (VERSION, Frame(0xA4C, 0x88, host_info), IDENTITY):
        conversation.receive(frame)
    [event] = conversation.receive(response(last_identifier(conversation), *facts))
    assert isinstance(event, ClientReady)
    return event


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        (b"clientHostName=laptop1 clientIp=10.99.0.2\n\0", "laptop1", "10.99.0.2"),
        (b"clientHostName=laptop1 clientIp=2001:db8::2 clientCapabilities={}\n\0", "laptop1", "2001:db8::2"),
        (b"clientIp=10.99.0.2 clientHostName=a=b", "a=b", "10.99.0.2"),
        (b"clientHostName=first clientHostName=second", "first", ""),
        (b"clientHostName= clientIp=elsewhere", "", ""),
        (
            b"clientHostName=a\x1b[31mb\x7f\n\0",
            "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}",
            "",
        ),
        (b"clientHostName=\xff\n\0", "\N{REPLACEMENT CHARACTER}", ""),
        ("clientHostName=a\N{RIGHT-TO-LEFT OVERRIDE}b".encode(), "a\N{REPLACEMENT CHARACTER}b", ""),
        (b"clientHostName=" + b"x" * 300, "x" * 255, ""),
        (b"\0clientHostName=hidden", "", ""),
        (b"", "", ""),
    ],
)
def test_client_information_is_read_leniently(text: bytes, name: str, address: str) -> None:
    event = ready(text)
    assert (event.host_name, event.client_address) == (name, address)


def test_facts_of_other_clients() -> None:
    event = ready(
        HOST_INFO.body,
        own(Code.USER_AGENT, b"Lockgate/0.1 (Linux)\n" + b"x" * MAX_USER_AGENT),
        own(Code.SYSTEM, b"Linux"),
        own(Code.LOCALE, b"en-US"),
        own(Code.MAC_ADDRESS, b"\x02\0\0\0\0\x01"),
        own(0xD63, bytes(16)),
        Avp(0xD6D, b"another vendor's", 99),
    )
    assert event.user_agent.startswith("Lockgate/0.1 (Linux)\N{REPLACEMENT CHARACTER}x")
    assert len(event.user_agent) == MAX_USER_AGENT
    assert (event.system, event.locale, event.mac_address) == ("Linux", "en-US", b"\x02\0\0\0\0\x01")
    assert event.cookie is None


@pytest.mark.parametrize(
    ("given", "cookie"),
    [
        (b"xyz", b"xyz"),
        (b"DSID=xyz", b"xyz"),
        (b"DSID=xyz; DSFirst=1700000000; DSLast=1700000001", b"xyz"),
        (b"DSFirst=1700000000; DSID=xyz", b"xyz"),
        (b"xyz; DSFirst=1", b"xyz"),
        (b"xyz\0", b"xyz"),
        (b"DSFirst=1", b""),
        (b"", b""),
    ],
)
def test_forms_of_the_cookie(given: bytes, cookie: bytes) -> None:
    assert ready(HOST_INFO.body, own(Code.COOKIE, given)).cookie == Secret(cookie)


def test_limits_of_the_introduction() -> None:
    with pytest.raises(PeerError):
        ready(b"x" * (MAX_CLIENT_INFO + 1))
    with pytest.raises(PeerError):
        ready(b"", own(Code.COOKIE, b"x" * (MAX_COOKIE + 1)))
    with pytest.raises(PeerError):
        ready(b"", own(Code.COOKIE, b"x"), own(Code.COOKIE, b"y"))
    with pytest.raises(PeerError):
        ready(b"", Avp(0xFFF, b"", 0x583, mandatory=True))
    with pytest.raises(PeerError):
        ServerConversation().receive(Frame(0x5597, 1, bytes(MAX_FRAME - 15)))


@pytest.mark.parametrize("frame", [HOST_INFO, IDENTITY, LOGOUT, Frame(0xA4C, 4, b""), Frame(0x5597, 3, b"")])
def test_the_version_comes_first(frame: Frame) -> None:
    with pytest.raises(PeerError):
        ServerConversation().receive(frame)


def test_frames_out_of_turn() -> None:
    for sent, wrong in (([VERSION], VERSION), ([VERSION], IDENTITY), ([VERSION, HOST_INFO], HOST_INFO)):
        conversation = ServerConversation()
        for frame in sent:
            conversation.receive(frame)
        with pytest.raises(PeerError):
            conversation.receive(wrong)
    conversation = introduced()
    with pytest.raises(PeerError, match="our turn"):
        conversation.receive(response(2))


@pytest.mark.parametrize(
    "packet",
    [
        EapPacket(EapCode.RESPONSE, 1, EapType.TTLS, b"\0"),
        EapPacket(EapCode.RESPONSE, 1, EapType.GTC, b"x"),
        EapPacket(EapCode.REQUEST, 1, EapType.IDENTITY, b"x"),
        EapPacket(EapCode.SUCCESS, 1),
    ],
)
def test_an_identity_is_needed(packet: EapPacket) -> None:
    conversation = ServerConversation()
    conversation.receive(VERSION)
    conversation.receive(HOST_INFO)
    with pytest.raises(PeerError):
        conversation.receive(Frame(0x5597, 6, AUTH_TYPE + encode_eap(packet)))


def test_other_authentication_methods_are_refused() -> None:
    conversation = ServerConversation()
    conversation.receive(VERSION)
    conversation.receive(HOST_INFO)
    with pytest.raises(PeerError):
        conversation.receive(Frame(0x5597, 6, b"\0\0\0\1" + IDENTITY.body[4:]))


# Questions


@pytest.mark.parametrize("text", ["", "x", "p" * 253, "pässwörd", "a\nb"])
def test_passwords(text: str) -> None:
    conversation = introduced()
    conversation.ask_credentials()
    event = answer(conversation, NAME, inner(2, password(text.encode())))
    assert event == CredentialsGiven("alice", Secret.of_text(text))


@pytest.mark.parametrize(
    "avps",
    [
        [],
        [NAME],
        [inner(2, password(b"x"))],
        [NAME, inner(3, password(b"x"))],
        [NAME, inner(2, password(b"x")), inner(2, password(b"y"))],
        [NAME, NAME, inner(2, password(b"x"))],
        [NAME, inner(2, b"")],
        [NAME, inner(2, b"\x02")],
        [NAME, inner(2, b"\x02\x02")],
        [NAME, inner(2, b"\x02\x02\x00")],
        [NAME, inner(2, b"\x02\x02\x01")],
        [NAME, inner(2, b"\x01\x02\x03x")],
        [NAME, inner(2, b"\x02\x03\x03x")],
        [NAME, inner(2, b"\x02\x02\x04x")],
        [NAME, inner(2, b"\x02\x02\x03x\x00")],
        [NAME, inner(2, password(b"\xff"))],
        [NAME, inner(2, password(b"x\0y"))],
        [NAME, inner(2, b"123456", EapType.GTC)],
        [NAME, Avp(79, b"\x02\x02\x00\x04", mandatory=True)],
        [own(Code.USER_NAME, b"x" * 257), inner(2, password(b"x"))],
        [own(Code.USER_NAME, b"al\0ice"), inner(2, password(b"x"))],
        [own(Code.USER_NAME, "al\N{ZERO WIDTH SPACE}ice".encode()), inner(2, password(b"x"))],
        [own(Code.USER_NAME, b"\xff"), inner(2, password(b"x"))],
    ],
)
def test_broken_answers_for_credentials(avps: list[Avp]) -> None:
    conversation = introduced()
    conversation.ask_credentials()
    with pytest.raises(PeerError):
        answer(conversation, *avps)


def test_the_text_of_an_error_holds_no_password() -> None:
    conversation = introduced()
    conversation.ask_credentials()
    with pytest.raises(PeerError) as error:
        answer(conversation, NAME, inner(2, password(b"canary\xff")))
    assert "canary" not in repr(error.value)
    assert error.value.__context__ is None


def test_an_answer_to_another_request_is_refused() -> None:
    conversation = introduced()
    conversation.ask_realm_name()
    with pytest.raises(PeerError):
        conversation.receive(response(last_identifier(conversation) + 1, own(Code.REALM, b"Users")))


def asked(conversation: ServerConversation) -> bytes:
    [frame] = conversation.take_frames()
    return frame.body


def test_once_secondary_always_secondary() -> None:
    """The client keeps the prompts it was given, so every later question repeats them."""
    conversation = introduced()
    conversation.ask_credentials(user_label="Badge", password_label="PIN")
    body = asked(conversation)
    assert bytes.fromhex("00000d73") not in body
    assert b"\x0d\x80\x80" in body
    assert b"\x0d\x81\x80" in body
    conversation.receive(response(body[5], NAME, inner(2, password(b"x"))))
    conversation.ask_token("Code")
    body = asked(conversation)
    assert bytes.fromhex("00000d738000001000000583") + number(3) in body
    assert conversation.receive(response(body[5], inner(3, b"123456", EapType.GTC))) == [
        TokenGiven(None, Secret(b"123456"))
    ]
    conversation.ask_credentials(user_label="Badge", password_label="PIN")
    body = asked(conversation)
    assert bytes.fromhex("00000d738000001000000583") + number(1) in body
    assert b"\x0d\x82\x80" in body
    assert b"\x0d\x83\x80" in body


def test_a_user_name_nobody_asked_for_is_not_taken() -> None:
    conversation = introduced()
    conversation.ask_credentials(username=False)
    assert answer(conversation, NAME, inner(2, password(b"x"))) == CredentialsGiven(None, Secret(b"x"))


def test_new_password() -> None:
    conversation = introduced()
    conversation.ask_new_password()
    event = answer(conversation, inner(2, b"\x02\x02\x05old\x03\x05new"))
    assert event == NewPasswordGiven(Secret(b"old"), Secret(b"new"))
    conversation.ask_new_password()
    with pytest.raises(PeerError):
        answer(conversation, inner(3, b"\x02\x02\x05old"))


@pytest.mark.parametrize("code", [b"", b"123456", b"x" * 253])
def test_token_codes(code: bytes) -> None:
    conversation = introduced()
    conversation.ask_token("Code", username=True)
    assert answer(conversation, NAME, inner(2, code, EapType.GTC)) == TokenGiven("alice", Secret(code))


def test_broken_token_codes() -> None:
    for code in (b"x" * 254, b"\xff", b"\0"):
        conversation = introduced()
        conversation.ask_token("Code")
        with pytest.raises(PeerError):
            answer(conversation, inner(2, code, EapType.GTC))
    conversation = introduced()
    conversation.ask_token("Code")
    with pytest.raises(PeerError):
        answer(conversation, inner(2, password(b"x")))


def test_only_what_was_offered_can_be_chosen() -> None:
    conversation = introduced()
    conversation.ask_realm(["Users", "Admins"])
    assert answer(conversation, own(Code.REALM, b"Users")) == RealmChosen("Users")
    conversation.ask_realm(["Users"])
    with pytest.raises(PeerError):
        answer(conversation, own(Code.REALM, b"Admins"))
    conversation = introduced()
    conversation.ask_session([SessionOffer("1", "192.0.2.1", 1), SessionOffer("2", "192.0.2.2", 2)])
    assert answer(conversation, own(Code.SESSION_CHOICE, b"2")) == SessionChosen("2")
    conversation.ask_session([SessionOffer("1", "192.0.2.1", 1)])
    with pytest.raises(PeerError):
        answer(conversation, own(Code.SESSION_CHOICE, b"2"))


@pytest.mark.parametrize("data", [b"", number(0), number(2), b"\1"])
def test_a_notice_is_accepted_with_one(data: bytes) -> None:
    conversation = introduced()
    conversation.notify("Welcome")
    with pytest.raises(PeerError):
        answer(conversation, own(Code.NOTICE_ACCEPTED, data))


def test_a_sign_in_has_a_bounded_number_of_frames() -> None:
    conversation = introduced()
    for _ in range(MAX_SIGN_IN_FRAMES - 4):  # the introduction took four
        conversation.ask_realm_name()
        answer(conversation, own(Code.REALM, b"Users"))
    conversation.ask_realm_name()
    with pytest.raises(PeerError, match="more than"):
        answer(conversation, own(Code.REALM, b"Users"))


def test_identifiers_wrap_around() -> None:
    conversation = introduced()
    conversation._outer_id = conversation._inner_id = 255
    conversation.ask_credentials()
    assert answer(conversation, NAME, inner(0, password(b"x"))) == CredentialsGiven("alice", Secret(b"x"))


# End of the sign-in


def test_refusal_and_failure_end_the_conversation() -> None:
    for end in ("refuse", "fail"):
        conversation = introduced()
        conversation.refuse("no") if end == "refuse" else conversation.fail(0x0D)
        assert conversation.ended
        assert len(conversation.take_frames()) == 1
        assert conversation.receive(response(3)) == []
        assert conversation.take_frames() == []
        with pytest.raises(UsageError):
            conversation.ask_credentials()


def test_logout_before_the_tunnel() -> None:
    conversation = introduced()
    assert conversation.receive(LOGOUT) == [LoggedOut()]
    assert conversation.ended


@pytest.mark.parametrize("cookie", [b"", b"a b", b"a;b", b"a=b", b"a'b", b'a"b', b"a\n", b"\xe4"])
def test_a_cookie_that_would_not_survive_is_our_mistake(cookie: bytes) -> None:
    conversation = introduced()
    with pytest.raises(UsageError):
        conversation.signed_in(Secret(cookie), 1, 1)
    assert conversation.take_frames() == []


def test_commands_out_of_turn_are_our_mistake() -> None:
    before = ServerConversation()
    for command in (
        before.ask_credentials,
        before.ask_new_password,
        before.ask_realm_name,
        lambda: before.ask_realm(["Users"]),
        lambda: before.ask_token("Code"),
        lambda: before.notify("Welcome"),
        lambda: before.refuse("no"),
        lambda: before.fail(1),
        lambda: before.signed_in(COOKIE, 1, 1),
        lambda: before.configure(CONFIGURATIONS["captured"]),
        lambda: before.offer_esp(256, KEYS.secret),
        before.end_configuration,
        before.nudge_esp,
        lambda: before.tell_remaining(1),
        lambda: before.fatal(7, "ended"),
    ):
        with pytest.raises(UsageError):
            command()
    assert before.take_frames() == []
    assert before.state == "version"


@pytest.mark.parametrize(
    "command",
    [
        lambda c: c.ask_realm([]),
        lambda c: c.ask_token(""),
        lambda c: c.ask_session([]),
        lambda c: c.ask_session([SessionOffer("1", "", 1)]),
        lambda c: c.ask_session([SessionOffer("1", "192.0.2.1", 0)]),
        lambda c: c.refuse(""),
        lambda c: c.refuse("x" * 254),
        lambda c: c.notify("x" * MAX_FRAME),
        lambda c: c.ask_realm(["x" * 100] * 200),
    ],
)
def test_questions_nobody_could_answer_are_our_mistake(command) -> None:
    conversation = introduced()
    with pytest.raises(UsageError):
        command(conversation)
    conversation.ask_credentials()  # and nothing is broken by it
    [_] = conversation.take_frames()[-1:]


# Tunnel


def tunnel() -> ServerConversation:
    conversation = signed_in()
    conversation.configure(CONFIGURATIONS["captured"])
    conversation.end_configuration()
    conversation.take_frames()
    return conversation


def test_esp_keys_are_only_taken_when_offered() -> None:
    conversation = tunnel()
    with pytest.raises(PeerError):
        conversation.receive(KEYS_ANSWER)
    with pytest.raises(PeerError):
        conversation.receive(ESP_READY)
    conversation.offer_esp(256, KEYS.secret)
    assert conversation.receive(KEYS_ANSWER) == [EspKeysAnswered(KEYS.spi, KEYS.secret)]
    assert conversation.receive(ESP_READY) == [EspReady()]
    with pytest.raises(PeerError):
        conversation.receive(KEYS_ANSWER)
    conversation.offer_esp(257, KEYS.secret)
    assert conversation.receive(KEYS_ANSWER) == [EspKeysAnswered(KEYS.spi, KEYS.secret)]


def test_esp_keys_may_be_answered_during_the_configuration() -> None:
    conversation = signed_in()
    conversation.configure(CONFIGURATIONS["captured"])
    conversation.offer_esp(256, KEYS.secret)
    assert conversation.receive(KEYS_ANSWER) == [EspKeysAnswered(KEYS.spi, KEYS.secret)]
    conversation.end_configuration()
    with pytest.raises(UsageError):
        conversation.configure(CONFIGURATIONS["captured"])


def test_a_restarted_control_plane_takes_up_the_tunnel() -> None:
    conversation = ServerConversation.in_tunnel()
    assert conversation.receive(KEYS_ANSWER) == [EspKeysAnswered(KEYS.spi, KEYS.secret)]
    assert conversation.receive(ESP_READY) == [EspReady()]
    with pytest.raises(PeerError):
        conversation.receive(KEYS_ANSWER)
    conversation.nudge_esp()
    assert conversation.receive(LOGOUT) == [LoggedOut()]


def test_unknown_frames_in_the_tunnel_are_counted() -> None:
    conversation = tunnel()
    for frame in (
        Frame(0xA4C, 4, bytes(20)),
        Frame(0xA4C, 5, b"ncmo=0\n\0"),
        Frame(0xA4C, 0x99, b""),
        Frame(99, 1, b""),
        response(7),
    ):
        assert conversation.receive(frame) == []
    assert conversation.ignored == 5


def test_a_fatal_error_is_escaped_and_ends_the_tunnel() -> None:
    conversation = tunnel()
    conversation.fatal(8, "session timed out: 100%\nerrorType=1")
    [frame] = conversation.take_frames()
    assert (frame.vendor, frame.kind) == (0xA4C, 0x93)
    assert frame.body == (b"errorType=8 errorString=session%20timed%20out%3A%20100%25%0AerrorType%3D1\n")
    assert conversation.receive(LOGOUT) == []
    with pytest.raises(UsageError):
        tunnel().fatal(8, "x" * 257)


def test_logout_in_the_tunnel() -> None:
    conversation = tunnel()
    assert conversation.receive(LOGOUT) == [LoggedOut()]
    assert conversation.ended
    assert conversation.take_frames() == []
