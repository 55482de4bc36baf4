//! Inner packets, built from their parts.

use std::net::{IpAddr, SocketAddr};

use lockgate_dataplane::checksum::Sum;
use lockgate_dataplane::vnet::{GSO_TCPV4, NEEDS_CSUM, VnetHeader};

/// Inner addresses of the session under test and of a host behind the gateway.
pub const CLIENT4: &str = "10.88.0.10:4000";
pub const CLIENT6: &str = "[fd00:88::10]:4000";
pub const HOST4: &str = "10.77.0.1:7";
pub const HOST6: &str = "[fd00:77::1]:7";

fn ip(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut packet;
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet = vec![0x45, 0];
            packet.extend((20 + segment.len() as u16).to_be_bytes());
            packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let checksum = Sum::default().bytes(&packet).checksum();
            packet[10..12].copy_from_slice(&checksum);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet = vec![0x60, 0, 0, 0];
            packet.extend((segment.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => panic!("mixed families"),
    }
    packet.extend(segment);
    packet
}

pub fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    let sum = Sum::default()
        .pseudo(source.ip(), destination.ip(), 17, segment.len())
        .bytes(&segment);
    let checksum = sum.checksum();
    segment[6..8].copy_from_slice(&checksum);
    ip(source.ip(), destination.ip(), 17, &segment)
}

/// A TCP segment without options; `partial` leaves the pseudo-header sum in its checksum, as the
/// kernel does with packets whose checksum is still to be completed.
pub fn tcp(
    source: &str,
    destination: &str,
    sequence: u32,
    payload: &[u8],
    partial: bool,
) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(777u32.to_be_bytes());
    segment.extend([0x50, 0x10, 2, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    let pseudo = Sum::default().pseudo(source.ip(), destination.ip(), 6, segment.len());
    let checksum = if partial {
        let [high, low] = pseudo.checksum();
        [!high, !low]
    } else {
        pseudo.bytes(&segment).checksum()
    };
    segment[16..18].copy_from_slice(&checksum);
    ip(source.ip(), destination.ip(), 6, &segment)
}

/// A TCP super-packet of `pieces` segments of `mss` bytes as the kernel hands it over.
pub fn super_packet_between(
    source: &str,
    destination: &str,
    pieces: usize,
    mss: usize,
) -> (VnetHeader, Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = (0..pieces * mss).map(|byte| (byte % 251) as u8).collect();
    let packet = tcp(source, destination, 5000, &payload, true);
    let header = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 40,
        gso_size: mss as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (header, packet, payload)
}

/// A SYN with an MSS option.
pub fn syn(source: &str, destination: &str, mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let mut packet = tcp(source, destination, 1, &[2, 4, high, low], false);
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[header + 12] = 0x60;
    packet[header + 13] = 2;
    packet[header + 16..header + 18].fill(0);
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let segment = &packet[header..];
    let checksum = Sum::default()
        .pseudo(source.ip(), destination.ip(), 6, segment.len())
        .bytes(segment)
        .checksum();
    packet[header + 16..header + 18].copy_from_slice(&checksum);
    packet
}

/// Takes "don't fragment" off an IPv4 packet.
pub fn may_be_cut(packet: &mut [u8]) {
    packet[6] = 0;
    packet[10..12].fill(0);
    let checksum = Sum::default().bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&checksum);
}

/// Whether the transport checksum of a packet without options or extension headers holds.
pub fn checksum_holds(packet: &[u8]) -> bool {
    let header = lockgate_dataplane::ip::parse(packet).unwrap();
    let segment = &packet[header.payload..header.total];
    Sum::default()
        .pseudo(
            header.source,
            header.destination,
            header.protocol,
            segment.len(),
        )
        .bytes(segment)
        .holds()
}
