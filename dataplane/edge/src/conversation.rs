//! An IF-T connection before it has a session: frames up, frames down, then the hand-over.
//!
//! Both kinds of edge hold these conversations, one with clients, one with a gateway; [`Terms`]
//! says what differs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockgate_dataplane::if_t;
use lockgate_dataplane::link::{FromEdge, ToEdge};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsStream;

use crate::data::{Adopted, Side, ToData};
use crate::front::refusal::{Refusal, Refusals};
use crate::link::DataPort;
use crate::link::directory::{Command, Directory, Registered};
use crate::link::uplink::Uplink;

/// First sequence number of a gateway; real ones start near it, clients do not check it.
const GATEWAY_SEQUENCE: u32 = 0x1f4;
/// First sequence number of a client, as openconnect counts.
const CLIENT_SEQUENCE: u32 = 0;
/// Largest TLS plaintext record. Peers take one record as one frame, so a frame that does not
/// fit one cannot be sent to them at this stage.
const RECORD: usize = 16 * 1024;
/// Read at a time: one full TLS record.
const READ: usize = 16 * 1024;
/// After our goodbye, how long and how much more the peer may say before the socket closes: an
/// early close would reset the connection and destroy what it has not read yet.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024;
/// Vendor and kind of a message that is one inner packet.
const DATA: (u32, u32) = (0x0a4c, 4);

/// What a conversation works with; cheap to clone.
#[derive(Clone)]
pub struct Ties {
    pub directory: Arc<Directory>,
    pub uplink: Uplink,
    pub data: Arc<dyn DataPort>,
    pub refusals: Arc<Refusals>,
}

impl std::fmt::Debug for Ties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ties").finish_non_exhaustive()
    }
}

/// What a peer may do before its connection is attached.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Which end we are. A client drops data that overtakes its `attach`; a gateway shows it to
    /// the control plane like every frame out of turn.
    pub side: Side,
    /// Frames and bytes in each direction.
    pub frames: u32,
    pub bytes: usize,
    /// Longest body of one frame.
    pub body: usize,
    /// From the first byte to `attach`.
    pub time: Duration,
    /// For one frame to be written.
    pub write_time: Duration,
}

/// How a conversation ended.
enum End {
    /// The data thread has the connection now.
    HandedOver,
    /// Said goodbye because our side wanted that.
    Closed,
    PeerClosed,
    PeerFailed,
    Refused(Refusal),
}

impl End {
    /// The `cause` in `conn_closed`: a fixed set of names.
    fn cause(&self, side: Side) -> &'static str {
        match (self, side) {
            (Self::HandedOver, _) => "handed_over",
            (Self::Closed, Side::Gateway) | (Self::PeerClosed, Side::Client) => "closed_by_gateway",
            (Self::PeerClosed, Side::Gateway) | (Self::Closed, Side::Client) => "closed_by_client",
            (Self::PeerFailed, _) => "connection_lost",
            (Self::Refused(refusal), _) => refusal.name(),
        }
    }
}

/// Everything that happens on one connection from the 101 on.
///
/// `unread`: plaintext that came right behind the HTTP head. `first`: announces the connection.
pub async fn run(
    ties: Ties,
    terms: Terms,
    mut registered: Registered,
    stream: TlsStream<TcpStream>,
    unread: Vec<u8>,
    first: FromEdge,
    peer: SocketAddr,
) {
    let (conn, epoch) = (registered.conn, registered.epoch);
    // A link that has gone drops the connection's commands, which ends the conversation.
    let _ = ties.uplink.send_for(epoch, first).await;
    let mut talk = Conversation {
        ties: &ties,
        terms,
        peer,
        stream: Some(stream),
        unread,
        sequence: match terms.side {
            Side::Gateway => GATEWAY_SEQUENCE,
            Side::Client => CLIENT_SEQUENCE,
        },
        received: Spent::default(),
        sent: Spent::default(),
    };
    let end = talk.serve(&mut registered).await;
    if let (End::Refused(refusal), false) = (&end, is_counted(&end)) {
        ties.refusals.count(*refusal);
    }
    if !matches!(end, End::HandedOver) {
        ties.directory.forget(conn);
        if registered.close() {
            // The data thread waits for a connection that will not come.
            ties.data.send(ToData::Link(ToEdge::CloseConn { conn }));
        }
        let cause = end.cause(terms.side).to_owned();
        let _ = ties
            .uplink
            .send_for(
                epoch,
                FromEdge::ConnClosed {
                    conn,
                    session: 0,
                    cause,
                },
            )
            .await;
        talk.goodbye(&end).await;
    }
}

/// The directory counts what it refuses itself.
fn is_counted(end: &End) -> bool {
    matches!(end, End::Refused(Refusal::QueueFull))
}

/// Frames and bytes of one direction.
#[derive(Default)]
struct Spent {
    frames: u32,
    bytes: usize,
}

impl Spent {
    fn add(&mut self, bytes: usize, terms: &Terms) -> Result<(), End> {
        self.frames += 1;
        self.bytes += bytes;
        if self.frames > terms.frames {
            return Err(End::Refused(Refusal::SignInFrames));
        }
        if self.bytes > terms.bytes {
            return Err(End::Refused(Refusal::SignInBytes));
        }
        Ok(())
    }
}

struct Conversation<'a> {
    ties: &'a Ties,
    terms: Terms,
    peer: SocketAddr,
    /// Taken by the hand-over.
    stream: Option<TlsStream<TcpStream>>,
    /// Plaintext not yet cut into frames.
    unread: Vec<u8>,
    sequence: u32,
    received: Spent,
    sent: Spent,
}

impl Conversation<'_> {
    async fn serve(&mut self, registered: &mut Registered) -> End {
        let deadline = Instant::now() + self.terms.time;
        loop {
            match self.pass_frames_up(registered).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            let Some(stream) = &mut self.stream else {
                return End::HandedOver;
            };
            // No frame is larger than this, so `unread` holds less than twice as much.
            let room = READ.min(self.terms.body + if_t::HEADER);
            let command = tokio::select! {
                command = registered.next() => command,
                read = read_some(stream, &mut self.unread, room) => match read {
                    Ok(0) => return End::PeerClosed,
                    Ok(_) => continue,
                    Err(_) => return End::PeerFailed,
                },
                () = sleep_until(deadline) => return End::Refused(Refusal::SignInTimeout),
            };
            let done = match command {
                Command::Frame { vendor, kind, body } => {
                    self.write_frame(vendor, kind, &body).await
                }
                Command::Attach { session } => self.hand_over(registered.conn, session).await,
                Command::Close => Err(End::Closed),
                Command::Drop(refusal) => Err(End::Refused(refusal)),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Data that a client drops is not counted: a tunnel that comes back has packets waiting.
    async fn pass_frames_up(&mut self, registered: &Registered) -> Result<(), End> {
        let (conn, epoch) = (registered.conn, registered.epoch);
        loop {
            let (header, range) = match if_t::next_frame(&self.unread, self.terms.body) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => return Err(End::Refused(Refusal::BadFrame)),
            };
            let end = range.end;
            if self.terms.side == Side::Client && (header.vendor, header.kind) == DATA {
                // The gateway may send packets as soon as it has sent the configuration.
                self.unread.drain(..end);
                self.ties.refusals.count(Refusal::EarlyData);
                continue;
            }
            let body = self.unread.get(range).unwrap_or_default().to_vec();
            self.received.add(end, &self.terms)?;
            self.unread.drain(..end);
            let frame = FromEdge::Frame {
                conn,
                vendor: header.vendor,
                kind: header.kind,
                body,
            };
            if self.ties.uplink.send_for(epoch, frame).await.is_err() {
                return Err(End::Refused(Refusal::NoControl));
            }
        }
        if self.unread.is_empty() {
            // Most of its life a conversation waits for a person: hold no buffer meanwhile.
            self.unread = Vec::new();
        }
        Ok(())
    }

    /// One frame, one TLS record: the buffer of the TLS connection is empty before (the last
    /// write was flushed), and a record holds 16 KiB.
    async fn write_frame(&mut self, vendor: u32, kind: u32, body: &[u8]) -> Result<(), End> {
        let total = if_t::HEADER + body.len();
        self.sent.add(total, &self.terms)?;
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if total > RECORD {
            return Err(End::Refused(Refusal::BadFrame));
        }
        let length = u32::try_from(total).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(total);
        frame.extend_from_slice(&if_t::encode_header(vendor, kind, length, self.sequence));
        frame.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        let written = timeout(self.terms.write_time, async {
            stream.write_all(&frame).await?;
            stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::PeerFailed),
            Err(_) => Err(End::Refused(Refusal::WriteStalled)),
        }
    }

    /// Takes the connection out of the event loop and gives it to the data thread.
    ///
    /// Nothing is lost on the way. Outgoing: every frame was flushed. Incoming: tokio-rustls
    /// (0.26) keeps no bytes outside the two parts, since its reads go from the socket straight
    /// into the rustls connection; ciphertext of an unfinished record stays in there, and what
    /// is decrypted already is read out here.
    async fn hand_over(&mut self, conn: u64, session: u64) -> Result<(), End> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        if !matches!(
            timeout(self.terms.write_time, stream.flush()).await,
            Ok(Ok(()))
        ) {
            return Err(End::PeerFailed);
        }
        let (socket, mut tls): (_, rustls::Connection) = match stream {
            TlsStream::Client(stream) => {
                let (socket, tls) = stream.into_inner();
                (socket, tls.into())
            }
            TlsStream::Server(stream) => {
                let (socket, tls) = stream.into_inner();
                (socket, tls.into())
            }
        };
        // Fails when the peer closed; the data thread will see that, and tell.
        let _ = std::io::Read::read_to_end(&mut tls.reader(), &mut self.unread);
        let socket = socket.into_std().map_err(|_| End::PeerFailed)?;
        self.ties.data.send(ToData::Adopt(Box::new(Adopted {
            conn,
            session,
            stream: socket,
            tls,
            leftover: std::mem::take(&mut self.unread),
            sequence: self.sequence,
            peer: self.peer,
        })));
        Err(End::HandedOver)
    }

    async fn goodbye(self, end: &End) {
        let Some(mut stream) = self.stream else {
            return;
        };
        if !matches!(end, End::Closed | End::PeerClosed) {
            return;
        }
        if timeout(LINGER, stream.shutdown()).await.is_err() {
            return;
        }
        let _ = timeout(LINGER, async {
            let mut left = LINGER_BYTES;
            let mut ignored = Vec::new();
            while left > 0 {
                ignored.clear();
                match read_some(&mut stream, &mut ignored, left.min(4096)).await {
                    Ok(count) if count > 0 => left -= count,
                    _ => break,
                }
            }
        })
        .await;
    }
}

/// Appends at most `most` bytes; without a byte the buffer stays as it is, unallocated.
async fn read_some(
    stream: &mut TlsStream<TcpStream>,
    buffer: &mut Vec<u8>,
    most: usize,
) -> std::io::Result<usize> {
    use tokio::io::AsyncBufReadExt;
    let available = stream.fill_buf().await?;
    let count = available.len().min(most);
    buffer.extend_from_slice(available.get(..count).unwrap_or_default());
    stream.consume(count);
    Ok(count)
}
