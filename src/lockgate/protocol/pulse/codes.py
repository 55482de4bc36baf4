"""Numbers of the conversation that mean nothing by themselves."""

from collections.abc import Iterable
from enum import IntEnum

from lockgate.protocol.avp import Avp
from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import VENDOR_JUNIPER

AUTH_TYPE = bytes.fromhex("000a4c01")
"""Opens the body of every authentication frame: vendor and type of the only method in use."""

AVP_VENDOR = 0x583
"""Vendor word of all AVPs but EAP-Message."""

EAP_VENDOR = VENDOR_JUNIPER
"""Vendor of the expanded EAP types."""

EAP_MESSAGE = 79
"""AVP that carries an inner EAP packet (RFC 5281, section 10.2); no vendor word, mandatory."""

ESP_READY = b"ncmo=1\n\0"
"""Body of the frame by which a client says that it has both ESP key sets in place."""


class EapKind(IntEnum):
    """Expanded EAP types under EAP_VENDOR."""

    AVPS = 1
    PASSWORD = 2
    HOST_CHECK = 3
    FIXED_PASSWORD = 5


class Code(IntEnum):
    """AVP codes under AVP_VENDOR."""

    INFO_49 = 0xD49
    INFO_4A = 0xD4A
    REALM_OFFER = 0xD4E
    REALM_WANTED = 0xD4F
    REALM = 0xD50
    REGION_OFFER = 0xD51
    REGION = 0xD52
    COOKIE = 0xD53
    CERTIFICATE_MD5 = 0xD55
    SERVER_TEXT = 0xD56
    REMAINING = 0xD5C
    SYSTEM = 0xD5E
    LOCALE = 0xD5F
    FAILURE = 0xD60
    SESSION = 0xD65
    SESSION_ID = 0xD66
    SESSION_ADDRESS = 0xD67
    SESSION_START = 0xD68
    SESSION_CHOICE = 0xD69
    MAC_ADDRESS = 0xD6C
    USER_NAME = 0xD6D
    USER_AGENT = 0xD70
    PROMPTS = 0xD73
    IDLE = 0xD75
    NOTICE = 0xD7B
    NOTICE_ACCEPTED = 0xD7C
    USER_LABEL = 0xD80
    PASSWORD_LABEL = 0xD81
    SECOND_USER_LABEL = 0xD82
    SECOND_PASSWORD_LABEL = 0xD83
    SESSION_KEY = 0x4C01
    """Ours, from a Lockgate client: the public key that its resumptions are signed for."""
    RESUME_PROOF = 0x4C02
    """Ours, beside a cookie: the signature of `extensions.resume_message`."""
    LAUNCH_HANDLE = 0x4C03
    """Ours, instead of a cookie: what the portal's Start put into a link."""


class PasswordCode(IntEnum):
    """First byte of a password request."""

    ASK = 0x01
    CHANGE = 0x43
    RETRY = 0x81
    REFUSE = 0xC5


class FailureCode(IntEnum):
    """Failures the client has a text for; it shows any other number as it is."""

    LOCKED_OUT = 0x0D
    CERTIFICATE_REQUIRED = 0x0E


class FatalCode(IntEnum):
    """Reasons of a fatal frame the client knows."""

    REPLACED = 6
    TERMINATED = 7
    TIMED_OUT = 8


def avp(code: Code, data: bytes) -> Avp:
    """One of our AVPs. Never mandatory: the client ends the sign-in over a mandatory code that it
    does not know."""
    return Avp(code, data, AVP_VENDOR)


def refuse_unknown_mandatory(avps: Iterable[Avp]) -> None:
    """PeerError if one of the AVPs must be understood and is not."""
    for pair in avps:
        if pair.mandatory and (pair.vendor, pair.code) not in _KNOWN_MANDATORY:
            raise PeerError(f"unknown mandatory AVP {pair.vendor:#x}/{pair.code:#x}")


_KNOWN_MANDATORY = frozenset([(0, EAP_MESSAGE), *((AVP_VENDOR, code) for code in Code)])
