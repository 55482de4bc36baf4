//! Sessions and connections: how they begin, what is due, how they end.

use std::collections::VecDeque;
use std::sync::Arc;

use lockgate_dataplane::gate::{Gate, Room};
use lockgate_dataplane::link::{EndCause, Fatal, FlowAudit, ORPHAN_SECONDS, Rule, Sa};
use lockgate_dataplane::network::Network;

use super::conn::{Conn, Flush};
use super::conns::Conns;
use super::counts::{Counts, Failure};
use super::esp::EarlyProbe;
use super::farewell::Farewell;
use super::flows;
use super::path::Path;
use super::pending::{Message, Pending};
use super::poll::{Interest, Poll, Token};
use super::port::Ports;
use super::report::{Report, Up};
use super::session::{Limits, Opening, Session};
use super::table::Table;
use super::timers::{self, Booking, Timers};
use super::{Adopted, Side};

/// How long a closed connection may take to read what was sent last and to close its end, in ms.
const LINGER: u64 = 5000;

/// Everything alive, and what is known about it.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) side: Side,
    pub(super) poll: Poll,
    pub(super) ports: Ports,
    pub(super) sessions: Table,
    pub(super) conns: Conns,
    pub(super) counts: Counts,
    pub(super) report: Report,
    pending: Pending,
    timers: Timers,
    /// Connections being closed, by the time at which patience ends: slot and id.
    leaving: VecDeque<(u64, usize, u64)>,
    /// When all sessions end unless the control plane comes back.
    orphaned: Option<u64>,
    reserved: Arc<[Network]>,
    /// Places for flows that are recorded.
    room: Room,
}

/// A session to open, as the control plane describes it.
#[derive(Debug)]
pub(super) struct Open<'a> {
    pub(super) session: u64,
    pub(super) generation: u32,
    pub(super) address4: &'a [u8],
    pub(super) address6: &'a [u8],
    pub(super) mtu: u16,
    pub(super) remaining: u64,
    pub(super) idle: u64,
    pub(super) fallback: u32,
    pub(super) cross_family: bool,
    pub(super) revision: u64,
    pub(super) rule_set: u32,
    pub(super) rules: &'a [Rule],
    pub(super) esp_in: Option<&'a Sa>,
    pub(super) rate_in: u64,
    pub(super) rate_out: u64,
    pub(super) flows: FlowAudit,
}

impl Book {
    pub(super) fn new(
        side: Side,
        poll: Poll,
        ports: Ports,
        up: Up,
        reserved: Arc<[Network]>,
        now: u64,
    ) -> Self {
        Self {
            side,
            poll,
            ports,
            sessions: Table::default(),
            conns: Conns::default(),
            counts: Counts::default(),
            report: Report::new(up, now),
            pending: Pending::default(),
            timers: Timers::default(),
            leaving: VecDeque::new(),
            orphaned: None,
            reserved,
            room: Room::new(flows::ROOM),
        }
    }

    /// Opens a session, or replaces the one with this id if this generation is newer; traffic
    /// counts go on.
    pub(super) fn open(&mut self, open: &Open<'_>, now: u64) {
        let live = self.sessions.find(open.session);
        if live
            .and_then(|slot| self.sessions.get(slot))
            .is_some_and(|live| live.generation >= open.generation)
        {
            return self.refuse(open.session, Failure::StaleOrder);
        }
        let (Ok(address4), Ok(address6)) =
            (address::<4>(open.address4), address::<16>(open.address6))
        else {
            return self.refuse(open.session, Failure::AddressConflict);
        };
        let (address4, address6) = (address4.map(Into::into), address6.map(Into::into));
        let gate = match Gate::new(
            address4,
            address6,
            Arc::clone(&self.reserved),
            open.revision,
            open.rules,
        ) {
            Ok(gate) => Ok(gate),
            // Rules that cannot be used grant nothing; the session exists all the same, since the
            // control plane believes so.
            Err(_) => {
                self.counts.failure(Failure::BadRules);
                Gate::new(
                    address4,
                    address6,
                    Arc::clone(&self.reserved),
                    open.revision,
                    &[],
                )
            }
        };
        let Ok(mut gate) = gate else { return };
        gate.name_rules(open.rule_set);
        gate.record_flows(open.flows, &self.room);
        let mut session = Session::new(
            Opening {
                side: self.side,
                id: open.session,
                generation: open.generation,
                address4,
                address6,
                mtu: open.mtu,
                gate,
                path: Path::new(self.side, open.fallback, open.cross_family, open.mtu),
                limits: Limits::new(open.remaining, open.idle, now),
            },
            now,
        );
        if self.sessions.taken(session.addresses(), open.session) {
            return self.refuse(open.session, Failure::AddressConflict);
        }
        if let Some(mut former) = live.and_then(|slot| self.sessions.remove(slot)) {
            session.follow(&former);
            self.dismiss(&mut former, "replaced", None, now);
        }
        session.set_rates(open.rate_in, open.rate_out, now);
        let slot = self.sessions.insert(session);
        if let Some(sa) = open.esp_in {
            self.install_inbound(slot, sa, now);
        }
        self.refresh(slot, now);
    }

    /// Leaves everything as it is, and sees to it that a live session of this id does not get the
    /// connection meant for the one that was not opened.
    fn refuse(&mut self, id: u64, failure: Failure) {
        self.counts.failure(failure);
        let live = self.sessions.find(id);
        if let Some(live) = live.and_then(|slot| self.sessions.get_mut(slot)) {
            live.refused_attach = true;
        }
    }

    /// Ends a session on order of the control plane.
    pub(super) fn close(&mut self, id: u64, fatal: Option<&Fatal>, now: u64) {
        let Some(mut session) = self
            .sessions
            .find(id)
            .and_then(|slot| self.sessions.remove(slot))
        else {
            return self.counts.failure(Failure::StaleOrder);
        };
        self.dismiss(
            &mut session,
            "session closed",
            fatal.map(Farewell::from),
            now,
        );
    }

    /// Ends a session for a reason of our own.
    pub(super) fn end(&mut self, slot: usize, cause: EndCause, now: u64) {
        let Some(mut session) = self.sessions.remove(slot) else {
            return;
        };
        self.report.session_ended(&session, cause);
        self.dismiss(&mut session, "session ended", Farewell::of(cause), now);
    }

    /// Closes what a session that has just been taken out leaves behind.
    fn dismiss(
        &mut self,
        session: &mut Session,
        cause: &'static str,
        farewell: Option<Farewell>,
        now: u64,
    ) {
        session.end_flows();
        self.report.flows(session, now);
        if self.side == Side::Client {
            self.close_port(session.esp.peer);
        }
        // A client has nothing to explain to a gateway, which keeps the session for its cookie.
        let farewell = farewell.filter(|_| self.side == Side::Gateway);
        if let Some((conn, _)) = session.conn {
            if let Some(conn) = self.conns.get_mut(conn) {
                conn.owner = 0;
                // A client that reads too slowly for this is closed without it.
                let _ = farewell.is_none_or(|farewell| conn.say_farewell(&farewell));
            }
            self.leave(conn, cause, now);
        } else if session.attached != 0 {
            self.pending.disown(session.attached, farewell);
        }
    }

    /// Installs keys for packets from the client.
    pub(super) fn install_inbound(&mut self, slot: usize, sa: &Sa, now: u64) {
        if !self.sessions.claim_spi(sa.spi, slot) {
            return self.counts.failure(Failure::SpiConflict);
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        match session.esp.install_inbound(sa, now) {
            Ok(None) => {}
            Ok(Some(gone)) => self.sessions.release_spi(gone),
            Err(_) => {
                self.sessions.release_spi(sa.spi);
                self.counts.failure(Failure::BadKeys);
            }
        }
        self.refresh(slot, now);
    }

    /// Installs keys for packets to the client; returns a probe that waited for them.
    pub(super) fn install_outbound(
        &mut self,
        slot: usize,
        sa: &Sa,
        now: u64,
    ) -> Option<EarlyProbe> {
        let mut seed = [0; 32];
        let filled = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
        let session = self.sessions.get_mut(slot)?;
        if filled != Ok(seed.len()) || session.esp.install_outbound(sa, seed).is_err() {
            self.counts.failure(Failure::BadKeys);
            return None;
        }
        let early = session.esp.early.take();
        self.refresh(slot, now);
        early
    }

    /// Replaces the access rules; rules that cannot be used grant nothing.
    pub(super) fn set_rules(
        &mut self,
        slot: usize,
        (revision, rule_set): (u64, u32),
        rules: &[Rule],
        now: u64,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if session.set_rules(revision, rule_set, rules).is_err() {
            self.counts.failure(Failure::BadRules);
        }
        self.report.flows(session, now);
    }

    /// Which flows of a session are recorded from now on.
    pub(super) fn record_flows(&mut self, slot: usize, wanted: FlowAudit, now: u64) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.record_flows(wanted, &self.room);
            self.report.flows(session, now);
        }
    }

    /// Replaces the limits. An order is no use of the tunnel: the idle time goes on.
    pub(super) fn set_deadline(&mut self, slot: usize, remaining: u64, idle: u64, now: u64) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.limits = Limits::new(remaining, idle, now);
            self.refresh(slot, now);
        }
    }

    /// Replaces how much may pass, in bits per second.
    pub(super) fn set_rates(&mut self, slot: usize, rate_in: u64, rate_out: u64, now: u64) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.set_rates(rate_in, rate_out, now);
        }
    }

    /// The control plane binds a connection to a session; the front will hand it over.
    pub(super) fn attach(&mut self, conn: u64, id: u64, now: u64) {
        if self.conns.find(conn).is_some() {
            return self.counts.failure(Failure::StaleOrder);
        }
        let mut session = self
            .sessions
            .find(id)
            .and_then(|slot| self.sessions.get_mut(slot));
        // Without a session the connection is closed as soon as it is here.
        if let Some(live) = &mut session
            && std::mem::take(&mut live.refused_attach)
        {
            session = None;
        }
        let found = session.is_some();
        if let Some(session) = session {
            session.attached = conn;
        }
        self.pending.expect(conn, found.then_some(id), now);
    }

    /// The front hands a connection over. Returns its slot if it now carries a session.
    pub(super) fn adopt(&mut self, adopted: Adopted, now: u64) -> Option<usize> {
        let (id, peer) = (adopted.conn, adopted.peer);
        let Some(awaited) = self.pending.take(id) else {
            self.counts.failure(Failure::StaleOrder);
            self.report.conn_closed(id, 0, "not attached");
            return None;
        };
        let session = awaited.session.and_then(|id| self.sessions.find(id));
        let owner = session.and(awaited.session).unwrap_or(0);
        let conn = match Conn::new(adopted, self.side, now) {
            Ok(conn) => conn,
            Err(_) => {
                self.report
                    .conn_closed(id, owner, "lost while it was handed over");
                self.detach(session, None, id, now);
                return None;
            }
        };
        let slot = self.conns.insert(conn);
        let conn = self.conns.get_mut(slot)?;
        let polled = self
            .poll
            .add(&*conn, Token::Conn(slot), Interest::Read)
            .is_ok();
        let taken = awaited.messages.iter().all(|message| conn.send(message))
            && awaited
                .farewell
                .is_none_or(|farewell| conn.say_farewell(&farewell));
        conn.owner = owner;
        let framing = conn.framing().name();
        // Only the connection that was attached last may carry the session.
        let session = session.filter(|slot| {
            let session = self.sessions.get(*slot);
            !awaited.closing && session.is_some_and(|session| session.attached == id)
        });
        if let Some(session) = session {
            conn.session = Some(session);
            let former = self.sessions.get_mut(session).and_then(|session| {
                session.path.forget_word();
                session.framing = framing;
                session.conn.replace((slot, peer))
            });
            if let Some((former, _)) = former {
                self.leave(former, "replaced", now);
            }
        }
        if !polled || !taken {
            self.lose(slot, "lost while it was handed over", now);
            return None;
        }
        match session {
            Some(session) => self.refresh(session, now),
            None => {
                let cause = if owner == 0 {
                    "session closed"
                } else {
                    self.side.closed()
                };
                self.leave(slot, cause, now);
                return None;
            }
        }
        self.flush(slot, now);
        Some(slot)
    }

    /// A message for a connection of ours or one that is still to come.
    pub(super) fn send(&mut self, conn: u64, message: Message, now: u64) {
        if self.pending.awaits(conn) {
            if !self.pending.push(conn, message) {
                self.counts.failure(Failure::FrameQueue);
                self.detach_pending(conn, now);
            }
            return;
        }
        let Some(slot) = self.conns.find(conn) else {
            return self.counts.failure(Failure::StaleOrder);
        };
        let Some(conn) = self
            .conns
            .get_mut(slot)
            .filter(|conn| conn.closing.is_none())
        else {
            return;
        };
        if conn.send(&message) {
            self.flush(slot, now);
        } else {
            self.counts.failure(Failure::FrameQueue);
            self.lose(slot, self.side.peer_is_slow(), now);
        }
    }

    /// Closes a connection after what was queued has been written; the session stays.
    pub(super) fn close_conn(&mut self, conn: u64, now: u64) {
        if self.pending.awaits(conn) {
            self.pending.close(conn);
            self.detach_pending(conn, now);
        } else if let Some(slot) = self.conns.find(conn) {
            self.leave(slot, self.side.closed(), now);
        } else {
            self.counts.failure(Failure::StaleOrder);
        }
    }

    /// Writes what a connection has queued, and waits for its socket where needed.
    pub(super) fn flush(&mut self, slot: usize, now: u64) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let flush = if conn.closing.is_some() {
            conn.finish()
        } else {
            conn.flush()
        };
        let wait = flush == Flush::Blocked;
        let mut dead = flush == Flush::Dead;
        if !dead && wait != conn.waits_to_write {
            let interest = if wait {
                Interest::ReadWrite
            } else {
                Interest::Read
            };
            dead = self
                .poll
                .modify(&*conn, Token::Conn(slot), interest)
                .is_err();
            conn.waits_to_write = wait;
        }
        if dead {
            self.lose(slot, "reset", now);
        }
    }

    /// Takes a connection from its session and closes it once everything is written.
    pub(super) fn leave(&mut self, slot: usize, cause: &'static str, now: u64) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.closing.is_some() {
            return;
        }
        conn.closing = Some(cause);
        let (id, session) = (conn.id, conn.session.take());
        self.leaving
            .push_back((now.saturating_add(LINGER), slot, id));
        self.detach(session, Some(slot), id, now);
        self.flush(slot, now);
    }

    /// A connection is gone: forgets it and tells the control plane.
    pub(super) fn lose(&mut self, slot: usize, cause: &'static str, now: u64) {
        let Some(mut conn) = self.conns.remove(slot) else {
            return;
        };
        // The last words, such as a TLS alert, if the socket takes them.
        conn.finish();
        self.poll.remove(&conn);
        self.report
            .conn_closed(conn.id, conn.owner, conn.closing.unwrap_or(cause));
        self.detach(conn.session, Some(slot), conn.id, now);
    }

    /// Session in `slot` no longer has connection `id`, which was in `conn` if it was here.
    fn detach(&mut self, slot: Option<usize>, conn: Option<usize>, id: u64, now: u64) {
        let Some(slot) = slot else { return };
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if session.attached == id {
            session.attached = 0;
        }
        // Not tied to the above: the control plane may have attached another one already.
        if session
            .conn
            .is_some_and(|(carrier, _)| Some(carrier) == conn)
        {
            session.conn = None;
            session.path.forget_word();
        }
        self.refresh(slot, now);
    }

    /// A connection that is still to come will not carry its session.
    fn detach_pending(&mut self, conn: u64, now: u64) {
        let session = self.pending.session(conn);
        let slot = session.and_then(|session| self.sessions.find(session));
        self.detach(slot, None, conn, now);
    }

    /// Does what a session has to do now, tells a change of transport and books the next look at it.
    pub(super) fn refresh(&mut self, slot: usize, now: u64) {
        self.drive(slot, now);
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if let Some((transport, peer)) = session.takes_news(now) {
            self.report.transport(session.id, transport, peer);
        }
        let at = session
            .next_look(now)
            .clamp(now.saturating_add(1), now.saturating_add(timers::LONGEST));
        if at < session.booked {
            session.booked = at;
            self.timers.book(Booking {
                at,
                slot,
                id: session.id,
            });
        }
    }

    /// Does what is due for one session.
    fn look(&mut self, slot: usize, now: u64) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.booked = u64::MAX;
        session.sweep_flows(now);
        self.report.flows(session, now);
        if let Some(cause) = session.over(now) {
            return self.end(slot, cause, now);
        }
        while let Some(spi) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.esp.expire(now))
        {
            self.sessions.release_spi(spi);
        }
        self.refresh(slot, now);
    }

    /// The control plane is there, or has gone.
    pub(super) fn set_link(&mut self, up: bool, now: u64) {
        self.report.set_link(up);
        if up {
            self.orphaned = None;
        } else {
            self.orphaned
                .get_or_insert(now.saturating_add(ORPHAN_SECONDS * 1000));
        }
    }

    /// Makes the next report go out with the next [`tick`](Self::tick).
    pub(super) fn hurry_report(&mut self, now: u64) {
        self.report.hurry(now);
    }

    /// Does everything that is due. True when a report went out.
    pub(super) fn tick(&mut self, now: u64) -> bool {
        while let Some(booking) = self.timers.due(now) {
            let session = self.sessions.get(booking.slot);
            if session
                .is_some_and(|session| session.id == booking.id && session.booked == booking.at)
            {
                self.look(booking.slot, now);
            }
        }
        if self.orphaned.is_some_and(|at| at <= now) {
            for slot in self.sessions.slots() {
                self.end(slot, EndCause::Orphaned, now);
            }
        }
        while let Some((_, slot, id)) = self.leaving.front().copied().filter(|(at, ..)| *at <= now)
        {
            self.leaving.pop_front();
            if self.conns.get_mut(slot).is_some_and(|conn| conn.id == id) {
                self.lose(slot, "reset", now);
            }
        }
        for (conn, session) in self.pending.forget(now) {
            let slot = session.and_then(|session| self.sessions.find(session));
            self.detach(slot, None, conn, now);
        }
        self.report.tick(&mut self.sessions, &self.counts, now)
    }

    /// When [`tick`](Self::tick) has something to do again.
    pub(super) fn next_tick(&self) -> u64 {
        let leaving = self.leaving.front().map(|(at, ..)| *at);
        let orphaned = self.orphaned.filter(|_| !self.sessions.is_empty());
        [self.timers.next(), leaving, orphaned]
            .into_iter()
            .flatten()
            .fold(self.report.next(), u64::min)
    }
}

/// An optional address: absent, or exactly `N` bytes.
fn address<const N: usize>(bytes: &[u8]) -> Result<Option<[u8; N]>, std::array::TryFromSliceError> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        <[u8; N]>::try_from(bytes).map(Some)
    }
}
