"""A signed-in user's stay at the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.model.prompt import Refused
from lockgate.protocol.edge_link import Suite


class EndCause(StrEnum):
    """Why a session ended; the value is what logs and the database hold."""

    LOGOUT = "logout"
    IDLE = "idle"
    EXPIRED = "expired"  # its full length has passed
    ABANDONED = "abandoned"  # its client left before it had the session
    REPLACED = "replaced"  # chosen by its user at the session limit
    DISCONNECTED = "disconnected"  # by an administrator
    USER_DISABLED = "user-disabled"
    USER_DELETED = "user-deleted"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105  # a cause, not a password
    COOKIE_REPLAYED = "cookie-replayed"  # two parties have its cookies
    AWAY = "away"  # its client did not come back within the heartbeat time-out
    POLICY_CHANGED = "policy-changed"  # its user has no role with VPN tunnelling any more
    PORTAL_ENDED = "portal-ended"  # the web session that started it is over

    @property
    def told(self) -> bool:
        """Whether its user is told why, with a support code: not who ended it or never had it."""
        return self not in (EndCause.LOGOUT, EndCause.ABANDONED)


class RefusalReason(StrEnum):
    """Why a session cookie was not accepted."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    EXPIRED = "expired"
    IDLE = "idle"
    USER_DISABLED = "user-disabled"
    PROOF_MISSING = "proof-missing"  # the session is bound to a key, and nothing was signed
    PROOF_WRONG = "proof-wrong"
    COOKIE_REPLAYED = "cookie-replayed"  # the cookie was replaced, and its successor has been used
    OVERTAKEN = "overtaken"  # so it was, but only after this client had connected
    ROAMING = "roaming"  # it may not go on from another address
    NO_IPV4 = "no-ipv4-address"  # its client speaks a protocol without IPv6
    NOT_ALLOWED = "not-allowed"  # realm or roles are closed to that address, program or certificate


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What a client says about itself (untrusted, escaped and bounded) and where it comes from."""

    source: str  # address as text, without port
    user_agent: str
    host_name: str

    def seen_in(self, facts: SignInFacts, certificate: CertificateFacts | None) -> SignInFacts:
        """What is known about somebody who now comes with this client, from there."""
        return replace(
            facts,
            source=self.source,
            user_agent=self.user_agent,
            host_name=self.host_name,
            certificate=certificate,
        )


@dataclass(frozen=True, slots=True)
class Session:
    """One stay. Times are seconds since 1970; `idle_seconds` 0 means no idle limit.

    public_key: Ed25519 key whose signature a resumption needs, 32 bytes; empty where the client has
                none, so that the cookie alone opens the session.
    suite:      how its ESP packets are protected in this generation; None without ESP.
    server:     auth server that knows the user.
    facts:      of the sign-in; None for a session of an earlier release.
    revision:   of the configuration that decided about it last; 0 for a session of an earlier release.
    parent:     web session that started it and ends it.
    chosen:     roles that the user chose when asked.
    extended:   when it was extended last; None if it never was.
    """

    id: int  # random, 1 .. 2**63 - 1
    user: str
    realm: str
    roles: tuple[str, ...]
    address4: IPv4Address | None
    address6: IPv6Address | None
    client: ClientFacts
    started: float
    expires: float
    idle_seconds: int
    last_seen: float
    generation: int  # 1, and one more with every resume
    public_key: bytes = b""
    suite: Suite | None = None
    ended: float | None = None
    cause: EndCause | None = None
    server: str = "System Local"
    facts: SignInFacts | None = None
    revision: int = 0
    parent: str | None = None
    heartbeat_seconds: int = 0
    chosen: tuple[str, ...] = ()
    extended: float | None = None

    @property
    def counted_from(self) -> float:
        """What its length is counted from."""
        return self.started if self.extended is None else self.extended

    @property
    def addresses(self) -> tuple[str, ...]:
        """Inner addresses, IPv4 first."""
        return tuple(str(each) for each in (self.address4, self.address6) if each is not None)

    @property
    def bound(self) -> bool:
        """Its cookies are worth nothing without the key it was opened with."""
        return bool(self.public_key)

    def remaining(self, now: float) -> int:
        """Whole seconds until the session's length is used up; 0 when it has passed."""
        return max(0, int(self.expires - now))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A cookie that was not accepted; `session` is set when it named one that is over.

    support: code that the audit and the decision have. told: what the client may hear, where it has proven
    that the session is its own; a stranger learns nothing, not even the code.
    """

    reason: RefusalReason
    session: Session | None = None
    support: str = field(default="", compare=False)
    told: Refused | None = field(default=None, compare=False)
