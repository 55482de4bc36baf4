//! When to look at which session again.
//!
//! One heap entry a session says when it must be looked at next; packets do not touch the heap.
//! Looking finds out what is due and books the next time. An entry that was overtaken by an earlier
//! one is recognised by its time and skipped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Longest time between two looks at a session, in ms: bounds how long overtaken entries stay.
pub(super) const LONGEST: u64 = 60_000;

/// A session by slot and the time it was booked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Booking {
    pub(super) at: u64,
    pub(super) slot: usize,
    /// Session id, since slots are used again.
    pub(super) id: u64,
}

#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<Booking>>);

impl Timers {
    pub(super) fn book(&mut self, booking: Booking) {
        self.0.push(Reverse(booking));
    }

    /// The next booking that is due.
    pub(super) fn due(&mut self, now: u64) -> Option<Booking> {
        let Reverse(first) = *self.0.peek()?;
        if first.at > now {
            return None;
        }
        self.0.pop();
        Some(first)
    }

    /// When the next booking is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse(first)| first.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookings_come_due_in_order_of_time() {
        let mut timers = Timers::default();
        for (at, slot) in [(50, 1), (10, 2), (30, 3)] {
            timers.book(Booking { at, slot, id: 7 });
        }
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.due(9), None);
        assert_eq!(timers.due(40).map(|b| b.slot), Some(2));
        assert_eq!(timers.due(40).map(|b| b.slot), Some(3));
        assert_eq!(timers.due(40), None);
        assert_eq!(timers.next(), Some(50));
    }
}
