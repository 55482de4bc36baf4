"""The edge link: typed messages between the control plane and the edge.

How they stand on the stream is in `edge_link_codec`. The Rust twin is `dataplane/core/src/link.rs`
(there: the life of the link and what each message does); `tests/vectors/edge_link.json` holds both
together. Messages here have the same names, except `hello`, which is ControlHello towards the edge and
EdgeHello from it, and `frame`, which is LinkFrame in both directions.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret
from lockgate.protocol.strict_msgpack import U8, U16, U32, U64, Length

VERSION = 5
"""Version of this message set; both ends must name the same."""

MAX_RECORD = 16 << 20
"""Largest record in bytes, without its length word: a hello that lists 50,000 sessions. The same number
as in the edge."""

ORPHAN_SECONDS = 600
"""How long sessions outlive a silent control plane."""

MAX_RULES = 4096
"""Most access rules one session may carry."""

MAX_FLOWS = 1024
"""Most records of flows in one message."""

MAX_SPIS = 16
"""Most inbound SPIs of one session: the one in use, the one just replaced, and room to spare."""

MAX_CERTIFICATES = 16
"""Most certificates in a client's chain; chains in the field have at most five."""

MAX_ROOTS = 1024
"""Most trust anchors of one dial; system stores have about 150."""

MAX_BODY = 64 << 10
"""Longest body of a message to or from the other end of a connection: what a client edge takes from a gateway,
and more than a KMP message can have. The same number as in the edge."""

EXPORTER_LABEL = b"EXPORTER-lockgate-resume"
"""TLS exporter label (RFC 8446 section 7.5) of the value that resumptions sign."""

# An "address:port" with IPv6 in brackets has at most 47 characters, a zone included fewer than 80.
_Endpoint: TypeAlias = Annotated[str, Length(128)]
# Short names of ours or of the TLS library: causes, versions, cipher suites, counters.
_Name: TypeAlias = Annotated[str, Length(128)]
# What the edge copies from an HTTP head; it limits the whole head to less than this.
_HeaderText: TypeAlias = Annotated[str, Length(65536)]
_HeaderSecret: TypeAlias = Annotated[Secret, Length(65536)]
_Address4: TypeAlias = Annotated[bytes, Length(4, exactly=(0, 4))]
_Address6: TypeAlias = Annotated[bytes, Length(16, exactly=(0, 16))]
_FrameBody: TypeAlias = Annotated[bytes, Length(MAX_BODY)]
_Exporter: TypeAlias = Annotated[Secret, Length(32, exactly=(0, 32))]
_Pin: TypeAlias = Annotated[bytes, Length(32, exactly=(0, 32))]
_Chain: TypeAlias = Annotated[tuple[Annotated[bytes, Length(65536)], ...], Length(MAX_CERTIFICATES)]


class Suite(StrEnum):
    """How the ESP packets of one security association are protected."""

    AES128_CBC_SHA1 = "aes128-cbc-sha1"
    AES256_CBC_SHA1 = "aes256-cbc-sha1"
    AES128_CBC_SHA256 = "aes128-cbc-sha256"
    AES256_CBC_SHA256 = "aes256-cbc-sha256"
    AES128_GCM = "aes128-gcm"
    AES256_GCM = "aes256-gcm"


class Transport(StrEnum):
    """What carries packets to the client at the moment."""

    NONE = "none"
    TLS = "tls"
    ESP = "esp"


class Framing(StrEnum):
    """How messages and packets stand in the plaintext of a tunnel's TLS connection."""

    IF_T = "if-t"
    NCP = "ncp"


class FlowAudit(StrEnum):
    """Which flows of a session are recorded."""

    NONE = "none"
    DENIED = "denied"
    ALL = "all"


class FlowCause(StrEnum):
    """Why a flow was recorded: nothing came for a while; it goes on; its place was needed; rules or setting
    changed; its session ended."""

    IDLE = "idle"
    INTERVAL = "interval"
    EVICTED = "evicted"
    CHANGED = "changed"
    SESSION = "session"


class EndCause(StrEnum):
    """Why the edge ended a session by itself: `logout` is its client's own word."""

    IDLE = "idle"
    EXPIRED = "expired"
    ORPHANED = "orphaned"
    LOGOUT = "logout"


@dataclass(frozen=True, slots=True)
class Sa:
    """One direction of ESP. `secret` is the cipher key, then at once the HMAC key (CBC) or the
    4-byte salt (GCM, RFC 4106 section 8.1); trailing bytes are ignored."""

    spi: U32
    suite: Suite
    esn: bool
    secret: Annotated[Secret, Length(128)]


@dataclass(frozen=True, slots=True)
class Rule:
    """One access rule; the first match decides, no match denies.

    `protocol` None is any; `address` has 4 or 16 bytes; ports are those of the remote end,
    inclusive; `reserved` lets the rule reach session pools and the gateway's own addresses.
    """

    allow: bool
    protocol: U8 | None
    address: Annotated[bytes, Length(16, exactly=(4, 16))]
    prefix: U8
    port_low: U16
    port_high: U16
    reserved: bool

    def __post_init__(self) -> None:
        if self.prefix > 8 * len(self.address):
            raise UsageError("Rule.prefix is longer than its address")
        if self.port_low > self.port_high:
            raise UsageError("Rule.port_low is above port_high")


@dataclass(frozen=True, slots=True)
class Fatal:
    """Reason given to a client whose session ends (`errorType`, `errorString`)."""

    code: U32
    text: Annotated[str, Length(1024)]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic of one session since it was opened in this edge; bytes are those of inner packets."""

    packets_in: U64
    bytes_in: U64
    packets_out: U64
    bytes_out: U64
    dropped: U64


@dataclass(frozen=True, slots=True)
class SessionState:
    """A live session as the edge knows it; `conn` is 0 and `peer` empty without a connection, and `framing`
    then means nothing."""

    session: U64
    generation: U32
    conn: U64
    address4: _Address4
    address6: _Address6
    remaining: U64
    quiet: U64
    transport: Transport
    peer: _Endpoint
    spis: Annotated[tuple[U32, ...], Length(MAX_SPIS)]
    traffic: Traffic
    framing: Framing = Framing.IF_T


@dataclass(frozen=True, slots=True)
class ControlHello:
    """First message on a link, from the control plane."""

    version: U32


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Sent every 5 s; the edge takes 30 s without any message for a lost link."""


@dataclass(frozen=True, slots=True)
class ReportStats:
    """Asks for Stats at once: somebody is looking."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Creates a session, or replaces it in place under a new `generation`.

    Addresses are empty where the session has none; `remaining` and `idle` are seconds (idle 0:
    never); `fallback` is the ESP fallback interval in seconds; `esp_in` holds the keys the client
    seals with; `cross_family` lets ESP carry the inner IP version that differs from the outer;
    `rate_in` and `rate_out` limit the inner packets from and to the client, in bits per second (0: no
    limit); `rule_set` is what records of `flows` call the rules by.
    """

    session: U64
    generation: U32
    address4: _Address4
    address6: _Address6
    mtu: U16
    remaining: U64
    idle: U64
    fallback: U32
    revision: U64
    rules: Annotated[tuple[Rule, ...], Length(MAX_RULES)]
    esp_in: Sa | None
    cross_family: bool
    rate_in: U64 = 0
    rate_out: U64 = 0
    rule_set: U32 = 0
    flows: FlowAudit = FlowAudit.NONE


@dataclass(frozen=True, slots=True)
class Attach:
    """Binds a connection to a session; from here on the data thread owns it."""

    conn: U64
    session: U64


@dataclass(frozen=True, slots=True)
class LinkFrame:
    """One message without its header, to or from the client of `conn`.

    On an NCP connection `vendor` is 0 and `kind` the KMP type, but for the first message in each
    direction, which has kind 0: to the client it has no body and accepts the connection, from the client
    it is its host name (at most 255 bytes of anything).
    """

    conn: U64
    vendor: U32
    kind: U32
    body: _FrameBody

    def __repr__(self) -> str:  # the body may hold a password or key
        return (
            f"LinkFrame(conn={self.conn}, vendor={self.vendor:#x}, kind={self.kind:#x},"
            f" {len(self.body)} bytes)"
        )


@dataclass(frozen=True, slots=True)
class CloseConn:
    """Closes a connection after what was queued has been written; an NCP connection that has not been
    accepted is answered 403."""

    conn: U64


@dataclass(frozen=True, slots=True)
class InstallEspIn:
    """New keys for packets from the client; the previous ones stay for 30 s."""

    session: U64
    generation: U32
    sa: Sa


@dataclass(frozen=True, slots=True)
class InstallEspOut:
    """Keys for packets to the client; the edge seals with them from now on."""

    session: U64
    generation: U32
    sa: Sa


@dataclass(frozen=True, slots=True)
class SetRules:
    """Replaces the rules of a session; `rule_set` as in OpenSession."""

    session: U64
    revision: U64
    rules: Annotated[tuple[Rule, ...], Length(MAX_RULES)]
    rule_set: U32 = 0


@dataclass(frozen=True, slots=True)
class SetDeadline:
    """Replaces both time limits, in seconds counted from now."""

    session: U64
    remaining: U64
    idle: U64


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Replaces both rates of a session, and which of its flows are recorded, as in OpenSession."""

    session: U64
    rate_in: U64
    rate_out: U64
    flows: FlowAudit = FlowAudit.NONE


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Ends a session at once; with `fatal` the client is told first."""

    session: U64
    fatal: Fatal | None


@dataclass(frozen=True, slots=True)
class Barrier:
    """Answered by BarrierPassed with the same number once everything sent before is in force: the thread that
    judges packets has applied it, and judges none by what was there earlier."""

    number: U64


@dataclass(frozen=True, slots=True)
class Dial:
    """Client edge only, as all commands that follow: speak TLS over a connected TCP socket, whose
    descriptor comes with this message, and ask for the IF-T upgrade. Answered by Dialed or DialFailed.

    `conn` is chosen by the service, each number once in the life of an edge. `roots` are DER trust
    anchors: when there are any, chain, name and time must verify. `pin` is the SHA-256 of the leaf's
    SubjectPublicKeyInfo or empty; when given, it must match. Without both nothing is trusted.
    """

    conn: U64
    server_name: Annotated[str, Length(255)]
    roots: Annotated[tuple[Annotated[bytes, Length(65536)], ...], Length(MAX_ROOTS)]
    pin: _Pin
    host: Annotated[str, Length(512)]
    path: Annotated[str, Length(4096)]
    user_agent: Annotated[str, Length(512)]


@dataclass(frozen=True, slots=True)
class SetTun:
    """The TUN device of the tunnel; its descriptor comes with this message. `takes_udp`: the kernel
    took the UDP offloads."""

    takes_udp: bool


@dataclass(frozen=True, slots=True)
class SetPort:
    """A UDP socket for the ESP packets of a session, connected to the gateway; its descriptor comes
    with this message. Replaces the former."""

    session: U64


@dataclass(frozen=True, slots=True)
class StartEsp:
    """The configuration is complete and both keys are installed: prove ESP, use it, watch it.

    `extended`: the gateway is Lockgate's own, it answers padded probes and understands a notice that
    the client left ESP.
    """

    session: U64
    extended: bool


@dataclass(frozen=True, slots=True)
class EdgeHello:
    """The edge's answer to ControlHello. `edge` is random per process: another value means that
    everything known before is gone unless it is listed."""

    version: U32
    edge: U64
    sessions: Annotated[tuple[SessionState, ...], Length(MAX_RECORD)]


@dataclass(frozen=True, slots=True)
class ConnOpened:
    """A client asked for the IF-T upgrade and got it; or, with `framing` NCP, for its tunnel, and waits to be
    accepted by the first LinkFrame or refused by CloseConn.

    `peer` and `local` are "address:port"; `client_certificates` are DER, leaf first, proven;
    `cookie` is the raw Cookie header, or empty; `exporter` is keying material of this TLS connection
    (label EXPORTER_LABEL, no context, 32 bytes), empty where TLS has none to give.
    """

    conn: U64
    peer: _Endpoint
    local: _Endpoint
    tls_version: _Name
    tls_cipher: _Name
    tls_group: _Name
    server_name: Annotated[str, Length(255)]
    client_certificates: Annotated[tuple[Annotated[bytes, Length(65536)], ...], Length(MAX_CERTIFICATES)]
    host: _HeaderText
    path: _HeaderText
    user_agent: _HeaderText
    cookie: _HeaderSecret
    exporter: _Exporter
    framing: Framing = Framing.IF_T


@dataclass(frozen=True, slots=True)
class ConnClosed:
    """The TLS connection is gone; the session (0: it had none) stays."""

    conn: U64
    session: U64
    cause: _Name


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The edge ended a session by itself."""

    session: U64
    generation: U32
    cause: EndCause
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class TransportChanged:
    """Packets to the client of `session` now go this way."""

    session: U64
    transport: Transport
    peer: _Endpoint


@dataclass(frozen=True, slots=True)
class RekeyWanted:
    """A key of `session` nears the end of its sequence numbers."""

    session: U64


@dataclass(frozen=True, slots=True)
class BarrierPassed:
    """What was sent before that Barrier is in force."""

    number: U64


@dataclass(frozen=True, slots=True)
class Flow:
    """What passed between a session and one remote end, or was denied to it.

    `rule` is the place of the rule that decided among those of `rule_set`, None where none matches; `remote` is
    empty for several remote ends that were not told apart; `outbound`: the session's side began; `first` and
    `last` are how long ago its packets were when the message was made, in ms; "in" is from the client.
    """

    session: U64
    allowed: bool
    rule_set: U32
    rule: U16 | None
    protocol: U8
    remote: Annotated[bytes, Length(16, exactly=(0, 4, 16))]
    port: U16 | None
    outbound: bool
    first: U64
    last: U64
    packets_in: U64
    bytes_in: U64
    packets_out: U64
    bytes_out: U64
    cause: FlowCause


@dataclass(frozen=True, slots=True)
class Flows:
    """Records of flows. `number` is how many there were before these since the edge started, told or not;
    `waited` is for how long the message had no link, in ms."""

    number: U64
    waited: U64
    flows: Annotated[tuple[Flow, ...], Length(MAX_FLOWS)]


class DialFailure(StrEnum):
    """Why a client edge could not reach IF-T at a gateway."""

    UNTRUSTED = "untrusted"
    WRONG_NAME = "wrong-name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    PIN_MISMATCH = "pin-mismatch"
    TLS = "tls"
    HTTP_STATUS = "http-status"
    HTTP = "http"
    CLOSED = "closed"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Dialed:
    """Client edge only: the gateway's certificate was accepted and it answered 101. Frames follow.

    `certificates` are DER, leaf first; `pin` is the SHA-256 of the leaf's SubjectPublicKeyInfo;
    `exporter` as in ConnOpened.
    """

    conn: U64
    tls_version: _Name
    tls_cipher: _Name
    tls_group: _Name
    certificates: _Chain
    pin: _Pin
    exporter: _Exporter


@dataclass(frozen=True, slots=True)
class DialFailed:
    """Client edge only: the dial came to nothing. `detail` is for a log."""

    conn: U64
    cause: DialFailure
    detail: Annotated[str, Length(256)]
    certificates: _Chain
    pin: _Pin


@dataclass(frozen=True, slots=True)
class PathMtu:
    """Client edge only: the largest inner packet that reaches the gateway over ESP, in bytes."""

    session: U64
    mtu: U16


@dataclass(frozen=True, slots=True)
class Stats:
    """Every 5 s and when asked: sessions with traffic since the last report, and drops since the edge started."""

    sessions: Annotated[tuple[SessionState, ...], Length(MAX_RECORD)]
    counters: Annotated[tuple[tuple[_Name, U64], ...], Length(1024)]


ToEdge: TypeAlias = (
    ControlHello
    | Keepalive
    | ReportStats
    | OpenSession
    | Attach
    | LinkFrame
    | CloseConn
    | InstallEspIn
    | InstallEspOut
    | SetRules
    | SetDeadline
    | SetLimits
    | CloseSession
    | Barrier
    | Dial
    | SetTun
    | SetPort
    | StartEsp
)
FromEdge: TypeAlias = (
    EdgeHello
    | ConnOpened
    | LinkFrame
    | ConnClosed
    | SessionEnded
    | TransportChanged
    | RekeyWanted
    | BarrierPassed
    | Flows
    | Dialed
    | DialFailed
    | PathMtu
    | Stats
)
