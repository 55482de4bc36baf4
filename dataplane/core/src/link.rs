//! The edge link: typed messages between the control plane and the edge.
//!
//! A Unix stream socket carries records: a big-endian `u32` length of what follows (at most
//! [`MAX_RECORD`]), then one MessagePack value. A message is a map with one entry, its name to a
//! map of its fields (`{"frame": {"conn": 7, …}}`). Unknown messages or fields end the link: both
//! ends come from one release, a difference is a mistake or an attack, and losing the link only
//! lets rights run out. The Python twin is `lockgate.protocol.edge_link`; both are held together
//! by `tests/vectors/edge_link.json`.
//!
//! Life of the link: the edge listens, the control plane connects and sends `hello`; the edge
//! answers `hello` with every live session, and the control plane adopts or closes each. When the
//! link drops the edge closes connections that have not been attached to a session, keeps
//! sessions for at most [`ORPHAN_SECONDS`] and never past their own deadline.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Version of this message set; both ends must name the same.
pub const VERSION: u32 = 5;
/// Largest record in bytes: a `hello` that lists 50,000 sessions.
pub const MAX_RECORD: usize = 16 << 20;
/// How long sessions outlive a silent control plane.
pub const ORPHAN_SECONDS: u64 = 600;
/// Longest body of a message to or from the other end of a connection: what a client edge takes from a
/// gateway, and more than a KMP message can have. A longer one would end the link.
pub const MAX_BODY: usize = 64 << 10;
/// Most access rules one session may carry.
pub const MAX_RULES: usize = 4096;
/// Most records of flows in one message.
pub const MAX_FLOWS: usize = 1024;

/// Key material; zeroed when dropped, never formatted.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// How ESP packets of one security association are protected (`esp` module).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    Aes128CbcSha1,
    Aes256CbcSha1,
    Aes128CbcSha256,
    Aes256CbcSha256,
    Aes128Gcm,
    Aes256Gcm,
}

/// One direction of ESP: `secret` is the cipher key followed at once by the HMAC key (CBC), or the
/// cipher key followed by the 4-byte salt (GCM, RFC 4106 section 8.1). Trailing bytes are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sa {
    pub spi: u32,
    pub suite: Suite,
    /// Extended (64-bit) sequence numbers; only Lockgate's own client.
    pub esn: bool,
    pub secret: Secret,
}

/// One access rule. First match decides, no match denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub allow: bool,
    /// IP protocol number; `None` is any.
    pub protocol: Option<u8>,
    /// 4 or 16 bytes.
    #[serde(with = "serde_bytes")]
    pub address: Vec<u8>,
    pub prefix: u8,
    /// Ports of the remote end, inclusive; 0..=65535 is any (and the only choice without ports).
    pub port_low: u16,
    pub port_high: u16,
    /// The rule also reaches reserved networks (session pools, the gateway's own addresses).
    pub reserved: bool,
}

/// Which flows of a session are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowAudit {
    #[default]
    None,
    /// What the rules deny.
    Denied,
    All,
}

/// Control plane to edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToEdge {
    /// First message on a link.
    Hello { version: u32 },
    /// Sent every 5 s; 30 s without any message count as a lost link.
    Keepalive {},
    /// Asks for `stats` at once: somebody is looking.
    ReportStats {},
    /// Creates a session, or replaces it in place under a new `generation`: the earlier
    /// generation's TLS connection, ESP keys and UDP peer are dropped, counters are kept. A
    /// generation that is not newer than the live one is refused, and with it the next `attach`
    /// for the session: that connection is closed.
    OpenSession {
        session: u64,
        generation: u32,
        /// Empty or 4 bytes.
        #[serde(with = "serde_bytes")]
        address4: Vec<u8>,
        /// Empty or 16 bytes.
        #[serde(with = "serde_bytes")]
        address6: Vec<u8>,
        mtu: u16,
        /// Seconds until the session ends whatever happens.
        remaining: u64,
        /// Seconds without user data in either direction until it ends; 0 is never.
        idle: u64,
        /// ESP fallback interval in seconds: silent for twice as long means TLS.
        fallback: u32,
        revision: u64,
        rules: Vec<Rule>,
        /// Keys the client seals with, or none when ESP is not offered.
        esp_in: Option<Sa>,
        /// ESP may carry the inner IP version that differs from the outer one.
        cross_family: bool,
        /// Most bits per second of inner packets from the other end and to it, as
        /// [`Traffic`] counts them; 0 is no limit.
        rate_in: u64,
        rate_out: u64,
        /// What [`Flow`] calls the rules by.
        rule_set: u32,
        flows: FlowAudit,
    },
    /// Binds a connection to a session: from here on the data thread owns it.
    Attach { conn: u64, session: u64 },
    /// One message to the client; the edge writes what its framing puts around it, and gives it a
    /// TLS record of its own. With [`Framing::Ncp`] `vendor` is 0 and `kind` the KMP type, but for the
    /// first, which has kind 0 and no body: the connection is accepted.
    Frame {
        conn: u64,
        vendor: u32,
        kind: u32,
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// Closes a connection after what was queued has been written. An Ncp connection that has not been
    /// accepted is answered 403.
    CloseConn { conn: u64 },
    /// New keys for packets from the client; the previous ones stay for 30 s.
    InstallEspIn {
        session: u64,
        generation: u32,
        sa: Sa,
    },
    /// Keys for packets to the client: the edge seals with them from now on.
    InstallEspOut {
        session: u64,
        generation: u32,
        sa: Sa,
    },
    /// Replaces the rules and empties the flow cache; flows that were begun are recorded.
    SetRules {
        session: u64,
        revision: u64,
        rules: Vec<Rule>,
        rule_set: u32,
    },
    /// Replaces both time limits: the end counts from now, the idle limit from the last user data.
    SetDeadline {
        session: u64,
        remaining: u64,
        idle: u64,
    },
    /// Replaces both rates of a session, and which of its flows are recorded, as in `open_session`.
    /// What has been used of a burst stays used.
    SetLimits {
        session: u64,
        rate_in: u64,
        rate_out: u64,
        flows: FlowAudit,
    },
    /// Ends a session at once. With `fatal` the client is told first (IF-T a4c/0x93: code and text;
    /// oNCP: a reason that goes with the code).
    CloseSession { session: u64, fatal: Option<Fatal> },
    /// Answered by `barrier_passed` with the same number once everything sent before is in force: the
    /// thread that judges packets has applied it, and judges none by what was there earlier.
    Barrier { number: u64 },
    /// Client edge only, as all that follow. Speaks TLS over a connected TCP socket, whose
    /// descriptor comes with this message, and asks for the IF-T upgrade. The service chooses
    /// `conn`, each number once in the life of an edge. Answered by `dialed` or `dial_failed`.
    Dial(Box<Dial>),
    /// The TUN device of the tunnel; its descriptor comes with this message. Replaces the former.
    SetTun {
        /// Whether the kernel took the UDP offloads (TUN_F_USO4 and 6).
        takes_udp: bool,
    },
    /// A UDP socket for the ESP packets of a session, connected to the gateway; its descriptor
    /// comes with this message. Replaces the former.
    SetPort { session: u64 },
    /// The configuration is complete and both keys are installed: prove ESP by probes, use it
    /// once proven, watch it, return to it. `extended`: the gateway is Lockgate's own, it answers
    /// padded probes and understands a notice that the client left ESP.
    StartEsp { session: u64, extended: bool },
}

/// How to reach IF-T at a gateway over an open TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    pub conn: u64,
    /// DNS name or IP address the certificate must be for; also SNI when it is a name.
    pub server_name: String,
    /// Trust anchors, DER certificates. When there are any, chain, name and time must verify.
    pub roots: Vec<serde_bytes::ByteBuf>,
    /// SHA-256 over the leaf's SubjectPublicKeyInfo, or empty. When it is given, it must match.
    /// Without roots and pin nothing is trusted.
    #[serde(with = "serde_bytes")]
    pub pin: Vec<u8>,
    /// Host header and request target, valid for an HTTP head.
    pub host: String,
    pub path: String,
    pub user_agent: String,
}

/// Reason given to a client whose session ends (`errorType`, `errorString`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fatal {
    pub code: u32,
    pub text: String,
}

/// Traffic of one session since it was opened in this edge. Bytes are inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Packets refused by the access rules or for a wrong inner address.
    pub dropped: u64,
}

/// Why a flow was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowCause {
    /// Nothing came for a while.
    Idle,
    /// It goes on, or what was denied has been gathered for long enough.
    Interval,
    /// Its place was needed.
    Evicted,
    /// The rules changed, or which flows are recorded.
    Changed,
    /// The session ended.
    Session,
}

/// What passed between a session and one remote end, or was denied to it: since the record before,
/// if that was made at an interval. Counts are those of packets that were judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    pub session: u64,
    pub allowed: bool,
    /// The rules that decided, as `open_session` and `set_rules` called them, and the place of the
    /// one among them, from 0; `None`: no rule matches.
    pub rule_set: u32,
    pub rule: Option<u16>,
    pub protocol: u8,
    /// 4 or 16 bytes; empty: several remote ends that were not told apart, protocol 0.
    #[serde(with = "serde_bytes")]
    pub remote: Vec<u8>,
    /// For protocols that have ports.
    pub port: Option<u16>,
    /// The session's own side began.
    pub outbound: bool,
    /// How long ago its first and last packet were when the message was made, in ms.
    pub first: u64,
    pub last: u64,
    /// From the other end of the tunnel, and to it, as in [`Traffic`].
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub cause: FlowCause,
}

/// What carries packets to the client at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// No connection: the client may come back with its cookie.
    None,
    Tls,
    Esp,
}

/// How messages and packets stand in the plaintext of a tunnel's TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// IF-T/TLS frames, after an HTTP upgrade ([`crate::if_t`]).
    #[default]
    IfT,
    /// Network Connect's records, after its HTTP request ([`crate::ncp`]).
    Ncp,
}

/// A live session as the edge knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    pub session: u64,
    pub generation: u32,
    /// The attached connection, or 0.
    pub conn: u64,
    #[serde(with = "serde_bytes")]
    pub address4: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub address6: Vec<u8>,
    pub remaining: u64,
    /// Seconds since the last user data.
    pub quiet: u64,
    pub transport: Transport,
    /// Where packets to the client go: "address:port", empty without a connection.
    pub peer: String,
    /// Inbound SPIs in use, for choosing new ones.
    pub spis: Vec<u32>,
    pub traffic: Traffic,
    /// Framing of the attached connection; without one it means nothing.
    pub framing: Framing,
}

/// Why the edge ended a session by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    Idle,
    Expired,
    /// No control plane for [`ORPHAN_SECONDS`].
    Orphaned,
    /// The client logged out (IF-T a4c/0x89).
    Logout,
}

/// Edge to control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromEdge {
    /// Answer to `hello`. `edge` is random per process: another value means every session and
    /// connection known before is gone unless it is listed.
    Hello {
        version: u32,
        edge: u64,
        sessions: Vec<SessionState>,
    },
    /// A client asked for the IF-T upgrade and got it; or for oNCP, and waits to be accepted by the
    /// first `frame` or refused by `close_conn`.
    ConnOpened(Box<ConnOpened>),
    /// One message from the client (data messages of attached connections never come here). With
    /// [`Framing::Ncp`] `vendor` is 0 and `kind` the KMP type, but for the first, which has kind 0:
    /// the client's host name, at most 255 bytes.
    Frame {
        conn: u64,
        vendor: u32,
        kind: u32,
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// The TLS connection is gone; the session, if it had one (else 0), stays.
    ConnClosed {
        conn: u64,
        session: u64,
        cause: String,
    },
    SessionEnded {
        session: u64,
        generation: u32,
        cause: EndCause,
        traffic: Traffic,
    },
    TransportChanged {
        session: u64,
        transport: Transport,
        peer: String,
    },
    /// The outbound or inbound key nears the end of its sequence numbers.
    RekeyWanted { session: u64 },
    /// What was sent before that `barrier` is in force.
    BarrierPassed { number: u64 },
    /// Records of flows, at most [`MAX_FLOWS`]. `number`: how many there were before these since the
    /// edge started, told or not: where that does not follow, records were lost.
    Flows {
        number: u64,
        /// Time that the message waited for a link, in ms: everything in it is so much older.
        waited: u64,
        flows: Vec<Flow>,
    },
    /// Client edge only: the gateway's certificate was accepted and it answered 101. Frames follow.
    Dialed(Box<Dialed>),
    /// Client edge only: the dial came to nothing; the connection is closed.
    DialFailed {
        conn: u64,
        cause: DialFailure,
        /// For a log; at most 256 bytes, no control characters.
        detail: String,
        /// What the server presented, leaf first; may be empty.
        certificates: Vec<serde_bytes::ByteBuf>,
        /// SHA-256 over the leaf's SubjectPublicKeyInfo, or empty.
        #[serde(with = "serde_bytes")]
        pin: Vec<u8>,
    },
    /// Client edge only: the largest inner packet that reaches the gateway over ESP.
    PathMtu { session: u64, mtu: u16 },
    /// Every 5 s and when asked: sessions with traffic since the last report, and what was dropped
    /// in total since the edge started, by reason.
    Stats {
        sessions: Vec<SessionState>,
        counters: Vec<(String, u64)>,
    },
}

/// Facts about a connection that a client edge has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialed {
    pub conn: u64,
    pub tls_version: String,
    pub tls_cipher: String,
    pub tls_group: String,
    /// DER, leaf first.
    pub certificates: Vec<serde_bytes::ByteBuf>,
    /// SHA-256 over the leaf's SubjectPublicKeyInfo.
    #[serde(with = "serde_bytes")]
    pub pin: Vec<u8>,
    /// Keying material of this TLS connection: label [`EXPORTER_LABEL`], no context, 32 bytes.
    pub exporter: Secret,
}

/// TLS exporter label (RFC 8446 section 7.5) of the value that resumptions sign.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-lockgate-resume";

/// Why a client edge could not reach IF-T at a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DialFailure {
    /// No chain to one of the roots.
    Untrusted,
    /// The certificate is for another name.
    WrongName,
    Expired,
    NotYetValid,
    /// Not the pinned key.
    PinMismatch,
    /// TLS failed for another reason.
    Tls,
    /// The server answered HTTP with another status than 101; `detail` begins with it.
    HttpStatus,
    /// What came is no HTTP answer.
    Http,
    /// The server closed the connection.
    Closed,
    Timeout,
}

/// Facts about a connection that asked for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnOpened {
    pub conn: u64,
    /// "address:port", IPv6 in brackets.
    pub peer: String,
    pub local: String,
    pub tls_version: String,
    pub tls_cipher: String,
    pub tls_group: String,
    pub server_name: String,
    /// DER certificates the client proved possession of, leaf first; may be empty.
    pub client_certificates: Vec<serde_bytes::ByteBuf>,
    pub host: String,
    pub path: String,
    pub user_agent: String,
    /// The raw Cookie header, or empty.
    pub cookie: Secret,
    /// Keying material of this TLS connection: label [`EXPORTER_LABEL`], no context, 32 bytes;
    /// empty where TLS has none to give.
    pub exporter: Secret,
    pub framing: Framing,
}
