//! Why the front turned somebody away: counted by reason, reported with the edge's statistics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! refusals {
    ($($(#[$note:meta])* $variant:ident => $name:literal,)*) => {
        /// One reason for ending or not starting something.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$note])* $variant,)* }

        impl Refusal {
            pub const ALL: &[Refusal] = &[$(Refusal::$variant,)*];

            /// The counter's name in statistics and the `cause` of a closed connection.
            pub fn name(self) -> &'static str {
                match self { $(Refusal::$variant => $name,)* }
            }
        }
    };
}

refusals! {
    /// New connections from one address over the rate.
    Rate => "front_rate",
    HalfOpenPerAddress => "front_half_open_per_address",
    /// The oldest half-open connection, closed for a newer one.
    HalfOpenEvicted => "front_half_open_evicted",
    SignInTotal => "front_sign_in_total",
    SignInPerAddress => "front_sign_in_per_address",
    HttpTotal => "front_http_total",
    HttpPerAddress => "front_http_per_address",
    /// `accept` failed: out of descriptors or memory.
    Accept => "front_accept_failed",
    TlsTimeout => "front_tls_timeout",
    TlsFailed => "front_tls_failed",
    HeadTimeout => "front_head_timeout",
    /// hyper refused the request: syntax, size, framing.
    BadHead => "front_bad_head",
    /// Valid HTTP, but a form we do not take: target, host, method.
    BadRequest => "front_bad_request",
    BodyTooLarge => "front_body_too_large",
    BodyStalled => "front_body_stalled",
    /// No control plane to ask.
    NoControl => "front_no_control",
    BadFrame => "front_bad_frame",
    /// A client of Network Connect spoke before it was let in.
    EarlyBytes => "front_early_bytes",
    SignInTimeout => "front_sign_in_timeout",
    SignInFrames => "front_sign_in_frames",
    SignInBytes => "front_sign_in_bytes",
    /// More queued for a client than it may have waiting.
    QueueFull => "front_queue_full",
    WriteStalled => "front_write_stalled",
    /// Inner packets that a gateway sent before its connection was attached.
    EarlyData => "client_early_data",
    /// Messages of the data thread the link could not take.
    LinkFull => "link_full",
    /// Connections to the link from a wrong user.
    LinkPeer => "link_wrong_peer",
    /// Records the link could not understand.
    LinkBadRecord => "link_bad_record",
}

/// How often each refusal happened since start.
#[derive(Debug)]
pub struct Refusals {
    counts: Vec<AtomicU64>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            counts: Refusal::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Refusals {
    pub fn count(&self, refusal: Refusal) {
        if let Some(count) = self.counts.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Names and counts of what has happened at least once.
    pub fn list(&self) -> Vec<(String, u64)> {
        Refusal::ALL
            .iter()
            .zip(&self.counts)
            .map(|(refusal, count)| (refusal.name().to_owned(), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    pub fn of(&self, refusal: Refusal) -> u64 {
        self.counts
            .get(refusal as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_counter_and_name() {
        let refusals = Refusals::default();
        for (at, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, at);
            refusals.count(*refusal);
            assert_eq!(refusals.of(*refusal), 1);
        }
        let mut names: Vec<_> = refusals.list().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
