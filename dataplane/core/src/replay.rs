//! Which sequence numbers of one ESP key have been seen (RFC 4303 section 3.4.3).
//!
//! A ring of bits in the manner of RFC 6479: moving ahead clears whole words and shifts nothing.

const WORDS: usize = 32;
const BITS: u64 = 64;

/// How far behind the newest packet another one may arrive. Paths reorder by tens of packets,
/// several senders on one key by hundreds; the requirement is 1024.
pub const SIZE: u64 = (WORDS as u64 - 1) * BITS;

/// The window of one receiving key. Sequence numbers are 64 bits and may start at 0:
/// openconnect's first packet has number 0.
#[derive(Clone, Debug)]
pub struct Window {
    /// One more than the highest number accepted; 0 before the first.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    pub fn new() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }

    /// One more than the highest number accepted so far.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The 64-bit number behind the 32 bits on the wire (RFC 4303 appendix A2.2). `None` for one
    /// that would lie before the first packet ever.
    pub fn extended(&self, low: u32) -> Option<u64> {
        let Some(top) = self.next.checked_sub(1) else {
            return Some(u64::from(low));
        };
        let (top_high, top_low) = (top >> 32, top as u32);
        let reach = SIZE as u32 - 1;
        let high = match top_low.checked_sub(reach) {
            Some(bottom) if low >= bottom => top_high,
            Some(_) => top_high
                .checked_add(1)
                .filter(|high| *high <= u64::from(u32::MAX))?,
            // The window reaches back into the previous run of the low half.
            None if low >= top_low.wrapping_sub(reach) => top_high.checked_sub(1)?,
            None => top_high,
        };
        Some(high << 32 | u64::from(low))
    }

    /// Whether `sequence` is neither too old nor seen. Changes nothing: the caller has yet to
    /// check the packet's integrity.
    #[inline]
    pub fn is_new(&self, sequence: u64) -> bool {
        if sequence >= self.next {
            return sequence != u64::MAX; // `next` must be able to pass it
        }
        self.next - sequence <= SIZE && self.word(sequence) & bit(sequence) == 0
    }

    /// Notes an authentic packet; call after [`Window::is_new`] said yes.
    #[inline]
    pub fn accept(&mut self, sequence: u64) {
        if sequence >= self.next {
            let newest = sequence / BITS;
            // Before the first packet every word is clear, so starting at word 0 is right too.
            let reached = self.next.saturating_sub(1) / BITS;
            for ahead in 1..=(newest - reached).min(WORDS as u64) {
                if let Some(word) = self
                    .seen
                    .get_mut(((reached + ahead) % WORDS as u64) as usize)
                {
                    *word = 0;
                }
            }
            self.next = sequence.saturating_add(1);
        }
        if let Some(word) = self.seen.get_mut((sequence / BITS % WORDS as u64) as usize) {
            *word |= bit(sequence);
        }
    }

    fn word(&self, sequence: u64) -> u64 {
        self.seen
            .get((sequence / BITS % WORDS as u64) as usize)
            .copied()
            .unwrap_or(u64::MAX)
    }
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn offer(window: &mut Window, sequence: u64) -> bool {
        let new = window.is_new(sequence);
        if new {
            window.accept(sequence);
        }
        new
    }

    #[test]
    fn zero_is_a_number_and_counts_once() {
        let mut window = Window::new();
        assert!(offer(&mut window, 0));
        assert!(!offer(&mut window, 0));
        assert!(offer(&mut window, 1));
        assert!(!offer(&mut window, 1));
    }

    #[test]
    fn edges_of_the_window() {
        let mut window = Window::new();
        assert!(offer(&mut window, 5000));
        assert!(!window.is_new(5000 - SIZE));
        assert!(offer(&mut window, 5000 - SIZE + 1));
        assert!(!offer(&mut window, 5000 - SIZE + 1));
        assert!(offer(&mut window, 1 << 40), "a jump clears everything");
        assert!(!window.is_new(5000));
        assert!(offer(&mut window, (1 << 40) - 1));
        assert!(!window.is_new(u64::MAX));
    }

    #[test]
    fn high_half_follows_the_newest_packet() {
        let turn = 1u64 << 32;
        // (highest accepted, low half received, what it means)
        let rows = [
            (0, 0, Some(0)),
            (0, u32::MAX, None), // would be -1
            (10, 7, Some(7)),
            (turn - 10, 5, Some(turn + 5)),
            (turn - 10, u32::MAX, Some(turn - 1)),
            (turn + 5, u32::MAX, Some(turn - 1)),
            (turn + 5, 6, Some(turn + 6)),
            (turn + SIZE - 1, 0, Some(turn)),
            (turn + SIZE, 0, Some(2 * turn)),
            (
                3 * turn + 100_000,
                100_000 - SIZE as u32 + 1,
                Some(3 * turn + 100_000 - SIZE + 1),
            ),
        ];
        for (highest, low, meaning) in rows {
            let mut window = Window::new();
            window.accept(highest);
            assert_eq!(
                window.extended(low),
                meaning,
                "after {highest:#x}, {low:#x}"
            );
        }
        assert_eq!(Window::new().extended(0), Some(0));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..5000), 1..600)) {
            let mut window = Window::new();
            let (mut seen, mut highest) = (HashSet::new(), None::<u64>);
            for (back, distance) in steps {
                let from = highest.unwrap_or(0);
                let sequence = if back { from.saturating_sub(distance) } else { from + distance / 8 };
                let expected = !seen.contains(&sequence) && highest.is_none_or(|h| sequence + SIZE > h);
                prop_assert_eq!(offer(&mut window, sequence), expected);
                if expected {
                    seen.insert(sequence);
                    highest = Some(from.max(sequence));
                }
            }
        }

        #[test]
        fn the_low_half_is_enough(start in prop_oneof![0u64..1 << 40, (0u64..9, 0u64..6000).prop_map(|(turn, near)| (turn << 32) + near), (1u64..9, 1u64..6000).prop_map(|(turn, near)| (turn << 32) - near)], steps in proptest::collection::vec(0i64..3000, 1..60)) {
            let mut window = Window::new();
            window.accept(start);
            for step in steps {
                let sequence = (window.next() - 1).saturating_add_signed(step - 1000);
                if sequence + SIZE >= window.next() {
                    prop_assert_eq!(window.extended(sequence as u32), Some(sequence));
                }
                if window.is_new(sequence) {
                    window.accept(sequence);
                }
            }
        }
    }
}
