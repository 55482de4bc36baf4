//! ICMP echo packets as a client behind the tunnel sends them (RFC 792, RFC 4443).

use std::net::IpAddr;

use crate::wire::Words;

const PAYLOAD: &[u8] = b"lockgate-load";

/// Internet checksum (RFC 1071) over the parts as one even-aligned sequence.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let mut word = [0; 2];
            for (to, from) in word.iter_mut().zip(pair) {
                *to = *from;
            }
            sum += u32::from(u16::from_be_bytes(word));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// An echo request from the source of the destination's IP version, or `None` without one.
pub fn request(
    sources: [Option<IpAddr>; 2],
    to: IpAddr,
    ident: u16,
    sequence: u16,
) -> Option<Vec<u8>> {
    let from = sources
        .into_iter()
        .flatten()
        .find(|from| from.is_ipv4() == to.is_ipv4())?;
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let [i, d] = ident.to_be_bytes();
    let [s, q] = sequence.to_be_bytes();
    let tail = [&[i, d, s, q], PAYLOAD].concat();
    let length = u16::try_from(4 + tail.len()).ok()?;
    let mut packet = Vec::with_capacity(64);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [hi, lo] = (20 + length).to_be_bytes();
            let head = [
                &[0x45, 0, hi, lo, 0, 0, 0x40, 0, 64, 1, 0, 0],
                &from.octets()[..],
                &to.octets()[..],
            ]
            .concat();
            let [a, b] = checksum(&[&head]);
            packet.extend(head.iter().enumerate().map(|(at, byte)| match at {
                10 => a,
                11 => b,
                _ => *byte,
            }));
            let [a, b] = checksum(&[&[kind, 0, 0, 0], &tail]);
            packet.extend([kind, 0, a, b]);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [hi, lo] = length.to_be_bytes();
            let (from, to) = (from.octets(), to.octets());
            packet.extend([0x60, 0, 0, 0, hi, lo, 58, 64]);
            packet.extend(from);
            packet.extend(to);
            let pseudo = [0, 0, hi, lo, 0, 0, 0, 58];
            let [a, b] = checksum(&[&from, &to, &pseudo, &[kind, 0, 0, 0], &tail]);
            packet.extend([kind, 0, a, b]);
        }
        _ => return None,
    }
    packet.extend(tail);
    Some(packet)
}

/// The sequence number, when this is a reply to a request with `ident`.
pub fn is_reply(packet: &[u8], ident: u16) -> Option<u16> {
    let mut words = Words(packet);
    let kind = match packet.first()? {
        0x45 => {
            words.take(20)?;
            0
        }
        first if first >> 4 == 6 => {
            words.take(40)?;
            129
        }
        _ => return None,
    };
    let head = (words.u8()?, words.u8()?);
    words.take(2)?;
    (head == (kind, 0) && words.u16()? == ident).then(|| words.u16())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn requests_carry_right_checksums_and_their_replies_are_known() {
        let v4: IpAddr = "10.88.0.10".parse().unwrap();
        let v6: IpAddr = "fd00::10".parse().unwrap();
        let sources = [Some(v4), Some(v6)];
        let packet = request(sources, "10.77.1.1".parse().unwrap(), 7, 300).unwrap();
        assert_eq!(checksum(&[&packet[..20]]), [0, 0]);
        assert_eq!(checksum(&[&packet[20..]]), [0, 0]);
        assert_eq!(is_reply(&packet, 7), None, "a request is no reply");
        let mut reply = packet;
        reply[20] = 0;
        assert_eq!(is_reply(&reply, 7), Some(300));
        assert_eq!(is_reply(&reply, 8), None);

        let packet = request(sources, "fd00::1".parse().unwrap(), 7, 1).unwrap();
        let pseudo = [0, 0, packet[4], packet[5], 0, 0, 0, 58];
        assert_eq!(checksum(&[&packet[8..40], &pseudo, &packet[40..]]), [0, 0]);
        let mut reply = packet;
        reply[40] = 129;
        assert_eq!(is_reply(&reply, 7), Some(1));
    }

    #[test]
    fn without_an_address_of_that_version_there_is_no_request() {
        assert_eq!(
            request([None, None], "10.0.0.1".parse().unwrap(), 1, 1),
            None
        );
    }

    #[test]
    fn no_packet_makes_it_panic() {
        for length in 0..60 {
            for first in [0x45, 0x60, 0x00] {
                let mut packet = vec![0; length];
                packet.iter_mut().take(1).for_each(|byte| *byte = first);
                is_reply(&packet, 0);
            }
        }
    }
}
