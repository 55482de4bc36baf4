//! How much of one session's traffic may pass: a token bucket of bytes for each direction.
//!
//! A packet passes whole or not at all; what does not pass is dropped, so that nothing waits and one
//! session never costs another; its own protocols see the loss and slow down. Time is an argument:
//! milliseconds on one monotonic clock.

/// Least that may pass at once, in bytes: a super-packet as the kernel hands it over, whatever the rate.
pub const LEAST_BURST: u64 = 64 << 10;
/// Otherwise what the rate grants in this time, in ms: TCP fills a window of that round trip.
pub const BURST_MS: u64 = 100;

/// One byte in the unit of the level: thousandths of a bit, so that a rate in bits per second grows
/// by itself in every millisecond.
const BYTE: u64 = 8 * 1000;

/// What one direction of a session may still use.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// Bits per second, or thousandths of a bit per millisecond.
    rate: u64,
    level: u64,
    since_ms: u64,
}

impl Throttle {
    /// A full bucket for this rate in bits per second; `None` for 0, which is no limit.
    pub fn new(rate: u64, now_ms: u64) -> Option<Self> {
        (rate > 0).then(|| Self {
            rate,
            level: burst(rate),
            since_ms: now_ms,
        })
    }

    /// The bucket that replaces `former`: what that one had used stays used, or a change of rate
    /// would be a fresh burst.
    pub fn following(former: Option<Self>, rate: u64, now_ms: u64) -> Option<Self> {
        let mut bucket = Self::new(rate, now_ms)?;
        if let Some(former) = former {
            bucket.level = bucket.level.min(former.level_at(now_ms));
        }
        Some(bucket)
    }

    fn level_at(&self, now_ms: u64) -> u64 {
        let passed = now_ms.saturating_sub(self.since_ms);
        self.level
            .saturating_add(passed.saturating_mul(self.rate))
            .min(burst(self.rate))
    }

    /// Whether a packet of `length` bytes passes; then it is booked.
    #[inline]
    pub fn passes(&mut self, length: usize, now_ms: u64) -> bool {
        let level = self.level_at(now_ms);
        let rest = level.checked_sub((length as u64).saturating_mul(BYTE));
        self.level = rest.unwrap_or(level);
        self.since_ms = self.since_ms.max(now_ms);
        rest.is_some()
    }
}

/// A full bucket of this rate.
fn burst(rate: u64) -> u64 {
    rate.saturating_mul(BURST_MS).max(LEAST_BURST * BYTE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MEGABIT: u64 = 1_000_000;

    /// Bytes that pass of an endless supply of packets.
    fn passed(throttle: &mut Throttle, packet: usize, now: u64) -> u64 {
        let count = (0..1_000_000)
            .take_while(|_| throttle.passes(packet, now))
            .count();
        (count * packet) as u64
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        for (rate, at_once, in_a_second) in [
            (8, 65_000, 0),
            (MEGABIT, 65_000, 65_000), // more than the burst is not saved up
            (100 * MEGABIT, 1_250_000, 1_250_000),
        ] {
            let mut throttle = Throttle::new(rate, 5000).unwrap();
            assert_eq!(passed(&mut throttle, 1000, 5000), at_once, "{rate}");
            assert_eq!(passed(&mut throttle, 1000, 4000), 0, "a clock gone back");
            assert_eq!(passed(&mut throttle, 1000, 6000), in_a_second, "{rate}");
        }
        let mut throttle = Throttle::new(MEGABIT, 0).unwrap();
        passed(&mut throttle, 100, 0);
        let sum: u64 = (1..=800)
            .map(|now| passed(&mut throttle, 100, now * 5))
            .sum();
        assert!((499_900..=500_000 + 100).contains(&sum), "{sum} in 4 s");
        assert!(Throttle::new(0, 0).is_none());
    }

    #[test]
    fn a_super_packet_passes_at_any_rate() {
        let mut throttle = Throttle::new(1, 0).unwrap();
        assert!(throttle.passes(65_535, 0));
        assert!(!throttle.passes(65_535, 1000));
        let mut endless = Throttle::new(u64::MAX, 0).unwrap();
        assert!(endless.passes(65_535, u64::MAX));
    }

    #[test]
    fn another_rate_is_no_fresh_burst() {
        let mut used = Throttle::new(100 * MEGABIT, 0);
        passed(used.as_mut().unwrap(), 1000, 0);
        let mut after = Throttle::following(used, MEGABIT, 0).unwrap();
        assert!(!after.passes(1000, 0));
        assert!(after.passes(1000, 8));
        let fresh = Throttle::new(100 * MEGABIT, 0);
        let mut after = Throttle::following(fresh, MEGABIT, 0).unwrap();
        assert_eq!(
            passed(&mut after, 1000, 0),
            65_000,
            "never above its own burst"
        );
        assert!(Throttle::following(fresh, 0, 0).is_none());
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            rate in 1u64..10_000_000_000,
            packets in proptest::collection::vec((1usize..65_536, 0u64..50), 1..300),
        ) {
            let mut throttle = Throttle::new(rate, 0).unwrap();
            let (mut now, mut bytes) = (0u64, 0u64);
            for (length, wait) in packets {
                now += wait;
                bytes += if throttle.passes(length, now) { length as u64 } else { 0 };
                let most = u128::from(burst(rate)) + u128::from(rate) * u128::from(now);
                prop_assert!(u128::from(bytes) * u128::from(BYTE) <= most);
            }
        }
    }
}
