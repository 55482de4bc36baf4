"""What the gateway did, as `ClientConversation.receive` tells it.

Texts of the gateway are bounded and printable; those of a notice, a token question and a refusal may
have several lines. They are text for a person, whatever they look like.
"""

from dataclasses import dataclass
from typing import TypeAlias

from lockgate.protocol.pulse.config import Network, TunnelConfig
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.pulse.questions import SessionOffer
from lockgate.protocol.secret import Secret


@dataclass(frozen=True, slots=True)
class ServerIntroduced:
    """Before the first question. `certificate_md5`: what the gateway says its certificate hashes to, 32
    hex digits or empty; a hint about a middlebox at best, no check."""

    text: str
    certificate_md5: str


# Questions: one at a time, each is answered by the command of its name


@dataclass(frozen=True, slots=True)
class RealmAsked:
    """`answer_realm`: one of `choices`, or, where there are none, a name that the user types."""

    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegionAsked:
    """`answer_region`: one of `choices`."""

    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CredentialsAsked:
    """`answer_credentials`.

    username, password: which of the two are wanted.
    retry:              the last ones were wrong.
    secondary:          for a second account.
    *_label:            what the gateway calls the fields, or empty.
    """

    username: bool
    password: bool = True
    retry: bool = False
    secondary: bool = False
    user_label: str = ""
    password_label: str = ""


@dataclass(frozen=True, slots=True)
class NewPasswordAsked:
    """`answer_new_password`: the old one has expired, or the last new one was not good enough."""


@dataclass(frozen=True, slots=True)
class TokenAsked:
    """`answer_token`. `username`: the user name is wanted again, too."""

    text: str
    username: bool = False
    user_label: str = ""
    password_label: str = ""


@dataclass(frozen=True, slots=True)
class SessionAsked:
    """`answer_session`: too many sessions; which of these shall end?"""

    options: tuple[SessionOffer, ...]


@dataclass(frozen=True, slots=True)
class NoticeShown:
    """`accept_notice`, after somebody has agreed to it; otherwise close the connection."""

    text: str


ClientQuestion: TypeAlias = (
    RealmAsked | RegionAsked | CredentialsAsked | NewPasswordAsked | TokenAsked | SessionAsked | NoticeShown
)


# End of the sign-in


@dataclass(frozen=True, slots=True)
class SignInRefused:
    """No, with a text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class SignInFailed:
    """No, with a number: codes.FailureCode or any other."""

    code: int


@dataclass(frozen=True, slots=True)
class CookieRefused:
    """The cookie is not good (any more). `question` is what the gateway asks instead, which may be
    answered for a full sign-in; None if a SignInRefused follows."""

    question: ClientQuestion | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Yes; the confirmation is queued.

    cookie:     names the session from now on, also after a resumption.
    remaining:  seconds until the session ends, 0 if not told.
    idle:       seconds without traffic until it ends, 0 if not told.
    """

    cookie: Secret
    remaining: int
    idle: int


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The gateway has taken the confirmation; the configuration follows by itself."""


# Tunnel


@dataclass(frozen=True, slots=True)
class Configured:
    config: TunnelConfig


@dataclass(frozen=True, slots=True)
class EspOffered:
    """Keys for packets to the gateway. `answer_esp`, first or at a rekey, or stay on TLS."""

    keys: EspKeys


@dataclass(frozen=True, slots=True)
class ConfigurationEnded:
    """Everything is said: start the tunnel."""


@dataclass(frozen=True, slots=True)
class EndMoved:
    """The session ends in `remaining` seconds from now, whatever was told before; at least 1."""

    remaining: int


@dataclass(frozen=True, slots=True)
class SplitNetworksMoved:
    """What belongs in the tunnel from now on, as `TunnelConfig` tells it: all of it, not the difference."""

    include: tuple[Network, ...]
    exclude: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Licence:
    """Licence information. Nobody reads it; its coming asks for ESP probes where ESP is not alive."""

    text: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """The session is over and the cookie worth nothing: codes.FatalCode or any other, 0 if unreadable.
    The log-out that openconnect sends then is queued."""

    code: int
    text: str


ClientEvent: TypeAlias = (
    ServerIntroduced
    | ClientQuestion
    | SignInRefused
    | SignInFailed
    | CookieRefused
    | SignedIn
    | Authenticated
    | Configured
    | EspOffered
    | ConfigurationEnded
    | EndMoved
    | SplitNetworksMoved
    | Licence
    | Fatal
)
