//! When to let packets gather instead of waking for each.
//!
//! Clients such as openconnect send one packet a system call. On an idle core the thread would wake
//! for every few of them, and the switches between tasks would cost more than the ciphers. At a rate
//! that only bulk transfers reach it sleeps for a moment first, and then finds more to glue together.
//! A question-and-answer exchange stays far below that rate and never waits.

use std::time::Duration;

/// Short against the queueing of a loaded path (milliseconds), long against the arrival of packets
/// at bulk rates (16 µs apart at 0.7 Gbit/s). The kernel's timer slack adds up to 50 µs.
pub(super) const NAP: Duration = Duration::from_micros(40);
/// Packets from clients in one millisecond above which the rate is a bulk transfer's. Exchanges
/// with a round trip of 0.2 ms make 5 a millisecond.
const FAST: u32 = 20;

/// Counts packets from clients by the millisecond.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: u64,
    count: u32,
    fast: bool,
}

impl Pace {
    /// `packets`: those since the last call. `now` in ms.
    pub(super) fn is_fast(&mut self, packets: u32, now: u64) -> bool {
        let passed = now.saturating_sub(self.since);
        self.count = self.count.saturating_add(packets);
        if passed > 0 {
            self.fast = u64::from(self.count) >= passed.saturating_mul(FAST.into());
            (self.since, self.count) = (now, 0);
        }
        self.fast && packets > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_fast_and_an_exchange_is_not() {
        let mut pace = Pace::default();
        assert!(
            !pace.is_fast(100, 0),
            "nothing is known before the first millisecond has passed"
        );
        assert!(pace.is_fast(30, 1), "130 packets in a millisecond");
        assert!(
            !pace.is_fast(0, 1),
            "a turn that brought nothing does not wait"
        );
        assert!(pace.is_fast(5, 1));
        assert!(!pace.is_fast(5, 2), "5 packets in a millisecond");
        for now in 3..20 {
            assert!(!pace.is_fast(5, now));
        }
    }

    #[test]
    fn a_long_silence_is_not_a_rate() {
        let mut pace = Pace::default();
        assert!(!pace.is_fast(60, 1000));
    }
}
