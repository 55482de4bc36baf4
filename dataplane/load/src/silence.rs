//! When a session last got an answer, told as soon as it has been without one for long enough.
//!
//! Whoever changes something at the gateway reads from it what the change did and when: times are
//! seconds of the machine's monotonic clock, which every process reads alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Seconds of the machine's monotonic clock.
pub fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds).as_secs_f64()
}

/// Watches the answers of one session; times are seconds.
#[derive(Debug)]
pub struct Silence {
    patience: f64,
    heard: Option<f64>,
    told: bool,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Word {
    /// The last answer came then.
    Quiet(f64),
    /// The first answer after a silence came then.
    Again(f64),
}

impl Word {
    /// The line for session `turn`.
    pub fn line(self, turn: usize) -> String {
        match self {
            Word::Quiet(at) => format!("quiet {turn} {at:.6}"),
            Word::Again(at) => format!("again {turn} {at:.6}"),
        }
    }
}

impl Silence {
    /// patience: how long no answer is nothing to talk about.
    pub fn new(patience: Duration) -> Silence {
        Silence {
            patience: patience.as_secs_f64(),
            heard: None,
            told: false,
        }
    }

    /// An answer came.
    pub fn heard(&mut self, at: f64) -> Option<Word> {
        self.heard = Some(at);
        std::mem::take(&mut self.told).then_some(Word::Again(at))
    }

    /// Time has passed. A session that never had an answer is not quiet.
    pub fn check(&mut self, now: f64) -> Option<Word> {
        let last = self.heard.filter(|last| now - last >= self.patience);
        last.and_then(|_| self.end())
    }

    /// Nothing more will come.
    pub fn end(&mut self) -> Option<Word> {
        let last = self.heard.filter(|_| !self.told)?;
        self.told = true;
        Some(Word::Quiet(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_its_end_are_told_once() {
        let mut silence = Silence::new(Duration::from_millis(500));
        assert_eq!(silence.check(100.0), None, "nothing was ever heard");
        assert_eq!(silence.heard(100.0), None);
        assert_eq!(silence.check(100.4), None);
        assert_eq!(silence.check(100.5), Some(Word::Quiet(100.0)));
        assert_eq!(silence.check(101.0), None);
        assert_eq!(silence.end(), None);
        assert_eq!(silence.heard(102.25), Some(Word::Again(102.25)));
        assert_eq!(silence.heard(102.5), None);
        assert_eq!(silence.end(), Some(Word::Quiet(102.5)));
        assert_eq!(Word::Again(102.25).line(7), "again 7 102.250000");
    }

    #[test]
    fn the_clock_goes_on() {
        let before = now();
        assert!(before > 0.0 && now() >= before);
    }
}
