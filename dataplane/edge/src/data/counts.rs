//! What went wrong, by reason, since the edge started.

use lockgate_dataplane::discard::{Counters, Discard};

/// Failures that are not the fault of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The TUN refused packets that had passed every check.
    TunWrite,
    /// A UDP send failed; the packets of that send are lost.
    UdpSend,
    /// A UDP socket could not be read.
    UdpReceive,
    /// The TUN device of a client edge is gone.
    TunLost,
    /// An order for a session, connection or generation that is no longer there.
    StaleOrder,
    /// A session wanted the inner address of another one.
    AddressConflict,
    /// A session wanted an inbound SPI that is in use, or a reserved one.
    SpiConflict,
    /// Keys that cannot be used.
    BadKeys,
    /// Rules that cannot be used; the session has been left without any right.
    BadRules,
    /// Frames for an attached connection that were more than it may hold.
    FrameQueue,
}

const NAMES: [&str; 10] = [
    "tun-write",
    "udp-send",
    "udp-receive",
    "tun-lost",
    "stale-order",
    "address-conflict",
    "spi-conflict",
    "bad-keys",
    "bad-rules",
    "frame-queue",
];

#[derive(Debug, Default)]
pub(super) struct Counts {
    packets: Counters,
    failures: [u64; NAMES.len()],
}

impl Counts {
    #[inline]
    pub(super) fn discard(&mut self, reason: Discard) {
        self.packets.add(reason);
    }

    pub(super) fn discard_many(&mut self, reason: Discard, packets: usize) {
        self.packets.add_many(reason, packets as u64);
    }

    pub(super) fn failure(&mut self, failure: Failure) {
        if let Some(count) = self.failures.get_mut(failure as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Every count by name, as `stats` reports them.
    pub(super) fn report(&self) -> Vec<(String, u64)> {
        let failures = NAMES.iter().copied().zip(self.failures);
        self.packets
            .iter()
            .chain(failures)
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_own_names() {
        let mut counts = Counts::default();
        counts.failure(Failure::TunWrite);
        counts.failure(Failure::FrameQueue);
        counts.failure(Failure::FrameQueue);
        counts.discard(Discard::BadIcv);
        let report: std::collections::BTreeMap<_, _> = counts.report().into_iter().collect();
        assert_eq!(report.get("tun-write"), Some(&1));
        assert_eq!(report.get("frame-queue"), Some(&2));
        assert_eq!(report.get("bad-icv"), Some(&1));
        assert_eq!(report.len(), Discard::ALL.len() + NAMES.len());
    }
}
