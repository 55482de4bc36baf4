//! IPv4 and IPv6 headers: where a packet comes from, where it goes, what it carries.

use crate::bytes::{field, field16, field32};
use crate::discard::Discard;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// IPv6 extension headers in front of the payload. RFC 8200 section 4.1 recommends an order with
/// at most six; a longer chain only costs whoever has to walk it.
pub const MAX_EXTENSIONS: usize = 8;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    /// Holds the start of the payload.
    First {
        id: u32,
    },
    /// Holds no transport header.
    Later {
        id: u32,
    },
}

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Bytes of the packet by its own word; what is behind is not part of it.
    pub total: usize,
    /// What the payload is. In a later IPv6 fragment nothing vouches for it: the receiver believes
    /// the first fragment (RFC 8200 section 4.5).
    pub protocol: u8,
    /// Where the payload starts, behind all options and extension headers.
    pub payload: usize,
    pub fragment: Fragment,
}

/// Reads all headers of one packet, of which at least the whole must be there.
pub fn parse(packet: &[u8]) -> Result<Header, Discard> {
    headers(packet, Extent::Whole)
}

/// Reads the headers of a packet quoted in an ICMP error: its end may be missing.
pub fn parse_quoted(packet: &[u8]) -> Result<Header, Discard> {
    headers(packet, Extent::Cut)
}

/// Destination of an inner packet. Reads the fixed header only; total for every input.
pub fn destination(packet: &[u8]) -> Result<IpAddr, Discard> {
    match version(packet)? {
        4 => Ok(Ipv4Addr::from(field::<4>(packet, 16)?).into()),
        6 => Ok(Ipv6Addr::from(field::<16>(packet, 24)?).into()),
        _ => Err(Discard::NotIp),
    }
}

/// Whether a transport protocol starts with source and destination port, 16 bits each:
/// TCP, UDP, DCCP, SCTP, UDP-Lite.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | 33 | 132 | 136)
}

/// Whether an address may be the remote end of a routed packet. Refused are "this network",
/// loopback, link-local, multicast, broadcast, and IPv6 forms that hide an IPv4 address.
pub fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let [first, ..] = a.octets();
            !(first == 0
                || a.is_loopback()
                || a.is_link_local()
                || a.is_multicast()
                || a.is_broadcast())
        }
        IpAddr::V6(a) => {
            // ::/96 holds the unspecified address, loopback and the obsolete IPv4-compatible ones.
            let compatible = u128::from(a) >> 32 == 0;
            !(compatible
                || a.to_ipv4_mapped().is_some()
                || a.is_unicast_link_local()
                || a.is_multicast())
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Whole,
    Cut,
}

fn version(packet: &[u8]) -> Result<u8, Discard> {
    packet
        .first()
        .map(|first| first >> 4)
        .ok_or(Discard::TooShort)
}

fn headers(packet: &[u8], extent: Extent) -> Result<Header, Discard> {
    match version(packet)? {
        4 => headers4(packet, extent),
        6 => headers6(packet, extent),
        _ => Err(Discard::NotIp),
    }
}

/// The packet without what is behind its end.
fn cut(packet: &[u8], total: usize, extent: Extent) -> Result<&[u8], Discard> {
    match packet.get(..total) {
        Some(packet) => Ok(packet),
        None if extent == Extent::Cut => Ok(packet),
        None => Err(Discard::BadLength),
    }
}

fn headers4(packet: &[u8], extent: Extent) -> Result<Header, Discard> {
    let fixed: [u8; 20] = field(packet, 0)?;
    let payload = usize::from(field::<1>(&fixed, 0)?[0] & 0x0f) * 4;
    let total = usize::from(field16(&fixed, 2)?);
    if payload < fixed.len() || total < payload {
        return Err(Discard::BadLength);
    }
    let packet = cut(packet, total, extent)?;
    options4(packet.get(fixed.len()..payload).ok_or(Discard::TooShort)?)?;
    let flags = field16(&fixed, 6)?;
    let id = u32::from(field16(&fixed, 4)?);
    Ok(Header {
        source: Ipv4Addr::from(field::<4>(&fixed, 12)?).into(),
        destination: Ipv4Addr::from(field::<4>(&fixed, 16)?).into(),
        total,
        protocol: field::<1>(&fixed, 9)?[0],
        payload,
        fragment: fragment(
            usize::from(flags & 0x1fff) * 8,
            flags & 0x2000 != 0,
            id,
            total - payload,
        )?,
    })
}

/// Refuses source routes (RFC 7126 sections 4.3 and 4.4) and options that do not fit.
fn options4(mut options: &[u8]) -> Result<(), Discard> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    loop {
        options = match options {
            [] | [END, ..] => return Ok(()),
            [NOTHING, rest @ ..] => rest,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return Err(Discard::SourceRoute),
            [_, length, ..] if *length >= 2 => options
                .get(usize::from(*length)..)
                .ok_or(Discard::BadLength)?,
            _ => return Err(Discard::BadLength),
        }
    }
}

/// Which part this is, if reassembly could put it anywhere (RFC 791: at most 65,535 bytes, cut at
/// multiples of 8).
fn fragment(offset: usize, more: bool, id: u32, length: usize) -> Result<Fragment, Discard> {
    if offset + length > 0xffff || (more && !length.is_multiple_of(8)) {
        return Err(Discard::BadFragment);
    }
    Ok(match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First { id },
        _ => Fragment::Later { id },
    })
}

fn headers6(packet: &[u8], extent: Extent) -> Result<Header, Discard> {
    let fixed: [u8; 40] = field(packet, 0)?;
    let total = fixed.len() + usize::from(field16(&fixed, 4)?); // a jumbogram ends up too short
    let packet = cut(packet, total, extent)?;
    let mut header = Header {
        source: Ipv6Addr::from(field::<16>(&fixed, 8)?).into(),
        destination: Ipv6Addr::from(field::<16>(&fixed, 24)?).into(),
        total,
        protocol: field::<1>(&fixed, 6)?[0],
        payload: fixed.len(),
        fragment: Fragment::Whole,
    };
    for _ in 0..MAX_EXTENSIONS {
        let at = header.payload;
        let next = match header.protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let [next, length] = extension(packet, at, &header)?;
                header.payload += (usize::from(length) + 1) * 8;
                next
            }
            ROUTING => return Err(Discard::SourceRoute),
            FRAGMENT if header.fragment != Fragment::Whole => return Err(Discard::HeaderChain),
            FRAGMENT => {
                let [next, _] = extension(packet, at, &header)?;
                let (place, id) = (field16(packet, at + 2)?, field32(packet, at + 4)?);
                header.payload += 8;
                let length = total.checked_sub(header.payload).ok_or(Discard::TooShort)?;
                header.fragment =
                    fragment(usize::from(place & 0xfff8), place & 1 != 0, id, length)?;
                if let Fragment::Later { .. } = header.fragment {
                    header.protocol = next;
                    return Ok(header);
                }
                next // also behind an atomic fragment, which is a whole packet (RFC 6946)
            }
            _ => return Ok(header),
        };
        header.protocol = next;
        if header.payload > total {
            return Err(Discard::BadLength);
        }
    }
    match header.protocol {
        HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING | FRAGMENT => Err(Discard::HeaderChain),
        _ => Ok(header),
    }
}

/// Next header and length of an extension header. A first fragment must hold the whole chain
/// (RFC 7112 section 5).
fn extension(packet: &[u8], at: usize, header: &Header) -> Result<[u8; 2], Discard> {
    match header.fragment {
        Fragment::Whole => field(packet, at),
        _ => field(packet, at).map_err(|_| Discard::BadFragment),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::packets::{self, Ipv4, Ipv6};
    use proptest::prelude::*;

    #[test]
    fn destinations() {
        let packet = packets::udp("10.0.0.1:9", "10.9.8.7:53", b"");
        assert_eq!(destination(&packet), Ok("10.9.8.7".parse().unwrap()));
        let packet = packets::udp("[fd00::1]:9", "[fd00::53]:53", b"");
        assert_eq!(destination(&packet), Ok("fd00::53".parse().unwrap()));
        assert_eq!(destination(&packet[..39]), Err(Discard::TooShort));
        assert_eq!(destination(&[]), Err(Discard::TooShort));
        assert_eq!(destination(&[0x50; 60]), Err(Discard::NotIp));
    }

    #[test]
    fn lengths() {
        for good in [
            packets::udp("10.0.0.1:9", "10.9.8.7:53", b"hello"),
            packets::udp("[fd00::1]:9", "[fd00::53]:53", b"hello"),
        ] {
            assert_eq!(parse(&good).unwrap().total, good.len());
            let mut trailing = good.clone();
            trailing.push(0);
            assert_eq!(
                parse(&trailing).unwrap().total,
                good.len(),
                "cut to what the header says"
            );
            assert_eq!(parse(&good[..good.len() - 1]), Err(Discard::BadLength));
            assert_eq!(
                parse_quoted(&good[..good.len() - 1]).unwrap().total,
                good.len()
            );
        }
        let mut header_too_short = packets::udp("10.0.0.1:9", "10.9.8.7:53", b"");
        header_too_short[0] = 0x44;
        assert_eq!(parse(&header_too_short), Err(Discard::BadLength));
        let mut total_too_short = packets::udp("10.0.0.1:9", "10.9.8.7:53", b"");
        total_too_short[3] = 19;
        assert_eq!(parse(&total_too_short), Err(Discard::BadLength));
    }

    #[test]
    fn ipv4_options() {
        for (options, verdict) in [
            (&[1, 1, 0, 0][..], Ok(24)),
            (&[148, 4, 0, 0], Ok(24)), // router alert
            (&[131, 3, 4, 0], Err(Discard::SourceRoute)),
            (&[1, 137, 3, 4], Err(Discard::SourceRoute)),
            (&[0, 131, 3, 4], Ok(24)), // behind the end of the list
            (&[7, 1, 0, 0], Err(Discard::BadLength)),
            (&[7, 5, 0, 0], Err(Discard::BadLength)),
            (&[1, 1, 1, 7], Err(Discard::BadLength)),
        ] {
            let packet = Ipv4 {
                options,
                ..Ipv4::new("10.0.0.1", "10.0.0.2", UDP)
            }
            .build(&[0; 8]);
            assert_eq!(parse(&packet).map(|h| h.payload), verdict, "{options:?}");
        }
    }

    #[test]
    fn ipv4_fragments() {
        let part = |place, length: usize| {
            parse(
                &Ipv4 {
                    place,
                    id: 77,
                    ..Ipv4::new("10.0.0.1", "10.0.0.2", UDP)
                }
                .build(&vec![0; length]),
            )
            .map(|h| h.fragment)
        };
        assert_eq!(part(0x4000, 9), Ok(Fragment::Whole));
        assert_eq!(part(0x2000, 16), Ok(Fragment::First { id: 77 }));
        assert_eq!(part(0x2000, 15), Err(Discard::BadFragment));
        assert_eq!(part(0x2002, 16), Ok(Fragment::Later { id: 77 }));
        assert_eq!(part(0x0002, 15), Ok(Fragment::Later { id: 77 }));
        assert_eq!(part(0x1fff, 7), Ok(Fragment::Later { id: 77 }));
        assert_eq!(
            part(0x1fff, 8),
            Err(Discard::BadFragment),
            "would end behind 65,535"
        );
    }

    #[test]
    fn ipv6_extension_headers() {
        let ip = Ipv6::new("fd00::1", "fd00::2", UDP);
        let payload = [0; 8];
        let walk = |chain: &[(u8, &[u8])]| {
            parse(&ip.build_with(chain, &payload)).map(|h| (h.protocol, h.payload, h.fragment))
        };
        let options: &[u8] = &[1, 4, 0, 0, 0, 0];
        let longer: &[u8] = &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let first: &[u8] = &[0, 1, 0, 0, 0, 5];
        let later: &[u8] = &[0, 8, 0, 0, 0, 5];
        let atomic: &[u8] = &[0, 0, 0, 0, 0, 5];
        assert_eq!(walk(&[]), Ok((UDP, 40, Fragment::Whole)));
        assert_eq!(
            walk(&[(0, options), (60, longer)]),
            Ok((UDP, 64, Fragment::Whole))
        );
        assert_eq!(
            walk(&[(0, options), (43, options)]),
            Err(Discard::SourceRoute)
        );
        assert_eq!(
            walk(&[(44, first)]),
            Ok((UDP, 48, Fragment::First { id: 5 }))
        );
        assert_eq!(
            walk(&[(44, first), (60, options)]),
            Ok((UDP, 56, Fragment::First { id: 5 }))
        );
        assert_eq!(
            walk(&[(44, later)]),
            Ok((UDP, 48, Fragment::Later { id: 5 }))
        );
        assert_eq!(
            walk(&[(44, atomic), (60, options)]),
            Ok((UDP, 56, Fragment::Whole))
        );
        assert_eq!(walk(&[(44, first), (44, first)]), Err(Discard::HeaderChain));
        assert_eq!(walk(&[(60, options); 8]), Ok((UDP, 104, Fragment::Whole)));
        assert_eq!(walk(&[(60, options); 9]), Err(Discard::HeaderChain));
        let mut beyond = ip.build_with(&[(60, options)], &payload);
        beyond[41] = 200;
        assert_eq!(parse(&beyond), Err(Discard::BadLength));
        let unfinished = ip.build_with(&[(44, first), (60, &[])], &[]);
        assert_eq!(parse(&unfinished[..48]), Err(Discard::BadLength));
        let mut unfinished = unfinished;
        unfinished.truncate(48);
        unfinished[5] = 8;
        assert_eq!(parse(&unfinished), Err(Discard::BadFragment), "RFC 7112");
    }

    #[test]
    fn remote_ends() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(!is_routable(bad.parse().unwrap()), "{bad}");
        }
        for good in [
            "10.0.0.1",
            "1.1.1.1",
            "100.64.0.1",
            "192.168.0.255",
            "fd00::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert!(is_routable(good.parse().unwrap()), "{good}");
        }
    }

    proptest! {
        #[test]
        fn headers_lie_inside_the_packet(packet in packets::any_bytes()) {
            for header in [parse(&packet), parse_quoted(&packet)].into_iter().flatten() {
                prop_assert!(header.payload <= header.total);
                prop_assert_eq!(Ok(header.destination), destination(&packet));
            }
            if let Ok(header) = parse(&packet) {
                prop_assert!(header.total <= packet.len());
                prop_assert_eq!(parse_quoted(&packet), Ok(header));
            }
        }
    }
}
