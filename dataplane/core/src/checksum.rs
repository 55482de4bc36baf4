//! The Internet checksum (RFC 1071), also in parts and incrementally (RFC 1624).

use std::net::IpAddr;

/// A ones' complement sum that is still being added up.
///
/// Held in the byte order of this machine: the sum does not care as long as it goes back to
/// memory the same way (RFC 1071 section 2 B), and nothing is swapped per word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that start at an even offset; an odd last byte is the high half of its word.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Two 32-bit halves per 64-bit lane cannot overflow before 16 GiB have been added.
        let (mut low, mut high) = (self.0, 0u64);
        let mut wide = bytes.chunks_exact(16);
        for chunk in &mut wide {
            if let Some((head, tail)) = chunk.split_first_chunk::<8>()
                && let Some(tail) = tail.first_chunk::<8>()
            {
                let (head, tail) = (u64::from_ne_bytes(*head), u64::from_ne_bytes(*tail));
                low += (head & 0xffff_ffff) + (tail & 0xffff_ffff);
                high += (head >> 32) + (tail >> 32);
            }
        }
        let mut words = wide.remainder().chunks_exact(2);
        for word in &mut words {
            if let Some(word) = word.first_chunk::<2>() {
                low += u64::from(u16::from_ne_bytes(*word));
            }
        }
        if let [last] = words.remainder() {
            low += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(low + high)
    }

    /// Adds one 16-bit field.
    #[inline]
    #[must_use]
    pub fn word(self, value: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(value.to_be_bytes())))
    }

    /// Adds the pseudo-header of a transport checksum (RFC 9293 section 3.1, RFC 8200 section 8.1).
    #[inline]
    #[must_use]
    pub fn pseudo(self, source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Self {
        let addresses = match (source, destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => self.bytes(&s.octets()).bytes(&d.octets()),
            (IpAddr::V6(s), IpAddr::V6(d)) => self.bytes(&s.octets()).bytes(&d.octets()),
            _ => self, // both come from one header
        };
        let length = length as u64; // at most 65,535: an IP packet
        addresses
            .word(u16::from(protocol))
            .word((length >> 16) as u16)
            .word(length as u16)
    }

    /// The 16-bit sum as it stands in a packet, not complemented.
    #[inline]
    pub fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes()
    }

    /// The checksum field of a packet whose field was zero while it was added up.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        let [a, b] = self.folded();
        [!a, !b]
    }

    /// Whether bytes with their checksum inside add up.
    #[inline]
    pub fn holds(self) -> bool {
        self.folded() == [0xff, 0xff]
    }
}

/// A checksum after one 16-bit word below it changed (RFC 1624 section 3, equation 3).
#[inline]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 1, word by word.
    fn slow(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_be_bytes()
    }

    #[test]
    fn example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).folded(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_sum(bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0usize..1500) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let (head, tail) = bytes.split_at(cut);
            prop_assert_eq!(Sum::default().bytes(head).bytes(tail).folded(), slow(&bytes));
        }

        #[test]
        fn updating_equals_adding_up_again(mut words in proptest::collection::vec(any::<u16>(), 1..40), at in any::<prop::sample::Index>(), new: u16) {
            let sum = |words: &[u16]| words.iter().fold(Sum::default(), |sum, w| sum.word(*w));
            let before = u16::from_be_bytes(sum(&words).checksum());
            let at = at.index(words.len());
            let old = std::mem::replace(&mut words[at], new);
            let after = updated(before, old, new);
            prop_assert!(sum(&words).word(after).holds() || words.iter().all(|w| *w == 0));
        }
    }
}
