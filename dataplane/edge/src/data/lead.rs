//! Which way packets go to the gateway, from the client's side: it leads.
//!
//! Puts together whether ESP works ([`life`](super::life)), how large packets may be
//! ([`path_mtu`](super::path_mtu), with a gateway that can help to find out), and what the gateway
//! must be told. Decides only; who owns the sockets does what [`Lead::due`] says.

use lockgate_dataplane::probe::Probe;

use super::life::Life;
use super::path_mtu::{PathMtu, Test};

/// Something to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Send a plain probe.
    Probe,
    /// Send a padded one.
    Test(Test),
    /// Tell the gateway over TLS whether ESP is in use.
    Tell { uses_esp: bool },
}

#[derive(Debug)]
pub(super) struct Lead {
    life: Life,
    path_mtu: PathMtu,
    /// The gateway is one of ours: it knows padded probes and notices.
    extended: bool,
    /// The gateway has been told that ESP is not in use.
    told_left: bool,
    /// ESP has been in use.
    used: bool,
    /// The MTU that was reported last.
    reported: Option<u16>,
}

impl Lead {
    pub(super) fn new(fallback: u32, mtu: u16) -> Self {
        Self {
            life: Life::new(fallback),
            path_mtu: PathMtu::new(mtu),
            extended: false,
            told_left: false,
            used: false,
            reported: None,
        }
    }

    /// Keys and configuration are complete.
    pub(super) fn start(&mut self, extended: bool) {
        self.extended = extended;
        self.life.start();
    }

    /// Packets leave by another socket from now on.
    pub(super) fn moved(&mut self, now: u64) {
        self.life.moved();
        if self.extended && self.life.alive() {
            self.path_mtu.start(now);
        }
    }

    /// Whether data may go over ESP.
    #[inline]
    pub(super) fn esp_alive(&self) -> bool {
        self.life.alive() && !self.path_mtu.hopeless()
    }

    /// Something was sent over ESP. True when [`due`](Self::due) must be asked earlier by that.
    #[inline]
    pub(super) fn sent(&mut self, now: u64) -> bool {
        let test = self.extended && self.path_mtu.used(now);
        self.life.sent(now) | test
    }

    /// Something valid came over ESP. True when there may be something to do now.
    #[inline]
    pub(super) fn heard(&mut self, probe: Option<Probe>, now: u64) -> bool {
        let found = self.life.heard(probe.is_some());
        if let Some(Probe::Padded { mtu, length }) = probe {
            self.path_mtu.echoed(length, mtu, now);
        }
        if found && self.extended {
            self.path_mtu.start(now);
        }
        probe.is_some()
    }

    /// A packet was refused by the kernel for its size.
    pub(super) fn too_large(&mut self, now: u64) {
        if self.extended {
            self.path_mtu.hint(now);
        }
    }

    /// The test that was given out last was refused by the kernel for its size.
    pub(super) fn test_refused(&mut self, now: u64) {
        self.path_mtu.refused(now);
    }

    /// What is to be done now. Call until there is nothing.
    pub(super) fn due(&mut self, now: u64) -> Option<Deed> {
        if self.life.probe_due(now) {
            return Some(Deed::Probe);
        }
        if !self.life.alive() {
            self.path_mtu.stop();
        } else if let Some(test) = self.path_mtu.due(now) {
            self.life.sent(now);
            return Some(Deed::Test(test));
        }
        let uses_esp = self.esp_alive();
        self.used |= uses_esp;
        if self.extended && self.used && self.told_left == uses_esp {
            self.told_left = !uses_esp;
            return Some(Deed::Tell { uses_esp });
        }
        None
    }

    /// When [`due`](Self::due) must be asked again, unless something happens before.
    pub(super) fn next(&self) -> Option<u64> {
        self.life
            .next()
            .into_iter()
            .chain(self.path_mtu.next())
            .min()
    }

    /// Largest inner packet to use.
    pub(super) fn mtu(&self) -> u16 {
        self.path_mtu.mtu()
    }

    /// Whether data may be cut on its way: with a gateway that cannot help to find out what passes
    /// whole, always.
    pub(super) fn may_fragment(&self) -> bool {
        !self.extended || self.path_mtu.may_fragment()
    }

    /// The MTU if the service must be told: a result that it does not know.
    pub(super) fn takes_news(&mut self) -> Option<u16> {
        let news = self
            .path_mtu
            .result()
            .filter(|mtu| self.reported != Some(*mtu));
        self.reported = news.or(self.reported);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deeds(lead: &mut Lead, now: u64) -> Vec<Deed> {
        std::iter::from_fn(|| lead.due(now)).collect()
    }

    fn test(size: u16) -> Deed {
        Deed::Test(Test {
            size,
            mtu: 1400,
            may_fragment: false,
        })
    }

    #[test]
    fn our_own_gateway_is_told_and_tested() {
        let mut lead = Lead::new(15, 1400);
        lead.start(true);
        assert_eq!(deeds(&mut lead, 0), [Deed::Probe, Deed::Probe]);
        assert!(lead.heard(Some(Probe::Plain), 20));
        assert_eq!(
            deeds(&mut lead, 20),
            [test(1400)],
            "it has been told that ESP may be used with the keys"
        );
        assert_eq!(lead.takes_news(), None);
        let echo = Probe::Padded {
            mtu: 1400,
            length: 1400,
        };
        assert!(lead.heard(Some(echo), 40));
        assert_eq!(deeds(&mut lead, 40), []);
        assert_eq!((lead.takes_news(), lead.takes_news()), (Some(1400), None));
        assert!(!lead.may_fragment());
        lead.sent(1000);
        let mut done = Vec::new();
        while lead.esp_alive() {
            let now = lead.next().unwrap_or(0);
            done.extend(deeds(&mut lead, now));
        }
        let left = Deed::Tell { uses_esp: false };
        assert_eq!(done, [Deed::Probe, Deed::Probe, Deed::Probe, left]);
        assert!(lead.heard(Some(Probe::Plain), 9000));
        assert_eq!(
            deeds(&mut lead, 9000),
            [test(1400), Deed::Tell { uses_esp: true }]
        );
    }

    #[test]
    fn others_are_only_probed() {
        let mut lead = Lead::new(15, 1400);
        lead.start(false);
        assert_eq!(deeds(&mut lead, 0), [Deed::Probe, Deed::Probe]);
        lead.heard(Some(Probe::Plain), 20);
        assert_eq!(deeds(&mut lead, 20), []);
        assert!(lead.may_fragment() && lead.esp_alive());
        lead.too_large(30);
        lead.sent(30);
        assert_eq!(deeds(&mut lead, 5029), [Deed::Probe]);
        assert_eq!(deeds(&mut lead, 5030), []);
        assert!(!lead.esp_alive());
    }

    #[test]
    fn a_path_that_carries_nothing_of_use_is_left_but_watched() {
        let mut lead = Lead::new(15, 1400);
        lead.start(true);
        let mut now = 0;
        let mut told = Vec::new();
        while now < 20_000 {
            for deed in deeds(&mut lead, now) {
                match deed {
                    Deed::Probe => drop(lead.heard(Some(Probe::Plain), now)),
                    Deed::Test(_) => {}
                    Deed::Tell { uses_esp } => told.push(uses_esp),
                }
            }
            now = lead.next().unwrap_or(now).max(now + 1);
        }
        assert_eq!(told, [false]);
        assert!(!lead.esp_alive() && lead.life.alive());
    }
}
