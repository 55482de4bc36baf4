//! Time for the data thread: milliseconds on one monotonic clock, an argument everywhere else.

use std::time::Instant;

/// Tells the time; tests bring one that they turn by hand.
pub trait Clock: Send {
    /// Milliseconds since a moment of the clock's choosing; never goes back.
    fn now_ms(&self) -> u64;
}

/// The machine's monotonic clock, counted from its creation.
#[derive(Debug)]
pub struct Monotonic(Instant);

impl Monotonic {
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
