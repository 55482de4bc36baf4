//! From the TUN to clients: one look-up and one judgement for a super-packet, then cut, seal, send.
//!
//! ESP: every packet is sealed alone, in place, and equally long ones leave in one send. TLS:
//! whole frames share records. Both kinds of batch go on over several reads of the TUN as long as
//! the packets are for the same client, and leave at the latest at the end of the turn.

use std::io;

use lockgate_dataplane::discard::Discard;
use lockgate_dataplane::esp::{IPV4, IPV6};
use lockgate_dataplane::segment::Segments;
use lockgate_dataplane::vnet::{self, VnetHeader};
use lockgate_dataplane::{ip, mss};

use super::batch::Batch;
use super::counts::Counts;
use super::lifecycle::Book;
use super::port::{Peer, Port};
use super::record::Record;
use super::session::{Route, Session};
use super::tun::{self, Tun};

/// Reads and bytes of one turn: about a millisecond of work with the slowest cipher.
const READS: usize = 16;
const BYTES: usize = 256 << 10;

/// Inner packets and bytes that have gone to a client.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    packets: u64,
    bytes: u64,
}

impl Gone {
    fn add(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

#[derive(Debug)]
pub(super) struct Downlink {
    packet: Box<[u8]>,
    batch: Batch,
    record: Record,
}

impl Downlink {
    pub(super) fn new() -> Self {
        Self {
            packet: vec![0; tun::READ].into(),
            batch: Batch::new(),
            record: Record::new(),
        }
    }

    /// One turn of reading the TUN. Fails when the TUN is gone.
    pub(super) fn turn(
        &mut self,
        tun: &Tun,
        ports: &[Port],
        book: &mut Book,
        now: u64,
    ) -> io::Result<()> {
        let mut bytes = 0;
        for _ in 0..READS {
            let Some(length) = tun.read(&mut self.packet)? else {
                break;
            };
            if let Err(reason) = self.forward(length, ports, book, now) {
                book.counts.discard(reason);
            }
            bytes += length;
            if bytes >= BYTES || self.batch.blocked().is_some() {
                break;
            }
        }
        self.record.finish(book, now);
        self.batch.flush(ports, &mut book.counts);
        Ok(())
    }

    /// Sends what waits for a socket.
    pub(super) fn flush(&mut self, ports: &[Port], counts: &mut Counts) {
        self.batch.flush(ports, counts);
    }

    /// The port that must become writable before the next turn.
    pub(super) fn blocked(&self) -> Option<usize> {
        self.batch.blocked()
    }

    /// One super-packet of `length` bytes behind its vnet header.
    fn forward(
        &mut self,
        length: usize,
        ports: &[Port],
        book: &mut Book,
        now: u64,
    ) -> Result<(), Discard> {
        let Self {
            packet,
            batch,
            record,
        } = self;
        let frame = packet.get_mut(..length).ok_or(Discard::TooShort)?;
        let header = VnetHeader::parse(frame).ok_or(Discard::TooShort)?;
        let packet = frame.get_mut(vnet::LEN..).ok_or(Discard::TooShort)?;
        let destination = ip::destination(packet)?;
        let slot = book
            .sessions
            .by_address(destination)
            .ok_or(Discard::NoSession)?;
        let session = book.sessions.get_mut(slot).ok_or(Discard::NoSession)?;
        book.report.busy(slot, session);
        let length = session
            .gate
            .inbound(packet, now)
            .inspect_err(|_| session.traffic.dropped += 1)?;
        let packet = packet.get_mut(..length).ok_or(Discard::BadLength)?;
        mss::clamp(packet, session.mtu, header.needs_checksum());
        let route = session
            .route(destination.is_ipv6(), now)
            .ok_or(Discard::NoTransport)?;
        let segments = Segments::new(&header, packet)?;
        if segments.len_of(0) > usize::from(session.mtu) {
            return Err(Discard::TooBig);
        }
        let mut gone = Gone::default();
        let result = match route {
            Route::Esp => {
                let next_header = if destination.is_ipv6() { IPV6 } else { IPV4 };
                let result = seal(
                    &segments,
                    next_header,
                    session,
                    batch,
                    ports,
                    &mut book.counts,
                    &mut gone,
                );
                if session.esp.takes_rekey_notice() {
                    book.report.rekey_wanted(session.id);
                }
                result
            }
            Route::Tls(target) => frame_up(&segments, target, record, book, now, &mut gone),
        };
        if gone.packets > 0
            && let Some(session) = book.sessions.get_mut(slot)
        {
            session.active = now;
            session.traffic.packets_out += gone.packets;
            session.traffic.bytes_out += gone.bytes;
        }
        result
    }
}

/// Packets sealed at a time: CBC works on that many side by side, where one alone waits for itself.
const SIDE_BY_SIDE: usize = 8;

/// Seals every packet into the batch.
fn seal(
    segments: &Segments<'_>,
    next_header: u8,
    session: &mut Session,
    batch: &mut Batch,
    ports: &[Port],
    counts: &mut Counts,
    gone: &mut Gone,
) -> Result<(), Discard> {
    let (Some(peer), Some(outbound)) = (session.esp.peer, &mut session.esp.outbound) else {
        return Err(Discard::NoTransport);
    };
    let key = &mut outbound.key;
    let mut at = 0;
    while at < segments.count() {
        // Only the last packet of a super-packet is shorter than the others.
        let longest = key.sealed_len(segments.len_of(at));
        let wanted = (segments.count() - at).min(SIDE_BY_SIDE);
        let (room, fit) = batch.room(peer, longest, wanted, ports, counts)?;
        let mut lengths = [0; SIDE_BY_SIDE];
        let lengths = lengths.get_mut(..fit).unwrap_or_default();
        let (mut total, mut last) = (0, 0);
        for length in lengths.iter_mut() {
            *length = segments.len_of(at);
            segments.write(
                at,
                room.get_mut(total + key.headroom()..).unwrap_or_default(),
            );
            last = key.sealed_len(*length);
            total += last;
            at += 1;
        }
        key.seal_batch(room, lengths, next_header)
            .map_err(|_| Discard::Exhausted)?;
        batch.add(fit, total, last);
        lengths.iter().for_each(|length| gone.add(*length));
    }
    Ok(())
}

/// Puts every packet as a frame into the record.
fn frame_up(
    segments: &Segments<'_>,
    target: usize,
    record: &mut Record,
    book: &mut Book,
    now: u64,
    gone: &mut Gone,
) -> Result<(), Discard> {
    for at in 0..segments.count() {
        let length = segments.len_of(at);
        segments.write(at, record.room(target, length, book, now)?);
        gone.add(length);
    }
    Ok(())
}

/// Answers a probe the way it asks: one zero byte under our keys. False without keys.
pub(super) fn answer_probe(
    session: &mut Session,
    peer: &Peer,
    next_header: u8,
    ports: &[Port],
) -> bool {
    let Some(outbound) = &mut session.esp.outbound else {
        return false;
    };
    let key = &mut outbound.key;
    let mut buffer = [0; 128];
    let (sealed, start) = (key.sealed_len(1), key.headroom());
    // The payload is zero already.
    debug_assert!(start < sealed && sealed <= buffer.len());
    if let Some(space) = buffer.get_mut(..sealed)
        && key.seal(space, 1, next_header).is_ok()
        && let Some(port) = ports.get(peer.port)
    {
        // A lost answer is asked for again.
        let _ = port.send(peer, space, sealed);
    }
    true
}
