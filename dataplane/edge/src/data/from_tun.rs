//! From the TUN into the tunnels: one look-up and one judgement for a super-packet, then cut, seal,
//! send.
//!
//! ESP: every packet is sealed alone, in place, and equally long ones leave in one send. TLS:
//! whole frames share records. Both kinds of batch go on over several reads of the TUN as long as
//! the packets are for the same peer, and leave at the latest at the end of the turn.

use std::io;

use lockgate_dataplane::discard::Discard;
use lockgate_dataplane::esp::{IPV4, IPV6};
use lockgate_dataplane::segment::Segments;
use lockgate_dataplane::vnet::{self, VnetHeader};
use lockgate_dataplane::{icmp, ip, mss};

use super::Side;
use super::batch::Batch;
use super::counts::Counts;
use super::lifecycle::Book;
use super::port::Ports;
use super::record::Record;
use super::session::{Route, Session};
use super::tun::{self, Tun};

/// Reads and bytes of one turn: about a millisecond of work with the slowest cipher.
const READS: usize = 16;
const BYTES: usize = 256 << 10;

/// Inner packets and bytes that have gone into a tunnel.
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
pub(super) struct FromTun {
    packet: Box<[u8]>,
    /// One packet cut from a super-packet, to be quoted.
    quoted: Vec<u8>,
    batch: Batch,
    record: Record,
}

impl FromTun {
    pub(super) fn new() -> Self {
        Self {
            packet: vec![0; tun::READ].into(),
            quoted: Vec::new(),
            batch: Batch::new(),
            record: Record::new(),
        }
    }

    /// One turn of reading the TUN. Fails when the TUN is gone.
    pub(super) fn turn(&mut self, tun: &Tun, book: &mut Book, now: u64) -> io::Result<()> {
        let mut bytes = 0;
        for _ in 0..READS {
            let Some(length) = tun.read(&mut self.packet)? else {
                break;
            };
            if let Err(reason) = self.forward(length, tun, book, now) {
                book.counts.discard(reason);
            }
            bytes += length;
            if bytes >= BYTES || self.batch.blocked().is_some() || book.is_clogged(now) {
                break;
            }
        }
        self.record.finish(book, now);
        self.flush(book, now);
        Ok(())
    }

    /// Sends what waits for a socket.
    pub(super) fn flush(&mut self, book: &mut Book, now: u64) {
        self.batch.flush(&book.ports, &mut book.counts);
        if let Some(port) = self.batch.takes_too_large() {
            book.too_large(port, now);
        }
    }

    /// The port that must become writable before the next turn.
    pub(super) fn blocked(&self) -> Option<usize> {
        self.batch.blocked()
    }

    /// One super-packet of `length` bytes behind its vnet header.
    fn forward(
        &mut self,
        length: usize,
        tun: &Tun,
        book: &mut Book,
        now: u64,
    ) -> Result<(), Discard> {
        let Self {
            packet,
            quoted,
            batch,
            record,
        } = self;
        let frame = packet.get_mut(..length).ok_or(Discard::TooShort)?;
        let header = VnetHeader::parse(frame).ok_or(Discard::TooShort)?;
        let packet = frame.get_mut(vnet::LEN..).ok_or(Discard::TooShort)?;
        let destination = ip::destination(packet)?;
        let slot = match book.side {
            Side::Gateway => book.sessions.by_address(destination),
            Side::Client => book.sessions.newest(),
        };
        let slot = slot.ok_or(Discard::NoSession)?;
        let session = book.sessions.get_mut(slot).ok_or(Discard::NoSession)?;
        book.report.busy(slot, session);
        let verdict = session.judge_entering(packet, now);
        book.report.flows(session, now);
        let length = verdict?;
        let packet = packet.get_mut(..length).ok_or(Discard::BadLength)?;
        mss::clamp(packet, session.path_mtu, header.needs_checksum());
        let may_be_cut = icmp::may_be_cut(packet);
        let segments = Segments::new(&header, packet)?;
        session.entered(&segments, length);
        let oversize = segments.len_of(0) > usize::from(session.path_mtu);
        if oversize && !may_be_cut {
            if session.complaints.take(now) {
                complain(&segments, session.path_mtu, quoted, tun, &mut book.counts);
            }
            return Err(Discard::TooBig);
        }
        if oversize && segments.len_of(0) > usize::from(session.mtu) {
            return Err(Discard::TooBig);
        }
        let route = session
            .route(destination.is_ipv6(), oversize, now)
            .ok_or(Discard::NoTransport)?;
        let count = session.books_entering(&segments, now);
        if count < segments.count() {
            book.counts
                .discard_many(Discard::Rate, segments.count() - count);
        }
        let mut gone = Gone::default();
        let mut awaits_echo = false;
        let result = match route {
            Route::Esp => {
                let next_header = if destination.is_ipv6() { IPV6 } else { IPV4 };
                let result = seal(
                    (&segments, count),
                    next_header,
                    session,
                    batch,
                    &book.ports,
                    &mut book.counts,
                    &mut gone,
                );
                if gone.packets > 0
                    && let Some(lead) = session.path.lead()
                {
                    awaits_echo = lead.sent(now);
                }
                if session.esp.takes_rekey_notice() {
                    book.report.rekey_wanted(session.id);
                }
                result
            }
            Route::Tls(target) => frame_up(&segments, count, target, record, book, now, &mut gone),
        };
        if gone.packets > 0
            && let Some(session) = book.sessions.get_mut(slot)
        {
            session.active = now;
            session.traffic.packets_out += gone.packets;
            session.traffic.bytes_out += gone.bytes;
            if awaits_echo {
                book.refresh(slot, now);
            }
        }
        result
    }
}

/// Tells the sender of packets larger than `mtu` so: the first of them is quoted.
fn complain(
    segments: &Segments<'_>,
    mtu: u16,
    quoted: &mut Vec<u8>,
    tun: &Tun,
    counts: &mut Counts,
) {
    let mut message = [0; icmp::LONGEST];
    quoted.resize(segments.len_of(0), 0);
    segments.write(0, quoted);
    if let Some(length) = icmp::too_big(quoted, mtu, &mut message) {
        tun.write(message.get(..length).unwrap_or_default(), counts);
    }
}

/// Packets sealed at a time: CBC works on that many side by side, where one alone waits for itself.
const SIDE_BY_SIDE: usize = 8;

/// Seals the first `count` packets into the batch.
fn seal(
    (segments, count): (&Segments<'_>, usize),
    next_header: u8,
    session: &mut Session,
    batch: &mut Batch,
    ports: &Ports,
    counts: &mut Counts,
    gone: &mut Gone,
) -> Result<(), Discard> {
    let (Some(peer), Some(outbound)) = (session.esp.peer, &mut session.esp.outbound) else {
        return Err(Discard::NoTransport);
    };
    let key = &mut outbound.key;
    let mut at = 0;
    while at < count {
        // Only the last packet of a super-packet is shorter than the others.
        let longest = key.sealed_len(segments.len_of(at));
        let wanted = (count - at).min(SIDE_BY_SIDE);
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

/// Puts the first `count` packets as frames into the record.
fn frame_up(
    segments: &Segments<'_>,
    count: usize,
    target: usize,
    record: &mut Record,
    book: &mut Book,
    now: u64,
    gone: &mut Gone,
) -> Result<(), Discard> {
    for at in 0..count {
        let length = segments.len_of(at);
        segments.write(at, record.room(target, length, book, now)?);
        gone.add(length);
    }
    Ok(())
}
