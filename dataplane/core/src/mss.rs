//! Lowers the TCP maximum segment size, so that segments fit the tunnel without fragments.

use crate::bytes::{field, field16, put};
use crate::checksum::updated;
use crate::ip::{self, Fragment, TCP};

const SYN: u8 = 0x02;
const FIXED: usize = 20;
const CHECKSUM: usize = 16;

/// In a SYN, lowers the MSS option to what an `mtu` of the tunnel can carry: 40 bytes less for
/// IPv4, 60 for IPv6 (RFC 9293 section 3.7.1: without counting options). All other packets stay
/// as they are.
///
/// `partial`: the TCP checksum field holds the sum of the pseudo-header only, to be completed
/// later (NEEDS_CSUM of the TUN); then it says nothing about the option and is left alone.
pub fn clamp(packet: &mut [u8], mtu: u16, partial: bool) {
    if let Some((at, mss)) = option(packet) {
        lower(packet, at, mss, mtu, partial);
    }
}

/// The MSS option's value and where it lies, counted from the start of the packet.
#[inline]
fn option(packet: &[u8]) -> Option<(Found, u16)> {
    let header = ip::parse(packet).ok()?;
    if header.protocol != TCP || header.fragment != Fragment::Whole {
        return None;
    }
    let segment = packet.get(header.payload..header.total)?;
    let [offset, flags] = field(segment, 12).ok()?;
    if flags & SYN == 0 {
        return None;
    }
    let end = usize::from(offset >> 4) * 4;
    let mut at = FIXED;
    while at < end {
        match segment.get(at..end)? {
            [0, ..] => return None,
            [1, ..] => at += 1,
            [2, 4, high, low, ..] => {
                let found = Found {
                    value: header.payload + at + 2,
                    tcp: header.payload,
                    v4: header.source.is_ipv4(),
                };
                return Some((found, u16::from_be_bytes([*high, *low])));
            }
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
    None
}

struct Found {
    value: usize,
    tcp: usize,
    v4: bool,
}

fn lower(packet: &mut [u8], found: Found, mss: u16, mtu: u16, partial: bool) {
    let headers = if found.v4 { 40 } else { 60 };
    let limit = mtu.saturating_sub(headers);
    if mss <= limit {
        return;
    }
    put(packet, found.value, limit.to_be_bytes());
    if partial {
        return;
    }
    let Ok(checksum) = field16(packet, found.tcp + CHECKSUM) else {
        return;
    };
    // At an odd offset the value lies across two words of the sum, which is the same as swapped.
    let swap = |value: u16| {
        if (found.value - found.tcp).is_multiple_of(2) {
            value
        } else {
            value.swap_bytes()
        }
    };
    put(
        packet,
        found.tcp + CHECKSUM,
        updated(checksum, swap(mss), swap(limit)).to_be_bytes(),
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::packets::{self, Tcp, checksums_hold};
    use proptest::prelude::*;

    fn syn(options: &[u8], v6: bool) -> Vec<u8> {
        let tcp = Tcp {
            flags: SYN,
            options,
            ..Tcp::default()
        };
        if v6 {
            tcp.build("[fd00::1]:1", "[fd00::2]:2")
        } else {
            tcp.build("10.0.0.1:1", "10.0.0.2:2")
        }
    }

    fn clamped(mut packet: Vec<u8>, mtu: u16) -> Vec<u8> {
        clamp(&mut packet, mtu, false);
        packet
    }

    #[test]
    fn only_lowers() {
        for (options, mtu, v6, expected) in [
            (
                &[2, 4, 0x05, 0xb4][..],
                1400,
                false,
                &[2, 4, 0x05, 0x50][..],
            ), // 1460 to 1360
            (&[2, 4, 0x05, 0xa0], 1400, true, &[2, 4, 0x05, 0x3c]), // 1440 to 1340
            (&[2, 4, 0x05, 0x50], 1400, false, &[2, 4, 0x05, 0x50]),
            (&[2, 4, 0x00, 0x10], 1400, false, &[2, 4, 0x00, 0x10]),
            (
                &[1, 2, 4, 0xff, 0xff, 1, 1, 1],
                1500,
                false,
                &[1, 2, 4, 0x05, 0xb4, 1, 1, 1],
            ),
            (
                &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 0x05, 0xb4, 0, 0],
                576,
                false,
                &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 0x02, 0x18, 0, 0],
            ),
            (
                &[0, 2, 4, 0xff, 0xff, 1, 1, 1],
                1400,
                false,
                &[0, 2, 4, 0xff, 0xff, 1, 1, 1],
            ),
            (
                &[3, 0, 2, 4, 0xff, 0xff, 1, 1],
                1400,
                false,
                &[3, 0, 2, 4, 0xff, 0xff, 1, 1],
            ),
            (&[3, 200, 1, 1], 1400, false, &[3, 200, 1, 1]),
            (&[1, 1, 2, 4], 1400, false, &[1, 1, 2, 4]),
        ] {
            let result = clamped(syn(options, v6), mtu);
            assert_eq!(&result[result.len() - expected.len()..], expected);
            assert!(checksums_hold(&result), "{options:?}");
        }
    }

    #[test]
    fn leaves_other_packets_alone() {
        let options = &[2, 4, 0xff, 0xff];
        let ack = Tcp {
            options,
            ..Tcp::default()
        }
        .build("10.0.0.1:1", "10.0.0.2:2");
        let udp = packets::udp("10.0.0.1:1", "10.0.0.2:2", &[2; 60]);
        let cut = syn(options, false)[..42].to_vec();
        for packet in [ack, udp, cut, vec![], vec![0x60; 100]] {
            assert_eq!(clamped(packet.clone(), 1400), packet);
        }
    }

    #[test]
    fn a_partial_checksum_stays() {
        let mut packet = syn(&[2, 4, 0x05, 0xb4], false);
        let checksum = packet[36..38].to_vec();
        clamp(&mut packet, 1400, true);
        assert_eq!(packet[36..38], checksum);
        assert_eq!(packet[42..44], [0x05, 0x50]);
    }

    proptest! {
        #[test]
        fn checksums_hold_afterwards(words in proptest::collection::vec(any::<[u8; 4]>(), 0..10), mtu: u16, v6: bool) {
            let packet = clamped(syn(&words.concat(), v6), mtu);
            prop_assert!(checksums_hold(&packet));
        }
    }
}
