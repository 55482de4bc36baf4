//! One function per parser of outside bytes: feeds it anything and asserts what must always hold.
//!
//! Called by the fuzz targets (`dataplane/fuzz`), by property tests, and by the test below with
//! every file of their corpus.

use crate::bytes::put;
use crate::checksum::Sum;
use crate::coalesce::Coalescer;
use crate::discard::Discard;
use crate::esp::{self, IPV4, OpenKey, SealKey};
use crate::gate::Gate;
use crate::http_head::Watch;
use crate::icmp;
use crate::if_t::{self, HEADER};
use crate::ip;
use crate::link::{FromEdge, Rule, Sa, Secret, Suite, ToEdge};
use crate::mss;
use crate::ncp::{self, Item, Malformed, Reader};
use crate::network::Network;
use crate::probe::{self, Probe};
use crate::segment::Segments;
use crate::vnet::{self, GSO_NONE, VnetHeader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const SUITES: [Suite; 6] = [
    Suite::Aes128CbcSha1,
    Suite::Aes256CbcSha1,
    Suite::Aes128CbcSha256,
    Suite::Aes256CbcSha256,
    Suite::Aes128Gcm,
    Suite::Aes256Gcm,
];

/// The first byte says where the rest is cut: the verdict must be the same as for the whole.
pub fn http_head(data: &[u8]) {
    let Some((size, data)) = data.split_first() else {
        return;
    };
    let whole = Watch::default().see(data);
    let mut watch = Watch::default();
    let cut = data
        .chunks(usize::from(*size).max(1))
        .try_for_each(|piece| watch.see(piece));
    assert_eq!(whole, cut);
}

/// The first byte chooses suite and extended sequence numbers. The rest is opened as a datagram,
/// which must fail, and sealed as a payload, which must come back.
pub fn esp(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let Some(suite) = SUITES.get(usize::from(choice & 7)) else {
        return;
    };
    let secret = Secret((0..64).collect());
    let sa = Sa {
        spi: 0x0a13_7da1,
        suite: *suite,
        esn: choice & 8 != 0,
        secret,
    };
    let mut opener = OpenKey::new(&sa).expect("64 bytes are enough for every suite");
    let refused = opener
        .open(&mut data.to_vec())
        .expect_err("nobody forges an ICV");
    assert!(
        matches!(
            refused,
            Discard::TooShort | Discard::BadLength | Discard::UnknownSpi | Discard::BadIcv
        ),
        "{refused:?}"
    );
    // Past the SPI, too.
    let mut addressed = data.to_vec();
    if let Some(spi) = addressed.first_chunk_mut() {
        *spi = sa.spi.to_be_bytes();
        assert_eq!(esp::spi(data).is_some(), esp::spi(&addressed).is_some());
        opener
            .open(&mut addressed)
            .expect_err("nobody forges an ICV");
    }
    let mut sealer = SealKey::new(&sa, [1; 32]).expect("64 bytes are enough for every suite");
    let headroom = sealer.headroom();
    let mut datagram = vec![0; sealer.sealed_len(data.len())];
    if let Some(place) = datagram.get_mut(headroom..headroom + data.len()) {
        place.copy_from_slice(data);
    }
    assert_eq!(
        sealer.seal(&mut datagram, data.len(), IPV4),
        Ok(datagram.len())
    );
    let mut again = datagram.clone();
    let opened = opener.open(&mut datagram).expect("sealed by the same keys");
    assert_eq!(datagram.get(opened.range), Some(data));
    assert_eq!(opener.open(&mut again), Err(Discard::Replayed));
}

const OWN4: [u8; 4] = [10, 88, 0, 10];
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 0x10);

fn gate() -> Gate {
    let rule = |allow, address: &[u8], prefix, protocol, port_low, port_high| Rule {
        allow,
        protocol,
        address: address.to_vec(),
        prefix,
        port_low,
        port_high,
        reserved: false,
    };
    let rules = [
        rule(false, &[10, 0, 0, 13], 32, None, 0, u16::MAX),
        rule(true, &[10, 0, 0, 0], 8, None, 0, u16::MAX),
        rule(true, &[0; 4], 0, Some(6), 80, 443),
        rule(true, &[0; 16], 0, Some(17), 53, 53),
    ];
    let reserved: Arc<[Network]> = Arc::from([Network::host(OWN6.into())]);
    Gate::new(Some(OWN4.into()), Some(OWN6), reserved, 1, &rules)
        .expect("the rules above are rules")
}

/// The bytes as an inner packet in both directions, as they are and with the session's own address
/// put in place so that they get further.
pub fn inner_packet(data: &[u8]) {
    judge(data);
    for at in [12, 16] {
        let mut own = data.to_vec();
        put(&mut own, at, OWN4);
        judge(&own);
    }
    for at in [8, 24] {
        let mut own = data.to_vec();
        put(&mut own, at, OWN6.octets());
        judge(&own);
    }
}

fn judge(data: &[u8]) {
    let parsed = ip::parse(data);
    if let Ok(header) = parsed {
        assert!(header.payload <= header.total && header.total <= data.len());
        assert_eq!(ip::destination(data), Ok(header.destination));
    }
    let mut gate = gate();
    let verdicts = [gate.outbound(data, 0), gate.inbound(data, 0)];
    // Remembering must not change what is decided.
    assert_eq!(verdicts, [gate.outbound(data, 1), gate.inbound(data, 1)]);
    for (verdict, outbound) in verdicts.into_iter().zip([true, false]) {
        let Ok(total) = verdict else { continue };
        let header = parsed.expect("what passes can be parsed");
        let (own, remote) = if outbound {
            (header.source, header.destination)
        } else {
            (header.destination, header.source)
        };
        assert_eq!(total, header.total);
        assert!(own == Ipv4Addr::from(OWN4) || own == OWN6);
        assert!(own != remote && ip::is_routable(remote));
        assert!(remote != Ipv4Addr::new(10, 0, 0, 13) || header.protocol == ip::ICMP);
    }
    let mut clamped = data.to_vec();
    mss::clamp(&mut clamped, 1400, false);
    assert_eq!(ip::parse(&clamped), parsed, "only a TCP option may change");
    let mut coalescer = Coalescer::new();
    let mut twice = [data, data].concat();
    assert!(coalescer.offer(&twice, 0..data.len()));
    let joined = coalescer.offer(&twice, data.len()..twice.len());
    let group = coalescer.finish(&mut twice).expect("something was offered");
    assert_eq!(group.ranges.len(), 1 + usize::from(joined));
}

/// The bytes as a packet that does not fit: what is said about it must be a packet that quotes it.
pub fn too_big(data: &[u8]) {
    let mut out = [0; icmp::LONGEST];
    let Some(length) = icmp::too_big(data, 1300, &mut out) else {
        return;
    };
    let message = out.get(..length).expect("a length within the message");
    let (about, header) = (
        ip::parse_quoted(data).expect("what is answered can be parsed"),
        ip::parse(message).expect("what comes out is a packet"),
    );
    assert_eq!(header.total, length);
    assert_eq!(
        (header.source, header.destination),
        (about.destination, about.source)
    );
    let body = message.get(header.payload..).unwrap_or_default();
    let sum = if header.source.is_ipv4() {
        Sum::default()
    } else {
        Sum::default().pseudo(
            header.source,
            header.destination,
            header.protocol,
            body.len(),
        )
    };
    assert!(sum.bytes(body).holds());
    let quote = body.get(8..).unwrap_or_default();
    assert!(data.starts_with(quote) && quote.len() >= about.payload.min(data.len()).min(548));
    // An error about an error does not exist.
    assert_eq!(icmp::too_big(message, 1300, &mut [0; icmp::LONGEST]), None);
}

/// The bytes as an ESP payload: what is a probe must be the one that would be written.
pub fn probe(data: &[u8]) {
    let Some(found) = probe::parse(data) else {
        return;
    };
    let mut written = data.to_vec();
    let mtu = match found {
        Probe::Plain => 0,
        Probe::Padded { mtu, length } => {
            assert_eq!(length, data.len());
            mtu
        }
    };
    probe::write(&mut written, mtu);
    assert_eq!(probe::parse(&written), Some(found));
    assert_eq!(
        written.get(..probe::PADDED_HEADER.min(data.len())),
        data.get(..probe::PADDED_HEADER.min(data.len()))
    );
    assert_eq!(ip::parse(data), Err(Discard::NotIp), "no packet is a probe");
}

/// The bytes as a stream of frames, read at once and byte by byte.
pub fn if_t(data: &[u8]) {
    const MAX_BODY: usize = 100;
    let mut at = 0;
    loop {
        let rest = data.get(at..).unwrap_or_default();
        match if_t::next_frame(rest, MAX_BODY) {
            Ok(Some((header, body))) => {
                assert_eq!((body.start, body.end), (HEADER, header.length as usize));
                assert!(
                    body.end <= rest.len() && body.len() <= MAX_BODY && header.vendor < 1 << 24
                );
                let encoded =
                    if_t::encode_header(header.vendor, header.kind, header.length, header.sequence);
                assert_eq!(
                    if_t::next_frame(rest.get(..body.end).unwrap_or_default(), MAX_BODY),
                    Ok(Some((header, body.clone())))
                );
                assert_eq!(
                    rest.get(1..HEADER),
                    encoded.get(1..),
                    "only the reserved byte may differ"
                );
                for cut in 0..body.end {
                    assert_eq!(
                        if_t::next_frame(rest.get(..cut).unwrap_or_default(), MAX_BODY),
                        Ok(None)
                    );
                }
                at += body.end;
            }
            Ok(None) => {
                assert!(rest.len() < HEADER + MAX_BODY);
                return;
            }
            Err(bad) => {
                assert!(
                    (bad.declared as usize) < HEADER || bad.declared as usize > HEADER + MAX_BODY
                );
                return;
            }
        }
    }
}

/// The first byte says where the rest is cut, as records of a client: what is read must be the same as
/// from the whole, and nothing may be lost.
pub fn ncp(data: &[u8]) {
    const MOST: usize = 100;
    let Some((size, data)) = data.split_first() else {
        return;
    };
    // Items with their bytes; bytes in which no packet begins come in any pieces.
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut held, mut got) = (Reader::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let from = held.len();
            held.extend_from_slice(piece);
            let end = match reader.strip(&mut held, from) {
                Ok(end) => end,
                Err(bad) => return (got, Some(bad)),
            };
            assert!(end <= held.len());
            held.truncate(end);
            loop {
                match reader.next(&held, MOST) {
                    Ok(Some((item, range))) => {
                        assert!(item == Item::Unreadable || range.len() <= MOST);
                        let body = held.get(range.clone()).expect("a range of what is held");
                        if item == Item::Unreadable {
                            got.extend(body.iter().map(|byte| (item, vec![*byte])));
                        } else {
                            got.push((item, body.to_vec()));
                        }
                        held.drain(..range.end);
                    }
                    Ok(None) => break,
                    Err(bad) => return (got, Some(bad)),
                }
            }
            assert!(held.len() < 20 + MOST, "a bound on what is held");
        }
        (got, None)
    };
    let (whole, bad) = read(&mut std::iter::once(data));
    let (cut, cut_bad) = read(&mut data.chunks(usize::from(*size).max(1)));
    if bad == Some(Malformed::EmptyRecord) || cut_bad == Some(Malformed::EmptyRecord) {
        // Noticed while more is taken in, before what stands in front of it has been read.
        assert!(cut.starts_with(&whole));
    } else {
        assert_eq!((whole, bad), (cut, cut_bad));
    }
    if let Ok(Some((name, end))) = ncp::host(data) {
        assert!(name.end <= end && end <= data.len() && name.len() <= 255);
    }
    for (kind, payload) in [(303, data), (302, data)] {
        let _ = ncp::says_esp(kind, payload);
    }
    let records = ncp::records(303, data, 30).expect("short enough for a client");
    assert!(records.iter().all(|record| record.len() <= 30));
    let joined = records.concat();
    if data.len() <= MOST {
        let (again, bad) = read(&mut joined.chunks(7));
        assert_eq!(
            (again, bad),
            (vec![(Item::Message { kind: 303 }, data.to_vec())], None)
        );
    }
}

/// The bytes as a record of the edge link, in both directions.
pub fn link(data: &[u8]) {
    fn roundtrip<
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    >(
        data: &[u8],
    ) {
        let Ok(message) = rmp_serde::from_slice::<T>(data) else {
            return;
        };
        let encoded = rmp_serde::to_vec_named(&message).expect("what was decoded can be encoded");
        assert_eq!(
            rmp_serde::from_slice::<T>(&encoded).expect("our own encoding"),
            message
        );
    }
    roundtrip::<ToEdge>(data);
    roundtrip::<FromEdge>(data);
}

/// Ten bytes of virtio-net header, then the packet.
pub fn vnet(data: &[u8]) {
    let Some(header) = VnetHeader::parse(data) else {
        return;
    };
    assert_eq!(data.first_chunk(), Some(&header.encode()));
    let mut packet = data.get(vnet::LEN..).unwrap_or_default().to_vec();
    let length = packet.len();
    let Ok(segments) = Segments::new(&header, &mut packet) else {
        return;
    };
    assert!(segments.count() >= 1 && segments.count() <= length);
    let mut out = vec![0; length];
    for index in 0..segments.count() {
        let written = segments.write(index, &mut out);
        assert!(written == segments.len_of(index) && written > 0 && written <= length);
        let part = out.get(..written).unwrap_or_default();
        let ip = ip::parse(part).expect("what comes out is a packet");
        assert_eq!(ip.total, written);
        if header.gso_type == GSO_NONE {
            continue; // complete as the kernel said, which may be nonsense
        }
        let transport = part.get(ip.payload..).unwrap_or_default();
        let sum = Sum::default().pseudo(ip.source, ip.destination, ip.protocol, transport.len());
        assert!(sum.bytes(transport).holds());
        assert!(
            ip.source.is_ipv6()
                || Sum::default()
                    .bytes(part.get(..ip.payload).unwrap_or_default())
                    .holds()
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;
    use std::path::Path;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 9] = [
        ("http_head", super::http_head),
        ("esp", super::esp),
        ("if_t", super::if_t),
        ("inner_packet", super::inner_packet),
        ("link", super::link),
        ("ncp", super::ncp),
        ("probe", super::probe),
        ("too_big", super::too_big),
        ("vnet", super::vnet),
    ];

    #[test]
    fn every_file_of_the_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let files = std::fs::read_dir(corpus.join(name))
                .unwrap_or_else(|error| panic!("corpus of {name}: {error}"));
            let mut count = 0;
            for file in files {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "no corpus for {name}");
        }
    }

    proptest! {
        #[test]
        fn any_record_of_the_link_is_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::link(&bytes);
        }
    }
}
