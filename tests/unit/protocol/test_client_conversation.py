import struct
from collections.abc import Callable
from typing import Any

import pytest

from lockgate.protocol.avp import Avp, encode_avps
from lockgate.protocol.eap import EapCode, EapPacket, EapType, encode_eap
from lockgate.protocol.errors import AnswerError, PeerError, UnsupportedError, UsageError
from lockgate.protocol.if_t import MAX_FRAME, Frame
from lockgate.protocol.pulse import esp_keys
from lockgate.protocol.pulse.client import MAX_CHALLENGES, MAX_CONFIG_FRAMES, ClientConversation
from lockgate.protocol.pulse.client_events import (
    Authenticated,
    ConfigurationEnded,
    Configured,
    CookieRefused,
    CredentialsAsked,
    EndMoved,
    EspOffered,
    Fatal,
    Licence,
    NewPasswordAsked,
    NoticeShown,
    RealmAsked,
    RegionAsked,
    ServerIntroduced,
    SessionAsked,
    SignedIn,
    SignInFailed,
    SignInRefused,
    TokenAsked,
)
from lockgate.protocol.pulse.codes import AUTH_TYPE, AVP_VENDOR, EAP_MESSAGE, Code, PasswordCode
from lockgate.protocol.pulse.config import encode_config
from lockgate.protocol.pulse.config_blocks import MAGIC, MAGIC_WITH_PRE
from lockgate.protocol.pulse.config_frame import unwrap, wrap
from lockgate.protocol.pulse.esp_keys import EspKeys, encode_offer
from lockgate.protocol.pulse.events import (
    ClientReady,
    CredentialsGiven,
    EspKeysAnswered,
    EspReady,
    LoggedOut,
    NewPasswordGiven,
    NoticeAccepted,
    RealmChosen,
    SessionChosen,
    SignInAcknowledged,
    TokenGiven,
)
from lockgate.protocol.pulse.extensions import CAPABILITIES, SESSION_OPTIONS
from lockgate.protocol.pulse.questions import SessionOffer
from lockgate.protocol.secret import Secret
from tests.transcripts.configurations import CONFIGURATIONS
from tests.unit.protocol.pair import Pair, client, introduced

COOKIE = Secret(b"00c0ffee00c0ffee00c0ffee00c0ffee")
OURS = EspKeys(0xC1C1C1C1, Secret(bytes(range(64))))
SESSIONS = (SessionOffer("1", "192.0.2.1", 1700000000), SessionOffer("2", "2001:db8::1", 1700000001))


# A server by hand, for what ours never says


def own(code: int, data: bytes = b"") -> Avp:
    return Avp(code, data, AVP_VENDOR)


def inner(data: bytes, kind: int = EapType.EXPANDED, vendor_kind: int = 2, identifier: int = 7) -> Avp:
    expanded = kind == EapType.EXPANDED
    packet = EapPacket(
        EapCode.REQUEST, identifier, kind, data, 0xA4C if expanded else 0, vendor_kind if expanded else 0
    )
    return Avp(EAP_MESSAGE, encode_eap(packet), mandatory=True)


def challenge(*avps: Avp, identifier: int = 9) -> Frame:
    packet = EapPacket(EapCode.REQUEST, identifier, EapType.EXPANDED, encode_avps(avps), 0xA4C, 1)
    return Frame(0x5597, 5, AUTH_TYPE + encode_eap(packet))


VERSION = Frame(0x5597, 2, b"\0\0\0\2")
EMPTY = Frame(0x5597, 5, AUTH_TYPE)
SUCCESS = Frame(0x5597, 7, AUTH_TYPE + encode_eap(EapPacket(EapCode.SUCCESS, 9)))
END = Frame(0xA4C, 0x8F, bytes(4))
ASK = inner(bytes([PasswordCode.ASK]))


def waiting(**facts: Any) -> ClientConversation:
    """A client that has introduced itself and waits for the first question."""
    conversation = client(**facts)
    conversation.start()
    for frame in (VERSION, EMPTY):
        assert conversation.receive(frame) == []
    [_] = conversation.receive(challenge(own(Code.SERVER_TEXT, b"text")))
    conversation.take_frames()
    return conversation


def asked(*avps: Avp) -> Any:
    """The one event of a challenge with these."""
    [event] = waiting().receive(challenge(*avps))
    return event


def configuring() -> ClientConversation:
    conversation = waiting()
    conversation.receive(challenge(own(Code.COOKIE, COOKIE.reveal())))
    assert conversation.receive(SUCCESS) == [Authenticated()]
    conversation.take_frames()
    return conversation


def in_tunnel(configuration: str = "captured") -> ClientConversation:
    conversation = configuring()
    conversation.receive(Frame(0xA4C, 1, encode_config(CONFIGURATIONS[configuration])))
    assert conversation.receive(END) == [ConfigurationEnded()]
    return conversation


# Back to back with our server


def test_both_introduce_themselves() -> None:
    pair = Pair(client(system="Linux", locale="de-DE", capabilities=CAPABILITIES, public_key=bytes(32)))
    pair.client.start()
    assert pair.seen() == [ServerIntroduced("Lockgate", "")]
    assert pair.told() == [
        ClientReady(
            user_agent="Lockgate/0 (Linux)",
            cookie=None,
            host_name="laptop1",
            client_address="10.99.0.2",
            system="Linux",
            locale="de-DE",
            mac_address=b"",
            capabilities=CAPABILITIES,
            public_key=bytes(32),
        )
    ]


EXCHANGES: list[tuple[Callable[[Any], None], Any, Callable[[ClientConversation], object], Any]] = [
    # what the server does, what the client is asked, what it answers, what the server is told
    (
        lambda s: s.ask_realm(["Users", "Admins"]),
        RealmAsked(("Users", "Admins")),
        lambda c: c.answer_realm("Admins"),
        RealmChosen("Admins"),
    ),
    (lambda s: s.ask_realm_name(), RealmAsked(()), lambda c: c.answer_realm("Büro"), RealmChosen("Büro")),
    (
        lambda s: s.ask_credentials(),
        CredentialsAsked(username=True),
        lambda c: c.answer_credentials("alice", Secret(b"x" * 253)),
        CredentialsGiven("alice", Secret(b"x" * 253)),
    ),
    (
        lambda s: s.ask_credentials(retry=True, user_label="Badge", password_label="PIN"),
        CredentialsAsked(username=True, retry=True, user_label="Badge", password_label="PIN"),
        lambda c: c.answer_credentials("alice", Secret(b"")),
        CredentialsGiven("alice", Secret(b"")),
    ),
    (
        lambda s: s.ask_credentials(secondary=True, user_label="Other"),
        CredentialsAsked(username=True, secondary=True, user_label="Other"),
        lambda c: c.answer_credentials("bob", Secret.of_text("pässwörd")),
        CredentialsGiven("bob", Secret.of_text("pässwörd")),
    ),
    (
        lambda s: s.ask_credentials(username=False),
        CredentialsAsked(username=False, secondary=True),
        lambda c: c.answer_credentials(None, Secret(b"x")),
        CredentialsGiven(None, Secret(b"x")),
    ),
    (
        lambda s: s.ask_new_password(),
        NewPasswordAsked(),
        lambda c: c.answer_new_password(Secret(b"old"), Secret(b"new")),
        NewPasswordGiven(Secret(b"old"), Secret(b"new")),
    ),
    (
        lambda s: s.ask_token("Code, please:\nsix digits", password_label="Code"),
        TokenAsked("Code, please:\nsix digits", password_label="Code"),
        lambda c: c.answer_token(None, Secret(b"123456")),
        TokenGiven(None, Secret(b"123456")),
    ),
    (
        lambda s: s.ask_token("Code", username=True),
        TokenAsked("Code", username=True),
        lambda c: c.answer_token("alice", Secret(b"123456")),
        TokenGiven("alice", Secret(b"123456")),
    ),
    (
        lambda s: s.ask_session(SESSIONS),
        SessionAsked(SESSIONS),
        lambda c: c.answer_session("2"),
        SessionChosen("2"),
    ),
    (
        lambda s: s.notify("First line\nsecond line"),
        NoticeShown("First line\nsecond line"),
        lambda c: c.accept_notice(),
        NoticeAccepted(),
    ),
]


@pytest.mark.parametrize(("ask", "question", "reply", "told"), EXCHANGES)
def test_questions_and_answers(ask: Any, question: Any, reply: Any, told: Any) -> None:
    pair = introduced()
    [_] = pair.told()
    ask(pair.server)
    assert pair.seen() == [question]
    assert pair.client.state == type(question).__name__
    reply(pair.client)
    assert pair.told() == [told]


def test_a_whole_sign_in_with_every_step() -> None:
    pair = introduced()
    for ask, question, reply, told in EXCHANGES[:4] + EXCHANGES[6:7] + EXCHANGES[9:]:
        pair.told()
        ask(pair.server)
        assert pair.seen() == [question]
        reply(pair.client)
        assert pair.told() == [told]
    pair.server.signed_in(COOKIE, 3600, 600)
    assert pair.seen() == [SignedIn(COOKIE, 3600, 600), Authenticated()]
    assert pair.told() == [SignInAcknowledged()]
    config = CONFIGURATIONS["every extension"]
    pair.server.configure(config)
    pair.server.offer_esp(256, Secret(bytes(64)))
    pair.server.end_configuration()
    assert pair.seen() == [
        Configured(config),
        EspOffered(EspKeys(256, Secret(bytes(64)))),
        ConfigurationEnded(),
    ]
    pair.client.answer_esp(OURS)
    assert pair.told() == [EspKeysAnswered(OURS.spi, OURS.secret), EspReady()]
    pair.server.offer_esp(257, Secret(bytes(64)))
    assert pair.seen() == [EspOffered(EspKeys(257, Secret(bytes(64))))]
    pair.client.answer_esp(OURS)
    assert pair.told() == [EspKeysAnswered(OURS.spi, OURS.secret)]  # and no second EspReady
    pair.server.nudge_esp()
    assert pair.seen() == [Licence("maxUsers=0")]
    pair.client.log_out()
    assert pair.told() == [LoggedOut()]
    assert pair.client.ended
    assert pair.server.ended


def test_a_resumption() -> None:
    pair = introduced(cookie=COOKIE, proof=bytes(range(64)))
    [ready] = pair.told()
    assert (ready.cookie, ready.proof, ready.public_key) == (COOKIE, bytes(range(64)), b"")
    pair.server.signed_in(Secret(b"next"), 100, 0)
    assert pair.seen() == [SignedIn(Secret(b"next"), 100, 0), Authenticated()]


def test_a_bad_cookie_may_go_on_as_a_full_sign_in() -> None:
    pair = introduced(cookie=COOKIE)
    pair.told()
    pair.server.ask_credentials()
    assert pair.seen() == [CookieRefused(CredentialsAsked(username=True))]
    pair.client.answer_credentials("alice", Secret(b"x"))
    assert pair.told() == [CredentialsGiven("alice", Secret(b"x"))]
    pair.server.ask_credentials(retry=True)
    assert pair.seen() == [CredentialsAsked(username=True, retry=True)]


def test_a_bad_cookie_may_be_the_end() -> None:
    pair = introduced(cookie=COOKIE)
    pair.server.refuse("Go away")
    assert pair.seen() == [CookieRefused(None), SignInRefused("Go away")]
    pair = introduced(cookie=COOKIE)
    pair.server.fail(0x0D)
    assert pair.seen() == [SignInFailed(0x0D)]
    assert pair.client.ended


@pytest.mark.parametrize("text", ["No.", "Nö:\nnever", "x" * 253])
def test_refusals(text: str) -> None:
    pair = introduced()
    pair.server.refuse(text)
    assert pair.seen() == [SignInRefused(text)]
    assert pair.client.ended
    assert pair.client.receive(challenge(ASK)) == []
    assert pair.client.take_frames() == []


def test_a_fatal_error_is_read_and_answered_with_a_log_out() -> None:
    pair = introduced()
    pair.server.signed_in(COOKIE, 1, 1)
    pair.settle()
    pair.server.configure(CONFIGURATIONS["captured"])
    pair.server.end_configuration()
    pair.seen()
    pair.server.fatal(8, "session timed out: 100%\n+ü")
    [frame] = pair.server.take_frames()
    assert pair.client.receive(frame) == [Fatal(8, "session timed out: 100%\N{REPLACEMENT CHARACTER}+ü")]
    assert pair.client.take_frames() == [Frame(0xA4C, 0x89, b"")]


# Introduction


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, b"clientHostName=laptop1 clientIp=10.99.0.2\n\0"),
        ({"host_name": "my laptop\nx=1"}, b"clientHostName=my-laptop-x-1 clientIp=10.99.0.2\n\0"),
        ({"host_name": "", "client_address": ""}, b"clientHostName=\n\0"),
        (
            {"client_address": "fd00::1", "capabilities": CAPABILITIES},
            b"clientHostName=laptop1 clientIp=fd00::1"
            b" lockgateCapabilities=esp-cross,esp-gcm,esp-probe,resume-proof,session-options,split-networks\n\0",
        ),
    ],
)
def test_the_client_information_text(facts: dict[str, Any], text: bytes) -> None:
    conversation = client(**facts)
    conversation.start()
    conversation.take_frames()
    conversation.receive(VERSION)
    assert conversation.take_frames() == [Frame(0xA4C, 0x88, text)]


@pytest.mark.parametrize(
    "facts",
    [
        {"public_key": bytes(31)},
        {"cookie": COOKIE, "proof": bytes(63)},
        {"proof": bytes(64)},
        {"client_address": "laptop1"},
    ],
)
def test_an_introduction_that_does_not_fit_is_our_mistake(facts: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        client(**facts)


@pytest.mark.parametrize(
    ("md5", "kept"),
    [(b"0123456789ABCDEF" * 2, "0123456789abcdef" * 2), (b"0" * 31, ""), (b"\xff" * 32, ""), (b"", "")],
)
def test_hints_of_the_server_are_bounded(md5: bytes, kept: str) -> None:
    conversation = client()
    conversation.start()
    conversation.receive(VERSION)
    conversation.receive(EMPTY)
    avps = (own(Code.SERVER_TEXT, b"a\x1b[2Jb" + b"x" * 999), own(Code.CERTIFICATE_MD5, md5))
    [event] = conversation.receive(challenge(*avps, Avp(0xFFFF, b"", mandatory=True)))
    assert event.text.startswith("a\N{REPLACEMENT CHARACTER}[2Jb")
    assert len(event.text) == 256
    assert event.certificate_md5 == kept


def test_a_failure_may_come_before_the_first_question() -> None:
    conversation = client()
    conversation.start()
    for frame in (VERSION, EMPTY):
        conversation.receive(frame)
    assert conversation.receive(challenge(own(Code.FAILURE, b"\0\0\0\x0e"))) == [SignInFailed(0x0E)]


@pytest.mark.parametrize(
    ("before", "frame"),
    [
        ([], EMPTY),
        ([], Frame(0x5597, 2, b"\0\0\0\3")),
        ([], Frame(0x5597, 2, b"\0\0\0\0")),
        ([], Frame(0x5597, 2, b"")),
        ([], Frame(0xA4C, 0x93, b"errorType=1 errorString=x\n")),
        ([VERSION], VERSION),
        ([VERSION], Frame(0x5597, 5, AUTH_TYPE + b"\1\1\0\5\1")),
        ([VERSION], Frame(0x5597, 5, b"\0\0\0\1")),
        ([VERSION, EMPTY], EMPTY),
        ([VERSION, EMPTY], SUCCESS),
        ([VERSION, EMPTY], Frame(0x5597, 5, AUTH_TYPE + encode_eap(EapPacket(EapCode.FAILURE, 2)))),
        ([VERSION, EMPTY], Frame(0x5597, 5, b"\0\0\0\1" + challenge(ASK).body[4:])),
        ([VERSION, EMPTY], Frame(0xA4C, 0x04, bytes(20))),
    ],
)
def test_frames_out_of_turn(before: list[Frame], frame: Frame) -> None:
    conversation = client()
    conversation.start()
    for good in before:
        conversation.receive(good)
    with pytest.raises(PeerError):
        conversation.receive(frame)


def test_the_client_speaks_first() -> None:
    with pytest.raises(PeerError):
        client().receive(VERSION)


def test_nothing_but_a_fatal_error_while_it_is_our_turn() -> None:
    conversation = waiting()
    conversation.receive(challenge(ASK))
    with pytest.raises(PeerError, match="our turn"):
        conversation.receive(challenge(ASK))
    conversation = waiting()
    conversation.receive(challenge(ASK))
    assert conversation.receive(Frame(0xA4C, 0x93, b"errorType=7 errorString=too+slow\n\0")) == [
        Fatal(7, "too slow")
    ]
    assert conversation.take_frames() == []


def test_a_frame_larger_than_a_record() -> None:
    with pytest.raises(PeerError):
        in_tunnel().receive(Frame(0xA4C, 0x96, bytes(MAX_FRAME - 15)))


# Questions our own server does not ask


@pytest.mark.parametrize(
    ("prompts", "question"),
    [
        (1, CredentialsAsked(username=True, secondary=True)),
        (3, CredentialsAsked(username=False, secondary=True)),
        (15, CredentialsAsked(username=False, secondary=True)),
        (5, CredentialsAsked(username=True, password=False, secondary=True)),
        (99, CredentialsAsked(username=True, secondary=True)),
    ],
)
def test_prompts(prompts: int, question: CredentialsAsked) -> None:
    assert asked(ASK, own(Code.PROMPTS, struct.pack("!I", prompts))) == question


def test_a_password_nobody_wants_is_not_sent() -> None:
    conversation = waiting()
    conversation.receive(challenge(ASK, own(Code.PROMPTS, b"\0\0\0\5")))
    conversation.answer_credentials("alice", Secret(b"canary"))
    [frame] = conversation.take_frames()
    assert b"canary" not in frame.body
    assert frame.body.endswith(b"\2\2\2\0")  # an empty password, and a pad byte


def test_prompts_and_labels_stay_to_the_end() -> None:
    conversation = waiting()
    conversation.receive(
        challenge(ASK, own(Code.PROMPTS, b"\0\0\0\3"), own(Code.SECOND_PASSWORD_LABEL, b"PIN"))
    )
    conversation.answer_credentials(None, Secret(b"x"))
    assert conversation.receive(challenge(inner(b"Code", EapType.GTC))) == [
        TokenAsked("Code", username=False, password_label="PIN")
    ]


def test_regions() -> None:
    conversation = waiting()
    question = challenge(own(Code.REGION_OFFER, b"North"), own(Code.REGION_OFFER, b"South"), identifier=77)
    assert conversation.receive(question) == [RegionAsked(("North", "South"))]
    with pytest.raises(AnswerError):
        conversation.answer_region("East")
    conversation.answer_region("South")
    [frame] = conversation.take_frames()
    packet = EapPacket(
        EapCode.RESPONSE, 77, EapType.EXPANDED, encode_avps([own(Code.REGION, b"South")]), 0xA4C, 1
    )
    assert frame == Frame(0x5597, 6, AUTH_TYPE + encode_eap(packet))


def test_a_notice_with_a_question_comes_first() -> None:
    conversation = waiting()
    assert conversation.receive(challenge(own(Code.NOTICE, b"Be good"), ASK)) == [NoticeShown("Be good")]
    with pytest.raises(UsageError):
        conversation.answer_credentials("alice", Secret(b"x"))
    assert conversation.accept_notice() == [CredentialsAsked(username=True)]
    assert conversation.take_frames() == []
    conversation.answer_credentials("alice", Secret(b"x"))
    [_] = conversation.take_frames()


def test_nobody_is_signed_in_past_a_notice() -> None:
    conversation = waiting(cookie=COOKIE)
    [event] = conversation.receive(challenge(own(Code.NOTICE, b"Be good"), own(Code.COOKIE, b"abc")))
    assert event == CookieRefused(NoticeShown("Be good"))
    assert conversation.take_frames() == []
    assert conversation.accept_notice() == [SignedIn(Secret(b"abc"), 0, 0)]
    [_] = conversation.take_frames()
    assert conversation.receive(SUCCESS) == [Authenticated()]


def test_times_may_come_before_the_cookie() -> None:
    conversation = waiting()
    conversation.receive(challenge(ASK, own(Code.REMAINING, struct.pack("!I", 3600))))
    conversation.answer_credentials("alice", Secret(b"x"))
    [event] = conversation.receive(challenge(own(Code.COOKIE, b"abc"), own(Code.IDLE, struct.pack("!I", 60))))
    assert event == SignedIn(Secret(b"abc"), 3600, 60)


def session(name: bytes = b"1", address: bytes = b"192.0.2.1", start: bytes = b"\0" * 7 + b"\1") -> Avp:
    group = [
        own(Code.SESSION_ID, name),
        own(Code.SESSION_ADDRESS, address),
        own(Code.SESSION_START, start),
    ]
    return own(Code.SESSION, encode_avps(group))


@pytest.mark.parametrize(
    "avps",
    [
        [],
        [own(Code.SERVER_TEXT, b"nothing asked")],
        [ASK, own(Code.REALM_WANTED)],
        [ASK, ASK],
        [ASK, own(Code.COOKIE, b"abc")],
        [own(Code.REALM_WANTED), own(Code.REALM_OFFER, b"Users")],
        [own(Code.REALM_OFFER, b"")],
        [own(Code.REALM_OFFER, b"Users"), own(Code.REALM_OFFER, b"Users")],
        [own(Code.REALM_OFFER, b"Us\x1b[2Jers")],
        [own(Code.REALM_OFFER, b"x" * 257)],
        [own(Code.COOKIE, b"")],
        [own(Code.COOKIE, b"a\r\nb")],
        [own(Code.COOKIE, b"a;b")],
        [own(Code.COOKIE, b"x" * 5000)],
        [own(Code.COOKIE, b"abc"), own(Code.REMAINING, b"\0")],
        [own(Code.COOKIE, b"abc"), own(Code.COOKIE, b"abc")],
        [own(Code.FAILURE, b"")],
        [ASK, Avp(0xFFF, b"", AVP_VENDOR, mandatory=True)],
        [ASK, own(Code.PROMPTS, b"")],
        [ASK, own(Code.USER_LABEL, b"a"), own(Code.USER_LABEL, b"b")],
        [inner(b"")],
        [inner(b"\x01\x00")],
        [inner(b"\x02")],
        [inner(b"\xc5")],
        [inner(b"\xc5\x01\x02")],
        [inner(b"\xc5\x01\x04x")],
        [inner(b"\xc5\x02\x03x")],
        [Avp(EAP_MESSAGE, encode_eap(EapPacket(EapCode.RESPONSE, 7, EapType.GTC, b"x")))],
        [Avp(EAP_MESSAGE, b"\1\2\3")],
        [session(name=b"")],
        [session(name=b"\x00")],
        [session(start=b"\0\0\0\1")],
        [session(start=bytes(8))],
        [session(start=b"\xff" * 8)],
        [own(Code.SESSION, b"")],
    ],
)
def test_broken_questions(avps: list[Avp]) -> None:
    with pytest.raises(PeerError) as error:
        asked(*avps)
    assert not isinstance(error.value, UnsupportedError)


@pytest.mark.parametrize(
    ("avp", "named"),
    [
        (inner(b"", vendor_kind=3), "host check"),
        (inner(b"\1" + bytes(5), vendor_kind=5), "fixed size"),
        (inner(b"", vendor_kind=9), "a4c/9"),
        (inner(b"challenge", kind=4), "EAP type 4"),
    ],
)
def test_what_is_not_built_is_named(avp: Avp, named: str) -> None:
    with pytest.raises(UnsupportedError, match=named):
        asked(avp)


def test_client_certificates_by_ttls_are_not_built() -> None:
    conversation = client()
    conversation.start()
    conversation.receive(VERSION)
    conversation.receive(EMPTY)
    with pytest.raises(UnsupportedError, match="EAP-TTLS"):
        conversation.receive(Frame(0x5597, 5, AUTH_TYPE + bytes.fromhex("010200061520")))


def test_hostile_texts_are_bounded_and_harmless() -> None:
    assert asked(ASK, own(Code.USER_LABEL, b"\x1b[31m" + b"x" * 500)).user_label == (
        "\N{REPLACEMENT CHARACTER}[31m" + "x" * 123
    )
    assert (
        asked(inner(b"a\tb\r\nc\x07\xff\0", EapType.GTC)).text == "a b\nc" + 2 * "\N{REPLACEMENT CHARACTER}"
    )
    assert len(asked(inner(b"\n" * 9000, EapType.GTC)).text) == 2048
    assert asked(own(Code.NOTICE, b"x" * 16000)) == NoticeShown("x" * 16000)
    assert asked(session(address=b"\x1b" + b"x" * 400)).options[0].address == (
        "\N{REPLACEMENT CHARACTER}" + "x" * 255
    )


def test_a_server_that_asks_for_ever_is_cut_off() -> None:
    conversation = waiting()
    for _ in range(MAX_CHALLENGES):
        conversation.receive(challenge(own(Code.REALM_WANTED)))
        conversation.answer_realm("Users")
        conversation.take_frames()
    with pytest.raises(PeerError, match="more than"):
        conversation.receive(challenge(own(Code.REALM_WANTED)))


# What people type


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (ASK, lambda c: c.answer_credentials(None, Secret(b"x"))),
        (ASK, lambda c: c.answer_credentials("x" * 257, Secret(b"x"))),
        (ASK, lambda c: c.answer_credentials("al\0ice", Secret(b"x"))),
        (ASK, lambda c: c.answer_credentials("\udc80", Secret(b"x"))),
        (ASK, lambda c: c.answer_credentials("alice", Secret(b"canary" + b"x" * 248))),
        (ASK, lambda c: c.answer_credentials("alice", Secret(b"canary\0"))),
        (ASK, lambda c: c.answer_credentials("alice", Secret(b"canary\xff"))),
        (inner(b"Code", EapType.GTC), lambda c: c.answer_token("alice", Secret(b"canary\xff"))),
        (inner(b"\x43"), lambda c: c.answer_new_password(Secret(b"x"), Secret(b"canary\0"))),
        (own(Code.REALM_WANTED), lambda c: c.answer_realm("a\nb")),
        (own(Code.REALM_OFFER, b"Users"), lambda c: c.answer_realm("Admins")),
        (session(), lambda c: c.answer_session("2")),
    ],
)
def test_an_answer_that_cannot_be_said_is_asked_for_again(question: Avp, reply: Any) -> None:
    conversation = waiting()
    conversation.receive(challenge(question))
    before = conversation.state
    with pytest.raises(AnswerError) as error:
        reply(conversation)
    assert "canary" not in repr(error.value) + repr(error.value.__context__)
    assert conversation.state == before
    assert conversation.take_frames() == []


def test_commands_out_of_turn_are_our_mistake() -> None:
    for conversation in (client(), waiting(), in_tunnel()):
        before = conversation.state
        for command in (
            lambda c: c.answer_realm("x"),
            lambda c: c.answer_region("x"),
            lambda c: c.answer_credentials("x", Secret(b"")),
            lambda c: c.answer_new_password(Secret(b""), Secret(b"")),
            lambda c: c.answer_token("x", Secret(b"")),
            lambda c: c.answer_session("x"),
            lambda c: c.accept_notice(),
            lambda c: c.answer_esp(OURS),
        ):
            with pytest.raises(UsageError):
                command(conversation)
        assert conversation.take_frames() == []
        assert conversation.state == before
    with pytest.raises(UsageError):
        waiting().start()


def test_log_out_at_any_time() -> None:
    for conversation, frames in ((client(), 0), (waiting(), 1), (configuring(), 1), (in_tunnel(), 1)):
        conversation.log_out()
        conversation.log_out()
        assert conversation.take_frames() == [Frame(0xA4C, 0x89, b"")] * frames
        assert conversation.receive(VERSION) == []


# Configuration and tunnel

CONFIG = Frame(0xA4C, 1, encode_config(CONFIGURATIONS["captured"]))
OFFER = Frame(0xA4C, 1, encode_offer(EspKeys(300, Secret(bytes(64)))))


def test_the_end_of_the_sign_in_is_a_success() -> None:
    conversation = waiting()
    conversation.receive(challenge(own(Code.COOKIE, b"abc")))
    with pytest.raises(PeerError):
        conversation.receive(Frame(0x5597, 7, AUTH_TYPE + encode_eap(EapPacket(EapCode.FAILURE, 9))))


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0x5597, 1, b""),
        SUCCESS,
        Frame(0xA4C, 0x99, b""),
        Frame(0xA4C, 4, bytes(20)),
        Frame(0xA4C, 1, b""),
        Frame(0xA4C, 1, bytes(200)),
        Frame(0xA4C, 1, OFFER.body[:-1]),
        Frame(0xA4C, 1, OFFER.body),  # keys before the configuration that says how to use them
        Frame(0xA4C, 0x4C01, b"\0\0\x0e\x10"),
        Frame(0xA4C, 0x4C01, b""),
    ],
)
def test_frames_passed_over_in_the_configuration(frame: Frame) -> None:
    conversation = configuring()
    assert conversation.receive(frame) == []
    assert conversation.ignored == 1
    assert conversation.receive(CONFIG) == [Configured(CONFIGURATIONS["captured"])]


def test_a_configuration_comes_whole_and_once() -> None:
    with pytest.raises(PeerError, match="never came"):
        configuring().receive(END)
    with pytest.raises(PeerError):
        configuring().receive(Frame(0xA4C, 1, CONFIG.body[:-1]))
    conversation = configuring()
    conversation.receive(CONFIG)
    with pytest.raises(PeerError, match="second"):
        conversation.receive(CONFIG)


def test_a_configuration_that_never_ends() -> None:
    conversation = configuring()
    for _ in range(MAX_CONFIG_FRAMES):
        conversation.receive(Frame(0xA4C, 4, bytes(20)))
    with pytest.raises(PeerError, match="more than"):
        conversation.receive(END)


def test_blocks_before_the_routes_are_passed_over() -> None:
    rest = unwrap(CONFIG.body, MAGIC)
    pre = bytes.fromhex("2e00000d030000004025000101")
    last = bytes.fromhex("2c00000d030000004026000101")
    body = wrap(MAGIC_WITH_PRE, pre + last + rest)
    assert configuring().receive(Frame(0xA4C, 1, body)) == [Configured(CONFIGURATIONS["captured"])]
    for broken in (pre + rest, pre[:5], b"\x2c\0\0\7" + last[4:] + rest, last[:-1] + rest):
        with pytest.raises(PeerError):
            configuring().receive(Frame(0xA4C, 1, wrap(MAGIC_WITH_PRE, broken)))


def test_keys_without_an_offer_of_esp_are_passed_over() -> None:
    conversation = in_tunnel("captured without ESP")
    assert conversation.receive(OFFER) == []
    with pytest.raises(UsageError):
        conversation.answer_esp(OURS)


def test_the_latest_keys_are_answered() -> None:
    conversation = in_tunnel()
    conversation.receive(OFFER)
    newer = EspKeys(301, Secret(bytes(64)))
    assert conversation.receive(Frame(0xA4C, 1, encode_offer(newer))) == [EspOffered(newer)]
    conversation.take_frames()
    conversation.answer_esp(OURS)
    keys, ready = conversation.take_frames()
    assert keys.body == esp_keys.encode_answer(OURS, newer)
    assert (ready.kind, ready.body) == (5, b"ncmo=1\n\0")
    with pytest.raises(UsageError):
        conversation.answer_esp(OURS)


def test_the_end_of_the_session_is_told_anew() -> None:
    pair = introduced(capabilities=frozenset([SESSION_OPTIONS]))
    pair.server.signed_in(COOKIE, 3600, 600)
    pair.settle()
    pair.server.configure(CONFIGURATIONS["captured"])
    with pytest.raises(UsageError):
        pair.server.tell_remaining(60)
    pair.server.end_configuration()
    pair.seen()
    for seconds in (1, 7200, (1 << 32) - 1):
        pair.server.tell_remaining(seconds)
        [frame] = pair.server.take_frames()
        assert (frame.vendor, frame.kind, frame.body) == (0xA4C, 0x4C01, seconds.to_bytes(4))
        assert pair.client.receive(frame) == [EndMoved(seconds)]
    for seconds in (-1, 0, 1 << 32):
        with pytest.raises(UsageError):
            pair.server.tell_remaining(seconds)
    assert pair.server.take_frames() == []


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\x0e", bytes(4), b"\0\0\x0e\x10\0", b"360", bytes(16000)])
def test_an_end_that_is_no_number_of_seconds_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="no number of seconds"):
        in_tunnel().receive(Frame(0xA4C, 0x4C01, body))


def test_another_vendors_frame_of_that_number_moves_no_end() -> None:
    conversation = in_tunnel()
    assert conversation.receive(Frame(0x5597, 0x4C01, b"\0\0\x0e\x10")) == []
    assert conversation.ignored == 1


def test_a_restarted_client_service_takes_up_the_tunnel() -> None:
    conversation = ClientConversation.in_tunnel()
    [_] = conversation.receive(OFFER)
    conversation.answer_esp(OURS)
    [_] = conversation.take_frames()  # a rekey, so no ncmo=1
    assert conversation.receive(Frame(0xA4C, 0x4C01, b"\0\0\0\1")) == [EndMoved(1)]
    assert conversation.receive(Frame(0xA4C, 0x93, b"errorType=6 errorString=replaced\n")) == [
        Fatal(6, "replaced")
    ]


def test_unknown_frames_in_the_tunnel_are_counted() -> None:
    conversation = in_tunnel()
    for frame in (Frame(0xA4C, 4, b"x"), CONFIG, END, SUCCESS, challenge(ASK), Frame(99, 1, b"")):
        assert conversation.receive(frame) == []
    assert conversation.ignored == 6


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b"errorType=8 errorString=session%20timed+out\n", Fatal(8, "session timed out")),
        (
            b"errorType=8 errorString=a%0Ab%1b\n\0",
            Fatal(8, "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
        ),
        (b"errorType=8 errorString=%zz%\n", Fatal(8, "%zz%")),
        (b"errorType=8 errorString=", Fatal(8, "")),
        (b"errorType=8 errorString=" + b"x" * 9999, Fatal(8, "x" * 256)),
        (b"errorType=99999999999 errorString=x\n", Fatal(0, "")),
        (b"errorType=-1 errorString=x\n", Fatal(0, "")),
        (b"", Fatal(0, "")),
    ],
)
def test_fatal_errors(body: bytes, event: Fatal) -> None:
    conversation = in_tunnel()
    assert conversation.receive(Frame(0xA4C, 0x93, body)) == [event]
    assert conversation.ended
