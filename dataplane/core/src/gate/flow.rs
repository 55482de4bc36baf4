//! Decisions already made, so that a long rule list is not read for every packet.

use super::rules::{Remote, Verdict};
use std::hash::{Hash, Hasher};

/// Remote ends remembered per session; the table exists only once rules were long enough to need it.
const SLOTS: usize = 128;
/// Reading this many rules costs about as much as asking the table.
const SHORT_LIST: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Entry {
    remote: Remote,
    /// Of the rules that decided; another revision's decision is never used.
    revision: u64,
    verdict: Verdict,
}

/// One entry for the flow that sends most, and a table in which a newcomer replaces whoever has
/// its slot. Nothing here grows, and a collision costs only the session that makes it.
#[derive(Debug, Default)]
pub struct FlowCache {
    latest: Option<Entry>,
    table: Option<Box<[Option<Entry>; SLOTS]>>,
}

impl FlowCache {
    /// The decision for `remote` under the rules of `revision`: remembered, or made by `decide`,
    /// which reads `rules` rules.
    #[inline]
    pub fn decision(
        &mut self,
        remote: &Remote,
        revision: u64,
        rules: usize,
        decide: impl FnOnce() -> Verdict,
    ) -> Verdict {
        match &self.latest {
            Some(entry) if entry.is_for(remote, revision) => entry.verdict,
            _ => self.decision_of_another(remote, revision, rules, decide),
        }
    }

    fn decision_of_another(
        &mut self,
        remote: &Remote,
        revision: u64,
        rules: usize,
        decide: impl FnOnce() -> Verdict,
    ) -> Verdict {
        let mut entry = Entry {
            remote: *remote,
            revision,
            verdict: Verdict::NO_RULE,
        };
        if rules <= SHORT_LIST {
            entry.verdict = decide();
        } else if let Some(slot) = self
            .table
            .get_or_insert_with(|| Box::new([None; SLOTS]))
            .get_mut(slot_of(remote) % SLOTS)
        {
            match slot {
                Some(known) if known.is_for(remote, revision) => entry = *known,
                _ => {
                    entry.verdict = decide();
                    *slot = Some(entry);
                }
            }
        }
        self.latest = Some(entry);
        entry.verdict
    }

    /// Forgets every decision and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Entry {
    #[inline]
    fn is_for(&self, remote: &Remote, revision: u64) -> bool {
        self.revision == revision && self.remote == *remote
    }
}

/// Spreads remote ends over the table; it need not resist anybody, see [`FlowCache`].
fn slot_of(remote: &Remote) -> usize {
    mix_of(remote) as usize
}

/// Bits that differ for most remote ends.
pub(super) fn mix_of(remote: &Remote) -> u64 {
    struct Mix(u64);
    impl Hasher for Mix {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.write_u64(u64::from(*byte));
            }
        }
        fn write_u64(&mut self, value: u64) {
            self.0 = (self.0 ^ value)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        fn finish(&self) -> u64 {
            self.0 ^ self.0 >> 32
        }
    }
    let mut mix = Mix(0);
    remote.hash(&mut mix);
    mix.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> Remote {
        Remote {
            address: [10, 0, 0, 1].into(),
            protocol: 6,
            port: Some(port),
        }
    }

    fn verdict(allow: bool) -> Verdict {
        Verdict {
            allow,
            rule: Some(u16::from(allow)),
        }
    }

    #[test]
    fn a_decision_is_made_once_per_revision() {
        let mut cache = FlowCache::default();
        for revision in [1, 2] {
            for round in 0..3 {
                for port in 1..5 {
                    let mut asked = false;
                    let allowed = cache.decision(&remote(port), revision, 100, || {
                        asked = true;
                        verdict(port % 2 == 0)
                    });
                    assert_eq!(allowed, verdict(port % 2 == 0));
                    assert_eq!(
                        asked,
                        round == 0,
                        "port {port}, round {round}, revision {revision}"
                    );
                }
            }
        }
        cache.clear();
        let mut asked = false;
        cache.decision(&remote(1), 2, 100, || {
            asked = true;
            verdict(true)
        });
        assert!(asked);
    }

    #[test]
    fn short_lists_need_no_table() {
        let mut cache = FlowCache::default();
        let first = cache.decision(&remote(1), 1, SHORT_LIST, || verdict(true));
        assert!(first.allow);
        assert!(cache.table.is_none());
        let again = cache.decision(&remote(1), 1, SHORT_LIST, || verdict(false));
        assert!(again.allow, "the latest flow is remembered all the same");
    }

    #[test]
    fn flows_spread_over_the_table() {
        let slots: std::collections::HashSet<_> = (0..SLOTS as u16)
            .map(|port| slot_of(&remote(port)) % SLOTS)
            .collect();
        assert!(slots.len() > SLOTS / 2, "{}", slots.len());
    }
}
