//! A connection before it has a session: messages up, messages down, then the hand-over.
//!
//! Both kinds of edge hold these conversations, one with clients, one with a gateway; [`Terms`]
//! says what differs. A Network Connect client is let in first ([`greeting`]).

mod greeting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockgate_dataplane::link::{FromEdge, ToEdge};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsStream;

use crate::data::{Adopted, Side, ToData};
use crate::framing::{DATA, Framing, Item, LONGEST_HEADER, Malformed, VENDOR};
use crate::front::refusal::{Refusal, Refusals};
use crate::link::DataPort;
use crate::link::directory::{Command, Directory, Registered};
use crate::link::uplink::Uplink;

/// Read at a time: one full TLS record.
const READ: usize = 16 * 1024;
/// After our goodbye, how long and how much more the peer may say before the socket closes: an
/// early close would reset the connection and destroy what it has not read yet.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024;

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
    /// the control plane like every frame out of turn, where it comes in frames.
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

/// A connection with which a conversation begins.
#[derive(Debug)]
pub struct Opening {
    pub stream: TlsStream<TcpStream>,
    pub framing: Framing,
    /// Plaintext that came right behind the HTTP head.
    pub unread: Vec<u8>,
    pub peer: SocketAddr,
}

/// Everything that happens on one connection from the 101 on, or from the request for Network Connect.
///
/// `first`: announces the connection.
pub async fn run(
    ties: Ties,
    terms: Terms,
    mut registered: Registered,
    opening: Opening,
    first: FromEdge,
) {
    let Opening {
        stream,
        framing,
        unread,
        peer,
    } = opening;
    let (conn, epoch) = (registered.conn, registered.epoch);
    // A link that has gone drops the connection's commands, which ends the conversation.
    let _ = ties.uplink.send_for(epoch, first).await;
    let mut talk = Conversation {
        ties: &ties,
        terms,
        peer,
        stream: Some(stream),
        framing,
        unread,
        deadline: Instant::now() + terms.time,
        received: Spent::default(),
        sent: Spent::default(),
    };
    let end = match talk.greet(&mut registered).await {
        Ok(()) => talk.serve(&mut registered).await,
        Err(end) => end,
    };
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
    framing: Framing,
    /// Plaintext, stripped, not yet cut into messages.
    unread: Vec<u8>,
    /// When the session must have been attached.
    deadline: Instant,
    received: Spent,
    sent: Spent,
}

impl Conversation<'_> {
    async fn serve(&mut self, registered: &mut Registered) -> End {
        loop {
            match self.pass_messages_up(registered).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            let command = match self.command_or_input(registered).await {
                Ok(Some(command)) => command,
                Ok(None) => continue,
                Err(end) => return end,
            };
            let done = match command {
                Command::Frame { vendor, kind, body } => {
                    self.write_message(vendor, kind, &body).await
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

    /// Waits for the control plane, which returns a command, or for more of `unread`.
    async fn command_or_input(
        &mut self,
        registered: &mut Registered,
    ) -> Result<Option<Command>, End> {
        let Some(stream) = &mut self.stream else {
            return Err(End::HandedOver);
        };
        // No message is larger than this, so `unread` holds less than twice as much.
        let room = READ.min(self.terms.body + LONGEST_HEADER);
        let held = self.unread.len();
        tokio::select! {
            command = registered.next() => Ok(Some(command)),
            read = read_some(stream, &mut self.unread, room) => match read {
                Ok(0) => Err(End::PeerClosed),
                Ok(_) => self.strip(held).map(|()| None),
                Err(_) => Err(End::PeerFailed),
            },
            () = sleep_until(self.deadline) => Err(End::Refused(Refusal::SignInTimeout)),
        }
    }

    /// Takes what only cuts the stream out of `unread`, from `held` on.
    fn strip(&mut self, held: usize) -> Result<(), End> {
        match self.framing.strip(&mut self.unread, held) {
            Ok(end) => {
                self.unread.truncate(end);
                Ok(())
            }
            Err(Malformed) => Err(End::Refused(Refusal::BadFrame)),
        }
    }

    /// Data that a client drops is not counted: a tunnel that comes back has packets waiting.
    async fn pass_messages_up(&mut self, registered: &Registered) -> Result<(), End> {
        loop {
            let (item, range) = match self.framing.next(&self.unread, self.terms.body) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(Malformed) => return Err(End::Refused(Refusal::BadFrame)),
            };
            let end = range.end;
            let (vendor, kind) = match (item, &self.framing, self.terms.side) {
                (Item::Message { vendor, kind }, ..) => (vendor, kind),
                (Item::Packet, _, Side::Client) => {
                    // The gateway may send packets as soon as it has sent the configuration.
                    self.unread.drain(..end);
                    self.ties.refusals.count(Refusal::EarlyData);
                    continue;
                }
                (Item::Packet, Framing::IfT { .. }, Side::Gateway) => (VENDOR, DATA),
                _ => return Err(End::Refused(Refusal::BadFrame)),
            };
            let body = self.unread.get(range).unwrap_or_default().to_vec();
            self.received.add(end, &self.terms)?;
            self.unread.drain(..end);
            self.send_up(registered, vendor, kind, body).await?;
        }
        if self.unread.is_empty() {
            // Most of its life a conversation waits for a person: hold no buffer meanwhile.
            self.unread = Vec::new();
        }
        Ok(())
    }

    async fn send_up(
        &self,
        registered: &Registered,
        vendor: u32,
        kind: u32,
        body: Vec<u8>,
    ) -> Result<(), End> {
        let frame = FromEdge::Frame {
            conn: registered.conn,
            vendor,
            kind,
            body,
        };
        let sent = self.ties.uplink.send_for(registered.epoch, frame).await;
        sent.map_err(|_| End::Refused(Refusal::NoControl))
    }

    async fn write_message(&mut self, vendor: u32, kind: u32, body: &[u8]) -> Result<(), End> {
        self.sent.add(LONGEST_HEADER + body.len(), &self.terms)?;
        let Some(records) = self.framing.message(vendor, kind, body) else {
            return Err(End::Refused(Refusal::BadFrame));
        };
        for record in records {
            self.write_record(&record).await?;
        }
        Ok(())
    }

    /// Writes one TLS record: the buffer of the TLS connection is empty before (the last write was
    /// flushed), and this is no more than a record holds.
    async fn write_record(&mut self, plaintext: &[u8]) -> Result<(), End> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let written = timeout(self.terms.write_time, async {
            stream.write_all(plaintext).await?;
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
        let held = self.unread.len();
        // Fails when the peer closed; the data thread will see that, and tell.
        let _ = std::io::Read::read_to_end(&mut tls.reader(), &mut self.unread);
        self.strip(held)?;
        let socket = socket.into_std().map_err(|_| End::PeerFailed)?;
        self.ties.data.send(ToData::Adopt(Box::new(Adopted {
            conn,
            session,
            stream: socket,
            tls,
            leftover: std::mem::take(&mut self.unread),
            framing: self.framing.clone(),
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
