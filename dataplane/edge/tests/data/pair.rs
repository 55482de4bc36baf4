//! A client's data thread against a gateway's, with all that lies between them in the test's hands.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockgate_dataplane::link::{FromEdge, Sa, Secret, Suite, ToEdge, Transport};
use lockgate_edge::data::{Adopted, Side, ToData};
use lockgate_edge::framing::Framing;

use crate::gateway::{DEADLINE, Edge, Gateway, IDENTITY, SESSION, Settings, sa};
use crate::packets::{CLIENT4, HOST4, udp};

/// A path for UDP that the test drives: nothing moves but in [`Relay::pump`].
pub struct Relay {
    near: UdpSocket,
    far: UdpSocket,
    client: Option<SocketAddr>,
    pub blocked_up: bool,
    pub blocked_down: bool,
    /// Longer datagrams are lost.
    pub widest: usize,
    /// Datagrams that came from the client, and the longest of them.
    pub seen: usize,
    pub longest: usize,
    /// Datagrams that came from the gateway, and the longest of them.
    pub returned: usize,
    pub longest_returned: usize,
}

impl Relay {
    fn new(gateway: SocketAddr) -> Self {
        let any = SocketAddr::new(gateway.ip(), 0);
        let [near, far] = [0, 1].map(|_| UdpSocket::bind(any).unwrap());
        far.connect(gateway).unwrap();
        for socket in [&near, &far] {
            socket.set_nonblocking(true).unwrap();
        }
        Self {
            near,
            far,
            client: None,
            blocked_up: false,
            blocked_down: false,
            widest: usize::MAX,
            seen: 0,
            longest: 0,
            returned: 0,
            longest_returned: 0,
        }
    }

    pub fn block(&mut self, blocked: bool) {
        (self.blocked_up, self.blocked_down) = (blocked, blocked);
    }

    /// Moves everything that is there; returns how much that was.
    pub fn pump(&mut self) -> usize {
        let mut buffer = [0; 65_536];
        for moved in 0.. {
            let mut idle = true;
            match self.near.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    idle = false;
                    self.seen += 1;
                    self.longest = self.longest.max(length);
                    self.client = Some(from);
                    if !self.blocked_up && length <= self.widest {
                        self.far.send(&buffer[..length]).unwrap();
                    }
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            match (self.far.recv(&mut buffer), self.client) {
                (Ok(length), Some(client)) => {
                    idle = false;
                    self.returned += 1;
                    self.longest_returned = self.longest_returned.max(length);
                    if !self.blocked_down && length <= self.widest {
                        self.near.send_to(&buffer[..length], client).unwrap();
                    }
                }
                (Ok(_), None) => panic!("an answer without a question"),
                (Err(error), _) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if idle {
                return moved;
            }
        }
        0
    }
}

pub struct Pair {
    pub gateway: Gateway,
    pub client: Edge,
    pub relay: Relay,
    clock: Arc<AtomicU64>,
    next_conn: u64,
}

/// What a pair is set up with.
pub struct Tunnel {
    pub suite: Suite,
    pub extended: bool,
    pub cross_family: bool,
    pub start_esp: bool,
    /// Where the gateway's UDP socket is bound.
    pub address: &'static str,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            suite: Suite::Aes256Gcm,
            extended: true,
            cross_family: true,
            start_esp: true,
            address: "127.0.0.1:0",
        }
    }
}

/// Keys for packets under one SPI.
fn keys(suite: Suite, spi: u32) -> Sa {
    let gcm = matches!(suite, Suite::Aes128Gcm | Suite::Aes256Gcm);
    Sa {
        suite,
        esn: gcm,
        secret: Secret((0..64).map(|byte| byte ^ spi as u8).collect()),
        ..sa(spi, 0)
    }
}

impl Pair {
    pub fn start(address: &str) -> Self {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let gateway = Gateway::start_at(address, &clock);
        Self {
            relay: Relay::new(gateway.udp),
            client: Edge::start(Side::Client, vec![], &clock),
            gateway,
            clock,
            next_conn: 500,
        }
    }

    /// A tunnel whose ESP is proven (if it is started).
    pub fn connected(tunnel: Tunnel) -> Self {
        let mut pair = Self::start(tunnel.address);
        pair.open(1, &tunnel);
        if tunnel.start_esp {
            pair.until(|pair| pair.client.session().transport == Transport::Esp);
        }
        if tunnel.start_esp && tunnel.extended {
            // The test of the path is the last thing that happens by itself.
            pair.until(|pair| pair.relay.longest_returned > 1400);
        }
        pair.step(0);
        pair
    }

    /// What the service and the control plane order for a generation.
    pub fn open(&mut self, generation: u32, tunnel: &Tunnel) {
        let (up, down) = (0x1000 + generation, 0x2000 + generation);
        let settings = |spi| Settings {
            generation,
            esp_in: Some(keys(tunnel.suite, spi)),
            cross_family: tunnel.cross_family,
            ..Settings::default()
        };
        self.client.open(settings(down));
        self.gateway.open(settings(up));
        let socket = self.socket();
        self.give_port(socket);
        self.connect();
        self.gateway
            .install_out(generation, keys(tunnel.suite, down));
        self.client.install_out(generation, keys(tunnel.suite, up));
        if tunnel.start_esp {
            self.client.order(ToEdge::StartEsp {
                session: SESSION,
                extended: tunnel.extended,
            });
        }
        self.step(0);
    }

    /// A socket connected to the path to the gateway.
    pub fn socket(&self) -> UdpSocket {
        let near = self.relay.near.local_addr().unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(near.ip(), 0)).unwrap();
        socket.connect(near).unwrap();
        socket
    }

    pub fn give_port(&self, socket: UdpSocket) {
        self.client.handle.send(ToData::Port {
            session: SESSION,
            socket,
        });
    }

    /// A TLS connection that both ends carry the session over.
    pub fn connect(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (there, peer) = listener.accept().unwrap();
        self.next_conn += 1;
        let conn = self.next_conn;
        let adopted = move |mut stream: TcpStream, mut tls: rustls::Connection, peer| {
            while tls.is_handshaking() {
                tls.complete_io(&mut stream).unwrap();
            }
            Adopted {
                conn,
                session: SESSION,
                stream,
                tls,
                leftover: Vec::new(),
                framing: Framing::IfT { sequence: 7 },
                peer,
            }
        };
        let server = std::thread::spawn(move || {
            let tls = rustls::ServerConnection::new(Arc::clone(&IDENTITY.server)).unwrap();
            adopted(there, tls.into(), peer)
        });
        let tls = rustls::ClientConnection::new(
            Arc::clone(&IDENTITY.client),
            "gw.test".try_into().unwrap(),
        );
        let peer = here.peer_addr().unwrap();
        let here = adopted(here, tls.unwrap().into(), peer);
        self.gateway.attach(server.join().unwrap());
        self.client.order(ToEdge::Attach {
            conn,
            session: SESSION,
        });
        self.client.handle.send(ToData::Adopt(Box::new(here)));
        self.client.sync();
        self.gateway.sync();
    }

    /// The connection that was made last.
    pub fn conn(&self) -> u64 {
        self.next_conn
    }

    /// Turns the clock and lets everything settle that follows from it.
    pub fn step(&mut self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
        let mut quiet = 0;
        let end = Instant::now() + DEADLINE;
        while quiet < 2 {
            assert!(Instant::now() < end, "it does not settle");
            self.client.sync();
            let up = self.relay.pump();
            self.gateway.sync();
            quiet = if up + self.relay.pump() == 0 {
                quiet + 1
            } else {
                0
            };
        }
    }

    pub fn steps(&mut self, count: usize, ms: u64) {
        for _ in 0..count {
            self.step(ms);
        }
    }

    /// Waits for a fact without turning the clock.
    pub fn until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < end, "it did not become so");
            std::thread::sleep(Duration::from_millis(1));
            self.step(0);
        }
    }

    /// What carries packets, as either end sees it.
    pub fn transports(&self) -> (Transport, Transport) {
        (
            self.client.session().transport,
            self.gateway.session().transport,
        )
    }

    /// A packet each way must arrive; both ends agree on the transport.
    pub fn talk(&mut self) {
        self.talk_between(CLIENT4, HOST4);
    }

    pub fn talk_between(&mut self, client: &str, host: &str) {
        let (there, back) = (udp(client, host, b"question"), udp(host, client, b"answer"));
        self.client.put(&there);
        assert_eq!(self.take_there(), there);
        self.gateway.put(&back);
        assert_eq!(self.take_back(), back);
    }

    /// The next packet that comes out of the gateway's TUN.
    pub fn take_there(&mut self) -> Vec<u8> {
        self.take(|pair| pair.gateway.try_take())
    }

    /// The next packet that comes out of the client's TUN.
    pub fn take_back(&mut self) -> Vec<u8> {
        self.take(|pair| pair.client.try_take())
    }

    fn take(&mut self, take: impl Fn(&Self) -> Option<Vec<u8>>) -> Vec<u8> {
        let mut taken = None;
        self.until(|pair| {
            taken = take(pair);
            taken.is_some()
        });
        taken.unwrap()
    }

    /// The MTUs reported to the service so far.
    pub fn mtus(&self) -> Vec<u16> {
        self.client
            .all_news()
            .iter()
            .filter_map(|news| match news {
                FromEdge::PathMtu { mtu, .. } => Some(*mtu),
                _ => None,
            })
            .collect()
    }
}
