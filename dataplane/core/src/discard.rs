//! Why a packet was dropped: one reason per packet, counted, never logged one by one.

/// What was wrong with a packet that went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discard {
    /// Ends before a header that must be there.
    TooShort,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// A length field contradicts the bytes at hand.
    BadLength,
    /// From a client, but not from its own inner address.
    SpoofedSource,
    /// For a client, but not to its own inner address.
    WrongDestination,
    /// No access rule allows it.
    Denied,
    /// The remote end is no address that may be routed (loopback, multicast, link-local, …).
    Martian,
    /// IPv4 source route option or IPv6 routing header.
    SourceRoute,
    /// More IPv6 extension headers than anyone needs.
    HeaderChain,
    /// A fragment whose first part is unknown and decides, too small, or past 65,535 bytes.
    BadFragment,
    /// An ICMP error quoting a packet that this session did not send or receive.
    BadQuote,
    /// An ESP packet for keys we do not have.
    UnknownSpi,
    /// Integrity check failed.
    BadIcv,
    /// Sequence number seen before, or older than the window.
    Replayed,
    /// Correctly authenticated, but the ESP padding is not 1, 2, 3, …
    BadPadding,
    /// Correctly authenticated, but neither IPv4 nor IPv6 inside.
    BadNextHeader,
    /// An offload header from the kernel that does not describe its packet.
    BadOffload,
    /// A bounded queue was full.
    QueueFull,
    /// No live session has this inner address or connection.
    NoSession,
    /// Larger than the tunnel takes.
    TooBig,
    /// No transport to the client at the moment, or no key to seal with.
    NoTransport,
    /// The sending key has used up its sequence numbers.
    Exhausted,
    /// Over the rate of its session.
    Rate,
    /// There is no TUN device at the moment.
    NoTun,
}

impl Discard {
    /// Every reason, in the order of their declaration.
    pub const ALL: &[Discard] = &[
        Self::TooShort,
        Self::NotIp,
        Self::BadLength,
        Self::SpoofedSource,
        Self::WrongDestination,
        Self::Denied,
        Self::Martian,
        Self::SourceRoute,
        Self::HeaderChain,
        Self::BadFragment,
        Self::BadQuote,
        Self::UnknownSpi,
        Self::BadIcv,
        Self::Replayed,
        Self::BadPadding,
        Self::BadNextHeader,
        Self::BadOffload,
        Self::QueueFull,
        Self::NoSession,
        Self::TooBig,
        Self::NoTransport,
        Self::Exhausted,
        Self::Rate,
        Self::NoTun,
    ];

    /// The reason as counters and pages show it; never changes once released.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::NotIp => "not-ip",
            Self::BadLength => "bad-length",
            Self::SpoofedSource => "spoofed-source",
            Self::WrongDestination => "wrong-destination",
            Self::Denied => "denied",
            Self::Martian => "martian",
            Self::SourceRoute => "source-route",
            Self::HeaderChain => "header-chain",
            Self::BadFragment => "bad-fragment",
            Self::BadQuote => "bad-quote",
            Self::UnknownSpi => "unknown-spi",
            Self::BadIcv => "bad-icv",
            Self::Replayed => "replayed",
            Self::BadPadding => "bad-padding",
            Self::BadNextHeader => "bad-next-header",
            Self::BadOffload => "bad-offload",
            Self::QueueFull => "queue-full",
            Self::NoSession => "no-session",
            Self::TooBig => "too-big",
            Self::NoTransport => "no-transport",
            Self::Exhausted => "exhausted",
            Self::Rate => "rate",
            Self::NoTun => "no-tun",
        }
    }
}

/// How many packets were dropped for each reason.
#[derive(Clone, Debug, Default)]
pub struct Counters([u64; Discard::ALL.len()]);

impl Counters {
    pub fn new() -> Self {
        Self::default()
    }

    #[inline]
    pub fn add(&mut self, reason: Discard) {
        self.add_many(reason, 1);
    }

    /// Counts the packets of one super-packet that share a reason.
    #[inline]
    pub fn add_many(&mut self, reason: Discard, packets: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(packets);
        }
    }

    pub fn get(&self, reason: Discard) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Every reason by name with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Discard::ALL
            .iter()
            .map(|reason| (reason.name(), self.get(*reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut counters = Counters::new();
        for (times, reason) in Discard::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, times, "ALL must follow the declaration");
            for _ in 0..=times {
                counters.add(*reason);
            }
        }
        let names: std::collections::BTreeSet<_> = counters.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Discard::ALL.len());
        for (at, (_, count)) in counters.iter().enumerate() {
            assert_eq!(count, at as u64 + 1);
        }
    }
}
