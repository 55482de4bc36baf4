//! Glues consecutive packets of one flow into a super-packet for one write to the TUN.
//!
//! Nothing is copied: the first packet's headers are rewritten where they lie, and the group names
//! the ranges of the buffer that follow each other in the write. The kernel can cut the result
//! into the very packets that came in, or hand it on whole.

use crate::bytes::{field, field16, field32, put};
use crate::checksum::Sum;
use crate::ip::{TCP, UDP};
use crate::vnet::{self, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Most packets in a group: as many as the kernel itself puts into one UDP batch.
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes of a super-packet; the IP length field ends at 65,535.
pub const MAX_BYTES: usize = 65_000;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const DONT_FRAGMENT: u16 = 0x4000;

/// One write to the TUN: the virtio-net header, then these ranges of the buffer in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Group<'a> {
    pub header: [u8; vnet::LEN],
    pub ranges: &'a [Range<usize>],
}

/// Collects one group at a time. A group is one TCP flow (only ACK and PSH set, numbers without a
/// gap, headers otherwise alike) or one UDP flow, all packets of one size but a shorter last one,
/// each with its checksum verified. Anything else forms a group of its own, unchanged.
#[derive(Debug)]
pub struct Coalescer {
    udp: bool,
    /// Allocated once, for [`MAX_SEGMENTS`].
    ranges: Vec<Range<usize>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The ranges, if any, were handed out.
    Empty,
    /// One packet that nothing may join.
    Single,
    Flow(Flow),
}

/// A group that may grow.
#[derive(Debug)]
struct Flow {
    first: Candidate,
    /// Number of packets.
    count: usize,
    /// Bytes of the super-packet so far.
    total: usize,
    next_sequence: u32,
    push: bool,
    /// A short packet or PSH ends the group.
    closed: bool,
}

/// A packet that can be part of a group: no IP options, extension headers or fragments, checksums
/// right, some payload.
#[derive(Debug)]
struct Candidate {
    /// Where the packet starts in the buffer.
    start: usize,
    source: IpAddr,
    destination: IpAddr,
    tcp: bool,
    /// Bytes of IP header.
    transport: usize,
    /// Bytes of IP and transport header.
    headers: usize,
    payload: usize,
    /// IPv4 identification, or `None` where it does not matter: IPv6, and IPv4 that must not be
    /// fragmented (RFC 6864 section 4.1).
    id: Option<u16>,
    sequence: u32,
    push: bool,
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new()
    }
}

impl Coalescer {
    pub fn new() -> Self {
        Self {
            udp: true,
            ranges: Vec::with_capacity(MAX_SEGMENTS),
            state: State::Empty,
        }
    }

    /// For a TUN that does not take UDP super-packets.
    pub fn without_udp() -> Self {
        Self {
            udp: false,
            ..Self::new()
        }
    }

    /// Takes the packet at `range` of `buf`, of exactly its IP length. `false`: it does not fit
    /// what is collected; finish that first, then offer again.
    pub fn offer(&mut self, buf: &[u8], range: Range<usize>) -> bool {
        match &mut self.state {
            State::Empty => {
                self.ranges.clear();
                self.state = match Candidate::of(buf, &range, self.udp) {
                    Some(first) => State::Flow(Flow::new(first)),
                    None => State::Single,
                };
                self.ranges.push(range);
                true
            }
            State::Flow(flow) if !flow.closed => {
                let joined =
                    Candidate::of(buf, &range, self.udp).and_then(|packet| flow.join(buf, &packet));
                self.ranges.extend(joined.clone());
                joined.is_some()
            }
            State::Flow(_) | State::Single => false,
        }
    }

    /// The collected group, its first headers rewritten in `buf`, or `None` when there is none.
    pub fn finish<'s>(&'s mut self, buf: &mut [u8]) -> Option<Group<'s>> {
        let header = match std::mem::replace(&mut self.state, State::Empty) {
            State::Empty => return None,
            State::Flow(flow) if flow.count > 1 => flow.rewrite(buf),
            State::Flow(_) | State::Single => VnetHeader::default(),
        };
        Some(Group {
            header: header.encode(),
            ranges: &self.ranges,
        })
    }
}

impl Candidate {
    fn of(buf: &[u8], range: &Range<usize>, udp: bool) -> Option<Self> {
        let packet = buf.get(range.clone())?;
        let mut candidate = Self::network(packet)?;
        if !candidate.tcp && !udp {
            return None;
        }
        let segment = packet.get(candidate.transport..)?;
        let length = if candidate.tcp {
            candidate.tcp_header(segment)?
        } else {
            udp_header(segment)?
        };
        candidate.headers = candidate.transport + length;
        candidate.payload = segment
            .len()
            .checked_sub(length)
            .filter(|payload| *payload > 0)?;
        let protocol = if candidate.tcp { TCP } else { UDP };
        let sum = Sum::default().pseudo(
            candidate.source,
            candidate.destination,
            protocol,
            segment.len(),
        );
        if !sum.bytes(segment).holds() {
            return None;
        }
        candidate.start = range.start;
        Some(candidate)
    }

    fn network(packet: &[u8]) -> Option<Self> {
        let [first] = field(packet, 0).ok()?;
        let (source, destination, protocol, transport, length, id): (IpAddr, IpAddr, _, _, _, _);
        if first == 0x45 {
            let header: [u8; 20] = field(packet, 0).ok()?;
            let place = field16(&header, 6).ok()?;
            if place & !DONT_FRAGMENT != 0 || !Sum::default().bytes(&header).holds() {
                return None;
            }
            source = Ipv4Addr::from(field::<4>(&header, 12).ok()?).into();
            destination = Ipv4Addr::from(field::<4>(&header, 16).ok()?).into();
            [protocol] = field(&header, 9).ok()?;
            id = if place == 0 {
                Some(field16(&header, 4).ok()?)
            } else {
                None
            };
            (transport, length) = (20, usize::from(field16(&header, 2).ok()?));
        } else if first >> 4 == 6 {
            let header: [u8; 40] = field(packet, 0).ok()?;
            source = Ipv6Addr::from(field::<16>(&header, 8).ok()?).into();
            destination = Ipv6Addr::from(field::<16>(&header, 24).ok()?).into();
            [protocol] = field(&header, 6).ok()?;
            id = None;
            (transport, length) = (40, 40 + usize::from(field16(&header, 4).ok()?));
        } else {
            return None;
        }
        let ours = matches!(protocol, TCP | UDP) && length == packet.len();
        ours.then_some(Self {
            start: 0,
            source,
            destination,
            tcp: protocol == TCP,
            transport,
            headers: transport,
            payload: 0,
            id,
            sequence: 0,
            push: false,
        })
    }

    /// Header length of a plain data segment.
    fn tcp_header(&mut self, segment: &[u8]) -> Option<usize> {
        let [offset, flags] = field(segment, 12).ok()?;
        let length = usize::from(offset >> 4) * 4;
        if flags & !PSH != ACK || offset & 0x0f != 0 || length < 20 {
            return None;
        }
        self.sequence = field32(segment, 4).ok()?;
        self.push = flags & PSH != 0;
        Some(length)
    }
}

/// Header length of a datagram that has a checksum.
fn udp_header(segment: &[u8]) -> Option<usize> {
    let (length, checksum) = (field16(segment, 4).ok()?, field16(segment, 6).ok()?);
    (usize::from(length) == segment.len() && checksum != 0).then_some(8)
}

impl Flow {
    fn new(first: Candidate) -> Self {
        Self {
            count: 1,
            total: first.headers + first.payload,
            next_sequence: first.sequence.wrapping_add(first.payload as u32),
            push: first.push,
            closed: first.push,
            first,
        }
    }

    /// Adds a packet if it continues the flow; the range of its payload.
    fn join(&mut self, buf: &[u8], packet: &Candidate) -> Option<Range<usize>> {
        let first = &self.first;
        let fits = self.count < MAX_SEGMENTS
            && packet.payload <= first.payload
            && self.total + packet.payload <= MAX_BYTES
            && (packet.tcp, packet.transport, packet.headers)
                == (first.tcp, first.transport, first.headers)
            && (packet.source, packet.destination) == (first.source, first.destination)
            && packet.id == first.id.map(|id| id.wrapping_add(self.count as u16))
            && (!packet.tcp || packet.sequence == self.next_sequence)
            && self.same_headers(buf, packet)?;
        if !fits {
            return None;
        }
        self.count += 1;
        self.total += packet.payload;
        self.next_sequence = packet.sequence.wrapping_add(packet.payload as u32);
        self.push |= packet.push;
        self.closed = packet.push || packet.payload < first.payload;
        let start = packet.start + packet.headers;
        Some(start..start + packet.payload)
    }

    /// Whether all fields agree that a super-packet has only once.
    fn same_headers(&self, buf: &[u8], packet: &Candidate) -> Option<bool> {
        let a = buf.get(self.first.start..self.first.start + self.first.headers)?;
        let b = buf.get(packet.start..packet.start + packet.headers)?;
        let alike = |range: Range<usize>| a.get(range.clone()) == b.get(range);
        let at = self.first.transport;
        // Version, traffic class or TOS, flow label; hop limit or TTL; DF.
        let network = if at == 20 {
            alike(0..2) && alike(6..10)
        } else {
            alike(0..4) && alike(6..8)
        };
        let ports = alike(at..at + 4);
        // Acknowledgement and header length; window; urgent pointer and options.
        let tcp = !self.first.tcp
            || alike(at + 8..at + 13)
                && alike(at + 14..at + 16)
                && alike(at + 18..self.first.headers);
        Some(network && ports && tcp)
    }

    /// Makes the first packet's headers those of the whole group.
    fn rewrite(&self, buf: &mut [u8]) -> VnetHeader {
        let first = &self.first;
        let v4 = first.source.is_ipv4();
        let Some(headers) = buf.get_mut(first.start..first.start + first.headers) else {
            return VnetHeader::default(); // another buffer than the one offered
        };
        if v4 {
            put(headers, 2, (self.total as u16).to_be_bytes());
            put(headers, 10, [0, 0]);
            let checksum = Sum::default()
                .bytes(headers.get(..first.transport).unwrap_or_default())
                .checksum();
            put(headers, 10, checksum);
        } else {
            put(
                headers,
                4,
                ((self.total - first.transport) as u16).to_be_bytes(),
            );
        }
        let length = self.total - first.transport;
        let (protocol, csum_offset, gso_type) = match (first.tcp, v4) {
            (true, true) => (TCP, 16, GSO_TCPV4),
            (true, false) => (TCP, 16, GSO_TCPV6),
            (false, _) => (UDP, 6, GSO_UDP_L4),
        };
        if first.tcp {
            let flags = if self.push { ACK | PSH } else { ACK };
            put(headers, first.transport + 13, [flags]);
        } else {
            put(headers, first.transport + 4, (length as u16).to_be_bytes());
        }
        // The kernel completes it per packet, from the pseudo-header's sum on.
        let sum = Sum::default()
            .pseudo(first.source, first.destination, protocol, length)
            .folded();
        put(headers, first.transport + usize::from(csum_offset), sum);
        VnetHeader {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: first.headers as u16,
            gso_size: first.payload as u16,
            csum_start: first.transport as u16,
            csum_offset,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::packets::{self, Ipv4, Tcp};
    use crate::segment::Segments;
    use crate::vnet::GSO_NONE;
    use proptest::prelude::*;

    /// Writes to the TUN for these packets, in order: header and joined ranges.
    fn writes(mut coalescer: Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
        let (mut buf, mut written) = (Vec::new(), Vec::new());
        let ranges: Vec<_> = packets
            .iter()
            .map(|packet| {
                buf.extend_from_slice(&[0xcc; 5]); // packets do not lie side by side
                buf.extend_from_slice(packet);
                buf.len() - packet.len()..buf.len()
            })
            .collect();
        let finish = |coalescer: &mut Coalescer, buf: &mut Vec<u8>| {
            let group = coalescer.finish(buf)?;
            let bytes = group
                .ranges
                .iter()
                .flat_map(|range| buf[range.clone()].to_vec())
                .collect();
            Some((VnetHeader::parse(&group.header).unwrap(), bytes))
        };
        for range in ranges {
            if !coalescer.offer(&buf, range.clone()) {
                written.push(finish(&mut coalescer, &mut buf).unwrap());
                assert!(coalescer.offer(&buf, range), "an empty one takes anything");
            }
        }
        written.extend(finish(&mut coalescer, &mut buf));
        assert!(coalescer.finish(&mut buf).is_none());
        written
    }

    /// How many packets each write holds.
    fn groups(packets: &[Vec<u8>]) -> Vec<usize> {
        writes(Coalescer::new(), packets)
            .into_iter()
            .map(|(header, mut bytes)| Segments::new(&header, &mut bytes).unwrap().count())
            .collect()
    }

    /// What the kernel makes of the writes again.
    fn recut(writes: Vec<(VnetHeader, Vec<u8>)>) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for (header, mut bytes) in writes {
            if header.gso_type == GSO_NONE {
                packets.push(bytes);
                continue;
            }
            let segments = Segments::new(&header, &mut bytes).unwrap();
            for index in 0..segments.count() {
                let mut out = vec![0; segments.len_of(index)];
                segments.write(index, &mut out);
                packets.push(out);
            }
        }
        packets
    }

    /// Packets with the identification of atomic ones taken out: nobody may rely on it.
    fn normal(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packets = packets.to_vec();
        for packet in &mut packets {
            if packet[0] >> 4 == 4 && packet[6] == 0x40 {
                let checksum = crate::checksum::updated(
                    field16(packet, 10).unwrap(),
                    field16(packet, 4).unwrap(),
                    0,
                );
                put(packet, 4, [0, 0]);
                put(packet, 10, checksum.to_be_bytes());
            }
        }
        packets
    }

    fn tcp(sequence: u32, length: usize) -> Vec<u8> {
        Tcp {
            sequence,
            payload: &vec![3; length],
            ..Tcp::default()
        }
        .build("10.0.0.1:80", "10.0.0.2:5000")
    }

    #[test]
    fn a_flow_becomes_one_write() {
        let packets = [tcp(u32::MAX - 99, 100), tcp(0, 100), tcp(100, 40)];
        let written = writes(Coalescer::new(), &packets);
        let [(header, bytes)] = &written[..] else {
            panic!("{written:?}")
        };
        let expected = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 40,
            gso_size: 100,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(*header, expected);
        assert_eq!(bytes.len(), 280);
        assert!(Sum::default().bytes(&bytes[..20]).holds());
        assert_eq!(normal(&recut(written)), normal(&packets));
    }

    #[test]
    fn what_ends_or_prevents_a_group() {
        let flags = |sequence, flags| {
            Tcp {
                sequence,
                flags,
                payload: &[1; 100],
                ..Tcp::default()
            }
            .build("10.0.0.1:80", "10.0.0.2:5000")
        };
        let options = |sequence, options| {
            Tcp {
                sequence,
                options,
                payload: &[1; 100],
                ..Tcp::default()
            }
            .build("10.0.0.1:80", "10.0.0.2:5000")
        };
        let other_port = Tcp {
            sequence: 100,
            payload: &[3; 100],
            ..Tcp::default()
        }
        .build("10.0.0.1:80", "10.0.0.2:5001");
        let with = |mut packet: Vec<u8>, at: usize, value: u8| {
            let old = field16(&packet, at & !1).unwrap();
            packet[at] = value;
            let new = field16(&packet, at & !1).unwrap();
            let place = if at < 20 { 10 } else { 36 };
            let checksum = crate::checksum::updated(field16(&packet, place).unwrap(), old, new);
            packet[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
            packet
        };
        let spoiled = |mut packet: Vec<u8>, at: usize| {
            packet[at] ^= 1;
            packet
        };
        for (what, packets, expected) in [
            (
                "three in a row",
                vec![tcp(0, 100), tcp(100, 100), tcp(200, 100)],
                vec![3],
            ),
            ("a gap", vec![tcp(0, 100), tcp(101, 100)], vec![1, 1]),
            ("a repetition", vec![tcp(0, 100), tcp(0, 100)], vec![1, 1]),
            (
                "a short one in between",
                vec![tcp(0, 100), tcp(100, 99), tcp(199, 99)],
                vec![2, 1],
            ),
            ("a longer one", vec![tcp(0, 100), tcp(100, 101)], vec![1, 1]),
            (
                "a push ends",
                vec![tcp(0, 100), flags(100, ACK | PSH), tcp(200, 100)],
                vec![2, 1],
            ),
            (
                "a push at once",
                vec![flags(0, ACK | PSH), tcp(100, 100)],
                vec![1, 1],
            ),
            ("a FIN", vec![tcp(0, 100), flags(100, ACK | 1)], vec![1, 1]),
            ("a SYN", vec![flags(0, 2), flags(100, 2)], vec![1, 1]),
            (
                "congestion marks",
                vec![flags(0, ACK | 0x40), flags(100, ACK | 0x40)],
                vec![1, 1],
            ),
            ("no payload", vec![tcp(0, 0), tcp(0, 0)], vec![1, 1]),
            ("another flow", vec![tcp(0, 100), other_port], vec![1, 1]),
            (
                "same options",
                vec![options(0, &[1, 1, 1, 1]), options(100, &[1, 1, 1, 1])],
                vec![2],
            ),
            (
                "other options",
                vec![options(0, &[1, 1, 1, 1]), options(100, &[1, 1, 1, 0])],
                vec![1, 1],
            ),
            (
                "another TOS",
                vec![tcp(0, 100), with(tcp(100, 100), 1, 4)],
                vec![1, 1],
            ),
            (
                "another TTL",
                vec![tcp(0, 100), with(tcp(100, 100), 8, 63)],
                vec![1, 1],
            ),
            (
                "another acknowledgement",
                vec![tcp(0, 100), with(tcp(100, 100), 30, 9)],
                vec![1, 1],
            ),
            (
                "another window",
                vec![tcp(0, 100), with(tcp(100, 100), 34, 9)],
                vec![1, 1],
            ),
            (
                "a fragment",
                vec![with(tcp(0, 100), 6, 0x20), tcp(100, 100)],
                vec![1, 1],
            ),
        ] {
            let written = writes(Coalescer::new(), &packets);
            assert_eq!(normal(&recut(written)), normal(&packets), "{what}");
            let counts: Vec<_> = writes(Coalescer::new(), &packets)
                .iter()
                .map(|(header, bytes)| {
                    let payload = bytes.len() - usize::from(header.hdr_len);
                    if header.gso_size == 0 {
                        1
                    } else {
                        payload.div_ceil(usize::from(header.gso_size))
                    }
                })
                .collect();
            assert_eq!(counts, expected, "{what}");
        }
        for (packets, what) in [
            ([spoiled(tcp(0, 100), 50), tcp(100, 100)], "payload"),
            ([tcp(0, 100), spoiled(tcp(100, 100), 139)], "payload"),
            ([tcp(0, 100), spoiled(tcp(100, 100), 10)], "IP checksum"),
        ] {
            let written = writes(Coalescer::new(), &packets);
            assert_eq!(written.len(), 2, "bad {what}");
            assert_eq!(recut(written), packets, "what is damaged stays as it is");
        }
    }

    #[test]
    fn identification_counts_only_where_it_matters() {
        let packet = |place, id, sequence| {
            let whole = tcp(sequence, 100);
            Ipv4 {
                place,
                id,
                ..Ipv4::new("10.0.0.1", "10.0.0.2", TCP)
            }
            .build(&whole[20..])
        };
        assert_eq!(
            groups(&[packet(0, 7, 0), packet(0, 8, 100), packet(0, 9, 200)]),
            [3]
        );
        assert_eq!(groups(&[packet(0, u16::MAX, 0), packet(0, 0, 100)]), [2]);
        assert_eq!(groups(&[packet(0, 7, 0), packet(0, 7, 100)]), [1, 1]);
        assert_eq!(
            groups(&[packet(DONT_FRAGMENT, 0, 0), packet(DONT_FRAGMENT, 0, 100)]),
            [2]
        );
        assert_eq!(
            groups(&[packet(DONT_FRAGMENT, 0, 0), packet(0, 0, 100)]),
            [1, 1]
        );
    }

    #[test]
    fn datagrams() {
        let udp = |length| packets::udp("[fd00::1]:1", "[fd00::2]:2", &vec![5; length]);
        let packets = [udp(100), udp(100), udp(7), udp(100)];
        assert_eq!(groups(&packets), [3, 1]);
        assert_eq!(recut(writes(Coalescer::new(), &packets)), packets);
        assert_eq!(writes(Coalescer::without_udp(), &packets).len(), 4);
        let mut unsummed = packets::udp("10.0.0.1:1", "10.0.0.2:2", &[5; 100]);
        unsummed[26..28].copy_from_slice(&[0, 0]);
        assert_eq!(
            writes(Coalescer::new(), &[unsummed.clone(), unsummed]).len(),
            2,
            "no checksum to rely on"
        );
    }

    #[test]
    fn groups_are_bounded() {
        let many: Vec<_> = (0..200).map(|n| tcp(n * 10, 10)).collect();
        assert_eq!(groups(&many), [64, 64, 64, 8]);
        let large: Vec<_> = (0..12).map(|n| tcp(n * 9000, 9000)).collect();
        assert_eq!(groups(&large), [7, 5]);
        assert!(
            writes(Coalescer::new(), &large)
                .iter()
                .all(|(_, bytes)| bytes.len() <= MAX_BYTES)
        );
    }

    #[test]
    fn nothing_is_allocated_after_the_start() {
        let mut coalescer = Coalescer::new();
        let capacity = coalescer.ranges.capacity();
        let packets: Vec<_> = (0..100).map(|n| tcp(n * 10, 10)).collect();
        let mut buf = packets.concat();
        for at in 0..packets.len() {
            let range = at * 50..(at + 1) * 50;
            if !coalescer.offer(&buf, range.clone()) {
                coalescer.finish(&mut buf);
                coalescer.offer(&buf, range);
            }
        }
        assert_eq!(coalescer.ranges.capacity(), capacity);
    }

    proptest! {
        #[test]
        fn cutting_undoes_gluing(
            steps in proptest::collection::vec((0usize..4, 1usize..3, any::<bool>(), 0u8..12), 1..100),
            v6: bool,
        ) {
            let (mut sequences, mut packets) = ([0u32; 4], Vec::new());
            for (flow, size, tcp, kind) in steps {
                let (from, to) = if v6 { ("[fd00::1]:1", format!("[fd00::2]:{flow}")) } else { ("10.0.0.1:1", format!("10.0.0.2:{flow}")) };
                let payload = vec![kind; size * 50];
                let flags = match kind { 0 => 0x11, 1 => 0x18, _ => 0x10 };
                packets.push(if tcp {
                    Tcp { sequence: sequences[flow], flags, payload: &payload, ..Tcp::default() }.build(from, &to)
                } else {
                    packets::udp(from, &to, &payload)
                });
                sequences[flow] += payload.len() as u32;
            }
            prop_assert_eq!(normal(&recut(writes(Coalescer::new(), &packets))), normal(&packets));
        }

        #[test]
        fn gluing_undoes_cutting(length in 1usize..60_000, size in 1000u16..9000, tcp: bool, v6: bool) {
            let payload = vec![9; length];
            let (from, to) = if v6 { ("[fd00::1]:1", "[fd00::2]:2") } else { ("10.0.0.1:1", "10.0.0.2:2") };
            let whole = if tcp { Tcp { payload: &payload, ..Tcp::default() }.build(from, to) } else { packets::udp(from, to, &payload) };
            let gso_type = if !tcp { GSO_UDP_L4 } else if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            let vnet = VnetHeader { gso_type, gso_size: size, ..VnetHeader::default() };
            let parts = recut(vec![(vnet, whole.clone())]);
            let written = writes(Coalescer::new(), &parts);
            prop_assert_eq!(written.len(), 1);
            let (header, mut bytes) = written.into_iter().next().unwrap();
            if header.gso_type == GSO_NONE {
                prop_assert_eq!(bytes, whole);
            } else {
                // All but the transport checksum, of which only the pseudo-header's part is there.
                let at = usize::from(header.csum_start + header.csum_offset);
                bytes[at..at + 2].copy_from_slice(&whole[at..at + 2]);
                prop_assert_eq!(bytes, whole);
            }
        }
    }
}
