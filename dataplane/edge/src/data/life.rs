//! Whether ESP works, as the client finds out by probes: it leads, the gateway follows.
//!
//! ```text
//!                 start                 a probe is answered
//!   Off ----------------> Searching --------------------------> Alive
//!                             ^                                   |
//!                             +-----------------------------------+
//!                               nothing heard, or probes unanswered
//! ```
//!
//! Searching: two probes at once, then one a second up to five, then one every five seconds.
//! Alive: a probe now and then, and one a second while something sent has found no echo. Anything
//! valid that comes back is an echo of what was sent; but only the answer to a probe shows that our
//! own packets arrive, so that a path which is broken one way is noticed too, only later.
//!
//! Time is an argument: milliseconds on one monotonic clock.

/// Probes sent at once when a search begins: one may get lost.
const AT_ONCE: u32 = 2;
/// Probes, those included, that follow each other quickly.
const EAGER: u32 = 5;
/// Time between those.
const EAGER_EVERY: u64 = 1000;
/// Time between the probes of a search after that: a path that works again is found within this.
const SEARCH_EVERY: u64 = 5000;
/// How long something sent may have no echo before it is asked for.
const DOUBT_AFTER: u64 = 2000;
/// Time between the questions then.
const DOUBT_EVERY: u64 = 1000;
/// How long something sent may have no echo before ESP counts as dead.
const SILENT_AFTER: u64 = 5000;
/// How long probes may go unanswered, while other packets come, before ESP counts as dead: seven
/// probes lost in a row.
const DEAF_AFTER: u64 = 8000;
/// Longest time between probes while alive. Entries of NATs for UDP live half a minute, some 20 s;
/// this short, a path that breaks while nobody sends is left within 10 s too.
const IDLE_AT_MOST: u64 = 5000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    Searching,
    Alive,
}

#[derive(Debug)]
pub(super) struct Life {
    stage: Stage,
    /// Time between probes while all is well.
    idle: u64,
    /// Probes to be sent now whatever else is known.
    at_once: u32,
    /// Probes since the search began.
    tried: u32,
    /// When the last probe went out.
    probed: u64,
    /// When the first thing was sent since anything was heard.
    unechoed: Option<u64>,
    /// When the first probe was sent since one was answered.
    unanswered: Option<u64>,
}

impl Life {
    /// `fallback`: seconds as the gateway told; 0 is none.
    pub(super) fn new(fallback: u32) -> Self {
        let idle = match fallback {
            0 => IDLE_AT_MOST,
            seconds => IDLE_AT_MOST.min(u64::from(seconds) * 1000),
        };
        Self {
            stage: Stage::Off,
            idle,
            at_once: 0,
            tried: 0,
            probed: 0,
            unechoed: None,
            unanswered: None,
        }
    }

    /// Keys and configuration are complete: ESP may be tried.
    pub(super) fn start(&mut self) {
        if self.stage == Stage::Off {
            self.search();
        }
    }

    /// Packets leave by another socket from now on. What was alive stays so until it turns out
    /// otherwise: the gateway follows the first packet that it gets.
    pub(super) fn moved(&mut self) {
        (self.unechoed, self.unanswered) = (None, None);
        match self.stage {
            Stage::Off => {}
            Stage::Searching => self.search(),
            Stage::Alive => self.at_once = AT_ONCE,
        }
    }

    fn search(&mut self) {
        self.stage = Stage::Searching;
        (self.at_once, self.tried) = (AT_ONCE, 0);
        (self.unechoed, self.unanswered) = (None, None);
    }

    pub(super) fn alive(&self) -> bool {
        self.stage == Stage::Alive
    }

    /// Something was sent over ESP. True when an echo is awaited from now on.
    #[inline]
    pub(super) fn sent(&mut self, now: u64) -> bool {
        let first = self.unechoed.is_none();
        self.unechoed.get_or_insert(now);
        first
    }

    /// Something valid came over ESP. True when ESP is alive by that, and was not before.
    pub(super) fn heard(&mut self, answer: bool) -> bool {
        self.unechoed = None;
        if !answer {
            return false;
        }
        self.unanswered = None;
        let found = self.stage == Stage::Searching;
        if found {
            self.stage = Stage::Alive;
        }
        found
    }

    /// Whether a probe is to be sent now; it counts as sent. Call until it says no.
    pub(super) fn probe_due(&mut self, now: u64) -> bool {
        if self.stage == Stage::Alive && self.silent_at().is_some_and(|at| at <= now) {
            self.stage = Stage::Searching;
            // It has been asked for eagerly already.
            (self.at_once, self.tried) = (0, EAGER);
        }
        if self.probe_at().is_none_or(|at| at > now) {
            return false;
        }
        self.at_once = self.at_once.saturating_sub(1);
        self.tried = self.tried.saturating_add(1);
        self.probed = now;
        self.unechoed.get_or_insert(now);
        self.unanswered.get_or_insert(now);
        true
    }

    /// When [`probe_due`](Self::probe_due) must be asked again, unless something happens before.
    pub(super) fn next(&self) -> Option<u64> {
        let silent = self.silent_at().filter(|_| self.stage == Stage::Alive);
        self.probe_at().into_iter().chain(silent).min()
    }

    fn silent_at(&self) -> Option<u64> {
        let silent = self.unechoed.map(|since| since + SILENT_AFTER);
        let deaf = self.unanswered.map(|since| since + DEAF_AFTER);
        silent.into_iter().chain(deaf).min()
    }

    fn probe_at(&self) -> Option<u64> {
        if self.at_once > 0 {
            return Some(0);
        }
        match self.stage {
            Stage::Off => None,
            Stage::Searching if self.tried < EAGER => Some(self.probed + EAGER_EVERY),
            Stage::Searching => Some(self.probed + SEARCH_EVERY),
            Stage::Alive => {
                let doubt = self.unechoed.into_iter().chain(self.unanswered).min();
                let ask = doubt.map(|since| (since + DOUBT_AFTER).max(self.probed + DOUBT_EVERY));
                ask.into_iter().chain([self.probed + self.idle]).min()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    /// What happens, beside time passing.
    enum Event {
        Start,
        Moved,
        /// A data packet is sent.
        Sent,
        /// A probe is answered.
        Answer,
        /// Some other valid packet comes.
        Packet,
        /// Nothing: only what is due by then.
        Until,
    }
    use Event::{Answer, Moved, Packet, Sent, Start, Until};

    /// Plays events at their times in ms; returns the times of probes, and `+` or `-` with the time
    /// at which ESP came alive or died.
    fn play(fallback: u32, events: &[(u64, Event)]) -> String {
        let mut life = Life::new(fallback);
        let mut told = Vec::new();
        let turn = |life: &mut Life, now: u64, told: &mut Vec<String>| {
            let alive = life.alive();
            while life.probe_due(now) {
                told.push(now.to_string());
            }
            if alive && !life.alive() {
                told.push(format!("-{now}"));
            }
        };
        for (at, event) in events {
            while let Some(next) = life.next().filter(|next| next < at) {
                turn(&mut life, next, &mut told);
            }
            let alive = life.alive();
            match event {
                Start => life.start(),
                Moved => life.moved(),
                Sent => drop(life.sent(*at)),
                Answer => drop(life.heard(true)),
                Packet => drop(life.heard(false)),
                Until => {}
            }
            if !alive && life.alive() {
                told.push(format!("+{at}"));
            }
            turn(&mut life, *at, &mut told);
        }
        told.join(" ")
    }

    #[test]
    fn the_life_of_esp() {
        for (what, events, expected) in [
            (
                "nothing happens before the start",
                vec![(100, Moved), (200, Answer), (60_000, Until)],
                "",
            ),
            (
                "a search is eager first and then steady",
                vec![(100, Start), (19_000, Until)],
                "100 100 1100 2100 3100 8100 13100 18100",
            ),
            (
                "only an answer ends it",
                vec![(100, Start), (120, Packet), (130, Answer), (5000, Until)],
                "100 100 +130",
            ),
            (
                "an idle path is asked every 5 s and answers",
                vec![
                    (100, Start),
                    (120, Answer),
                    (5110, Answer),
                    (10_110, Answer),
                    (10_120, Until),
                ],
                "100 100 +120 5100 10100",
            ),
            (
                "what is sent without an echo is asked for, and dies",
                vec![
                    (100, Start),
                    (120, Answer),
                    (1000, Sent),
                    (1500, Sent),
                    (11_500, Until),
                ],
                "100 100 +120 3000 4000 5000 -6000 10000",
            ),
            (
                "an idle path that breaks dies after its next probe",
                vec![(100, Start), (120, Answer), (11_000, Until)],
                "100 100 +120 5100 7100 8100 9100 -10100",
            ),
            (
                "traffic one way: what we send has no echo but answers",
                vec![
                    (100, Start),
                    (120, Answer),
                    (1000, Sent),
                    (3010, Answer),
                    (3020, Sent),
                    (5030, Answer),
                    (5040, Until),
                ],
                "100 100 +120 3000 5020",
            ),
            (
                "packets from there are an echo of what we send",
                vec![
                    (100, Start),
                    (120, Answer),
                    (1000, Sent),
                    (2500, Packet),
                    (3000, Sent),
                    (4900, Packet),
                    (5000, Until),
                ],
                "100 100 +120",
            ),
            (
                "but not of our probes: a path broken one way dies, only later",
                vec![
                    (100, Start),
                    (120, Answer),
                    (6000, Packet),
                    (8000, Packet),
                    (10_000, Packet),
                    (12_000, Packet),
                    (18_000, Until),
                ],
                "100 100 +120 5100 7100 8100 9100 10100 11100 12100 -13100 17100",
            ),
            (
                "it comes back with an answer",
                vec![
                    (100, Start),
                    (120, Answer),
                    (1000, Sent),
                    (10_010, Answer),
                    (10_020, Until),
                ],
                "100 100 +120 3000 4000 5000 -6000 10000 +10010",
            ),
            (
                "another socket is probed at once and stays alive",
                vec![
                    (100, Start),
                    (120, Answer),
                    (4000, Moved),
                    (4010, Answer),
                    (8000, Until),
                ],
                "100 100 +120 4000 4000",
            ),
            (
                "or dies",
                vec![(100, Start), (120, Answer), (4000, Moved), (9001, Until)],
                "100 100 +120 4000 4000 6000 7000 8000 -9000",
            ),
            (
                "another socket starts a search anew",
                vec![(100, Start), (9000, Moved), (9500, Start), (10_500, Until)],
                "100 100 1100 2100 3100 8100 9000 9000 10000",
            ),
        ] {
            assert_eq!(play(15, &events), expected, "{what}");
        }
    }

    #[test]
    fn the_fallback_interval_may_shorten_the_wait() {
        let events = || [(100, Start), (120, Answer), (4200, Answer), (8500, Until)];
        assert_eq!(play(4, &events()), "100 100 +120 4100 8100");
        for none_or_long in [0, 60] {
            assert_eq!(play(none_or_long, &events()), "100 100 +120 5100 7100 8100");
        }
    }
}
