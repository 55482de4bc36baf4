//! Records of flows on their way to the control plane.
//!
//! They wait a little, so that many go together, and longer while nobody is there to hear them. What
//! finds no room is not told but counted: the numbers of the messages show that it is missing.

use lockgate_dataplane::gate::FlowRecord;
use lockgate_dataplane::link::{Flow, FromEdge, MAX_FLOWS};
use std::net::IpAddr;

use super::report::Up;

/// Longest time that a record waits while the control plane is there, in ms. Each message becomes a
/// link of the audit's chain, so there should be few.
pub(super) const GATHER: u64 = 10_000;
/// Records that wait at most, 7 MiB: a minute of an outage in which a hundred sessions scan what
/// they may reach.
const MOST: usize = 64 * 1024;
/// Flows of all sessions that are counted at the same time, some 45 MiB.
pub(super) const ROOM: usize = 512 * 1024;

#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By session.
    waiting: Vec<(u64, FlowRecord)>,
    /// Records before the first that waits, told or not.
    number: u64,
    /// Records behind the last that waits that found no room.
    lost: u64,
    /// When the first that waits is told at the latest.
    due: u64,
    link_is_up: bool,
}

impl Flows {
    pub(super) fn add(&mut self, session: u64, record: FlowRecord, now: u64) {
        if self.waiting.len() >= MOST || self.lost > 0 {
            self.lost += 1;
            return;
        }
        if self.waiting.is_empty() {
            self.due = now.saturating_add(GATHER);
        }
        self.waiting.push((session, record));
        if self.waiting.len() >= MAX_FLOWS {
            self.due = now;
        }
    }

    pub(super) fn set_link(&mut self, up: bool) {
        self.link_is_up = up;
    }

    /// When there is something to tell.
    pub(super) fn next(&self) -> Option<u64> {
        (self.link_is_up && !self.waiting.is_empty()).then_some(self.due)
    }

    /// Tells what is due.
    pub(super) fn tick(&mut self, up: &mut Up, now: u64) {
        if self.next().is_none_or(|due| due > now) {
            return;
        }
        for part in self.waiting.chunks(MAX_FLOWS) {
            let flows = part
                .iter()
                .map(|(session, record)| flow(*session, record, now))
                .collect();
            up(FromEdge::Flows {
                number: self.number,
                waited: 0,
                flows,
            });
            self.number += part.len() as u64;
        }
        self.number += std::mem::take(&mut self.lost);
        self.waiting.clear();
        self.waiting.shrink_to(MAX_FLOWS);
    }
}

fn flow(session: u64, record: &FlowRecord, now: u64) -> Flow {
    let remote = record.remote;
    Flow {
        session,
        allowed: record.verdict.allow,
        rule_set: record.rule_set,
        rule: record.verdict.rule.filter(|_| remote.is_some()),
        protocol: remote.map_or(0, |remote| remote.protocol),
        remote: match remote.map(|remote| remote.address) {
            Some(IpAddr::V4(address)) => address.octets().to_vec(),
            Some(IpAddr::V6(address)) => address.octets().to_vec(),
            None => Vec::new(),
        },
        port: remote.and_then(|remote| remote.port),
        outbound: record.outbound,
        first: now.saturating_sub(record.first_ms),
        last: now.saturating_sub(record.last_ms),
        packets_in: record.sent.packets,
        bytes_in: record.sent.bytes,
        packets_out: record.received.packets,
        bytes_out: record.received.bytes,
        cause: record.cause,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use lockgate_dataplane::gate::{Count, Verdict};
    use lockgate_dataplane::link::FlowCause;
    use std::sync::{Arc, Mutex};

    fn record() -> FlowRecord {
        FlowRecord {
            remote: None,
            verdict: Verdict::NO_RULE,
            rule_set: 1,
            outbound: true,
            first_ms: 5,
            last_ms: 6,
            sent: Count::default(),
            received: Count::default(),
            cause: FlowCause::Idle,
        }
    }

    /// What is told at `now`: number and length of each message.
    fn told(flows: &mut Flows, now: u64) -> Vec<(u64, usize)> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        let mut up: Up = Box::new(move |message| match message {
            FromEdge::Flows { number, flows, .. } => {
                ear.lock().unwrap().push((number, flows.len()));
            }
            other => panic!("{other:?}"),
        });
        flows.tick(&mut up, now);
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    #[test]
    fn records_wait_for_each_other_and_for_a_link() {
        let mut flows = Flows::default();
        flows.add(1, record(), 100);
        assert_eq!(flows.next(), None);
        assert_eq!(told(&mut flows, 100 + GATHER), []);
        flows.set_link(true);
        assert_eq!(flows.next(), Some(100 + GATHER));
        assert_eq!(told(&mut flows, 99 + GATHER), []);
        assert_eq!(told(&mut flows, 100 + GATHER), [(0, 1)]);
        assert_eq!(flows.next(), None);
        for _ in 0..MAX_FLOWS {
            flows.add(1, record(), 200);
        }
        assert_eq!(flows.next(), Some(200), "a full message waits for nothing");
        assert_eq!(told(&mut flows, 200), [(1, MAX_FLOWS)]);
    }

    #[test]
    fn what_finds_no_room_is_missing_from_the_numbers() {
        let mut flows = Flows::default();
        for _ in 0..MOST + 7 {
            flows.add(1, record(), 100);
        }
        assert_eq!(flows.waiting.len(), MOST);
        flows.set_link(true);
        assert_eq!(told(&mut flows, 100).len(), MOST / MAX_FLOWS);
        flows.add(1, record(), 200);
        assert_eq!(told(&mut flows, 200 + GATHER), [(MOST as u64 + 7, 1)]);
    }
}
