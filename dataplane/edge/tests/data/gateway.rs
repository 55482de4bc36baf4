//! The data thread under test, with everything around it replaced.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockgate_dataplane::link::{
    FlowAudit, FromEdge, Rule, Sa, Secret, SessionState, Suite, ToEdge,
};
use lockgate_dataplane::vnet::VnetHeader;
use lockgate_edge::data::{Adopted, Clock, DataConfig, DataHandle, Side, ToData, spawn};
use lockgate_edge::framing::Framing;
use rustls::pki_types::PrivateKeyDer;

use crate::client::Client;

/// How long a fact may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(10);
pub const SESSION: u64 = 7;
/// What records of flows call the rules of a session that was opened.
pub const RULE_SET: u32 = 11;

struct HandTurned(Arc<AtomicU64>);

impl Clock for HandTurned {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// One data thread and the other ends of what it holds.
pub struct Edge {
    pub handle: DataHandle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    pub tun: UnixDatagram,
    news: Receiver<FromEdge>,
    pub clock: Arc<AtomicU64>,
}

pub struct Gateway {
    edge: Edge,
    pub udp: SocketAddr,
    next_conn: u64,
}

impl std::ops::Deref for Gateway {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.edge
    }
}

pub struct Identity {
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
}

/// One certificate and both ends' settings for all tests.
pub static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["gw.test".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.send_tls13_tickets = 0;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Identity {
        server: Arc::new(server),
        client: Arc::new(client),
    }
});

/// Settings of a session; the defaults allow everything for an hour.
#[derive(Clone)]
pub struct Settings {
    pub session: u64,
    pub generation: u32,
    pub address4: Vec<u8>,
    pub address6: Vec<u8>,
    pub remaining: u64,
    pub idle: u64,
    pub rules: Vec<Rule>,
    pub esp_in: Option<Sa>,
    pub cross_family: bool,
    pub rate_in: u64,
    pub rate_out: u64,
    pub flows: FlowAudit,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session: SESSION,
            generation: 1,
            address4: vec![10, 88, 0, 10],
            address6: "fd00:88::10"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets()
                .to_vec(),
            remaining: 3600,
            idle: 0,
            rules: vec![allow(&[0; 4]), allow(&[0; 16])],
            esp_in: Some(sa(0x1001, 1)),
            cross_family: false,
            rate_in: 0,
            rate_out: 0,
            flows: FlowAudit::None,
        }
    }
}

/// Everything of the family of `address` is allowed.
pub fn allow(address: &[u8]) -> Rule {
    Rule {
        allow: true,
        protocol: None,
        address: address.to_vec(),
        prefix: 0,
        port_low: 0,
        port_high: 65_535,
        reserved: false,
    }
}

pub fn sa(spi: u32, key: u8) -> Sa {
    Sa {
        spi,
        suite: Suite::Aes256CbcSha256,
        esn: false,
        secret: Secret(vec![key; 64]),
    }
}

impl Edge {
    /// A client gets its TUN by an order, as in life.
    pub fn start(side: Side, udp: Vec<UdpSocket>, clock: &Arc<AtomicU64>) -> Self {
        let (inside, tun) = UnixDatagram::pair().unwrap();
        tun.set_read_timeout(Some(DEADLINE)).unwrap();
        let (up, news) = channel();
        let inside = OwnedFd::from(inside);
        let (given, later) = match side {
            Side::Gateway => (Some(inside), None),
            Side::Client => (None, Some(inside)),
        };
        let config = DataConfig {
            side,
            tun: given,
            tun_takes_udp: true,
            udp,
            reserved: Arc::new([]),
            clock: Box::new(HandTurned(Arc::clone(clock))),
        };
        let (handle, thread) = spawn(config, move |message| up.send(message).is_ok()).unwrap();
        handle.send(ToData::LinkUp);
        if let Some(fd) = later {
            handle.send(ToData::Tun {
                fd,
                takes_udp: true,
            });
        }
        Self {
            handle,
            thread: Some(thread),
            tun,
            news,
            clock: Arc::clone(clock),
        }
    }

    pub fn order(&self, order: ToEdge) {
        assert!(self.handle.send(ToData::Link(order)));
    }

    pub fn open(&self, settings: Settings) {
        let Settings {
            session,
            generation,
            address4,
            address6,
            remaining,
            idle,
            rules,
            esp_in,
            cross_family,
            rate_in,
            rate_out,
            flows,
        } = settings;
        self.order(ToEdge::OpenSession {
            session,
            generation,
            address4,
            address6,
            mtu: 1400,
            remaining,
            idle,
            fallback: 15,
            revision: 1,
            rule_set: RULE_SET,
            rules,
            esp_in,
            cross_family,
            rate_in,
            rate_out,
            flows,
        });
    }

    /// Keys for packets to the client, of the first generation.
    pub fn install_out(&self, generation: u32, sa: Sa) {
        self.order(ToEdge::InstallEspOut {
            session: SESSION,
            generation,
            sa,
        });
    }

    /// Turns the clock and lets the thread see it.
    pub fn advance(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
        self.sync();
    }

    /// Waits until everything ordered before has been applied, what is due has been done, and what
    /// had come to the sockets and the TUN has had its turn.
    pub fn sync(&self) {
        // A turn applies 64 orders at most, so the last of these is applied in a turn that began
        // after the call.
        for _ in 0..64 {
            self.order(ToEdge::Keepalive {});
        }
        self.sessions();
    }

    pub fn sessions(&self) -> Vec<SessionState> {
        let (reply, states) = tokio::sync::oneshot::channel();
        assert!(self.handle.send(ToData::ReportSessions(reply)));
        states.blocking_recv().unwrap()
    }

    pub fn session(&self) -> SessionState {
        self.sessions()
            .into_iter()
            .find(|state| state.session == SESSION)
            .unwrap()
    }

    /// Puts a packet into the TUN.
    pub fn put(&self, packet: &[u8]) {
        self.put_super(VnetHeader::default(), packet);
    }

    pub fn put_super(&self, header: VnetHeader, packet: &[u8]) {
        let mut bytes = header.encode().to_vec();
        bytes.extend(packet);
        self.tun.send(&bytes).unwrap();
    }

    /// The next packet written to the TUN.
    pub fn take(&self) -> (VnetHeader, Vec<u8>) {
        self.receive().expect("no packet came out of the TUN")
    }

    fn receive(&self) -> std::io::Result<(VnetHeader, Vec<u8>)> {
        let mut bytes = vec![0; 70_000];
        let length = self.tun.recv(&mut bytes)?;
        Ok((
            VnetHeader::parse(&bytes).unwrap(),
            bytes[VnetHeader::LEN..length].to_vec(),
        ))
    }

    /// The next packet written to the TUN, if one has been.
    pub fn try_take(&self) -> Option<Vec<u8>> {
        self.tun.set_nonblocking(true).unwrap();
        let taken = self.receive().ok();
        self.tun.set_nonblocking(false).unwrap();
        taken.map(|(_, packet)| packet)
    }

    /// Nothing has been written to the TUN.
    pub fn assert_quiet(&self) {
        self.sync();
        self.tun.set_nonblocking(true).unwrap();
        assert!(
            self.tun.recv(&mut [0; 100]).is_err(),
            "a packet came out of the TUN"
        );
        self.tun.set_nonblocking(false).unwrap();
    }

    /// The next message to the control plane that is no report of traffic.
    pub fn news(&self) -> FromEdge {
        self.wait_for(|message| !matches!(message, FromEdge::Stats { .. }))
    }

    /// The next message to the control plane that fits; others are dropped.
    pub fn wait_for(&self, fits: impl Fn(&FromEdge) -> bool) -> FromEdge {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self
                .news
                .recv_timeout(left)
                .expect("the message did not come");
            if fits(&message) {
                return message;
            }
        }
    }

    /// Everything told so far.
    pub fn all_news(&self) -> Vec<FromEdge> {
        self.sync();
        self.news.try_iter().collect()
    }

    /// A counter as the next report has it.
    pub fn counter(&self, name: &str) -> u64 {
        self.order(ToEdge::ReportStats {});
        let stats = self.wait_for(|message| matches!(message, FromEdge::Stats { .. }));
        let FromEdge::Stats { counters, .. } = stats else {
            unreachable!()
        };
        counters
            .into_iter()
            .find(|(counter, _)| counter == name)
            .expect("no such counter")
            .1
    }

    /// Waits until a counter has a value.
    pub fn wait_counter(&self, name: &str, value: u64) {
        let end = Instant::now() + DEADLINE;
        while self.counter(name) != value {
            assert!(Instant::now() < end, "{name} is not {value}");
        }
    }

    /// Binds a connection to the session and hands it over; ends its configuration.
    pub fn attach(&self, adopted: Adopted) {
        let (conn, session) = (adopted.conn, adopted.session);
        self.order(ToEdge::Attach { conn, session });
        self.frame(conn, 0x8f, &[0; 4]);
        self.handle.send(ToData::Adopt(Box::new(adopted)));
    }

    pub fn frame(&self, conn: u64, kind: u32, body: &[u8]) {
        self.order(ToEdge::Frame {
            conn,
            vendor: 0xa4c,
            kind,
            body: body.to_vec(),
        });
    }
}

impl Gateway {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0", &Arc::new(AtomicU64::new(1_000_000)))
    }

    pub fn start_at(address: &str, clock: &Arc<AtomicU64>) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let udp = socket.local_addr().unwrap();
        Self {
            edge: Edge::start(Side::Gateway, vec![socket], clock),
            udp,
            next_conn: 100,
        }
    }

    /// A TLS connection that the front would hold now: handshake done, not handed over.
    pub fn connect(&mut self) -> (Client, Adopted) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = std::thread::spawn(move || Client::connect(stream));
        let (mut stream, peer) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::clone(&IDENTITY.server)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).unwrap();
        }
        stream.set_nonblocking(true).unwrap();
        self.next_conn += 1;
        let conn = self.next_conn;
        let client = client.join().unwrap();
        (
            client,
            Adopted {
                conn,
                session: SESSION,
                stream,
                tls: tls.into(),
                leftover: Vec::new(),
                framing: Framing::IfT { sequence: 500 },
                peer,
            },
        )
    }

    /// A session on TLS, its client past the configuration. Returns the connection's id as well.
    pub fn on_tls(&mut self, settings: Settings) -> (Client, u64) {
        self.open(settings);
        let (mut client, adopted) = self.connect();
        let conn = adopted.conn;
        self.attach(adopted);
        assert_eq!(client.frame().kind, 0x8f);
        self.sync();
        (client, conn)
    }

    /// A session on ESP. The client seals with `sa(0x1001, 1)`, the gateway with `sa(0x2001, 2)`.
    pub fn on_esp(&mut self, settings: Settings) -> (Client, u64) {
        let (mut client, conn) = self.on_tls(settings);
        self.install_out(1, sa(0x2001, 2));
        client.install(&sa(0x1001, 1), &sa(0x2001, 2));
        client.probe(self.udp);
        assert_eq!(client.esp().unwrap(), [0]);
        (client, conn)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.handle.send(ToData::Shutdown);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended
                .expect("the data thread panicked")
                .expect("the data thread failed");
        }
    }
}
