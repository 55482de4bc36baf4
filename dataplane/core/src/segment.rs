//! Cuts a super-packet from the TUN into the packets that go on the wire, and completes checksums
//! that the kernel left to the device.

use crate::bytes::{field, field16, field32, put};
use crate::checksum::Sum;
use crate::discard::Discard;
use crate::ip::{self, Fragment, Header, TCP, UDP};
use crate::vnet::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4};

pub use crate::vnet::VnetHeader;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The packets in one read from the TUN.
///
/// [`Segments::write`] rebuilds each with its own headers; the payload is read once for the
/// checksum and once for the copy. What the kernel says in the header is checked against the
/// packet when the value is made, so nothing can fail later.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    cut: Option<Cut>,
}

/// How to cut a super-packet.
#[derive(Debug)]
struct Cut {
    header: Header,
    /// Bytes of all headers, repeated in front of each payload.
    headers: usize,
    /// Payload of each packet but the last.
    size: usize,
    count: usize,
    tcp: bool,
}

impl<'a> Segments<'a> {
    /// `packet`: what followed the virtio-net header. A checksum left to the device is completed
    /// in place when the packet stays whole.
    pub fn new(header: &VnetHeader, packet: &'a mut [u8]) -> Result<Self, Discard> {
        let ip = ip::parse(packet)?;
        let packet = packet.get_mut(..ip.total).ok_or(Discard::BadLength)?;
        if header.gso_type == GSO_NONE {
            if header.needs_checksum() {
                complete(header, &ip, packet)?;
            }
            return Ok(Self { packet, cut: None });
        }
        let cut = Cut::new(header, ip, packet)?;
        Ok(Self {
            packet,
            cut: Some(cut),
        })
    }

    /// How many packets there are; at least 1.
    pub fn count(&self) -> usize {
        self.cut.as_ref().map_or(1, |cut| cut.count)
    }

    /// Length of packet `index`, or 0 if there is none.
    pub fn len_of(&self, index: usize) -> usize {
        match &self.cut {
            None if index == 0 => self.packet.len(),
            None => 0,
            Some(cut) => cut
                .payload(self.packet, index)
                .map_or(0, |payload| cut.headers + payload.len()),
        }
    }

    /// Writes packet `index` to the start of `out` and returns its length; 0 if there is no such
    /// packet or `out` is shorter than it.
    pub fn write(&self, index: usize, out: &mut [u8]) -> usize {
        let Some(out) = out.get_mut(..self.len_of(index)) else {
            return 0;
        };
        match &self.cut {
            None => out.copy_from_slice(self.packet.get(..out.len()).unwrap_or_default()),
            Some(cut) => cut.write(self.packet, index, out).unwrap_or_default(),
        }
        out.len()
    }
}

/// Completes the checksum over everything from `csum_start` on; the field holds the pseudo-header's
/// sum already. 0 means "no checksum" to UDP and is the same number as 0xffff to all.
fn complete(header: &VnetHeader, ip: &Header, packet: &mut [u8]) -> Result<(), Discard> {
    let start = usize::from(header.csum_start);
    let place = start + usize::from(header.csum_offset);
    // Behind the IP headers, but further on if the payload is a tunnel's.
    if start < ip.payload || !header.csum_offset.is_multiple_of(2) || place + 2 > packet.len() {
        return Err(Discard::BadOffload);
    }
    let covered = packet.get(start..).ok_or(Discard::BadOffload)?;
    let checksum = nonzero(Sum::default().bytes(covered).checksum());
    put(packet, place, checksum);
    Ok(())
}

fn nonzero(checksum: [u8; 2]) -> [u8; 2] {
    if checksum == [0, 0] {
        [0xff, 0xff]
    } else {
        checksum
    }
}

impl Cut {
    fn new(vnet: &VnetHeader, header: Header, packet: &[u8]) -> Result<Self, Discard> {
        let v4 = header.source.is_ipv4();
        let transport = match vnet.gso_type & !GSO_ECN {
            GSO_TCPV4 if v4 => TCP,
            GSO_TCPV6 if !v4 => TCP,
            GSO_UDP_L4 => UDP,
            _ => return Err(Discard::BadOffload),
        };
        let fits = header.protocol == transport
            && header.fragment == Fragment::Whole
            && (!vnet.needs_checksum() || usize::from(vnet.csum_start) == header.payload);
        let tcp = transport == TCP;
        let length = if tcp {
            usize::from(field::<1>(packet, header.payload + 12)?[0] >> 4) * 4
        } else {
            8
        };
        let headers = header.payload + length;
        let size = usize::from(vnet.gso_size);
        if !fits || length < if tcp { 20 } else { 8 } || headers > packet.len() || size == 0 {
            return Err(Discard::BadOffload);
        }
        let count = (packet.len() - headers).div_ceil(size).max(1);
        Ok(Self {
            header,
            headers,
            size,
            count,
            tcp,
        })
    }

    fn payload<'p>(&self, packet: &'p [u8], index: usize) -> Option<&'p [u8]> {
        if index >= self.count {
            return None;
        }
        let start = self.headers + index * self.size;
        packet.get(start..packet.len().min(start + self.size))
    }

    /// `out` has exactly the length of packet `index`.
    fn write(&self, packet: &[u8], index: usize, out: &mut [u8]) -> Option<()> {
        let payload = self.payload(packet, index)?;
        let (headers, body) = out.split_at_mut_checked(self.headers)?;
        headers.copy_from_slice(packet.get(..self.headers)?);
        body.copy_from_slice(payload);
        let total = self.headers + payload.len();
        let (network, transport) = headers.split_at_mut_checked(self.header.payload)?;
        self.network(network, total, index).ok()?;
        let length = total - self.header.payload;
        let checksum_at = if self.tcp {
            self.tcp(transport, index).ok()?;
            16
        } else {
            put(transport, 4, (length as u16).to_be_bytes());
            6
        };
        put(transport, checksum_at, [0, 0]);
        let checksum = Sum::default()
            .pseudo(
                self.header.source,
                self.header.destination,
                self.header.protocol,
                length,
            )
            .bytes(transport)
            .bytes(payload)
            .checksum();
        put(transport, checksum_at, nonzero(checksum));
        Some(())
    }

    /// Length, and for IPv4 identification and checksum.
    fn network(&self, header: &mut [u8], total: usize, index: usize) -> Result<(), Discard> {
        if self.header.source.is_ipv6() {
            put(header, 4, ((total - 40) as u16).to_be_bytes());
            return Ok(());
        }
        put(header, 2, (total as u16).to_be_bytes());
        let id = field16(header, 4)?.wrapping_add(index as u16);
        put(header, 4, id.to_be_bytes());
        put(header, 10, [0, 0]);
        let checksum = Sum::default().bytes(header).checksum();
        put(header, 10, checksum);
        Ok(())
    }

    /// Sequence number, and flags that belong to one end of the super-packet only.
    fn tcp(&self, header: &mut [u8], index: usize) -> Result<(), Discard> {
        let sequence = field32(header, 4)?.wrapping_add((index * self.size) as u32);
        put(header, 4, sequence.to_be_bytes());
        let [mut flags] = field(header, 13)?;
        if index > 0 {
            flags &= !CWR; // one reduction of the window, told once (RFC 3168 section 6.1.2)
        }
        if index + 1 < self.count {
            flags &= !(FIN | PSH);
        }
        put(header, 13, [flags]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::packets::{self, Tcp, checksums_hold};
    use crate::vnet::NEEDS_CSUM;
    use proptest::prelude::*;

    fn cut(header: &VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, Discard> {
        let mut packet = packet.to_vec();
        let segments = Segments::new(header, &mut packet)?;
        let written = (0..segments.count()).map(|index| {
            let mut out = vec![0xee; segments.len_of(index) + 3];
            let length = segments.write(index, &mut out);
            assert_eq!(length, segments.len_of(index));
            assert!(length > 0 && out[length..] == [0xee; 3]);
            assert_eq!(segments.write(index, &mut out[..length - 1]), 0);
            out.truncate(length);
            out
        });
        let written = written.collect();
        assert_eq!(
            (
                segments.len_of(segments.count()),
                segments.write(segments.count(), &mut [])
            ),
            (0, 0)
        );
        Ok(written)
    }

    fn gso(gso_type: u8, gso_size: u16, csum_start: u16) -> VnetHeader {
        let csum_offset = if gso_type == GSO_UDP_L4 { 6 } else { 16 };
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: 0,
            gso_size,
            csum_start,
            csum_offset,
        }
    }

    #[test]
    fn tcp_over_ipv4() {
        let payload: Vec<u8> = (0..2500u32).map(|n| n as u8).collect();
        let flags = 0x10 | CWR | PSH | FIN;
        let whole = Tcp {
            sequence: u32::MAX - 500,
            flags,
            payload: &payload,
            ..Tcp::default()
        }
        .build("10.0.0.1:1", "10.0.0.2:2");
        let parts = cut(&gso(GSO_TCPV4 | GSO_ECN, 1000, 20), &whole).unwrap();
        assert_eq!(
            parts.iter().map(Vec::len).collect::<Vec<_>>(),
            [1040, 1040, 540]
        );
        for (index, part) in parts.iter().enumerate() {
            assert!(checksums_hold(part));
            assert_eq!(
                field16(part, 4),
                Ok(0x1234 + index as u16),
                "identification"
            );
            assert_eq!(
                field32(part, 24),
                Ok((u32::MAX - 500).wrapping_add(index as u32 * 1000)),
                "sequence number"
            );
            assert_eq!(part[40..], payload[index * 1000..][..part.len() - 40]);
        }
        assert_eq!(
            parts.iter().map(|p| p[33]).collect::<Vec<_>>(),
            [0x10 | CWR, 0x10, 0x10 | PSH | FIN]
        );
    }

    #[test]
    fn udp_over_ipv6() {
        let whole = packets::udp("[fd00::1]:1", "[fd00::2]:2", &[7; 2500]);
        let parts = cut(&gso(GSO_UDP_L4, 1000, 40), &whole).unwrap();
        assert_eq!(parts.len(), 3);
        for part in &parts {
            assert!(checksums_hold(part));
            assert_eq!(usize::from(field16(part, 44).unwrap()), part.len() - 40);
        }
    }

    #[test]
    fn a_whole_packet_gets_its_checksum() {
        for whole in [
            packets::udp("10.0.0.1:1", "10.0.0.2:2", b"odd"),
            packets::udp("[fd00::1]:1", "[fd00::2]:2", b"even"),
        ] {
            let header = ip::parse(&whole).unwrap();
            let at = header.payload + 6;
            let mut partial = whole.clone();
            let sum = Sum::default().pseudo(
                header.source,
                header.destination,
                UDP,
                whole.len() - header.payload,
            );
            partial[at..at + 2].copy_from_slice(&sum.folded());
            let vnet = VnetHeader {
                gso_type: GSO_NONE,
                ..gso(GSO_UDP_L4, 0, header.payload as u16)
            };
            assert_eq!(cut(&vnet, &partial), Ok(vec![whole.clone()]));
            assert_eq!(cut(&VnetHeader::default(), &whole), Ok(vec![whole]));
        }
    }

    #[test]
    fn headers_that_do_not_describe_the_packet() {
        let tcp = Tcp {
            payload: &[1; 3004],
            ..Tcp::default()
        }
        .build("10.0.0.1:1", "10.0.0.2:2");
        let udp = packets::udp("10.0.0.1:1", "10.0.0.2:2", &[1; 3000]);
        let mut no_header = tcp.clone();
        no_header[32] = 0x40;
        let mut fragment = tcp.clone();
        fragment[6] = 0x20;
        for (header, packet) in [
            (gso(GSO_TCPV6, 1000, 20), &tcp),
            (gso(GSO_UDP_L4, 1000, 20), &tcp),
            (gso(GSO_TCPV4, 1000, 20), &udp),
            (gso(GSO_TCPV4, 0, 20), &tcp),
            (gso(GSO_TCPV4, 1000, 24), &tcp),
            (gso(GSO_TCPV4, 1000, 20), &no_header),
            (gso(GSO_TCPV4, 1000, 20), &fragment),
            (gso(3, 1000, 20), &udp),
            (
                VnetHeader {
                    csum_start: 3021,
                    ..gso(GSO_NONE, 0, 0)
                },
                &udp,
            ),
            (
                VnetHeader {
                    csum_offset: 3008,
                    ..gso(GSO_NONE, 0, 20)
                },
                &udp,
            ),
            (
                VnetHeader {
                    csum_start: 19,
                    ..gso(GSO_NONE, 0, 0)
                },
                &udp,
            ),
            (
                VnetHeader {
                    csum_offset: 7,
                    ..gso(GSO_NONE, 0, 20)
                },
                &udp,
            ),
            (
                VnetHeader {
                    csum_offset: u16::MAX,
                    ..gso(GSO_NONE, 0, u16::MAX)
                },
                &udp,
            ),
        ] {
            assert_eq!(cut(&header, packet), Err(Discard::BadOffload), "{header:?}");
        }
        assert_eq!(cut(&VnetHeader::default(), b""), Err(Discard::TooShort));
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(length in 0usize..65_000, size in 1u16..9000, tcp: bool, v6: bool, first: u8) {
            let payload: Vec<u8> = (0..length).map(|n| (n as u8).wrapping_mul(31) ^ first).collect();
            let (from, to) = if v6 { ("[fd00::1]:1", "[fd00::2]:2") } else { ("10.0.0.1:1", "10.0.0.2:2") };
            let whole = if tcp { Tcp { payload: &payload, ..Tcp::default() }.build(from, to) } else { packets::udp(from, to, &payload) };
            let start = if v6 { 40 } else { 20 };
            let kind = if !tcp { GSO_UDP_L4 } else if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            let parts = cut(&gso(kind, size, start), &whole).unwrap();
            prop_assert_eq!(parts.len(), length.div_ceil(usize::from(size)).max(1));
            let headers = usize::from(start) + if tcp { 20 } else { 8 };
            let mut joined = Vec::new();
            for part in &parts {
                prop_assert!(checksums_hold(part));
                joined.extend_from_slice(&part[headers..]);
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn any_bytes_are_taken_calmly(header: [u8; 10], packet in packets::any_bytes()) {
            crate::fuzz::vnet(&[&header[..], &packet].concat());
        }
    }
}
