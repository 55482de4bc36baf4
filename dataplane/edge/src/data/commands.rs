//! Applies orders from the control plane and the front.

use lockgate_dataplane::link::ToEdge;

use super::counts::Failure;
use super::lifecycle::{Book, Open};
use super::pending::Message;
use super::probes;

/// Applies one message of the control plane.
pub(super) fn apply(order: ToEdge, book: &mut Book, now: u64) {
    match order {
        // These two are the front's, and mean nothing here.
        ToEdge::Hello { .. } | ToEdge::Keepalive {} => {}
        ToEdge::ReportStats {} => book.hurry_report(now),
        ToEdge::OpenSession {
            session,
            generation,
            address4,
            address6,
            mtu,
            remaining,
            idle,
            fallback,
            revision,
            rule_set,
            rules,
            esp_in,
            cross_family,
            rate_in,
            rate_out,
            flows,
        } => book.open(
            &Open {
                session,
                generation,
                address4: &address4,
                address6: &address6,
                mtu,
                remaining,
                idle,
                fallback,
                cross_family,
                revision,
                rule_set,
                rules: &rules,
                esp_in: esp_in.as_ref(),
                rate_in,
                rate_out,
                flows,
            },
            now,
        ),
        ToEdge::Attach { conn, session } => book.attach(conn, session, now),
        ToEdge::Frame {
            conn,
            vendor,
            kind,
            body,
        } => book.send(conn, Message { vendor, kind, body }, now),
        ToEdge::CloseConn { conn } => book.close_conn(conn, now),
        ToEdge::InstallEspIn {
            session,
            generation,
            sa,
        } => {
            if let Some(slot) = current(book, session, generation) {
                book.install_inbound(slot, &sa, now);
            }
        }
        ToEdge::InstallEspOut {
            session,
            generation,
            sa,
        } => {
            if let Some(slot) = current(book, session, generation)
                && let Some(early) = book.install_outbound(slot, &sa, now)
                && let Some(session) = book.sessions.get_mut(slot)
            {
                probes::answer_early(session, early, &book.ports);
            }
        }
        ToEdge::SetRules {
            session,
            revision,
            rule_set,
            rules,
        } => match book.sessions.find(session) {
            Some(slot) => book.set_rules(slot, (revision, rule_set), &rules, now),
            None => book.counts.failure(Failure::StaleOrder),
        },
        ToEdge::SetDeadline {
            session,
            remaining,
            idle,
        } => match book.sessions.find(session) {
            Some(slot) => book.set_deadline(slot, remaining, idle, now),
            None => book.counts.failure(Failure::StaleOrder),
        },
        ToEdge::SetLimits {
            session,
            rate_in,
            rate_out,
            flows,
        } => match book.sessions.find(session) {
            Some(slot) => {
                book.set_rates(slot, rate_in, rate_out, now);
                book.record_flows(slot, flows, now);
            }
            None => book.counts.failure(Failure::StaleOrder),
        },
        ToEdge::CloseSession { session, fatal } => book.close(session, fatal.as_ref(), now),
        // Orders are applied one after the other, by the thread that judges every packet.
        ToEdge::Barrier { number } => book.report.barrier_passed(number),
        ToEdge::StartEsp { session, extended } => book.start_esp(session, extended, now),
        // These bring descriptors, so the front sends them as orders of their own.
        ToEdge::Dial(_) | ToEdge::SetTun { .. } | ToEdge::SetPort { .. } => {}
    }
}

/// The slot of a session, if this is its generation: keys of another one must not be used.
fn current(book: &mut Book, session: u64, generation: u32) -> Option<usize> {
    let slot = book.sessions.find(session);
    let slot = slot.filter(|slot| {
        book.sessions
            .get(*slot)
            .is_some_and(|s| s.generation == generation)
    });
    if slot.is_none() {
        book.counts.failure(Failure::StaleOrder);
    }
    slot
}
