//! "Packet too big": what the sender of a packet is told that does not fit the tunnel.
//!
//! ```text
//! IPv4  type 3, code 4 | checksum | 0 (2) | MTU 2 | the packet's start      RFC 792, RFC 1191
//! IPv6  type 2, code 0 | checksum | MTU 4         | the packet's start      RFC 4443 section 3.2
//! ```
//!
//! The message is written as if the packet's destination had sent it. That address is the one
//! the data plane knows to be reachable by the tunnel and nowhere else, so the kernel takes it for
//! a packet that has come the right way (reverse path filter), and the sender finds it plausible;
//! hosts match such messages by the packet quoted, not by their source (RFC 1122 section 4.2.3.9).

use crate::bytes::{field, field16, put};
use crate::checksum::Sum;
use crate::ip::{self, Fragment, Header, ICMP, ICMPV6};
use std::net::IpAddr;

/// Most bytes of a message: an IPv6 one may fill the smallest MTU there is (RFC 4443 section 2.4).
pub const LONGEST: usize = 1280;
/// The same for IPv4: what every host accepts (RFC 1812 section 4.3.2.3).
const LONGEST4: usize = 576;
const DONT_FRAGMENT: u16 = 0x4000;
const ICMP_HEADER: usize = 8;
const HOPS: u8 = 64;

/// Whether a router may cut this packet: IPv4 without "don't fragment".
pub fn may_be_cut(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
        && field16(packet, 6).is_ok_and(|flags| flags & DONT_FRAGMENT == 0)
}

/// Writes the message about `packet`, of which at least the headers must be there, to the start of
/// `out` and returns its length. `None` where there must be none: about ICMP errors, fragments
/// other than the first, packets to or from more than one host (RFC 1122 section 3.2.2, RFC 4443
/// section 2.4 e), and what is no packet.
pub fn too_big(packet: &[u8], mtu: u16, out: &mut [u8; LONGEST]) -> Option<usize> {
    let header = ip::parse_quoted(packet).ok()?;
    if !deserves_answer(packet, &header) {
        return None;
    }
    let (headers, longest) = match header.source {
        IpAddr::V4(_) => (20 + ICMP_HEADER, LONGEST4),
        IpAddr::V6(_) => (40 + ICMP_HEADER, LONGEST),
    };
    let quote = packet.get(..packet.len().min(header.total).min(longest - headers))?;
    let total = headers + quote.len();
    let message = out.get_mut(..total)?;
    message.fill(0);
    message.get_mut(headers..)?.copy_from_slice(quote);
    match (header.source, header.destination) {
        (IpAddr::V4(to), IpAddr::V4(from)) => {
            put(message, 0, [0x45]);
            put(message, 2, (total as u16).to_be_bytes());
            put(message, 8, [HOPS, ICMP]);
            put(message, 12, from.octets());
            put(message, 16, to.octets());
            let checksum = Sum::default().bytes(message.get(..20)?).checksum();
            put(message, 10, checksum);
            put(message, 20, [3, 4]);
            put(message, 26, mtu.to_be_bytes());
            let checksum = Sum::default().bytes(message.get(20..)?).checksum();
            put(message, 22, checksum);
        }
        (IpAddr::V6(to), IpAddr::V6(from)) => {
            put(message, 0, [0x60]);
            put(message, 4, ((total - 40) as u16).to_be_bytes());
            put(message, 6, [ICMPV6, HOPS]);
            put(message, 8, from.octets());
            put(message, 24, to.octets());
            put(message, 40, [2, 0]);
            put(message, 44, u32::from(mtu).to_be_bytes());
            let checksum = Sum::default()
                .pseudo(from.into(), to.into(), ICMPV6, total - 40)
                .bytes(message.get(40..)?)
                .checksum();
            put(message, 42, checksum);
        }
        _ => return None,
    }
    Some(total)
}

fn deserves_answer(packet: &[u8], header: &Header) -> bool {
    let one_host = |address: IpAddr| match address {
        IpAddr::V4(a) => {
            !(a.is_multicast() || a.is_broadcast() || a.is_unspecified() || a.is_loopback())
        }
        IpAddr::V6(a) => !(a.is_multicast() || a.is_unspecified() || a.is_loopback()),
    };
    let later = matches!(header.fragment, Fragment::Later { .. });
    let kind = field::<1>(packet, header.payload).map(|[kind]| kind);
    let error = match header.protocol {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        ICMP => !kind.is_ok_and(|kind| !matches!(kind, 3 | 4 | 5 | 11 | 12)),
        // Errors are the types below 128; a redirect is none, and nobody needs it told.
        ICMPV6 => !kind.is_ok_and(|kind| kind >= 128 && kind != 137),
        _ => false,
    };
    one_host(header.source) && one_host(header.destination) && !later && !error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::packets::{self, Ipv4, Ipv6, Tcp, icmp};
    use proptest::prelude::*;

    const HOST4: &str = "10.77.0.1";
    const CLIENT4: &str = "10.88.0.10";

    fn answer(packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xee; LONGEST];
        too_big(packet, 1300, &mut out).map(|length| out[..length].to_vec())
    }

    #[test]
    fn ipv4_is_told_the_mtu_with_the_start_of_the_packet() {
        let packet = Tcp {
            payload: &[7; 1400],
            ..Tcp::default()
        }
        .build("10.77.0.1:80", "10.88.0.10:5000");
        let message = answer(&packet).unwrap();
        let header = ip::parse(&message).unwrap();
        assert_eq!(message.len(), 576);
        assert_eq!(header.source, CLIENT4.parse::<IpAddr>().unwrap());
        assert_eq!(header.destination, HOST4.parse::<IpAddr>().unwrap());
        assert_eq!(header.protocol, ICMP);
        assert_eq!(message[20..22], [3, 4]);
        assert_eq!(message[24..28], [0, 0, 0x05, 0x14]);
        assert_eq!(message[28..], packet[..576 - 28]);
        assert!(Sum::default().bytes(&message[..20]).holds());
        assert!(Sum::default().bytes(&message[20..]).holds());
    }

    #[test]
    fn ipv6_is_told_with_as_much_as_fits() {
        let packet = packets::udp("[fd00::1]:7", "[fd88::10]:9", &[7; 1400]);
        let message = answer(&packet).unwrap();
        let header = ip::parse(&message).unwrap();
        assert_eq!((message.len(), header.protocol), (1280, ICMPV6));
        assert_eq!(header.source, "fd88::10".parse::<IpAddr>().unwrap());
        assert_eq!(header.destination, "fd00::1".parse::<IpAddr>().unwrap());
        assert_eq!(message[40..42], [2, 0]);
        assert_eq!(message[44..48], [0, 0, 0x05, 0x14]);
        assert_eq!(message[48..], packet[..1280 - 48]);
        let sum = Sum::default().pseudo(
            header.source,
            header.destination,
            ICMPV6,
            message.len() - 40,
        );
        assert!(sum.bytes(&message[40..]).holds());
    }

    #[test]
    fn the_gate_of_the_sender_takes_the_message() {
        // What a client's own edge would judge: an error that quotes a packet of the session.
        let mut gate = crate::gate::Gate::new(
            Some(CLIENT4.parse().unwrap()),
            None,
            std::sync::Arc::from([]),
            1,
            &[crate::gate::tests::rule("allow 10.0.0.0/8")],
        )
        .unwrap();
        let packet = packets::udp("10.88.0.10:9", "10.77.0.1:7", &[7; 1400]);
        assert!(gate.inbound(&answer(&packet).unwrap(), 0).is_ok());
    }

    #[test]
    fn who_is_told_and_who_is_not() {
        let part = |place| {
            Ipv4 {
                place,
                ..Ipv4::new(HOST4, CLIENT4, 17)
            }
            .build(&[0; 16])
        };
        let ip6 = Ipv6::new("fd00::1", "fd88::10", 17);
        let cut = packets::udp("10.77.0.1:1", "10.88.0.10:2", &[7; 1400])[..40].to_vec();
        for (packet, told, why) in [
            (part(0x4000), true, "whole"),
            (part(0x2000), true, "first fragment"),
            (part(0x2001), false, "later fragment"),
            (part(0x0001), false, "last fragment"),
            (cut, true, "its end is missing"),
            (icmp(HOST4, CLIENT4, 8, b"ping"), true, "echo"),
            (icmp(HOST4, CLIENT4, 3, b""), false, "error"),
            (icmp(HOST4, CLIENT4, 11, b""), false, "error"),
            (icmp(HOST4, CLIENT4, 5, b""), false, "redirect"),
            (icmp("fd00::1", "fd88::10", 128, b""), true, "echo"),
            (icmp("fd00::1", "fd88::10", 2, b""), false, "error"),
            (icmp("fd00::1", "fd88::10", 100, b""), false, "error to be"),
            (icmp("fd00::1", "fd88::10", 137, b""), false, "redirect"),
            (
                Ipv4::new(HOST4, CLIENT4, ICMP).build(&[]),
                false,
                "may be an error",
            ),
            (
                Ipv4::new(HOST4, "224.0.0.1", 17).build(&[0; 8]),
                false,
                "to many",
            ),
            (
                Ipv4::new(HOST4, "255.255.255.255", 17).build(&[0; 8]),
                false,
                "to all",
            ),
            (
                Ipv4::new("0.0.0.0", CLIENT4, 17).build(&[0; 8]),
                false,
                "from nobody",
            ),
            (
                Ipv6::new("fd00::1", "ff02::1", 17).build(&[0; 8]),
                false,
                "to many",
            ),
            (
                Ipv6::new("::", "fd88::10", 17).build(&[0; 8]),
                false,
                "from nobody",
            ),
            (
                ip6.build_with(&[(44, &[0, 1, 0, 0, 0, 5])], &[0; 8]),
                true,
                "first fragment",
            ),
            (
                ip6.build_with(&[(44, &[0, 8, 0, 0, 0, 5])], &[0; 8]),
                false,
                "later fragment",
            ),
            (vec![], false, "nothing"),
            (vec![0x45; 19], false, "no header"),
        ] {
            assert_eq!(answer(&packet).is_some(), told, "{why}: {packet:02x?}");
        }
    }

    #[test]
    fn who_may_be_cut() {
        let place = |place| {
            Ipv4 {
                place,
                ..Ipv4::new(HOST4, CLIENT4, 17)
            }
            .build(&[])
        };
        assert!(may_be_cut(&place(0)) && may_be_cut(&place(0x2000)));
        assert!(!may_be_cut(&place(0x4000)));
        assert!(!may_be_cut(
            &Ipv6::new("fd00::1", "fd88::10", 17).build(&[0; 8])
        ));
        assert!(!may_be_cut(&[]) && !may_be_cut(&[0x45]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_calmly(packet in packets::any_bytes()) {
            crate::fuzz::too_big(&packet);
        }
    }
}
