//! News for the control plane.

use std::net::SocketAddr;

use lockgate_dataplane::link::{EndCause, FromEdge, Transport};

use super::counts::Counts;
use super::flows::Flows;
use super::session::{Session, peer_text};
use super::table::Table;

/// Takes messages for the control plane; must not block. False: it did not take this one.
/// Only records of flows come again; it knows itself what the loss of anything else amounts to.
pub(super) type Up = Box<dyn FnMut(FromEdge) -> bool + Send>;

/// Time between two reports of traffic and counters that nobody asked for, in ms.
const INTERVAL: u64 = 5000;

pub(super) struct Report {
    up: Up,
    /// Slots of sessions with traffic since the last report.
    busy: Vec<usize>,
    next: u64,
    flows: Flows,
}

impl Report {
    pub(super) fn new(up: Up, now: u64) -> Self {
        Self {
            up,
            busy: Vec::new(),
            next: now.saturating_add(INTERVAL),
            flows: Flows::default(),
        }
    }

    /// Lists a session for the next report; cheap to call for every packet.
    #[inline]
    pub(super) fn busy(&mut self, slot: usize, session: &mut Session) {
        if !session.listed {
            session.listed = true;
            self.busy.push(slot);
        }
    }

    /// Takes the records of flows that a session has made; cheap to call for every packet.
    #[inline]
    pub(super) fn flows(&mut self, session: &mut Session, now: u64) {
        if session.has_flow_records() {
            let id = session.id;
            for record in session.take_flow_records() {
                self.flows.add(id, record, now);
            }
        }
    }

    /// The control plane is there, or has gone.
    pub(super) fn set_link(&mut self, up: bool) {
        self.flows.set_link(up);
    }

    pub(super) fn frame(&mut self, conn: u64, vendor: u32, kind: u32, body: &[u8]) {
        (self.up)(FromEdge::Frame {
            conn,
            vendor,
            kind,
            body: body.to_vec(),
        });
    }

    pub(super) fn conn_closed(&mut self, conn: u64, session: u64, cause: &str) {
        (self.up)(FromEdge::ConnClosed {
            conn,
            session,
            cause: cause.to_owned(),
        });
    }

    pub(super) fn session_ended(&mut self, session: &Session, cause: EndCause) {
        (self.up)(FromEdge::SessionEnded {
            session: session.id,
            generation: session.generation,
            cause,
            traffic: session.traffic,
        });
    }

    pub(super) fn transport(
        &mut self,
        session: u64,
        transport: Transport,
        peer: Option<SocketAddr>,
    ) {
        (self.up)(FromEdge::TransportChanged {
            session,
            transport,
            peer: peer_text(peer),
        });
    }

    pub(super) fn path_mtu(&mut self, session: u64, mtu: u16) {
        (self.up)(FromEdge::PathMtu { session, mtu });
    }

    pub(super) fn rekey_wanted(&mut self, session: u64) {
        (self.up)(FromEdge::RekeyWanted { session });
    }

    pub(super) fn barrier_passed(&mut self, number: u64) {
        (self.up)(FromEdge::BarrierPassed { number });
    }

    /// Makes the next report due now.
    pub(super) fn hurry(&mut self, now: u64) {
        self.next = now;
    }

    /// When the next report is due.
    pub(super) fn next(&self) -> u64 {
        self.flows
            .next()
            .map_or(self.next, |due| due.min(self.next))
    }

    /// Sends what is due; true when that was a report of traffic.
    pub(super) fn tick(&mut self, sessions: &mut Table, counts: &Counts, now: u64) -> bool {
        self.flows.tick(&mut self.up, now);
        if now < self.next {
            return false;
        }
        self.next = now.saturating_add(INTERVAL);
        let mut states = Vec::with_capacity(self.busy.len());
        for slot in self.busy.drain(..) {
            // A slot that was used again since then is simply listed, or not, on its own account.
            if let Some(session) = sessions.get_mut(slot).filter(|session| session.listed) {
                session.listed = false;
                states.push(session.state(now));
            }
        }
        (self.up)(FromEdge::Stats {
            sessions: states,
            counters: counts.report(),
        });
        true
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report")
            .field("busy", &self.busy)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
