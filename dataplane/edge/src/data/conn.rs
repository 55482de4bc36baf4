//! One TLS tunnel connection: messages and packets in TLS records, both ways, bounded.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use lockgate_dataplane::rate::TokenBucket;
use rustix::net::sockopt;
use rustls::Connection;
use socket2::SockRef;

use super::Side;
use super::farewell::Farewell;
use super::pending::Message;
use crate::framing::{self, Framing, Item, Malformed};

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
/// The same: what came cannot be cut into messages.
pub(super) const MALFORMED: &str = "impossible frame length";

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
    /// The incomplete message at the end of what was read; holds no memory while empty.
    carry: Vec<u8>,
    framing: Framing,
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
            framing,
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
        // The queue is bounded here: a bound inside rustls would cut a message in two.
        tls.set_buffer_limit(None);
        Ok(Self {
            id: conn,
            session: None,
            owner: 0,
            peer,
            stream,
            tls,
            carry: leftover,
            framing,
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

    /// Queues a control message in TLS records of its own. False when the connection must be given
    /// up: the client reads too slowly, or could not take the message.
    pub(super) fn send(&mut self, message: &Message) -> bool {
        let Message { vendor, kind, body } = message;
        let records = self.framing.message(*vendor, *kind, body);
        self.ready |= self.framing.opens_data(*vendor, *kind);
        self.queue_all(records)
    }

    /// Queues what a client is told when its session ends. False as with [`send`](Self::send).
    pub(super) fn say_farewell(&mut self, farewell: &Farewell) -> bool {
        let records = self.framing.farewell(farewell);
        self.queue_all(records)
    }

    fn queue_all(&mut self, records: Option<Vec<Vec<u8>>>) -> bool {
        let Some(records) = records else {
            return false;
        };
        let length: usize = records.iter().map(Vec::len).sum();
        self.queued + length <= QUEUE_LIMIT && records.iter().all(|record| self.queue(record))
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

    /// Writes what stands in front of an inner packet, as [`Framing::head`].
    #[inline]
    pub(super) fn head(&mut self, length: usize, room: &mut [u8]) -> Option<usize> {
        self.framing.head(length, room)
    }

    /// The first item of what was read, as [`Framing::next`].
    #[inline]
    pub(super) fn next(&mut self, plain: &[u8]) -> Result<Option<(Item, Range<usize>)>, Malformed> {
        self.framing.next(plain, framing::MAX_BODY)
    }

    pub(super) fn framing(&self) -> &Framing {
        &self.framing
    }

    /// Queues the plaintext of one TLS record, at most [`framing::RECORD`] bytes.
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
    /// message of the last time. `plain` must have room for that, for `net` and for one record.
    pub(super) fn read(&mut self, net: &mut [u8], plain: &mut [u8]) -> Input {
        let carried = self.carry.len();
        let input = self.decrypt(net, plain);
        self.strip(input, carried, plain)
    }

    fn decrypt(&mut self, net: &mut [u8], plain: &mut [u8]) -> Input {
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
        let carried = self.carry.len();
        let input = match self.unpack(plain).and_then(|used| self.drain(plain, used)) {
            Some(plain) => Input::Data { plain, read: 0 },
            None => Input::Closed {
                plain: 0,
                cause: TOO_MUCH,
            },
        };
        self.strip(input, carried, plain)
    }

    /// Takes what only cuts the stream out of new plaintext, which is behind what was `carried`.
    fn strip(&mut self, mut input: Input, carried: usize, plain: &mut [u8]) -> Input {
        if let Input::Data { plain: used, .. } | Input::Closed { plain: used, .. } = &mut input
            && *used > carried
        {
            let new = plain.get_mut(..*used).unwrap_or_default();
            match self.framing.strip(new, carried) {
                Ok(end) => *used = end,
                Err(Malformed) => {
                    return Input::Closed {
                        plain: carried,
                        cause: MALFORMED,
                    };
                }
            }
        }
        input
    }

    /// Puts the incomplete message of the last read to the front of `plain`.
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

    /// Keeps the incomplete message at the end of what was read until the next read.
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
