//! With whom a session exchanged packets, and how many: what the flow audit is made of.
//!
//! A *flow* is all that passes between the session and one remote end (address, protocol, port), or
//! is denied to it: connections to one service that follow each other closely are one flow, so
//! nothing in a packet but its addresses begins or ends one. A flow ends when it was idle for
//! [`IDLE_MS`], when rules or setting change, with its session, or when a newcomer needs its place,
//! which few may take by force; one that lasts is recorded every [`LONG_MS`]. What was denied is
//! recorded once in [`GATHER_MS`], with a count, however many packets it was.
//!
//! Nothing here allocates for a packet of a known flow, and everything has a bound: places for each
//! session, [`Room`] for all of them together, evictions in an interval. What finds no place of its
//! own is counted as one flow without a remote end.

use super::flow::mix_of;
use super::rules::{Remote, Verdict};
use crate::link::{FlowAudit, FlowCause};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Flows of one session at the same time. As many as decisions that are remembered (`flow`), and
/// more than a browser with a few dozen tabs has.
const MOST_PASSED: usize = 128;
/// Remote ends that are told apart among what was denied to one session in one interval.
const MOST_DENIED: usize = 64;
/// Flows of one session that newcomers push out in one interval: all of them once, which is what
/// going idle could make of them as well. Without it a session that sends to ever new remote ends
/// makes a record for every packet.
const MOST_EVICTED: usize = MOST_PASSED;

/// Time without a packet after which a flow is over.
pub const IDLE_MS: u64 = 60_000;
/// A flow that lasts is recorded this often.
pub const LONG_MS: u64 = 300_000;
/// What is denied is gathered for this long.
pub const GATHER_MS: u64 = 60_000;

/// Places for flows of all sessions together.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    pub fn new(flows: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(flows)))
    }

    fn take(&self) -> bool {
        let left = |left: usize| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }

    fn give_back(&self, flows: usize) {
        self.0.fetch_add(flows, Ordering::Relaxed);
    }
}

/// One record: a flow, or what of it came since the record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// `None`: remote ends that had no place of their own.
    pub remote: Option<Remote>,
    pub verdict: Verdict,
    /// The number of the rules that `verdict` speaks of.
    pub rule_set: u32,
    /// Whether the session sent the first packet.
    pub outbound: bool,
    pub first_ms: u64,
    pub last_ms: u64,
    /// From the session, and to it.
    pub sent: Count,
    pub received: Count,
    pub cause: FlowCause,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

impl Count {
    #[inline]
    fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    remote: Option<Remote>,
    verdict: Verdict,
    outbound: bool,
    first_ms: u64,
    last_ms: u64,
    sent: Count,
    received: Count,
}

impl Flow {
    fn new(remote: Option<Remote>, verdict: Verdict, outbound: bool, now_ms: u64) -> Self {
        Self {
            remote,
            verdict,
            outbound,
            first_ms: now_ms,
            last_ms: now_ms,
            sent: Count::default(),
            received: Count::default(),
        }
    }

    #[inline]
    fn count(&mut self, outbound: bool, bytes: u64, now_ms: u64) {
        let way = if outbound {
            &mut self.sent
        } else {
            &mut self.received
        };
        way.add(1, bytes);
        self.last_ms = now_ms;
    }

    fn is_empty(&self) -> bool {
        self.sent.packets == 0 && self.received.packets == 0
    }

    /// When it is to be looked at again.
    fn due(&self) -> u64 {
        if self.verdict.allow && self.remote.is_some() {
            self.last_ms
                .saturating_add(IDLE_MS)
                .min(self.first_ms.saturating_add(LONG_MS))
        } else {
            self.first_ms.saturating_add(GATHER_MS)
        }
    }
}

/// Flows of one verdict, found by their remote ends.
#[derive(Debug, Default)]
struct Table {
    /// A few bits of each remote end, side by side: a search reads these.
    tags: Vec<u16>,
    flows: Vec<Flow>,
}

impl Table {
    fn find(&self, remote: &Remote) -> Option<usize> {
        let wanted = tag_of(remote);
        self.tags
            .iter()
            .zip(&self.flows)
            .position(|(tag, flow)| *tag == wanted && flow.remote.as_ref() == Some(remote))
    }

    fn push(&mut self, flow: Flow) -> usize {
        self.tags.push(flow.remote.as_ref().map_or(0, tag_of));
        self.flows.push(flow);
        self.flows.len() - 1
    }

    /// The place of the flow that was silent for longest.
    fn quietest(&self) -> Option<usize> {
        let flows = self.flows.iter().enumerate();
        flows.min_by_key(|(_, flow)| flow.last_ms).map(|(at, _)| at)
    }

    fn remove(&mut self, at: usize) -> Flow {
        self.tags.swap_remove(at);
        self.flows.swap_remove(at)
    }

    /// Gives back memory that more flows needed. Up to twice what the present ones need stays, as
    /// growing leaves it.
    fn shrink(&mut self) {
        if self.flows.capacity() > 2 * self.flows.len() {
            self.tags.shrink_to_fit();
            self.flows.shrink_to_fit();
        }
    }
}

/// How many flows newcomers have pushed out in this interval.
#[derive(Debug, Default)]
struct Evictions {
    since_ms: u64,
    count: usize,
}

impl Evictions {
    /// One more, if there may be one.
    fn take(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= GATHER_MS {
            (self.since_ms, self.count) = (now_ms, 0);
        }
        let granted = self.count < MOST_EVICTED;
        self.count += usize::from(granted);
        granted
    }
}

/// The flows of one session.
#[derive(Debug)]
pub struct Ledger {
    wanted: FlowAudit,
    room: Room,
    rule_set: u32,
    passed: Table,
    denied: Table,
    /// What had no place of its own.
    others_passed: Option<Flow>,
    others_denied: Option<Flow>,
    /// Neither other rules nor another setting begin them anew.
    evictions: Evictions,
    /// Place of the flow that passed last; none: it is among the others.
    latest: usize,
    records: Vec<FlowRecord>,
}

impl Default for Ledger {
    /// Notes nothing.
    fn default() -> Self {
        Self {
            wanted: FlowAudit::None,
            room: Room::default(),
            rule_set: 0,
            passed: Table::default(),
            denied: Table::default(),
            others_passed: None,
            others_denied: None,
            evictions: Evictions::default(),
            latest: usize::MAX,
            records: Vec::new(),
        }
    }
}

impl Ledger {
    /// Which flows are noted from now on, and where their places come from.
    pub fn want(&mut self, wanted: FlowAudit, room: &Room) {
        if wanted != self.wanted {
            self.end(FlowCause::Changed);
            self.wanted = wanted;
            self.room = room.clone();
        }
    }

    /// Other rules decide from now on.
    pub fn set_rules(&mut self, rule_set: u32) {
        self.end(FlowCause::Changed);
        self.rule_set = rule_set;
    }

    /// Notes a packet of `length` bytes that was judged.
    #[inline]
    pub fn note(
        &mut self,
        remote: &Remote,
        verdict: Verdict,
        outbound: bool,
        length: usize,
        now_ms: u64,
    ) {
        if self.wanted == FlowAudit::None || (self.wanted == FlowAudit::Denied && verdict.allow) {
            return;
        }
        if verdict.allow
            && let Some(flow) = self.passed.flows.get_mut(self.latest)
            && flow.remote.as_ref() == Some(remote)
        {
            return flow.count(outbound, length as u64, now_ms);
        }
        self.note_another(remote, verdict, outbound, length, now_ms);
    }

    fn note_another(
        &mut self,
        remote: &Remote,
        verdict: Verdict,
        outbound: bool,
        length: usize,
        now_ms: u64,
    ) {
        let (table, most, others) = if verdict.allow {
            (&mut self.passed, MOST_PASSED, &mut self.others_passed)
        } else {
            (&mut self.denied, MOST_DENIED, &mut self.others_denied)
        };
        let mut place = table.find(remote);
        if place.is_none() {
            let mut has_room = table.flows.len() < most && self.room.take();
            // What is denied waits for its record: a scan must not make one for every packet.
            if !has_room
                && verdict.allow
                && let Some(quietest) = table.quietest()
                && self.evictions.take(now_ms)
            {
                let flow = table.remove(quietest);
                let evicted = record(flow, self.rule_set, FlowCause::Evicted);
                self.records.extend(evicted);
                has_room = true;
            }
            if has_room {
                let flow = Flow::new(Some(*remote), verdict, outbound, now_ms);
                place = Some(table.push(flow));
            }
        }
        let flow = match place.and_then(|at| table.flows.get_mut(at)) {
            Some(flow) => flow,
            None => others.get_or_insert(Flow::new(None, verdict, outbound, now_ms)),
        };
        flow.count(outbound, length as u64, now_ms);
        if verdict.allow {
            self.latest = place.unwrap_or(usize::MAX);
        }
    }

    /// The packet that passed last was one of several in one piece: these came with it.
    #[inline]
    pub fn note_more(&mut self, outbound: bool, packets: u64, bytes: u64) {
        let latest = self.passed.flows.get_mut(self.latest);
        if self.wanted == FlowAudit::All
            && let Some(flow) = latest.or(self.others_passed.as_mut())
        {
            let way = if outbound {
                &mut flow.sent
            } else {
                &mut flow.received
            };
            way.add(packets, bytes);
        }
    }

    /// Records what is due.
    pub fn sweep(&mut self, now_ms: u64) {
        let Self {
            passed,
            denied,
            records,
            rule_set,
            room,
            ..
        } = self;
        let mut freed = 0;
        for table in [passed, denied] {
            let mut at = 0;
            while let Some(flow) = table.flows.get_mut(at) {
                if flow.due() > now_ms {
                    at += 1;
                } else if flow.verdict.allow && now_ms.saturating_sub(flow.last_ms) < IDLE_MS {
                    records.extend(record(*flow, *rule_set, FlowCause::Interval));
                    let goes_on = Flow::new(flow.remote, flow.verdict, flow.outbound, flow.last_ms);
                    *flow = Flow {
                        first_ms: now_ms,
                        ..goes_on
                    };
                    at += 1;
                } else {
                    let cause = if flow.verdict.allow {
                        FlowCause::Idle
                    } else {
                        FlowCause::Interval
                    };
                    records.extend(record(table.remove(at), *rule_set, cause));
                    freed += 1;
                }
            }
            table.shrink();
        }
        room.give_back(freed);
        self.latest = usize::MAX;
        for others in [&mut self.others_passed, &mut self.others_denied] {
            if let Some(flow) = others.take_if(|flow| flow.due() <= now_ms) {
                self.records
                    .extend(record(flow, self.rule_set, FlowCause::Interval));
            }
        }
    }

    /// Records everything and begins anew.
    pub fn end(&mut self, cause: FlowCause) {
        let (passed, denied) = (
            std::mem::take(&mut self.passed),
            std::mem::take(&mut self.denied),
        );
        self.room.give_back(passed.flows.len() + denied.flows.len());
        let others = [self.others_passed.take(), self.others_denied.take()];
        let all = passed.flows.into_iter().chain(denied.flows);
        for flow in all.chain(others.into_iter().flatten()) {
            self.records.extend(record(flow, self.rule_set, cause));
        }
        self.latest = usize::MAX;
    }

    /// When `sweep` has something to do.
    pub fn next_sweep(&self) -> Option<u64> {
        let all = self.passed.flows.iter().chain(&self.denied.flows);
        all.chain(&self.others_passed)
            .chain(&self.others_denied)
            .map(Flow::due)
            .min()
    }

    #[inline]
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Their memory goes with them: a session makes few at a time, and most of the time none.
    pub fn take_records(&mut self) -> impl Iterator<Item = FlowRecord> + use<> {
        std::mem::take(&mut self.records).into_iter()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.room
            .give_back(self.passed.flows.len() + self.denied.flows.len());
    }
}

/// The record of a flow, unless nothing came since the one before.
fn record(flow: Flow, rule_set: u32, cause: FlowCause) -> Option<FlowRecord> {
    let Flow {
        remote,
        verdict,
        outbound,
        first_ms,
        last_ms,
        sent,
        received,
    } = flow;
    (!flow.is_empty()).then_some(FlowRecord {
        remote,
        verdict,
        rule_set,
        outbound,
        first_ms,
        last_ms,
        sent,
        received,
        cause,
    })
}

/// Some bits of a remote end. It need not resist anybody: a clash costs the session that makes it
/// one comparison.
fn tag_of(remote: &Remote) -> u16 {
    (mix_of(remote) >> 16) as u16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    const RULES: u32 = 3;

    fn remote(address: u32, port: u16) -> Remote {
        Remote {
            address: Ipv4Addr::from(address).into(),
            protocol: 6,
            port: Some(port),
        }
    }

    fn verdict(allow: bool) -> Verdict {
        Verdict {
            allow,
            rule: Some(u16::from(allow)),
        }
    }

    fn ledger(wanted: FlowAudit, room: &Room) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.set_rules(RULES);
        ledger.want(wanted, room);
        ledger
    }

    fn left(room: &Room) -> usize {
        room.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_flow_is_recorded_at_intervals_and_when_it_is_idle() {
        let mut ledger = ledger(FlowAudit::All, &Room::new(100));
        let far = remote(1, 443);
        for second in 0..=310 {
            ledger.note(&far, verdict(true), second > 0, 100, second * 1000);
            ledger.sweep(second * 1000);
        }
        let records: Vec<_> = ledger.take_records().collect();
        let [first] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((first.first_ms, first.last_ms), (0, LONG_MS));
        assert_eq!((first.sent.packets, first.received.packets), (300, 1));
        assert_eq!(first.cause, FlowCause::Interval);
        assert!(!first.outbound, "the other end began");
        let end = 310_000 + IDLE_MS;
        assert_eq!(ledger.next_sweep(), Some(end));
        ledger.sweep(end - 1);
        assert!(!ledger.has_records());
        ledger.sweep(end);
        let last: Vec<_> = ledger.take_records().collect();
        let [last] = &last[..] else {
            panic!("{last:?}")
        };
        assert_eq!((last.first_ms, last.last_ms), (LONG_MS, 310_000));
        assert_eq!((last.sent.packets, last.cause), (10, FlowCause::Idle));
        assert_eq!(ledger.next_sweep(), None);
    }

    #[test]
    fn a_scan_makes_one_record_an_interval_beyond_what_is_told_apart() {
        let room = Room::new(1000);
        let mut ledger = ledger(FlowAudit::Denied, &room);
        for port in 0..5000 {
            ledger.note(&remote(1, port), verdict(false), true, 40, 7);
        }
        assert!(!ledger.has_records());
        ledger.sweep(7 + GATHER_MS);
        let records: Vec<_> = ledger.take_records().collect();
        assert_eq!(records.len(), MOST_DENIED + 1);
        let packets: u64 = records.iter().map(|record| record.sent.packets).sum();
        assert_eq!(packets, 5000);
        let others: Vec<_> = records
            .iter()
            .filter(|each| each.remote.is_none())
            .collect();
        assert_eq!(others.len(), 1);
        assert_eq!(left(&room), 1000);
    }

    #[test]
    fn the_quietest_flow_gives_way_and_room_is_shared() {
        let room = Room::new(MOST_PASSED + 1);
        let mut first = ledger(FlowAudit::All, &room);
        for port in 0..=MOST_PASSED as u16 {
            first.note(&remote(1, port), verdict(true), true, 40, u64::from(port));
        }
        let records: Vec<_> = first.take_records().collect();
        let [evicted] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!(evicted.remote, Some(remote(1, 0)));
        assert_eq!(evicted.cause, FlowCause::Evicted);
        let mut second = ledger(FlowAudit::All, &room);
        for port in [1, 2, 2] {
            second.note(&remote(2, port), verdict(true), true, 40, 500);
        }
        let evicted: Vec<_> = second.take_records().map(|each| each.remote).collect();
        assert_eq!(evicted, [Some(remote(2, 1))], "of its own flows");
        let mut third = ledger(FlowAudit::All, &room);
        third.note(&remote(3, 1), verdict(true), true, 40, 500);
        third.end(FlowCause::Session);
        let records: Vec<_> = third.take_records().collect();
        let [others] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((others.remote, others.sent.packets), (None, 1));
        drop(first);
        second.end(FlowCause::Session);
        assert_eq!(left(&room), MOST_PASSED + 1);
    }

    #[test]
    fn ever_new_remote_ends_make_no_record_for_every_packet() {
        let room = Room::new(1000);
        let mut ledger = ledger(FlowAudit::All, &room);
        for packet in 0..5000 {
            if packet % 1000 == 0 {
                // An administrator's change must not give a session more of them.
                ledger.set_rules(RULES);
            }
            ledger.note(&remote(packet, 80), verdict(true), true, 40, 7);
        }
        let is_evicted = |record: &FlowRecord| record.cause == FlowCause::Evicted;
        let mut records: Vec<_> = ledger.take_records().collect();
        assert_eq!(
            records.iter().filter(|each| is_evicted(each)).count(),
            MOST_EVICTED
        );
        ledger.note(&remote(9999, 80), verdict(true), true, 40, GATHER_MS - 1);
        assert!(!ledger.has_records());
        ledger.note(&remote(9999, 80), verdict(true), true, 40, GATHER_MS);
        let next: Vec<_> = ledger.take_records().collect();
        assert!(
            matches!(&next[..], [each] if is_evicted(each)),
            "a new interval"
        );
        ledger.sweep(7 + GATHER_MS);
        records.extend(next.into_iter().chain(ledger.take_records()));
        let (others, rest): (Vec<_>, Vec<_>) =
            records.iter().partition(|each| each.remote.is_none());
        let packets = |of: &[&FlowRecord]| of.iter().map(|each| each.sent.packets).sum::<u64>();
        assert_eq!(others.len(), 5, "one of each set of rules");
        let own = 5 * MOST_PASSED + MOST_EVICTED;
        assert_eq!(packets(&others) as usize, 5001 - own);
        assert_eq!(packets(&rest) as usize, own);
    }

    #[test]
    fn what_comes_with_a_packet_of_the_others_is_among_the_others() {
        let mut ledger = ledger(FlowAudit::All, &Room::new(0));
        ledger.note(&remote(1, 1), verdict(true), false, 40, 5);
        ledger.note_more(false, 9, 900);
        ledger.end(FlowCause::Session);
        let records: Vec<_> = ledger.take_records().collect();
        let [others] = &records[..] else {
            panic!("{records:?}")
        };
        let wanted = Count {
            packets: 10,
            bytes: 940,
        };
        assert_eq!((others.remote, others.received), (None, wanted));
    }

    #[test]
    fn memory_goes_when_flows_and_records_are_gone() {
        let mut ledger = ledger(FlowAudit::All, &Room::new(1000));
        for allow in [true, false] {
            for port in 0..200 {
                let now = if port < 60 { 500 } else { 7 };
                ledger.note(&remote(1, port), verdict(allow), true, 40, now);
            }
        }
        let now = 7 + IDLE_MS.max(GATHER_MS);
        for (now, left) in [(now, 60), (now + 500, 0)] {
            ledger.sweep(now);
            assert_eq!(ledger.passed.flows.len(), left);
            for table in [&ledger.passed, &ledger.denied] {
                let most = 2 * table.flows.len();
                assert!(table.flows.capacity() <= most && table.tags.capacity() <= most);
            }
        }
        ledger.take_records().for_each(drop);
        assert_eq!(ledger.records.capacity(), 0);
    }

    #[test]
    fn what_is_not_wanted_is_not_noted() {
        let room = Room::new(100);
        for (wanted, expected) in [
            (FlowAudit::None, vec![]),
            (FlowAudit::Denied, vec![false]),
            (FlowAudit::All, vec![true, false]),
        ] {
            let mut ledger = ledger(wanted, &room);
            ledger.note(&remote(1, 1), verdict(true), true, 40, 0);
            ledger.note(&remote(1, 1), verdict(false), true, 40, 0);
            ledger.end(FlowCause::Session);
            let noted: Vec<_> = ledger
                .take_records()
                .map(|each| each.verdict.allow)
                .collect();
            assert_eq!(noted, expected);
        }
    }

    proptest! {
        /// Whatever is evicted, swept and ended: every packet stands in exactly one record.
        #[test]
        fn nothing_is_lost_and_nothing_counts_twice(
            packets in proptest::collection::vec((0u32..300, any::<bool>(), any::<bool>(), 0u64..5000, 0u8..8), 1..1500),
            room in 0usize..400,
            longest_wait in prop_oneof![Just(2u64), Just(5000)],
        ) {
            let room_of_all = Room::new(room);
            let mut ledger = ledger(FlowAudit::All, &room_of_all);
            let mut records = Vec::new();
            let mut wanted: HashMap<(bool, bool), u64> = HashMap::new();
            let mut now = 0;
            for (far, allow, outbound, wait, more) in packets {
                let wait = wait % longest_wait;
                now += wait;
                ledger.note(&remote(far, 80), verdict(allow), outbound, 50, now);
                *wanted.entry((allow, outbound)).or_default() += 1;
                if allow {
                    ledger.note_more(outbound, u64::from(more), u64::from(more) * 50);
                    *wanted.entry((allow, outbound)).or_default() += u64::from(more);
                }
                if (wait + u64::from(far)) % 7 == 0 {
                    ledger.sweep(now);
                }
                records.extend(ledger.take_records());
                prop_assert!(ledger.passed.flows.len() <= MOST_PASSED);
                prop_assert!(ledger.denied.flows.len() <= MOST_DENIED);
                prop_assert_eq!(ledger.passed.tags.len(), ledger.passed.flows.len());
            }
            ledger.end(FlowCause::Session);
            records.extend(ledger.take_records());
            let mut found: HashMap<(bool, bool), u64> = HashMap::new();
            for record in &records {
                for (outbound, count) in [(true, record.sent), (false, record.received)] {
                    prop_assert_eq!(count.bytes, 50 * count.packets);
                    *found.entry((record.verdict.allow, outbound)).or_default() += count.packets;
                }
                prop_assert!(record.first_ms <= record.last_ms);
                prop_assert_eq!(record.rule_set, RULES);
            }
            wanted.retain(|_, count| *count > 0);
            found.retain(|_, count| *count > 0);
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(left(&room_of_all), room);
        }
    }
}
