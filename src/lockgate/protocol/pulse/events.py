"""What the client did, as `ServerConversation.receive` tells it."""

from dataclasses import dataclass
from typing import TypeAlias

from lockgate.protocol.secret import Secret


@dataclass(frozen=True, slots=True)
class ClientReady:
    """The client has introduced itself: now decide, by its cookie or by a first question.

    All texts are the client's own claims, printable and bounded; empty where it told nothing.
    `client_address` is the local address of the client's socket, a valid IP address or empty;
    `mac_address` has 6 bytes or none; `capabilities` are those of `extensions` that the client has,
    `public_key` (32 bytes) and `proof` (64 bytes) are empty where it sent none. `handle` (32 bytes) is
    what the portal's Start gave; never beside a cookie.
    """

    user_agent: str
    cookie: Secret | None
    host_name: str
    client_address: str
    system: str
    locale: str
    mac_address: bytes
    capabilities: frozenset[str] = frozenset()
    public_key: bytes = b""
    proof: bytes = b""
    handle: Secret | None = None


@dataclass(frozen=True, slots=True)
class RealmChosen:
    """One of the names offered, or what the user typed when none was."""

    name: str


@dataclass(frozen=True, slots=True)
class CredentialsGiven:
    """`username` is None when none was asked for; the password may be empty."""

    username: str | None
    password: Secret


@dataclass(frozen=True, slots=True)
class NewPasswordGiven:
    old: Secret
    new: Secret


@dataclass(frozen=True, slots=True)
class TokenGiven:
    """`username` is None when none was asked for. Check that it is still the same user."""

    username: str | None
    code: Secret


@dataclass(frozen=True, slots=True)
class SessionChosen:
    """The session to end: one of the ids offered."""

    id: str


@dataclass(frozen=True, slots=True)
class NoticeAccepted:
    """openconnect accepts without showing the text: no proof that anybody read it."""


@dataclass(frozen=True, slots=True)
class SignInAcknowledged:
    """The client has its cookie; the success frame is queued. Send the configuration."""


@dataclass(frozen=True, slots=True)
class EspKeysAnswered:
    """Keys for packets to the client: SPI, and 64 bytes of cipher and HMAC key."""

    spi: int
    secret: Secret


@dataclass(frozen=True, slots=True)
class EspReady:
    """The client has both key sets in place (not told after a rekey)."""


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The user ended the session; the cookie ends with it. A lost connection is never this."""


Event: TypeAlias = (
    ClientReady
    | RealmChosen
    | CredentialsGiven
    | NewPasswordGiven
    | TokenGiven
    | SessionChosen
    | NoticeAccepted
    | SignInAcknowledged
    | EspKeysAnswered
    | EspReady
    | LoggedOut
)
