//! The data thread: moves packets between the TUN, ESP in UDP and established TLS tunnels.
//!
//! It serves either end, a gateway with many sessions or a client with its one; what differs is
//! decided in few places ([`Side`]).
//!
//! Nouns: a *session* owns one inner address per family and a gate that judges every packet; a
//! *connection* is the TLS tunnel of a session, taken over from the front once the control plane
//! attached it; a *port* is a UDP socket that carries ESP, for all sessions of a gateway, for one of
//! a client. [`worker`] turns with one epoll; [`commands`] applies what the control plane says;
//! [`from_tun`] moves packets into the tunnels, [`to_tun`] out of them; [`lifecycle`] opens, watches
//! and ends sessions and connections. A gateway follows its clients between ESP and TLS
//! ([`follow`]); a client leads ([`lead`], [`life`], [`path_mtu`]).
//!
//! The thread shares nothing: orders come through [`DataHandle`], news leave through the function
//! given to [`spawn`]. It takes no locks, and in the steady state nothing of ours allocates per
//! packet (rustls does, once a TLS record). Every turn of every source has a budget, so that no
//! client can starve another.

mod batch;
mod clock;
mod commands;
mod conn;
mod conns;
mod counts;
mod esp;
mod farewell;
mod flows;
mod follow;
mod from_tun;
mod lead;
mod life;
mod lifecycle;
mod pace;
mod path;
mod path_mtu;
mod pending;
mod poll;
mod port;
mod probes;
mod record;
mod report;
mod session;
mod steering;
mod table;
mod timers;
mod to_tun;
mod tun;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use lockgate_dataplane::link::{FromEdge, SessionState, ToEdge};
use lockgate_dataplane::network::Network;

pub use clock::{Clock, Monotonic};
pub use farewell::Farewell;

use crate::framing::Framing;

/// An order to the data thread.
pub enum ToData {
    /// From the control plane: everything about sessions, and `frame` and `close_conn` for
    /// connections that were attached.
    Link(ToEdge),
    /// The front hands over the connection named in an earlier `attach`.
    Adopt(Box<Adopted>),
    /// The control plane is there: sessions live as long as it says.
    LinkUp,
    /// The control plane is gone: sessions live `ORPHAN_SECONDS` more at most.
    LinkDown,
    /// Asks for every session; everything sent before has been applied in the answer.
    ReportSessions(tokio::sync::oneshot::Sender<Vec<SessionState>>),
    /// Client edge only: the TUN device of the tunnel; replaces the former.
    Tun { fd: OwnedFd, takes_udp: bool },
    /// Client edge only: a UDP socket connected to the gateway of a session; replaces the former.
    Port { session: u64, socket: UdpSocket },
    /// Ends the thread; open connections are closed without a word.
    Shutdown,
}

/// An established connection on its way from the front to the data thread.
pub struct Adopted {
    pub conn: u64,
    pub session: u64,
    /// Nonblocking; the thread sets the TCP options it needs.
    pub stream: TcpStream,
    /// Handshake complete.
    pub tls: rustls::Connection,
    /// Plaintext already read from `tls` and stripped: whole or partial messages.
    pub leftover: Vec<u8>,
    pub framing: Framing,
    pub peer: SocketAddr,
}

impl std::fmt::Debug for ToData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link(_) => "Link",
            Self::Adopt(_) => "Adopt",
            Self::LinkUp => "LinkUp",
            Self::LinkDown => "LinkDown",
            Self::ReportSessions(_) => "ReportSessions",
            Self::Tun { .. } => "Tun",
            Self::Port { .. } => "Port",
            Self::Shutdown => "Shutdown",
        })
    }
}

impl std::fmt::Debug for Adopted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Adopted(conn {}, session {}, {})",
            self.conn, self.session, self.peer
        )
    }
}

/// Which end of the tunnels this edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Many sessions, found by inner destination.
    Gateway,
    /// One tunnel at a time: everything the TUN brings is for its gateway.
    Client,
}

impl Side {
    /// Cause of a connection's end that the other end closed.
    fn peer_closed(self) -> &'static str {
        match self {
            Self::Gateway => "closed by the client",
            Self::Client => "closed by the gateway",
        }
    }

    /// Cause of one that was closed on order.
    fn closed(self) -> &'static str {
        match self {
            Self::Gateway => "closed by the gateway",
            Self::Client => "closed by the client",
        }
    }

    /// Cause of one whose other end does not read.
    fn peer_is_slow(self) -> &'static str {
        match self {
            Self::Gateway => "the client reads too slowly",
            Self::Client => "the gateway reads too slowly",
        }
    }
}

/// What the thread works with, opened before privileges were dropped.
pub struct DataConfig {
    pub side: Side,
    /// TUN opened with IFF_TUN | IFF_NO_PI | IFF_VNET_HDR (10-byte header) and all receive
    /// offloads; made nonblocking here. A client edge gets its own later, by [`ToData::Tun`].
    pub tun: Option<OwnedFd>,
    /// Whether the kernel took the UDP offloads (TUN_F_USO4 and 6).
    pub tun_takes_udp: bool,
    /// Bound sockets for ESP; may be bound to the wildcard address.
    pub udp: Vec<UdpSocket>,
    /// Networks that only rules marked `reserved` reach: pools, the gateway's own addresses.
    pub reserved: Arc<[Network]>,
    pub clock: Box<dyn Clock>,
}

impl std::fmt::Debug for DataConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataConfig")
            .field("udp", &self.udp)
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

/// Gives orders to the data thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct DataHandle {
    orders: mpsc::Sender<ToData>,
    wake: Arc<OwnedFd>,
}

impl DataHandle {
    /// Queues an order and wakes the thread. False when the thread has ended.
    pub fn send(&self, order: ToData) -> bool {
        if self.orders.send(order).is_err() {
            return false;
        }
        // A full event counter means that the thread has a wake-up outstanding already.
        let _ = rustix::io::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        true
    }
}

/// Starts the data thread. `up` takes its messages for the control plane, says of each whether it
/// took it, and must not block.
///
/// The thread ends on `Shutdown`, or with an error when the TUN or the poll fails; whoever holds
/// the join handle must treat any end as the end of the process, since no session has a data path
/// without it.
pub fn spawn(
    config: DataConfig,
    up: impl FnMut(FromEdge) -> bool + Send + 'static,
) -> io::Result<(DataHandle, JoinHandle<io::Result<()>>)> {
    let (orders, inbox) = mpsc::channel();
    let wake = Arc::new(poll::wake_fd()?);
    let mut worker = worker::Worker::new(config, inbox, Arc::clone(&wake), Box::new(up))?;
    let thread = std::thread::Builder::new()
        .name("data".into())
        .spawn(move || worker.run())?;
    Ok((DataHandle { orders, wake }, thread))
}
