//! Who may come in: places for connections, counted in total and by address.
//!
//! A connection is *half open* until its first HTTP head is complete, then it either asks for
//! the tunnel (*sign-in*) or carries *HTTP*; it holds one place of one kind at a time. When all
//! half-open places are taken the oldest is closed for the newest: a flood from many addresses
//! must not keep out somebody who gets on with it. IPv6 counts by /64, the smallest thing a
//! provider hands out; tables hold only addresses with a place, so the totals bound them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use lockgate_dataplane::rate::PerAddress;
use tokio::sync::Notify;

use super::limits::Limits;
use super::refusal::{Refusal, Refusals};
use crate::lock;

/// Addresses whose rate of new connections is remembered at a time.
const RATE_ADDRESSES: usize = 16 * 1024;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    HalfOpen,
    SignIn,
    Http,
}

impl Kind {
    fn index(self) -> usize {
        self as usize
    }
}

struct Rule {
    total: usize,
    per_address: usize,
    total_refusal: Refusal,
    address_refusal: Refusal,
}

#[derive(Default)]
struct State {
    /// By address: how many places of each kind.
    held: HashMap<IpAddr, [usize; 3]>,
    totals: [usize; 3],
    /// Half-open connections by age.
    half_open: BTreeMap<u64, Arc<Notify>>,
    last: u64,
}

/// The desk that gives out places.
pub struct Admission {
    state: Mutex<State>,
    rate: Mutex<PerAddress>,
    rules: [Rule; 3],
    refusals: Arc<Refusals>,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Admission")
            .field("totals", &state.totals)
            .finish_non_exhaustive()
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    desk: Arc<Admission>,
    key: IpAddr,
    number: u64,
    kind: Mutex<Kind>,
    evicted: Arc<Notify>,
}

/// The part of an address that counts as one source.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => four.into(),
            None => Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64)).into(),
        },
    }
}

impl Admission {
    /// `seed`: random, so that nobody can aim at one slot of the rate table.
    pub fn new(limits: &Limits, refusals: Arc<Refusals>, seed: [u8; 16]) -> Arc<Self> {
        let rule = |total, per_address, total_refusal, address_refusal| Rule {
            total,
            per_address,
            total_refusal,
            address_refusal,
        };
        Arc::new(Self {
            state: Mutex::default(),
            rate: Mutex::new(PerAddress::new(
                limits.new_per_second,
                limits.new_burst,
                RATE_ADDRESSES,
                seed,
            )),
            rules: [
                rule(
                    limits.half_open_total,
                    limits.half_open_per_address,
                    Refusal::HalfOpenEvicted,
                    Refusal::HalfOpenPerAddress,
                ),
                rule(
                    limits.sign_in_total,
                    limits.sign_in_per_address,
                    Refusal::SignInTotal,
                    Refusal::SignInPerAddress,
                ),
                rule(
                    limits.http_total,
                    limits.http_per_address,
                    Refusal::HttpTotal,
                    Refusal::HttpPerAddress,
                ),
            ],
            refusals,
        })
    }

    /// A half-open place for a new connection, or why not (counted).
    pub fn enter(self: &Arc<Self>, address: IpAddr, now_ms: u64) -> Result<Arc<Place>, Refusal> {
        self.try_enter(source(address), now_ms)
            .inspect_err(|refusal| self.refusals.count(*refusal))
    }

    fn try_enter(self: &Arc<Self>, key: IpAddr, now_ms: u64) -> Result<Arc<Place>, Refusal> {
        if !lock(&self.rate).take(key, now_ms) {
            return Err(Refusal::Rate);
        }
        let [rule, ..] = &self.rules;
        let mut state = lock(&self.state);
        let [held, ..] = state.held.get(&key).copied().unwrap_or_default();
        if held >= rule.per_address {
            return Err(rule.address_refusal);
        }
        // An evicted connection gives its place back when its task ends; until then the table
        // may hold a few more than the total, never more than the newcomers of that moment.
        while state.half_open.len() >= rule.total {
            let Some((_, oldest)) = state.half_open.pop_first() else {
                break;
            };
            oldest.notify_one();
            self.refusals.count(rule.total_refusal);
        }
        state.last += 1;
        let number = state.last;
        let evicted = Arc::new(Notify::new());
        state.half_open.insert(number, evicted.clone());
        state.add(key, Kind::HalfOpen);
        drop(state);
        Ok(Arc::new(Place {
            desk: self.clone(),
            key,
            number,
            kind: Mutex::new(Kind::HalfOpen),
            evicted,
        }))
    }

    /// Closes the oldest half-open connection, to have its descriptor back.
    pub fn evict_oldest(&self) {
        if let Some((_, oldest)) = lock(&self.state).half_open.pop_first() {
            oldest.notify_one();
            self.refusals.count(Refusal::HalfOpenEvicted);
        }
    }

    /// Places taken at the moment, by kind.
    pub fn taken(&self, kind: Kind) -> usize {
        lock(&self.state)
            .totals
            .get(kind.index())
            .copied()
            .unwrap_or_default()
    }
}

impl State {
    fn add(&mut self, key: IpAddr, kind: Kind) {
        let held = self.held.entry(key).or_default();
        for counts in [held, &mut self.totals] {
            if let Some(count) = counts.get_mut(kind.index()) {
                *count += 1;
            }
        }
    }

    fn remove(&mut self, key: IpAddr, kind: Kind) {
        if let Some(count) = self.totals.get_mut(kind.index()) {
            *count -= 1;
        }
        if let Some(held) = self.held.get_mut(&key) {
            if let Some(count) = held.get_mut(kind.index()) {
                *count -= 1;
            }
            if held.iter().all(|count| *count == 0) {
                self.held.remove(&key);
            }
        }
    }
}

impl Place {
    /// Changes what the connection is doing, or says why it may not (counted).
    pub fn become_kind(&self, kind: Kind) -> Result<(), Refusal> {
        let mut current = lock(&self.kind);
        if *current == kind {
            return Ok(());
        }
        let mut state = lock(&self.desk.state);
        let Some(rule) = self.desk.rules.get(kind.index()) else {
            return Ok(());
        };
        let in_all = state.totals.get(kind.index()).copied().unwrap_or_default();
        let here = state
            .held
            .get(&self.key)
            .and_then(|held| held.get(kind.index()))
            .copied()
            .unwrap_or_default();
        let refusal = if in_all >= rule.total {
            Some(rule.total_refusal)
        } else if here >= rule.per_address {
            Some(rule.address_refusal)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.desk.refusals.count(refusal);
            return Err(refusal);
        }
        state.add(self.key, kind);
        state.remove(self.key, *current);
        state.half_open.remove(&self.number);
        *current = kind;
        Ok(())
    }

    pub fn is_half_open(&self) -> bool {
        *lock(&self.kind) == Kind::HalfOpen
    }

    /// Resolves when a half-open connection must go for a newer one.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let kind = *lock(&self.kind);
        let mut state = lock(&self.desk.state);
        state.half_open.remove(&self.number);
        state.remove(self.key, kind);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn desk(limits: Limits) -> (Arc<Admission>, Arc<Refusals>) {
        let refusals = Arc::new(Refusals::default());
        (Admission::new(&limits, refusals.clone(), [1; 16]), refusals)
    }

    fn small() -> Limits {
        Limits {
            half_open_total: 3,
            half_open_per_address: 2,
            sign_in_total: 2,
            sign_in_per_address: 1,
            http_total: 2,
            http_per_address: 1,
            new_per_second: 10_000,
            new_burst: 10_000,
            ..Limits::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_holds_its_share_and_no_more() {
        let (desk, refusals) = desk(small());
        let first = desk.enter(address("192.0.2.1"), 0).unwrap();
        let _second = desk.enter(address("192.0.2.1"), 0).unwrap();
        assert_eq!(
            desk.enter(address("192.0.2.1"), 0).unwrap_err(),
            Refusal::HalfOpenPerAddress
        );
        let _other = desk.enter(address("192.0.2.2"), 0).unwrap();
        assert_eq!(refusals.of(Refusal::HalfOpenPerAddress), 1);
        drop(first);
        assert_eq!(desk.taken(Kind::HalfOpen), 2);
        desk.enter(address("192.0.2.1"), 0).unwrap();
    }

    #[test]
    fn six_counts_by_64_and_mapped_addresses_as_four() {
        for (text, wanted) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(source(address(text)), address(wanted));
        }
        let (desk, _) = desk(small());
        let _held = [1, 2].map(|last| {
            desk.enter(address(&format!("2001:db8::{last}")), 0)
                .unwrap()
        });
        assert!(desk.enter(address("2001:db8::3"), 0).is_err());
        assert!(desk.enter(address("2001:db8:0:1::3"), 0).is_ok());
    }

    #[tokio::test]
    async fn the_oldest_half_open_connection_goes_for_the_newest() {
        let (desk, refusals) = desk(small());
        let places: Vec<_> = (1..=3)
            .map(|last| desk.enter(address(&format!("192.0.2.{last}")), 0).unwrap())
            .collect();
        let [oldest, _, _] = places.as_slice() else {
            unreachable!()
        };
        let newest = desk.enter(address("192.0.2.9"), 0).unwrap();
        oldest.evicted().await;
        assert_eq!(refusals.of(Refusal::HalfOpenEvicted), 1);
        // A connection that has moved on is not evicted.
        newest.become_kind(Kind::SignIn).unwrap();
        desk.evict_oldest();
        desk.evict_oldest();
        desk.evict_oldest();
        assert!(!newest.is_half_open());
        drop((places, newest));
        assert_eq!(
            [Kind::HalfOpen, Kind::SignIn, Kind::Http].map(|kind| desk.taken(kind)),
            [0, 0, 0]
        );
        assert!(lock(&desk.state).held.is_empty());
        assert!(lock(&desk.state).half_open.is_empty());
    }

    #[test]
    fn kinds_have_their_own_limits() {
        let rows = [
            (
                Kind::SignIn,
                Refusal::SignInPerAddress,
                Refusal::SignInTotal,
            ),
            (Kind::Http, Refusal::HttpPerAddress, Refusal::HttpTotal),
        ];
        for (kind, by_address, in_all) in rows {
            let (desk, refusals) = desk(small());
            let enter = |text| desk.enter(address(text), 0).unwrap();
            let first = enter("192.0.2.1");
            first.become_kind(kind).unwrap();
            first.become_kind(kind).unwrap();
            let second = enter("192.0.2.1");
            assert_eq!(second.become_kind(kind).unwrap_err(), by_address);
            assert!(second.is_half_open());
            let third = enter("192.0.2.3");
            third.become_kind(kind).unwrap();
            assert_eq!(enter("192.0.2.4").become_kind(kind).unwrap_err(), in_all);
            assert_eq!((refusals.of(by_address), refusals.of(in_all)), (1, 1));
        }
    }

    #[test]
    fn new_connections_have_a_rate_by_address() {
        let (desk, refusals) = desk(Limits {
            new_per_second: 1,
            new_burst: 2,
            ..Limits::default()
        });
        for _ in 0..2 {
            desk.enter(address("192.0.2.1"), 0).unwrap();
        }
        assert_eq!(
            desk.enter(address("192.0.2.1"), 0).unwrap_err(),
            Refusal::Rate
        );
        assert!(desk.enter(address("192.0.2.2"), 0).is_ok());
        assert!(desk.enter(address("192.0.2.1"), 1_500).is_ok());
        assert_eq!(refusals.of(Refusal::Rate), 1);
    }
}
