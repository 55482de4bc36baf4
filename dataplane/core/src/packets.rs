//! Packets for tests: built from their parts with correct lengths and checksums.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use crate::checksum::Sum;
use crate::ip::{ICMP, TCP, UDP};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone)]
pub struct Ipv4<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub id: u16,
    /// Flags and fragment offset.
    pub place: u16,
    pub options: &'a [u8],
}

impl Ipv4<'_> {
    pub fn new(source: &str, destination: &str, protocol: u8) -> Self {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Self {
            source,
            destination,
            protocol,
            id: 0x1234,
            place: 0x4000,
            options: &[],
        }
    }

    pub fn build(&self, payload: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(((header + payload.len()) as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.place.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(self.options);
        let checksum = Sum::default().bytes(&packet).checksum();
        packet[10..12].copy_from_slice(&checksum);
        packet.extend(payload);
        packet
    }
}

#[derive(Clone)]
pub struct Ipv6 {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub protocol: u8,
}

impl Ipv6 {
    pub fn new(source: &str, destination: &str, protocol: u8) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
        }
    }

    pub fn build(&self, payload: &[u8]) -> Vec<u8> {
        self.build_with(&[], payload)
    }

    /// `chain`: extension headers by number, each without its first two bytes.
    pub fn build_with(&self, chain: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let extensions: usize = chain.iter().map(|(_, rest)| 2 + rest.len()).sum();
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(((extensions + payload.len()) as u16).to_be_bytes());
        packet.extend([chain.first().map_or(self.protocol, |(kind, _)| *kind), 64]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        for (at, (kind, rest)) in chain.iter().enumerate() {
            let next = chain.get(at + 1).map_or(self.protocol, |(kind, _)| *kind);
            let length = if *kind == 44 {
                0
            } else {
                ((2 + rest.len()) / 8).saturating_sub(1) as u8
            };
            packet.extend([next, length]);
            packet.extend(*rest);
        }
        packet.extend(payload);
        packet
    }
}

/// An IP packet of either family around a transport segment.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            Ipv4::new(&s.to_string(), &d.to_string(), protocol).build(segment)
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            Ipv6::new(&s.to_string(), &d.to_string(), protocol).build(segment)
        }
        _ => panic!("mixed families"),
    }
}

fn ends(source: &str, destination: &str) -> (SocketAddr, SocketAddr) {
    (source.parse().unwrap(), destination.parse().unwrap())
}

/// Completes the checksum at `at` of a segment.
fn sealed(
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
    mut segment: Vec<u8>,
    at: usize,
) -> Vec<u8> {
    let sum = Sum::default()
        .pseudo(source.ip(), destination.ip(), protocol, segment.len())
        .bytes(&segment);
    let checksum = match sum.checksum() {
        [0, 0] => [0xff, 0xff],
        other => other,
    };
    segment[at..at + 2].copy_from_slice(&checksum);
    ip(source.ip(), destination.ip(), protocol, &segment)
}

pub fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = ends(source, destination);
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    sealed(source, destination, UDP, segment, 6)
}

/// A TCP segment to be.
#[derive(Clone)]
pub struct Tcp<'a> {
    pub sequence: u32,
    pub flags: u8,
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Default for Tcp<'_> {
    fn default() -> Self {
        Self {
            sequence: 1000,
            flags: 0x10,
            options: &[],
            payload: &[],
        }
    }
}

impl Tcp<'_> {
    pub fn build(&self, source: &str, destination: &str) -> Vec<u8> {
        let (source, destination) = ends(source, destination);
        let mut segment = Vec::new();
        segment.extend(source.port().to_be_bytes());
        segment.extend(destination.port().to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(777u32.to_be_bytes());
        segment.extend([
            ((20 + self.options.len()) / 4 * 16) as u8,
            self.flags,
            2,
            0,
            0,
            0,
            0,
            0,
        ]);
        segment.extend(self.options);
        segment.extend(self.payload);
        sealed(source, destination, TCP, segment, 16)
    }
}

/// An ICMP or ICMPv6 message; its checksum is nobody's business here.
pub fn icmp(source: &str, destination: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(body);
    ip(
        source,
        destination,
        if source.is_ipv4() {
            ICMP
        } else {
            crate::ip::ICMPV6
        },
        &message,
    )
}

/// Whether IPv4 header and TCP or UDP checksum of a packet without extension headers hold.
pub fn checksums_hold(packet: &[u8]) -> bool {
    let header = crate::ip::parse(packet).unwrap();
    let segment = &packet[header.payload..header.total];
    let own = header.source.is_ipv6() || Sum::default().bytes(&packet[..header.payload]).holds();
    own && Sum::default()
        .pseudo(
            header.source,
            header.destination,
            header.protocol,
            segment.len(),
        )
        .bytes(segment)
        .holds()
}

/// Bytes that look enough like packets to get past the first check, often.
pub fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let raw = proptest::collection::vec(any::<u8>(), 0..120);
    let shaped = (
        prop::sample::select(&[0x45u8, 0x46, 0x4f, 0x60][..]),
        raw.clone(),
        prop::sample::select(&[0u8, 1, 6, 17, 43, 44, 58, 60][..]),
    )
        .prop_map(|(first, mut bytes, protocol)| {
            bytes.resize(bytes.len().max(60), 0);
            bytes[0] = first;
            let length = bytes.len() as u16;
            let (at, length, kind) = if first < 0x60 {
                (2, length, 9)
            } else {
                (4, length - 40, 6)
            };
            bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
            bytes[kind] = protocol;
            bytes
        });
    prop_oneof![raw, shaped]
}
