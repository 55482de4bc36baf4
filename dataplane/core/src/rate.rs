//! How often something may happen: token buckets, one or one per address.
//!
//! Time is an argument: milliseconds on one monotonic clock.

use std::hash::Hasher;
use std::net::IpAddr;

/// Permits grow by `per_second` up to `burst`; each use takes one.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    per_second: u32,
    burst: u32,
    /// Thousandths of a permit, so that slow rates grow in every millisecond.
    level: u64,
    since_ms: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u32, burst: u32, now_ms: u64) -> Self {
        Self {
            per_second,
            burst,
            level: u64::from(burst) * 1000,
            since_ms: now_ms,
        }
    }

    fn level_at(&self, now_ms: u64) -> u64 {
        let passed = now_ms.saturating_sub(self.since_ms);
        let grown = passed.saturating_mul(u64::from(self.per_second));
        self.level
            .saturating_add(grown)
            .min(u64::from(self.burst) * 1000)
    }

    /// Takes one permit if there is one.
    pub fn take(&mut self, now_ms: u64) -> bool {
        let level = self.level_at(now_ms);
        let rest = level.checked_sub(1000);
        self.level = rest.unwrap_or(level);
        self.since_ms = self.since_ms.max(now_ms);
        rest.is_some()
    }

    /// Whether it has nothing to remember: a new bucket would behave the same.
    fn is_full(&self, now_ms: u64) -> bool {
        self.level_at(now_ms) >= u64::from(self.burst) * 1000
    }
}

/// Addresses that share one small group of slots.
const WAYS: usize = 8;

/// One bucket per IPv4 address or IPv6 /64 (what one subscriber controls), in a table of fixed size.
///
/// A slot is given to another address only once its bucket is full again, that is when forgetting
/// it changes nothing; while all slots of a group are busy, newcomers share one common bucket. So
/// nobody gets a fresh bucket by flooding the table from many addresses.
pub struct PerAddress {
    per_second: u32,
    burst: u32,
    /// Random: decides the group of an address, so that nobody can aim at another's group.
    seed: [u8; 16],
    slots: Box<[Option<(Group, TokenBucket)>]>,
    overflow: TokenBucket,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Group {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(a) => Self::V4(a.octets()),
            IpAddr::V6(a) => Self::V6(((u128::from(a) >> 64) as u64).to_be_bytes()),
        }
    }
}

impl std::fmt::Debug for PerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerAddress")
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl PerAddress {
    /// `per_second` and `burst` hold for every address and again for all that find no slot.
    /// `capacity`: slots, rounded up to a multiple of 8. `seed`: random bytes.
    pub fn new(per_second: u32, burst: u32, capacity: usize, seed: [u8; 16]) -> Self {
        let slots = vec![None; capacity.max(1).next_multiple_of(WAYS)].into_boxed_slice();
        Self {
            per_second,
            burst,
            seed,
            slots,
            overflow: TokenBucket::new(per_second, burst, 0),
        }
    }

    /// Takes one permit of this address if it has one.
    pub fn take(&mut self, address: IpAddr, now_ms: u64) -> bool {
        let group = Group::of(address);
        let start = self.start(group);
        let Some(ways) = self.slots.get_mut(start..start + WAYS) else {
            return false;
        };
        let mut free = None;
        for slot in ways {
            match slot {
                Some((owner, bucket)) if *owner == group => return bucket.take(now_ms),
                Some((_, bucket)) if !bucket.is_full(now_ms) => {}
                _ => free = free.or(Some(slot)),
            }
        }
        let Some(slot) = free else {
            return self.overflow.take(now_ms);
        };
        let mut bucket = TokenBucket::new(self.per_second, self.burst, now_ms);
        let taken = bucket.take(now_ms);
        *slot = Some((group, bucket));
        taken
    }

    fn start(&self, group: Group) -> usize {
        // SipHash with public keys; the secret is in front of what is hashed.
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&self.seed);
        match group {
            Group::V4(bytes) => hasher.write(&bytes),
            Group::V6(bytes) => hasher.write(&bytes),
        }
        let groups = (self.slots.len() / WAYS) as u64;
        (hasher.finish() % groups) as usize * WAYS
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn burst_then_rate() {
        let mut bucket = TokenBucket::new(2, 3, 1000);
        let taken = |bucket: &mut TokenBucket, now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, 1000), 3);
        assert_eq!(taken(&mut bucket, 1499), 0);
        assert_eq!(taken(&mut bucket, 1500), 1);
        assert_eq!(
            taken(&mut bucket, 900),
            0,
            "a clock that goes back gives nothing"
        );
        assert_eq!(
            taken(&mut bucket, 1_000_000),
            3,
            "never more than the burst"
        );
        assert_eq!(taken(&mut TokenBucket::new(0, 0, 0), u64::MAX), 0);
    }

    #[test]
    fn ipv6_neighbours_share_and_mapped_addresses_are_ipv4() {
        let mut table = PerAddress::new(1, 1, 64, [7; 16]);
        assert!(table.take("2001:db8::1".parse().unwrap(), 0));
        assert!(!table.take("2001:db8::2".parse().unwrap(), 0));
        assert!(table.take("2001:db8:0:1::2".parse().unwrap(), 0));
        assert!(table.take("192.0.2.1".parse().unwrap(), 0));
        assert!(!table.take("::ffff:192.0.2.1".parse().unwrap(), 0));
    }

    #[test]
    fn flooding_the_table_does_not_empty_a_bucket_sooner() {
        let mut table = PerAddress::new(1, 4, 64, [1; 16]);
        for _ in 0..4 {
            assert!(table.take(address(1), 0));
        }
        // Busy slots stay; whoever finds none shares one bucket of four.
        let allowed = (2..10_000u32)
            .filter(|n| table.take(address(*n), 0))
            .count();
        assert!(allowed <= 64 + 4, "{allowed}");
        assert!(!table.take(address(1), 999), "still remembered");
        assert!(table.take(address(1), 1000));
    }

    proptest! {
        #[test]
        fn never_more_than_granted(uses in proptest::collection::vec((0u32..40, 0u64..300), 0..400)) {
            let (rate, burst, slots) = (3u64, 5u64, 8);
            let mut table = PerAddress::new(rate as u32, burst as u32, slots, [0; 16]);
            let (mut now, mut taken) = (0, std::collections::HashMap::<u32, u64>::new());
            for (who, wait) in uses {
                now += wait;
                *taken.entry(who).or_default() += u64::from(table.take(address(who), now));
            }
            let granted = burst + rate * now / 1000 + 1;
            for (who, count) in taken {
                prop_assert!(count <= 2 * granted, "{} got {} of {}", who, count, granted);
            }
        }
    }
}
