//! Records of flows on their way to the control plane.
//!
//! They wait a little, so that many go together, and longer while nobody is there to hear them or the
//! link is full. What finds no room is not told but counted: the numbers of the messages show that it
//! is missing.

use lockgate_dataplane::gate::FlowRecord;
use lockgate_dataplane::link::{Flow, FromEdge, MAX_FLOWS};
use std::collections::VecDeque;
use std::net::IpAddr;

use super::report::Up;

/// Longest time that a record waits while the control plane is there, in ms. Each message becomes a
/// link of the audit's chain, so there should be few.
pub(super) const GATHER: u64 = 10_000;
/// Time after which a link that was full is tried again, in ms: what it takes at once, 21 full
/// messages, makes 200,000 records a second.
const AGAIN: u64 = 100;
/// Records that wait at most, 7 MiB: a minute of an outage in which two hundred sessions scan what
/// they may reach, and make some 260 each.
const MOST: usize = 64 * 1024;
/// Flows of all sessions that are counted at the same time: some 45 MiB, and as much again where
/// tables have just grown.
pub(super) const ROOM: usize = 512 * 1024;

#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By session.
    waiting: VecDeque<(u64, FlowRecord)>,
    /// Records before the first that waits, told or not.
    number: u64,
    /// Records behind the last that waits that found no room.
    lost: u64,
    /// When the first that waits is told at the latest.
    due: u64,
    /// The link was full: nothing is told before.
    again: u64,
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
        self.waiting.push_back((session, record));
        if self.waiting.len() >= MAX_FLOWS {
            self.due = now;
        }
    }

    pub(super) fn set_link(&mut self, up: bool) {
        self.link_is_up = up;
    }

    /// When there is something to tell.
    pub(super) fn next(&self) -> Option<u64> {
        (self.link_is_up && !self.waiting.is_empty()).then_some(self.due.max(self.again))
    }

    /// Tells what is due, as much of it as the link takes.
    pub(super) fn tick(&mut self, up: &mut Up, now: u64) {
        if self.next().is_none_or(|due| due > now) {
            return;
        }
        while !self.waiting.is_empty() {
            let part = self.waiting.len().min(MAX_FLOWS);
            let flows = self
                .waiting
                .range(..part)
                .map(|(session, record)| flow(*session, record, now))
                .collect();
            let taken = up(FromEdge::Flows {
                number: self.number,
                waited: 0,
                flows,
            });
            if !taken {
                self.again = now.saturating_add(AGAIN);
                return;
            }
            self.waiting.drain(..part);
            self.number += part as u64;
        }
        self.number += std::mem::take(&mut self.lost);
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
        told_some(flows, now, usize::MAX)
    }

    /// The same over a link that takes `room` messages.
    fn told_some(flows: &mut Flows, now: u64, room: usize) -> Vec<(u64, usize)> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        let mut up: Up = Box::new(move |message| match message {
            FromEdge::Flows { number, flows, .. } => {
                let mut heard = ear.lock().unwrap();
                let has_room = heard.len() < room;
                if has_room {
                    heard.push((number, flows.len()));
                }
                has_room
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

    #[test]
    fn what_a_full_link_does_not_take_waits_in_its_order() {
        let full = MAX_FLOWS as u64;
        let mut flows = Flows::default();
        flows.set_link(true);
        let add = |flows: &mut Flows, sessions: std::ops::Range<u64>, now| {
            sessions.for_each(|session| flows.add(session, record(), now));
        };
        add(&mut flows, 0..3 * full, 100);
        assert_eq!(told_some(&mut flows, 100, 1), [(0, MAX_FLOWS)]);
        assert_eq!(
            flows.waiting.front().map(|(session, _)| *session),
            Some(full)
        );
        assert_eq!(flows.next(), Some(100 + AGAIN));
        add(&mut flows, 3 * full..3 * full + 5, 150);
        assert_eq!(
            flows.next(),
            Some(100 + AGAIN),
            "however many come meanwhile"
        );
        assert_eq!(told(&mut flows, 99 + AGAIN), []);
        assert_eq!(told_some(&mut flows, 100 + AGAIN, 0), []);
        assert_eq!(flows.next(), Some(100 + 2 * AGAIN));
        let rest = [(full, MAX_FLOWS), (2 * full, MAX_FLOWS), (3 * full, 5)];
        assert_eq!(told(&mut flows, 100 + 2 * AGAIN), rest);
        add(&mut flows, 0..1, 400);
        assert_eq!(flows.next(), Some(400 + GATHER));
    }

    #[test]
    fn what_found_no_room_behind_a_full_link_is_missing_behind_what_waited() {
        let mut flows = Flows::default();
        flows.set_link(true);
        for _ in 0..MOST + 7 {
            flows.add(1, record(), 100);
        }
        assert_eq!(told_some(&mut flows, 100, 1), [(0, MAX_FLOWS)]);
        // There is room again, but the numbers have one place only for what is missing.
        flows.add(1, record(), 150);
        assert_eq!(flows.waiting.len(), MOST - MAX_FLOWS);
        let rest = told(&mut flows, 100 + AGAIN);
        assert_eq!(rest.len(), MOST / MAX_FLOWS - 1);
        assert_eq!(rest.first(), Some(&(MAX_FLOWS as u64, MAX_FLOWS)));
        assert!(flows.waiting.capacity() <= MAX_FLOWS);
        flows.add(1, record(), 300);
        assert_eq!(told(&mut flows, 300 + GATHER), [(MOST as u64 + 8, 1)]);
    }
}
