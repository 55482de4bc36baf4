//! One TLS tunnel connection: IF-T frames in TLS records, both ways, bounded.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use lockgate_dataplane::if_t;
use lockgate_dataplane::rate::TokenBucket;
use rustix::net::sockopt;
use rustls::Connection;
use socket2::SockRef;

use super::Side;
use super::pending::Message;

/// Vendor of the tunnel's messages.
pub(super) const VENDOR: u32 = 0x0a4c;
/// Kind of a message that is one inner packet.
pub(super) const DATA: u32 = 0x04;
/// Kind of the message by which a client says whether it uses ESP.
pub(super) const ESP_IN_USE: u32 = 0x05;
/// Kind of the message that ends the configuration: data may follow, not come before.
const END_OF_CONFIGURATION: u32 = 0x8f;
/// Kind of the message by which a client logs out.
pub(super) const LOGOUT: u32 = 0x89;
/// Kind of the message that ends a session with a text.
pub(super) const FATAL: u32 = 0x93;

/// Plaintext of one TLS record. openconnect 9.01 takes a frame only whole from one record.
pub(super) const RECORD: usize = 16_384;
/// Longest frame a client may send, header included: what openconnect itself accepts.
pub(super) const MAX_FRAME: usize = if_t::HEADER + 16_384;
/// Bytes of TLS that wait for the socket before data is dropped: beyond, packets only get old.
const QUEUE: usize = 256 << 10;
/// Beyond this even control messages find no room and the connection is given up.
const QUEUE_LIMIT: usize = 512 << 10;
/// TLS bytes a record has besides its plaintext, at most (TLS 1.2: header 5, nonce 8, tag 16).
const RECORD_OVERHEAD: usize = 29;
/// Unsent bytes the kernel holds, so that what waits, waits in our queue.
const NOT_SENT: u32 = 128 << 10;
/// Control messages a client may send a second, and at once. A tunnel sends a handful in its life.
const FRAMES_PER_SECOND: u32 = 10;
const FRAMES_AT_ONCE: u32 = 40;
/// When a silent connection is given up: silence before the first question, time between questions,
/// questions; and how long sent data may stay without acknowledgement, in ms: the same in all.
struct Patience(Duration, Duration, u32, u32);
/// A gateway loses nothing by waiting: a client that is away comes back by its session.
const GATEWAY: Patience = Patience(Duration::from_secs(60), Duration::from_secs(10), 3, 90_000);
/// A client's user waits for it; it comes back over another connection meanwhile.
const CLIENT: Patience = Patience(Duration::from_secs(10), Duration::from_secs(5), 2, 20_000);

/// Cause of a close: the front or the client left more than the shared buffer holds.
const TOO_MUCH: &str = "too much data at once";

/// What became of writing the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Empty,
    /// The socket takes no more; wait until it is writable.
    Blocked,
    Dead,
}

/// What a read from the socket brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes of plaintext now in the buffer (perhaps none), and of TLS read for them.
    Data { plain: usize, read: usize },
    /// Nothing there at the moment.
    Nothing,
    /// Closed or broken; the bytes of plaintext that came before.
    Closed { plain: usize, cause: &'static str },
}

pub(super) struct Conn {
    pub(super) id: u64,
    /// Slot of the session it carries; `None` once it is only being closed.
    pub(super) session: Option<usize>,
    /// Id of that session for the last message about this connection; 0 when it has ended.
    pub(super) owner: u64,
    pub(super) peer: SocketAddr,
    stream: TcpStream,
    tls: Connection,
    /// The incomplete frame at the end of what was read; holds no memory while empty.
    carry: Vec<u8>,
    /// Sequence number of the next outgoing frame.
    sequence: u32,
    /// TLS bytes that wait for the socket.
    queued: usize,
    /// The client has its whole configuration: data may be sent.
    ready: bool,
    side: Side,
    /// Whether the poll waits for the socket to become writable.
    pub(super) waits_to_write: bool,
    /// Why it is being closed, once it is.
    pub(super) closing: Option<&'static str>,
    /// Its end of the stream has been closed.
    finished: bool,
    frames: TokenBucket,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Conn({}, {}, {} bytes queued)",
            self.id, self.peer, self.queued
        )
    }
}

impl Conn {
    pub(super) fn new(adopted: super::Adopted, side: Side, now: u64) -> io::Result<Self> {
        let super::Adopted {
            conn,
            stream,
            mut tls,
            leftover,
            sequence,
            peer,
            ..
        } = adopted;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let Patience(idle, interval, count, unacknowledged) = match side {
            Side::Gateway => GATEWAY,
            Side::Client => CLIENT,
        };
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, idle)?;
        sockopt::set_tcp_keepintvl(&stream, interval)?;
        sockopt::set_tcp_keepcnt(&stream, count)?;
        sockopt::set_tcp_user_timeout(&stream, unacknowledged)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT)?;
        // The queue is bounded here: a bound inside rustls would cut a frame in two.
        tls.set_buffer_limit(None);
        Ok(Self {
            id: conn,
            session: None,
            owner: 0,
            peer,
            stream,
            tls,
            carry: leftover,
            sequence,
            queued: 0,
            // A client hands its connection over when it has read its configuration.
            ready: side == Side::Client,
            side,
            waits_to_write: false,
            closing: None,
            finished: false,
            frames: TokenBucket::new(FRAMES_PER_SECOND, FRAMES_AT_ONCE, now),
        })
    }

    /// Queues a control message in a record of its own. False when the connection must be given
    /// up: the client reads too slowly, or the message fits no record.
    pub(super) fn send(&mut self, message: &Message) -> bool {
        let length = if_t::HEADER + message.body.len();
        if length > RECORD || self.queued + length > QUEUE_LIMIT {
            return false;
        }
        let mut record = Vec::with_capacity(length);
        record.extend_from_slice(&if_t::encode_header(
            message.vendor,
            message.kind,
            length as u32,
            self.number(),
        ));
        record.extend_from_slice(&message.body);
        self.ready |= message.vendor == VENDOR && message.kind == END_OF_CONFIGURATION;
        self.queue(&record)
    }

    /// Whether inner packets may be queued now.
    #[inline]
    pub(super) fn takes_data(&self) -> bool {
        self.ready && self.closing.is_none() && self.queued < QUEUE
    }

    /// The client is past its configuration: it sends data.
    pub(super) fn set_ready(&mut self) {
        self.ready = true;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// TLS bytes that wait for the socket.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// The next outgoing sequence number.
    pub(super) fn number(&mut self) -> u32 {
        let number = self.sequence;
        self.sequence = number.wrapping_add(1);
        number
    }

    /// Queues one record of whole frames, at most [`RECORD`] bytes.
    pub(super) fn queue(&mut self, record: &[u8]) -> bool {
        self.queued += record.len() + RECORD_OVERHEAD;
        matches!(self.tls.writer().write(record), Ok(taken) if taken == record.len())
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Flush {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut &self.stream) {
                Ok(0) => return Flush::Dead,
                Ok(written) => self.queued = self.queued.saturating_sub(written),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Flush::Blocked,
                    io::ErrorKind::Interrupted => {}
                    _ => return Flush::Dead,
                },
            }
        }
        self.queued = 0;
        Flush::Empty
    }

    /// Reads from the socket by way of `net` and decrypts into `plain`, behind the incomplete
    /// frame of the last time. `plain` must have room for that, for `net` and for one record.
    pub(super) fn read(&mut self, net: &mut [u8], plain: &mut [u8]) -> Input {
        let read = match (&self.stream).read(net) {
            Ok(0) => {
                return Input::Closed {
                    plain: 0,
                    cause: self.side.peer_closed(),
                };
            }
            Ok(read) => read,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Input::Nothing,
                    io::ErrorKind::TimedOut => Input::Closed {
                        plain: 0,
                        cause: "timed out",
                    },
                    _ => Input::Closed {
                        plain: 0,
                        cause: "reset",
                    },
                };
            }
        };
        let Some(mut used) = self.unpack(plain) else {
            return Input::Closed {
                plain: 0,
                cause: TOO_MUCH,
            };
        };
        let mut rest = net.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            match self.tls.read_tls(&mut rest) {
                Ok(0) => {
                    return Input::Closed {
                        plain: used,
                        cause: self.side.peer_closed(),
                    };
                }
                Ok(_) => {}
                Err(_) => {
                    return Input::Closed {
                        plain: used,
                        cause: "TLS record too long",
                    };
                }
            }
            let state = self.tls.process_new_packets();
            match self.drain(plain, used) {
                Some(filled) => used = filled,
                None => {
                    return Input::Closed {
                        plain: used,
                        cause: TOO_MUCH,
                    };
                }
            }
            match state {
                Ok(state) if state.peer_has_closed() => {
                    return Input::Closed {
                        plain: used,
                        cause: self.side.peer_closed(),
                    };
                }
                Ok(_) => {}
                // What rustls has to say about it is queued and leaves with the next flush.
                Err(_) => {
                    return Input::Closed {
                        plain: used,
                        cause: "TLS failure",
                    };
                }
            }
        }
        Input::Data { plain: used, read }
    }

    /// What the front had read already: plaintext handed over, and what rustls still holds.
    pub(super) fn first_input(&mut self, plain: &mut [u8]) -> Input {
        match self.unpack(plain).and_then(|used| self.drain(plain, used)) {
            Some(plain) => Input::Data { plain, read: 0 },
            None => Input::Closed {
                plain: 0,
                cause: TOO_MUCH,
            },
        }
    }

    /// Puts the incomplete frame of the last read to the front of `plain`.
    fn unpack(&mut self, plain: &mut [u8]) -> Option<usize> {
        let carry = std::mem::take(&mut self.carry);
        plain.get_mut(..carry.len())?.copy_from_slice(&carry);
        Some(carry.len())
    }

    /// Moves decrypted bytes behind the first `used` of `plain`; `None` when it is full.
    fn drain(&mut self, plain: &mut [u8], mut used: usize) -> Option<usize> {
        loop {
            let space = plain.get_mut(used..).filter(|space| !space.is_empty())?;
            match self.tls.reader().read(space) {
                // Nothing left, or the end of the stream, which the caller sees for itself.
                Ok(0) | Err(_) => return Some(used),
                Ok(more) => used += more,
            }
        }
    }

    /// Keeps the incomplete frame at the end of what was read until the next read.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.carry = rest.to_vec();
    }

    /// Whether the client may send another control message.
    pub(super) fn grants_frame(&mut self, now: u64) -> bool {
        self.frames.take(now)
    }

    /// Nothing follows what is queued: says so in TLS, once, and closes this end of the stream
    /// when everything is written.
    pub(super) fn finish(&mut self) -> Flush {
        if !self.finished {
            self.finished = true;
            self.tls.send_close_notify();
        }
        let flush = self.flush();
        if flush == Flush::Empty {
            // Already closed by the client is as good.
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
        flush
    }

    /// Reads and forgets; true when the client has closed its end.
    pub(super) fn discard_input(&mut self, net: &mut [u8]) -> bool {
        match (&self.stream).read(net) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
