//! The ESP side of one session: its keys, and where the other end is.

use lockgate_dataplane::discard::Discard;
use lockgate_dataplane::esp::{KeyError, OpenKey, Opened, SealKey};
use lockgate_dataplane::link::Sa;

use super::port::Peer;

/// How long replaced inbound keys still open packets, in ms.
const GRACE: u64 = 30_000;
/// Most inbound keys at a time: rekeying faster than the grace drops the oldest.
const MAX_INBOUND: usize = 3;

/// Keys for packets from the other end.
#[derive(Debug)]
struct Inbound {
    spi: u32,
    key: OpenKey,
    /// When replaced keys die, in ms; the newest ones live as long as the session.
    dies: Option<u64>,
    /// The control plane knows that these keys are nearly used up.
    told: bool,
}

/// Keys for packets to the other end.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) key: SealKey,
    told: bool,
}

/// A probe that could not be answered because our keys for the client had not come yet: UDP
/// overtakes TCP at the start of nearly every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EarlyProbe {
    pub(super) from: Peer,
    pub(super) next_header: u8,
}

#[derive(Debug, Default)]
pub(super) struct Esp {
    /// Oldest first.
    inbound: Vec<Inbound>,
    pub(super) outbound: Option<Outbound>,
    /// A gateway's: the sender of the newest valid packet. A client's: what its socket is connected
    /// to.
    pub(super) peer: Option<Peer>,
    pub(super) early: Option<EarlyProbe>,
}

impl Esp {
    /// Installs new keys for packets from the other end; the former ones live for the grace.
    /// Returns the SPI of keys that had to go at once.
    pub(super) fn install_inbound(&mut self, sa: &Sa, now: u64) -> Result<Option<u32>, KeyError> {
        let key = OpenKey::new(sa)?;
        for former in &mut self.inbound {
            former.dies.get_or_insert(now.saturating_add(GRACE));
        }
        let gone = if self.inbound.len() >= MAX_INBOUND {
            Some(self.inbound.remove(0).spi)
        } else {
            None
        };
        self.inbound.push(Inbound {
            spi: sa.spi,
            key,
            dies: None,
            told: false,
        });
        Ok(gone)
    }

    /// Installs new keys for packets to the other end: the next packet is sealed with them.
    pub(super) fn install_outbound(&mut self, sa: &Sa, iv_seed: [u8; 32]) -> Result<(), KeyError> {
        self.outbound = Some(Outbound {
            key: SealKey::new(sa, iv_seed)?,
            told: false,
        });
        Ok(())
    }

    /// Opens a datagram in place.
    #[inline]
    pub(super) fn open(&mut self, spi: u32, datagram: &mut [u8]) -> Result<Opened, Discard> {
        // The newest keys are the likely ones.
        let inbound = self.inbound.iter_mut().rev().find(|keys| keys.spi == spi);
        inbound.ok_or(Discard::UnknownSpi)?.key.open(datagram)
    }

    /// Inbound SPIs in use.
    pub(super) fn spis(&self) -> impl Iterator<Item = u32> + '_ {
        self.inbound.iter().map(|keys| keys.spi)
    }

    /// Removes one set of keys whose grace is over and returns its SPI.
    pub(super) fn expire(&mut self, now: u64) -> Option<u32> {
        let at = self
            .inbound
            .iter()
            .position(|keys| keys.dies.is_some_and(|dies| dies <= now))?;
        Some(self.inbound.remove(at).spi)
    }

    /// When the next grace is over.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.inbound.iter().filter_map(|keys| keys.dies).min()
    }

    /// Whether the control plane must be told that keys run out; true once for each key.
    pub(super) fn takes_rekey_notice(&mut self) -> bool {
        let mut notice = false;
        if let Some(newest) = self.inbound.last_mut() {
            notice |= !newest.told && newest.key.wants_rekey();
            newest.told |= notice;
        }
        if let Some(outbound) = &mut self.outbound {
            let wants = !outbound.told && outbound.key.wants_rekey();
            outbound.told |= wants;
            notice |= wants;
        }
        notice
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lockgate_dataplane::link::{Secret, Suite};

    fn sa(spi: u32) -> Sa {
        Sa {
            spi,
            suite: Suite::Aes256CbcSha256,
            esn: false,
            secret: Secret(vec![7; 64]),
        }
    }

    #[test]
    fn replaced_keys_die_after_the_grace() {
        let mut esp = Esp::default();
        assert_eq!(esp.install_inbound(&sa(0x101), 0), Ok(None));
        assert_eq!(esp.next_expiry(), None);
        assert_eq!(esp.install_inbound(&sa(0x102), 5_000), Ok(None));
        assert_eq!(esp.next_expiry(), Some(35_000));
        assert_eq!(esp.expire(34_999), None);
        assert_eq!(esp.expire(35_000), Some(0x101));
        assert_eq!(esp.spis().collect::<Vec<_>>(), [0x102]);
        assert_eq!(esp.next_expiry(), None);
    }

    #[test]
    fn rekeying_faster_than_the_grace_keeps_three() {
        let mut esp = Esp::default();
        for spi in 0x101..0x104 {
            assert_eq!(esp.install_inbound(&sa(spi), 0), Ok(None));
        }
        assert_eq!(esp.install_inbound(&sa(0x104), 0), Ok(Some(0x101)));
        assert_eq!(esp.spis().collect::<Vec<_>>(), [0x102, 0x103, 0x104]);
    }
}
