//! Out of the tunnels to the TUN: open or decrypt, judge, glue packets of one flow together, write.

use std::io;
use std::ops::Range;

use lockgate_dataplane::discard::Discard;
use lockgate_dataplane::esp::{self, IPV4, IPV6};
use lockgate_dataplane::link::EndCause;
use lockgate_dataplane::mss;
use lockgate_dataplane::probe::{self, Probe};
use quinn_udp::RecvMeta;

use super::Side;
use super::conn::{Input, MALFORMED};
use super::counts::{Counts, Failure};
use super::esp::EarlyProbe;
use super::lifecycle::Book;
use super::port::{Peer, RECEIVE_BUFFER, RECEIVE_BUFFERS};
use super::probes;
use super::report::Report;
use super::session::Session;
use super::tun::Tun;
use crate::framing::{Item, LONGEST_HEADER, MAX_BODY, Malformed, RECORD};

/// Receives and bytes of one turn of a UDP socket.
const RECEIVES: usize = 4;
const PORT_BYTES: usize = 256 << 10;
/// Bytes of TLS that one connection may bring in one turn.
const CONN_BYTES: usize = 128 << 10;
/// Bytes of one read from a TLS socket.
const NET: usize = 64 << 10;
/// Plaintext of one read: the message cut by the last one, what was read, the record rustls held.
const PLAIN: usize = LONGEST_HEADER + MAX_BODY + NET + RECORD + 4096;

#[derive(Debug)]
pub(super) struct ToTun {
    datagrams: Box<[u8]>,
    metas: [RecvMeta; RECEIVE_BUFFERS],
    net: Box<[u8]>,
    plain: Box<[u8]>,
}

impl ToTun {
    pub(super) fn new() -> Self {
        Self {
            datagrams: vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER].into(),
            metas: [RecvMeta::default(); RECEIVE_BUFFERS],
            net: vec![0; NET].into(),
            plain: vec![0; PLAIN].into(),
        }
    }

    /// One turn of a UDP socket.
    pub(super) fn port_turn(&mut self, index: usize, tun: &mut Tun, book: &mut Book, now: u64) {
        let mut bytes = 0;
        for _ in 0..RECEIVES {
            // A packet may have ended the session whose port this is.
            let Some(port) = book.ports.get(index) else {
                return;
            };
            let received = match port.receive(&mut self.datagrams, &mut self.metas) {
                Ok(received) => received,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        book.counts.failure(Failure::UdpReceive);
                    }
                    return;
                }
            };
            for at in 0..received {
                let (Some(meta), Some(port)) = (self.metas.get(at).copied(), book.ports.get(index))
                else {
                    break;
                };
                let peer = port.peer(index, &meta);
                let start = at * RECEIVE_BUFFER;
                let end = start + meta.len.min(RECEIVE_BUFFER);
                for start in (start..end).step_by(meta.stride.max(1)) {
                    let datagram = start..end.min(start.saturating_add(meta.stride));
                    if let Err(reason) = self.datagram(datagram, &peer, tun, book, now) {
                        book.counts.discard(reason);
                    }
                }
                bytes += meta.len;
            }
            tun.flush(&mut self.datagrams, &mut book.counts);
            if received < RECEIVE_BUFFERS || bytes >= PORT_BYTES {
                break;
            }
        }
    }

    /// One ESP packet.
    fn datagram(
        &mut self,
        range: Range<usize>,
        peer: &Peer,
        tun: &mut Tun,
        book: &mut Book,
        now: u64,
    ) -> Result<(), Discard> {
        let start = range.start;
        let datagram = self.datagrams.get_mut(range).ok_or(Discard::TooShort)?;
        let spi = esp::spi(datagram).ok_or(Discard::TooShort)?;
        let slot = book.sessions.by_spi(spi).ok_or(Discard::UnknownSpi)?;
        let session = book.sessions.get_mut(slot).ok_or(Discard::UnknownSpi)?;
        let opened = session.esp.open(spi, datagram)?;
        let next_header = opened.next_header;
        let payload = datagram
            .get(opened.range.clone())
            .ok_or(Discard::BadLength)?;

        // From here on the packet is known to be the other end's, and new.
        let probe = probe::parse(payload);
        let moved = session.heard_esp(peer, probe, now);
        let result = if let Some(probe) = probe {
            // A gateway answers; a client has asked.
            if book.side == Side::Gateway
                && !probes::answer(session, peer, next_header, probe, &book.ports)
                && probe == Probe::Plain
            {
                session.esp.early = Some(EarlyProbe {
                    from: *peer,
                    next_header,
                });
            }
            Ok(())
        } else {
            match (next_header, payload.first().map(|first| first >> 4)) {
                (IPV4, Some(4)) | (IPV6, Some(6)) => {
                    let packet = start + opened.range.start..start + opened.range.end;
                    let Book { report, counts, .. } = book;
                    deliver(
                        &mut self.datagrams,
                        packet,
                        (slot, session),
                        tun,
                        report,
                        counts,
                        now,
                    )
                }
                _ => Err(Discard::BadNextHeader),
            }
        };
        if session.esp.takes_rekey_notice() {
            book.report.rekey_wanted(session.id);
        }
        if moved {
            if let Some(conn) = session.conn.and_then(|(conn, _)| book.conns.get_mut(conn)) {
                // A client that uses ESP has read the end of its configuration.
                conn.set_ready();
            }
            book.refresh(slot, now);
        }
        result
    }

    /// One turn of a connection.
    pub(super) fn conn_turn(&mut self, slot: usize, tun: &mut Tun, book: &mut Book, now: u64) {
        let mut bytes = 0;
        while bytes < CONN_BYTES {
            let Some(conn) = book.conns.get_mut(slot) else {
                return;
            };
            if conn.closing.is_some() {
                if conn.discard_input(&mut self.net) {
                    book.lose(slot, "closed", now);
                }
                return;
            }
            let input = conn.read(&mut self.net, &mut self.plain);
            match self.take(slot, input, tun, book, now) {
                // Less than asked for: the socket is empty.
                Some(read) if read < NET => break,
                Some(read) => bytes += read,
                None => return,
            }
        }
        // Reading can make TLS answer: key updates, alerts.
        book.flush(slot, now);
    }

    /// What the front had read from a connection before it handed it over.
    pub(super) fn first_turn(&mut self, slot: usize, tun: &mut Tun, book: &mut Book, now: u64) {
        let Some(conn) = book.conns.get_mut(slot) else {
            return;
        };
        let input = conn.first_input(&mut self.plain);
        self.take(slot, input, tun, book, now);
    }

    /// Works off what a connection brought. Returns the bytes read, or `None` when it is over.
    fn take(
        &mut self,
        slot: usize,
        input: Input,
        tun: &mut Tun,
        book: &mut Book,
        now: u64,
    ) -> Option<usize> {
        match input {
            Input::Nothing => Some(0),
            Input::Data { plain, read } => match self.messages(slot, plain, tun, book, now) {
                Ok(()) => Some(read),
                Err(cause) => {
                    book.leave(slot, cause, now);
                    None
                }
            },
            Input::Closed { plain, cause } => {
                // A logout is often followed at once by the end of the stream.
                let _ = self.messages(slot, plain, tun, book, now);
                book.lose(slot, cause, now);
                None
            }
        }
    }

    /// Works off the messages in the first `length` bytes of plaintext; keeps an incomplete one.
    fn messages(
        &mut self,
        slot: usize,
        length: usize,
        tun: &mut Tun,
        book: &mut Book,
        now: u64,
    ) -> Result<(), &'static str> {
        let mut at = 0;
        let mut changed = None;
        let result = loop {
            let rest = self.plain.get(at..length).unwrap_or_default();
            let Some(conn) = book.conns.get_mut(slot) else {
                break Ok(());
            };
            let (item, body) = match conn.next(rest) {
                Ok(Some((item, body))) => (item, at + body.start..at + body.end),
                Ok(None) => break Ok(()),
                Err(Malformed) => break Err(MALFORMED),
            };
            at = body.end;
            match item {
                Item::Packet => {
                    // A client that sends data has read the end of its configuration.
                    conn.set_ready();
                    let Some(owner) = conn.session else { continue };
                    let Some(session) = book.sessions.get_mut(owner) else {
                        continue;
                    };
                    if heard_tls(session, self.plain.get(body.start).copied(), now) {
                        changed = Some(owner);
                    }
                    let result = deliver(
                        &mut self.plain,
                        body,
                        (owner, session),
                        tun,
                        &mut book.report,
                        &mut book.counts,
                        now,
                    );
                    if let Err(reason) = result {
                        book.counts.discard(reason);
                    }
                }
                Item::Unreadable => book.counts.discard(Discard::NotIp),
                Item::Message { vendor, kind }
                    if book.side == Side::Gateway
                        && conn.framing().logs_out(vendor, kind)
                        && conn.session.is_some() =>
                {
                    // Holds without a control plane too: nobody may use the session after this.
                    if let Some(owner) = conn.session {
                        book.end(owner, EndCause::Logout, now);
                    }
                    at = length;
                    break Ok(());
                }
                Item::Message { vendor, kind } if conn.grants_frame(now) => {
                    let body = self.plain.get(body).unwrap_or_default();
                    if let Some(uses_esp) = conn.framing().says_esp(vendor, kind, body)
                        && let Some(owner) = conn.session
                        && let Some(session) = book.sessions.get_mut(owner)
                    {
                        session.path.told(uses_esp);
                        changed = Some(owner);
                    }
                    book.report.frame(conn.id, vendor, kind, body);
                }
                Item::Message { .. } => break Err("too many control messages"),
            }
        };
        tun.flush(&mut self.plain, &mut book.counts);
        if let (Some(rest), Some(conn)) = (self.plain.get(at..length), book.conns.get_mut(slot))
            && !rest.is_empty()
        {
            conn.keep(rest);
        }
        if let Some(owner) = changed {
            book.refresh(owner, now);
        }
        result
    }
}

/// Notes that a packet came over TLS. True when that means that the client has left ESP.
fn heard_tls(session: &mut Session, first: Option<u8>, now: u64) -> bool {
    let Some(peer) = &session.esp.peer else {
        return false;
    };
    let outer_v6 = peer.outer_v6();
    let alive = session.path.esp_alive(now);
    session
        .path
        .heard_tls(first.is_some_and(|first| first >> 4 == 6), outer_v6);
    alive && !session.path.esp_alive(now)
}

/// Judges a packet from the other end and takes it for the TUN.
#[inline]
fn deliver(
    buffer: &mut [u8],
    range: Range<usize>,
    (slot, session): (usize, &mut Session),
    tun: &mut Tun,
    report: &mut Report,
    counts: &mut Counts,
    now: u64,
) -> Result<(), Discard> {
    let packet = buffer.get_mut(range.clone()).ok_or(Discard::TooShort)?;
    report.busy(slot, session);
    let verdict = session.judge_leaving(packet, now);
    report.flows(session, now);
    let length = verdict?;
    session.books_leaving(length, now)?;
    let packet = packet.get_mut(..length).ok_or(Discard::BadLength)?;
    mss::clamp(packet, session.path_mtu, false);
    session.active = now;
    session.traffic.packets_in += 1;
    session.traffic.bytes_in += length as u64;
    tun.offer(buffer, range.start..range.start + length, counts);
    Ok(())
}
