//! How large an inner packet may be to reach the gateway over ESP: the client tries it out.
//!
//! ```text
//!   Whole --no--> Known --no--> Floor --no--> Fragments --no--> Hopeless
//!     |             |            yes             |                 |
//!     |             |             v              |                 | (after a while: Whole)
//!     |             |           Search --.       |
//!     yes           yes           |  ^---'      yes
//!     +-------------+-------------+--------------+---> Announce --> Done --(after a while: Whole)
//! ```
//!
//! Whole: the configured MTU. Known: what was found last time. Floor: 1280, which every path of
//! today carries. Search: halves what is open between a size that passes and one that does not.
//! Fragments: 1280 once more, with the outer packets cut where they must be. Announce: the gateway
//! is told what was found, for what it sends. A test is a padded probe of the size under test that
//! must not be cut on its way (but for Fragments); its echo is a yes, two tries without one a no.
//!
//! While packets are being sent, what was found is tested every few seconds (Watch): a path may
//! become narrower, and nothing else would tell, since the socket believes no ICMP and plain probes
//! are small. A no leads to Floor.
//!
//! Time is an argument: milliseconds on one monotonic clock.

/// Smallest size that is looked for: what IPv6 wants from every link (RFC 8200 section 5).
const FLOOR: u16 = 1280;
/// Tries of one size before it counts as too large, and the time each has for its echo.
const TRIES: u32 = 2;
const PATIENCE: u64 = 1000;
/// The search ends when it is this exact: CBC pads to 16 bytes anyway.
const EXACT: u16 = 8;
/// Time until everything is tried again, since paths change.
const RETEST: u64 = 600_000;
/// A send that was refused for its size starts a new test, but not more often than this.
const HINT_EVERY: u64 = 5000;
/// Time between tests of what was found, while packets are being sent: with two tries a path that has
/// become narrower costs at most seven seconds.
const WATCH_EVERY: u64 = 5000;

/// One padded probe to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// Bytes of its payload.
    pub(super) size: u16,
    /// What it says our MTU is.
    pub(super) mtu: u16,
    /// Whether it may be cut on its way.
    pub(super) may_fragment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Not begun, or interrupted.
    Idle,
    Whole,
    Known,
    Floor,
    Search {
        passes: u16,
        fails: u16,
    },
    Fragments,
    Announce,
    Done,
    /// As Done, and what was found is being tested.
    Watch,
    Hopeless,
}

#[derive(Debug)]
pub(super) struct PathMtu {
    configured: u16,
    /// Largest inner packet that is believed to pass.
    mtu: u16,
    step: Step,
    tries: u32,
    /// When the current try or rest is over.
    until: u64,
    /// When everything is to be tried again.
    again: u64,
    /// When what was found was tested last.
    watched: u64,
    began: u64,
    /// A result has been found since the start or the last hint.
    settled: bool,
    /// Even small packets pass in pieces only.
    fragments: bool,
    hopeless: bool,
    /// What the gateway has confirmed to have been told.
    confirmed: Option<u16>,
}

impl PathMtu {
    pub(super) fn new(configured: u16) -> Self {
        Self {
            configured,
            mtu: configured,
            step: Step::Idle,
            tries: 0,
            until: 0,
            again: 0,
            watched: 0,
            began: 0,
            settled: false,
            fragments: false,
            hopeless: false,
            confirmed: None,
        }
    }

    /// Largest inner packet to use.
    pub(super) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The MTU once something is known about it: also a first result that is being improved.
    pub(super) fn result(&self) -> Option<u16> {
        (self.settled || self.mtu < self.configured).then_some(self.mtu)
    }

    /// Whether data may be cut on its way: where nothing else works, and as long as nothing is
    /// known.
    pub(super) fn may_fragment(&self) -> bool {
        self.fragments || !self.settled
    }

    /// Nothing of a useful size passes: ESP is of no use.
    pub(super) fn hopeless(&self) -> bool {
        self.hopeless
    }

    /// Tries everything: the path is new, or works again.
    pub(super) fn start(&mut self, now: u64) {
        self.settled = false;
        self.confirmed = None;
        self.begin(now);
    }

    /// The path has gone: there is nothing to try.
    pub(super) fn stop(&mut self) {
        self.step = Step::Idle;
    }

    /// A packet was refused for its size: the path must have become narrower.
    pub(super) fn hint(&mut self, now: u64) {
        if self.step == Step::Done && now.saturating_sub(self.began) >= HINT_EVERY {
            self.settled = false;
            self.begin(now);
        }
    }

    /// A packet is being sent. True when that makes a test due.
    #[inline]
    pub(super) fn used(&mut self, now: u64) -> bool {
        let due = self.step == Step::Done
            && !self.fragments
            && now.saturating_sub(self.watched) >= WATCH_EVERY;
        if due {
            self.watched = now;
            self.enter(Step::Watch, now);
        }
        due
    }

    fn begin(&mut self, now: u64) {
        self.began = now;
        self.enter(Step::Whole, now);
    }

    fn enter(&mut self, step: Step, now: u64) {
        (self.step, self.tries, self.until) = (step, 0, now);
    }

    fn floor(&self) -> u16 {
        FLOOR.min(self.configured)
    }

    /// The size under test, if there is one.
    fn size(&self) -> Option<u16> {
        match self.step {
            Step::Idle | Step::Done | Step::Hopeless => None,
            Step::Whole => Some(self.configured),
            Step::Known | Step::Announce | Step::Watch => Some(self.mtu),
            Step::Floor | Step::Fragments => Some(self.floor()),
            Step::Search { passes, fails } => Some(passes + (fails - passes) / 2),
        }
    }

    /// The test to send now, if one is due. Call until there is none.
    pub(super) fn due(&mut self, now: u64) -> Option<Test> {
        loop {
            if self.step == Step::Idle || now < self.until {
                return None;
            }
            let Some(size) = self.size() else {
                self.begin(now);
                continue;
            };
            if self.tries >= TRIES {
                self.no(now);
                continue;
            }
            self.tries += 1;
            self.until = now + PATIENCE;
            return Some(Test {
                size,
                mtu: self.mtu,
                may_fragment: matches!(self.step, Step::Fragments)
                    || self.fragments && self.step == Step::Announce,
            });
        }
    }

    /// When [`due`](Self::due) must be asked again, unless something happens before.
    pub(super) fn next(&self) -> Option<u64> {
        (self.step != Step::Idle).then_some(self.until)
    }

    /// The kernel itself refused the test that was given out last: there is no need to wait.
    pub(super) fn refused(&mut self, now: u64) {
        if self.size().is_some() {
            self.no(now);
        }
    }

    /// An echo came, of `length` bytes, saying that our MTU is `mtu`.
    pub(super) fn echoed(&mut self, length: usize, mtu: u16, now: u64) {
        self.confirmed = Some(mtu);
        if self.size().map(usize::from) == Some(length) {
            self.yes(now);
        }
    }

    fn yes(&mut self, now: u64) {
        match self.step {
            Step::Whole => self.found(self.configured, false, now),
            Step::Known => self.found(self.mtu, self.fragments, now),
            Step::Floor => {
                // What has failed: the last known size was tried before, if it was another one.
                let fails = if self.mtu > self.floor() {
                    self.mtu
                } else {
                    self.configured
                };
                self.mtu = self.floor();
                self.search(self.floor(), fails, now);
            }
            Step::Search { fails, .. } => {
                let passes = self.size().unwrap_or(self.mtu);
                self.mtu = passes;
                self.search(passes, fails, now);
            }
            Step::Fragments => self.found(self.floor(), true, now),
            Step::Announce => self.rest(Step::Done, now),
            Step::Watch => {
                self.step = Step::Done;
                self.until = self.again;
            }
            Step::Idle | Step::Done | Step::Hopeless => {}
        }
    }

    fn no(&mut self, now: u64) {
        match self.step {
            Step::Whole if self.mtu < self.configured && self.mtu > self.floor() => {
                self.enter(Step::Known, now);
            }
            Step::Whole if self.configured > self.floor() => self.enter(Step::Floor, now),
            Step::Known | Step::Watch => self.enter(Step::Floor, now),
            Step::Whole | Step::Floor => self.enter(Step::Fragments, now),
            Step::Search { passes, fails } => {
                self.search(passes, self.size().unwrap_or(fails), now);
            }
            Step::Fragments => {
                self.hopeless = true;
                self.rest(Step::Hopeless, now);
            }
            // It has been told often enough; what it sends may be cut on its way.
            Step::Announce => self.rest(Step::Done, now),
            Step::Idle | Step::Done | Step::Hopeless => {}
        }
    }

    fn search(&mut self, passes: u16, fails: u16, now: u64) {
        if fails.saturating_sub(passes) <= EXACT {
            self.found(passes, false, now);
        } else {
            self.enter(Step::Search { passes, fails }, now);
        }
    }

    fn found(&mut self, mtu: u16, fragments: bool, now: u64) {
        (self.mtu, self.fragments) = (mtu, fragments);
        (self.settled, self.hopeless) = (true, false);
        if self.confirmed == Some(mtu) {
            self.rest(Step::Done, now);
        } else {
            self.enter(Step::Announce, now);
        }
    }

    fn rest(&mut self, step: Step, now: u64) {
        (self.again, self.watched) = (now + RETEST, now);
        self.enter(step, self.again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lets a discovery run over a path that carries `widest` bytes whole and `pieces` in pieces,
    /// until `end`. `local`: what is too wide for the first link is refused by the kernel.
    fn run(
        found: &mut PathMtu,
        now: &mut u64,
        end: u64,
        widest: u16,
        pieces: u16,
        local: bool,
    ) -> Vec<u16> {
        let mut sizes = Vec::new();
        while *now < end {
            while let Some(test) = found.due(*now) {
                sizes.push(test.size);
                if test.size <= widest || test.may_fragment && test.size <= pieces {
                    found.echoed(test.size.into(), test.mtu, *now + 20);
                } else if local {
                    found.refused(*now);
                }
            }
            *now = found.next().unwrap_or(end).clamp(*now, end);
        }
        sizes
    }

    fn fresh(configured: u16, widest: u16, pieces: u16) -> (PathMtu, Vec<u16>, u64) {
        let (mut found, mut now) = (PathMtu::new(configured), 1000);
        assert!(found.may_fragment(), "as long as nothing is known");
        assert_eq!(found.due(now), None, "not before the start");
        found.start(now);
        let sizes = run(&mut found, &mut now, 100_000, widest, pieces, false);
        (found, sizes, now)
    }

    #[test]
    fn what_paths_carry() {
        for (configured, widest, pieces, mtu, cut, hopeless, tests, why) in [
            (
                1400,
                1500,
                0,
                1400,
                false,
                false,
                1,
                "the usual path: one test",
            ),
            (
                1400,
                1339,
                0,
                1332,
                false,
                false,
                10,
                "a narrow path: search",
            ),
            (1400, 1280, 0, 1280, false, false, 12, "just the floor"),
            (
                1400,
                1279,
                1500,
                1280,
                true,
                false,
                5,
                "nothing whole, all in pieces",
            ),
            (1400, 1279, 1279, 1400, false, true, 6, "nothing of use"),
            (
                1280,
                1200,
                1500,
                1280,
                true,
                false,
                4,
                "configured to the floor",
            ),
            (900, 1200, 0, 900, false, false, 1, "configured below it"),
            (900, 800, 1500, 900, true, false, 4, "and too wide even so"),
            (
                9000,
                1500,
                0,
                1499,
                false,
                false,
                20,
                "a jumbo configuration",
            ),
        ] {
            let (found, sizes, _) = fresh(configured, widest, pieces);
            assert!(
                found.mtu() <= mtu && found.mtu() + 8 > mtu,
                "{why}: {}",
                found.mtu()
            );
            assert!(hopeless || cut || found.mtu() <= widest, "{why}");
            assert_eq!(
                (found.fragments, found.hopeless()),
                (cut, hopeless),
                "{why}"
            );
            assert!(sizes.len() <= tests + 8, "{why}: {sizes:?}");
            assert_eq!(sizes.first(), Some(&configured), "{why}");
            if !hopeless {
                assert_eq!(
                    found.confirmed,
                    Some(found.mtu()),
                    "{why}: the gateway knows"
                );
            }
        }
    }

    #[test]
    fn a_narrow_path_is_usable_before_the_search_ends() {
        let mut found = PathMtu::new(1400);
        found.start(0);
        for now in [0, 1000] {
            assert_eq!(found.due(now).map(|test| test.size), Some(1400));
        }
        assert_eq!(found.due(1999), None);
        let floor = Test {
            size: 1280,
            mtu: 1400,
            may_fragment: false,
        };
        assert_eq!(found.due(2000), Some(floor));
        found.echoed(1280, 1400, 2020);
        assert_eq!(found.mtu(), 1280);
        let middle = Test {
            size: 1340,
            mtu: 1280,
            may_fragment: false,
        };
        assert_eq!(found.due(2020), Some(middle));
        found.echoed(1280, 1280, 2021);
        assert_eq!(
            found.mtu(),
            1280,
            "the echo of another test says nothing about this one"
        );
        found.echoed(1340, 1280, 2040);
        assert_eq!(found.mtu(), 1340);
    }

    #[test]
    fn everything_is_tried_again_after_ten_minutes() {
        let (mut found, _, mut now) = fresh(1400, 1339, 0);
        let before = found.mtu();
        assert!(run(&mut found, &mut now, 500_000, 1339, 0, false).is_empty());
        let again = run(&mut found, &mut now, 640_000, 1339, 0, false);
        assert_eq!(
            again,
            [1400, 1400, before],
            "what was known is tried before all else"
        );
        assert!(!found.may_fragment(), "and counts meanwhile");
        run(&mut found, &mut now, 1_300_000, 1500, 0, false);
        assert_eq!(
            (found.mtu(), found.confirmed),
            (1400, Some(1400)),
            "it has become wider"
        );
        // Hopeless paths, too.
        let (mut found, _, mut now) = fresh(1400, 100, 100);
        assert!(found.hopeless());
        run(&mut found, &mut now, 700_000, 1500, 0, false);
        assert_eq!((found.hopeless(), found.mtu()), (false, 1400));
    }

    #[test]
    fn a_refused_packet_starts_a_test() {
        let (mut found, _, mut now) = fresh(1400, 1500, 0);
        found.hint(now);
        assert!(found.may_fragment(), "nothing is lost while the test runs");
        let (from, end) = (now, now + HINT_EVERY - 1);
        let sizes = run(&mut found, &mut now, end, 1339, 0, true);
        assert_eq!(sizes.first(), Some(&1400));
        assert!(found.mtu() <= 1339 && found.mtu() > 1331, "{}", found.mtu());
        assert!(!found.may_fragment());
        found.hint(from + HINT_EVERY - 1);
        assert_eq!(found.due(from + HINT_EVERY - 1), None, "not again so soon");
        found.hint(from + HINT_EVERY);
        assert!(found.due(from + HINT_EVERY).is_some());
        found.stop();
        assert_eq!((found.due(now + RETEST), found.next()), (None, None));
    }

    #[test]
    fn a_path_that_narrows_under_traffic_is_noticed() {
        let (mut found, _, mut now) = fresh(1400, 1500, 0);
        // A path that stays as it is: one test each time, and the great test comes when it is due.
        let again = found.again;
        for _ in 0..20 {
            now += WATCH_EVERY;
            assert!(found.used(now));
            assert!(!found.used(now), "not again so soon");
            let end = now + 100;
            assert_eq!(run(&mut found, &mut now, end, 1500, 0, false), [1400]);
            assert_eq!((found.mtu(), found.next()), (1400, Some(again)));
        }
        // Nobody sends: nobody asks, and nobody is harmed.
        let end = now + 50_000;
        assert!(run(&mut found, &mut now, end, 1300, 0, false).is_empty());
        assert!(found.used(now));
        let end = now + 2 * PATIENCE + 50;
        let sizes = run(&mut found, &mut now, end, 1300, 0, false);
        assert_eq!(sizes.get(..3), Some(&[1400, 1400, 1280][..]));
        assert!((1280..=1300).contains(&found.mtu()));
        // In pieces there is nothing to lose.
        let (mut found, _, now) = fresh(1400, 1279, 1500);
        assert!(!found.used(now + RETEST / 2));
    }

    proptest! {
        /// Whatever a path carries: it ends, what it finds passes, and it is no more than 8 short.
        #[test]
        fn what_is_found_passes(configured in 576u16..9100, widest in 500u16..9200, pieces in 500u16..9200, local: bool) {
            let (mut found, mut now) = (PathMtu::new(configured), 0);
            found.start(now);
            run(&mut found, &mut now, 100_000, widest, pieces, local);
            let floor = configured.min(FLOOR);
            prop_assert!(matches!(found.step, Step::Done | Step::Hopeless));
            if widest >= floor {
                let best = widest.min(configured);
                prop_assert!(found.mtu() <= best && found.mtu() + EXACT >= best, "{} of {}", found.mtu(), best);
                prop_assert!(!found.may_fragment() && !found.hopeless());
            } else if pieces >= floor {
                prop_assert!(found.mtu() == floor && found.may_fragment());
            } else {
                prop_assert!(found.hopeless());
            }
        }
    }
}
