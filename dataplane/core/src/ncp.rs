//! Framing of Network Connect ("oNCP"): KMP messages in records, in the plaintext of TLS.
//!
//! A record is its length, 16 bits little-endian, and that many bytes. Records only cut the stream:
//! their contents in a row are KMP messages, so a message may span records and a record may hold
//! several. A KMP message is a header of 20 bytes (six zeros, type, ten constant bytes, length of the
//! payload, big-endian) and its payload. The payload of a [`DATA`] message is whole IP packets back to
//! back. Before all this the client's first record says its host name, in a form of its own.

use crate::bytes::{field, field16, field32, put};
use std::ops::Range;

/// Bytes of a record's length word.
const WORD: usize = 2;
/// Bytes of a KMP header.
const HEADER: usize = 20;
/// Bytes in front of an inner packet that has message and record to itself.
pub const DATA_HEADER: usize = WORD + HEADER;
/// Longest payload the client takes.
pub const MAX_PAYLOAD: usize = 65533;

/// Type of messages with inner packets.
pub const DATA: u16 = 300;
/// Type of the message with the configuration.
pub const CONFIGURATION: u16 = 301;
/// Type of messages in which a client says its MTU or whether it uses ESP.
const OPTIONS: u16 = 303;

/// The record with which a gateway lets a client in.
pub const STATUS: [u8; 3] = [1, 0, 0];

/// Longest host name a client may say; DNS has none longer than 253.
const MAX_HOST: usize = 255;
/// What stands in front of its length, and how many bytes behind it (the port and zeros).
const HOST_START: [u8; 5] = [0, 4, 0, 0, 0];
const HOST_END: usize = 6;

/// The peer broke the framing. The stream cannot be resynchronised: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A record without contents: only a gateway ends a session so.
    EmptyRecord,
    /// No KMP header where one must be.
    NoHeader,
    /// A message declares more than it may have.
    TooLong,
    /// The first record does not say a host name.
    NoHost,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EmptyRecord => "a record is empty",
            Self::NoHeader => "a KMP header is none",
            Self::TooLong => "a KMP message is too long",
            Self::NoHost => "the first record says no host name",
        })
    }
}

impl std::error::Error for Malformed {}

/// Something a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// One inner packet, as long as its own header says.
    Packet,
    /// A message of another type than [`DATA`].
    Message { kind: u16 },
    /// Part of a data message that cannot be cut into packets, or none at all.
    Unreadable,
}

/// Where the stream is within a data message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    /// So many bytes of packets are still to come.
    Packets(usize),
    /// So many bytes in which no packet begins.
    Unreadable(usize),
}

/// Reads one direction of a stream: first [`strip`](Self::strip) what was received, then ask for
/// the [`next`](Self::next) item until there is none.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Bytes of the current record still to come.
    left: usize,
    /// First byte of a length word that has been cut in two.
    half: Option<u8>,
    within: Within,
}

impl Reader {
    /// Takes the length words out of what was received: the bytes of `buf` from `from` on. Contents
    /// move together; returns where they end.
    pub fn strip(&mut self, buf: &mut [u8], from: usize) -> Result<usize, Malformed> {
        let (mut at, mut end) = (from, from);
        while let Some(byte) = buf.get(at).copied() {
            if self.left > 0 {
                let count = self.left.min(buf.len() - at);
                buf.copy_within(at..at + count, end);
                self.left -= count;
                at += count;
                end += count;
                continue;
            }
            at += 1;
            match self.half.take() {
                None => self.half = Some(byte),
                Some(low) => {
                    self.left = usize::from(u16::from_le_bytes([low, byte]));
                    if self.left == 0 {
                        return Err(Malformed::EmptyRecord);
                    }
                }
            }
        }
        Ok(end)
    }

    /// The first item of stripped bytes, and the range of its packet or payload; the next item starts
    /// where that range ends. `None`: feed more bytes.
    ///
    /// `most`: bytes a payload or packet may have; judged before it is waited for, so that a peer
    /// cannot choose how much is held.
    #[inline]
    pub fn next(
        &mut self,
        buf: &[u8],
        most: usize,
    ) -> Result<Option<(Item, Range<usize>)>, Malformed> {
        match self.within {
            Within::Nothing => {}
            Within::Packets(left) => return Ok(self.packet(buf, 0, left, most)),
            Within::Unreadable(left) => return Ok(self.unreadable(buf, 0, left)),
        }
        let (Ok(zeros), Ok(kind), Ok(length)) =
            (field::<6>(buf, 0), field16(buf, 6), field16(buf, 18))
        else {
            return Ok(None);
        };
        if zeros != [0; 6] {
            return Err(Malformed::NoHeader);
        }
        let length = usize::from(length);
        if kind == DATA {
            return Ok(self.packet(buf, HEADER, length, most));
        }
        if length > most {
            return Err(Malformed::TooLong);
        }
        let body = HEADER..HEADER + length;
        Ok((buf.len() >= body.end).then_some((Item::Message { kind }, body)))
    }

    /// The packet that starts at `at`, where `left` bytes of its message are still to come.
    #[inline]
    fn packet(
        &mut self,
        buf: &[u8],
        at: usize,
        left: usize,
        most: usize,
    ) -> Option<(Item, Range<usize>)> {
        let rest = buf.get(at..).unwrap_or_default();
        let length = match rest.first().map(|first| first >> 4) {
            None if left > 0 => return None,
            Some(4) if left >= 20 => usize::from(field16(rest, 2).ok()?),
            Some(6) if left >= 40 => 40 + usize::from(field16(rest, 4).ok()?),
            _ => 0,
        };
        if length == 0 || length > left.min(most) {
            return self.unreadable(buf, at, left);
        }
        if rest.len() < length {
            return None;
        }
        self.within = match left - length {
            0 => Within::Nothing,
            left => Within::Packets(left),
        };
        Some((Item::Packet, at..at + length))
    }

    /// What is there of the `left` bytes at `at`.
    fn unreadable(&mut self, buf: &[u8], at: usize, left: usize) -> Option<(Item, Range<usize>)> {
        let count = left.min(buf.len().saturating_sub(at));
        if count == 0 && left > 0 {
            return None;
        }
        self.within = match left - count {
            0 => Within::Nothing,
            left => Within::Unreadable(left),
        };
        Some((Item::Unreadable, at..at + count))
    }
}

/// The host name in a client's first record, from stripped bytes: its range, and where the record
/// ends. `None`: feed more bytes.
pub fn host(buf: &[u8]) -> Result<Option<(Range<usize>, usize)>, Malformed> {
    let start = buf
        .get(..HOST_START.len().min(buf.len()))
        .unwrap_or_default();
    if !HOST_START.starts_with(start) {
        return Err(Malformed::NoHost);
    }
    let Ok(length) = field(buf, HOST_START.len()) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_le_bytes(length));
    if length > MAX_HOST {
        return Err(Malformed::NoHost);
    }
    let start = HOST_START.len() + WORD;
    let end = start + length + HOST_END;
    Ok((buf.len() >= end).then_some((start..start + length, end)))
}

/// The header of a message from a gateway.
fn header(kind: u16, length: u16) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let fields = [(6, kind), (8, 0x0100), (18, length)];
    for (at, value) in fields {
        put(&mut header, at, value.to_be_bytes());
    }
    header
}

/// What stands in front of an inner packet of `length` bytes, at most 65515, in a record of its own.
#[inline]
pub fn data_header(length: u16) -> [u8; DATA_HEADER] {
    let mut wire = [0; DATA_HEADER];
    put(
        &mut wire,
        0,
        length.saturating_add(HEADER as u16).to_le_bytes(),
    );
    put(&mut wire, WORD, header(DATA, length));
    wire
}

/// A message as records of at most `most` bytes each, length words included; `None` when the client
/// would not take it.
///
/// openconnect 9.01 wants each record in a TLS record of its own.
pub fn records(kind: u16, payload: &[u8], most: usize) -> Option<Vec<Vec<u8>>> {
    let length = u16::try_from(payload.len()).ok()?;
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let mut message = header(kind, length).to_vec();
    message.extend_from_slice(payload);
    let contents = most.min(WORD + usize::from(u16::MAX)).checked_sub(WORD)?;
    let record = |contents: &[u8]| {
        let mut record = (contents.len() as u16).to_le_bytes().to_vec();
        record.extend_from_slice(contents);
        record
    };
    Some(message.chunks(contents.max(1)).map(record).collect())
}

/// The record that ends a session; `reason`: 1 is for expired, 8 for idle.
pub fn end(reason: u8) -> [u8; 3] {
    [0, 0, reason]
}

/// Whether a client says with a message that it uses ESP (group 6, attribute 1).
pub fn says_esp(kind: u16, payload: &[u8]) -> Option<bool> {
    if kind != OPTIONS {
        return None;
    }
    match elements(payload)
        .filter(|(group, _)| *group == 6)
        .flat_map(|(_, attributes)| elements(attributes))
        .filter(|(attribute, _)| *attribute == 1)
        .last()?
    {
        (_, [0]) => Some(false),
        (_, [1]) => Some(true),
        _ => None,
    }
}

/// Number and contents of each group, or each attribute of a group: 16 bits, 32 bits of length,
/// contents. Ends before the first that is not whole.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let number = field16(bytes, 0).ok()?;
        let length = field32(bytes, 2).ok()? as usize;
        let (contents, rest) = bytes.get(6..)?.split_at_checked(length)?;
        bytes = rest;
        Some((number, contents))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 16_384;

    /// What a stream of records amounts to; bytes without a packet that follow each other are one.
    type Read = Result<Vec<(Item, Vec<u8>)>, Malformed>;

    /// Reads a stream that comes in these pieces.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, most: usize) -> Read {
        let (mut reader, mut held, mut got) = (Reader::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let from = held.len();
            held.extend_from_slice(piece);
            let end = reader.strip(&mut held, from)?;
            held.truncate(end);
            while let Some((item, range)) = reader.next(&held, most)? {
                let body = held[range.clone()].to_vec();
                held.drain(..range.end);
                match got.last_mut() {
                    Some((Item::Unreadable, former)) if item == Item::Unreadable => {
                        Vec::extend(former, body);
                    }
                    _ => got.push((item, body)),
                }
            }
        }
        Ok(got)
    }

    /// The reading must not depend on how the stream is cut.
    fn read_all(wire: &[u8]) -> Read {
        let whole = read([wire], MOST);
        assert_eq!(read(wire.chunks(1), MOST), whole);
        for at in 0..wire.len() {
            let (first, second) = wire.split_at(at);
            assert_eq!(read([first, second], MOST), whole, "cut at {at}");
        }
        whole
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    /// A message of a client.
    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut wire = header(kind, payload.len() as u16);
        wire[12] = 1;
        [&wire, payload].concat()
    }

    fn record(contents: &[u8]) -> Vec<u8> {
        [&(contents.len() as u16).to_le_bytes(), contents].concat()
    }

    /// An IPv4 packet of `length` bytes.
    fn packet(length: usize) -> Vec<u8> {
        let mut packet = vec![7; length];
        packet[0] = 0x45;
        put(&mut packet, 2, (length as u16).to_be_bytes());
        packet
    }

    // What openconnect 9.01 and a gateway were seen to say.
    const HOST: &str = "14 00 00 04 00 00 00 07 00 6c 61 70 74 6f 70 31 bb 01 00 00 00 00";
    const ANSWER: &str = "
        8e 00 00 00 00 00 00 00 01 2f 01 00 00 00 01 00 00 00 00 00 00 10 00 06 00 00 00 0a 00 02 00 00
        00 04 00 00 05 78 00 00 00 00 00 00 01 2e 01 00 00 00 01 00 00 00 00 00 00 56 00 07 00 00 00 50
        00 01 00 00 00 04 13 b4 9b 5c 00 02 00 00 00 40 ec 7c 66 77 fc 09 2c 26 8b 0e 4e bf 50 92 7c fe
        fc bd e7 2f 1b 8b 5c aa da 72 7d 17 57 9e b7 7f 07 7c db e9 59 86 3d ae ae 1d 9f 7b e0 92 33 42
        08 2d 8b b8 00 00 00 00 00 00 00 00 00 00 00 00";
    const ESP_ON: &str = "
        21 00 00 00 00 00 00 00 01 2f 01 00 00 00 01 00 00 00 00 00 00 0d 00 06 00 00 00 07 00 01 00 00
        00 01 01";
    const PACKET_UP: &str = "
        38 00 00 00 00 00 00 00 01 2c 01 00 00 00 01 00 00 00 00 00 00 24 45 00 00 24 24 c5 40 00 40 01
        00 65 0a 58 00 0a 0a 4d 01 01 08 00 a4 aa 47 44 00 01 00 01 02 03 04 05 06 07";
    const PACKET_DOWN: &str = "
        38 00 00 00 00 00 00 00 01 2c 01 00 00 00 00 00 00 00 00 00 00 24 45 00 00 24 24 c5 40 00 40 01
        00 65 0a 4d 01 01 0a 58 00 0a 00 00 ac aa 47 44 00 01 00 01 02 03 04 05 06 07";

    #[test]
    fn the_host_name_comes_first() {
        let wire = bytes(HOST);
        for cut in 0..=wire.len() {
            let mut reader = Reader::default();
            let mut held = wire.clone();
            let first = reader.strip(&mut held[..cut], 0).unwrap();
            if cut < wire.len() {
                assert_eq!(host(&held[..first]), Ok(None));
            }
            held.copy_within(cut.., first);
            let end = first + wire.len() - cut;
            let end = reader.strip(&mut held[..end], first).unwrap();
            assert_eq!(host(&held[..end]), Ok(Some((7..14, 20))));
            assert_eq!(held[7..14], *b"laptop1");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused_before_it_is_waited_for() {
        for wire in ["01", "00 04 00 00 01", "00 04 00 00 00 00 01"] {
            assert_eq!(host(&bytes(wire)), Err(Malformed::NoHost), "{wire}");
        }
        let mut long = bytes("00 04 00 00 00 ff 00");
        assert_eq!(host(&long), Ok(None));
        long.extend([b'a'; 255 + HOST_END]);
        assert_eq!(host(&long), Ok(Some((7..262, 268))));
    }

    #[test]
    fn the_conversation_that_was_seen_is_understood_however_it_is_cut() {
        let wire = [ANSWER, ESP_ON, PACKET_UP].map(bytes).concat();
        let got = read_all(&wire).unwrap();
        let expected = [
            (Item::Message { kind: 303 }, 22, 16),
            (Item::Message { kind: 302 }, 58, 86),
            (Item::Message { kind: 303 }, 144 + 22, 13),
            (Item::Packet, 144 + 35 + 22, 36),
        ]
        .map(|(item, at, length)| (item, wire[at..at + length].to_vec()));
        assert_eq!(got, expected);
    }

    #[test]
    fn records_cut_the_stream_anywhere() {
        let packets = [packet(20), packet(100), packet(21)];
        let stream = [
            message(300, &packets.concat()),
            message(300, &[]),
            message(303, b"options"),
            message(300, &packets[1]),
        ]
        .concat();
        let expected = vec![
            (Item::Packet, packets[0].clone()),
            (Item::Packet, packets[1].clone()),
            (Item::Packet, packets[2].clone()),
            (Item::Unreadable, vec![]),
            (Item::Message { kind: 303 }, b"options".to_vec()),
            (Item::Packet, packets[1].clone()),
        ];
        for size in 1..=stream.len() {
            let wire: Vec<u8> = stream.chunks(size).flat_map(record).collect();
            assert_eq!(read([&wire[..]], MOST).as_ref(), Ok(&expected), "{size}");
        }
        let wire: Vec<u8> = stream.chunks(50).flat_map(record).collect();
        assert_eq!(read_all(&wire), Ok(expected));
    }

    #[test]
    fn what_is_no_packet_spoils_its_own_message_only() {
        let good = packet(40);
        let mut long = packet(40);
        put(&mut long, 2, 41u16.to_be_bytes());
        let mut six = vec![0; 60];
        six[0] = 0x60;
        put(&mut six, 4, 20u16.to_be_bytes());
        for (first, rest) in [
            (&good, b"no packet at all, but some text".to_vec()),
            (&good, vec![0x45, 0, 0]),
            (&good, vec![0; 40]),
            (&six, long),
        ] {
            let wire = [
                message(300, &[&first[..], &rest].concat()),
                message(300, &good),
            ]
            .concat();
            let expected = vec![
                (Item::Packet, first.clone()),
                (Item::Unreadable, rest),
                (Item::Packet, good.clone()),
            ];
            assert_eq!(read_all(&record(&wire)), Ok(expected));
        }
    }

    #[test]
    fn a_peer_does_not_choose_how_much_is_held() {
        let huge = message(303, &[0; MOST + 1]);
        assert_eq!(
            read([&record(&huge[..HEADER])[..]], MOST),
            Err(Malformed::TooLong)
        );
        let huge = message(300, &packet(MOST + 1));
        let got = read(record(&huge).chunks(1000), MOST).unwrap();
        assert_eq!(got, [(Item::Unreadable, packet(MOST + 1))]);
        for (wire, wrong) in [
            ("00 00", Malformed::EmptyRecord),
            ("01 00 00 00 00", Malformed::EmptyRecord),
            (
                "14 00 00 00 00 00 00 01 01 2c 01 00 00 00 01 00 00 00 00 00 00 24",
                Malformed::NoHeader,
            ),
        ] {
            assert_eq!(read_all(&bytes(wire)), Err(wrong), "{wire}");
        }
    }

    #[test]
    fn packets_and_messages_are_written_as_they_were_seen() {
        let seen = bytes(PACKET_DOWN);
        assert_eq!(data_header(36)[..], seen[..DATA_HEADER]);
        assert_eq!(
            records(DATA, &seen[DATA_HEADER..], MOST),
            Some(vec![seen.clone()])
        );
        // The first 28 bytes of the configuration; its payload has 0x12f bytes.
        let written = records(CONFIGURATION, &[6; 0x12f], MOST).unwrap();
        let [record] = &written[..] else {
            unreachable!("one record is enough")
        };
        let start = bytes("43 01 00 00 00 00 00 00 01 2d 01 00 00 00 00 00 00 00 00 00 01 2f 06");
        assert!(record.starts_with(&start));
        assert_eq!(record.len(), 325);
        assert_eq!(end(8), [0, 0, 8]);
    }

    #[test]
    fn long_messages_go_on_in_further_records() {
        let payload: Vec<u8> = (0..40_000u32).map(|at| at as u8).collect();
        let written = records(CONFIGURATION, &payload, MOST).unwrap();
        let lengths: Vec<usize> = written.iter().map(Vec::len).collect();
        assert_eq!(lengths, [MOST, MOST, 40_020 - 2 * (MOST - 2) + 2]);
        let got = read([&written.concat()[..]], usize::MAX).unwrap();
        assert_eq!(
            got,
            [(
                Item::Message {
                    kind: CONFIGURATION
                },
                payload
            )]
        );
        assert!(records(CONFIGURATION, &[0; MAX_PAYLOAD], MOST).is_some());
        assert!(records(CONFIGURATION, &[0; MAX_PAYLOAD + 1], MOST).is_none());
        assert!(records(CONFIGURATION, &[0; 1 << 17], MOST).is_none());
    }

    #[test]
    fn a_client_says_whether_it_uses_esp() {
        let on = bytes("00 06 00 00 00 07 00 01 00 00 00 01 01");
        let off = bytes("00 06 00 00 00 07 00 01 00 00 00 01 00");
        assert_eq!(says_esp(303, &on), Some(true));
        assert_eq!(says_esp(303, &off), Some(false));
        assert_eq!(says_esp(303, &[&on[..], &off].concat()), Some(false));
        assert_eq!(says_esp(302, &on), None);
        for other in [
            "00 06 00 00 00 0a 00 02 00 00 00 04 00 00 05 78",
            "00 06 00 00 00 07 00 01 00 00 00 01 02",
            "00 06 00 00 00 08 00 01 00 00 00 02 00 01",
            "00 07 00 00 00 07 00 01 00 00 00 01 01",
            "00 06 00 00 00 08 00 01 00 00 00 01 01",
            "00 06 ff ff ff ff 00 01",
            "",
        ] {
            assert_eq!(says_esp(303, &bytes(other)), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::ncp(&bytes);
        }
    }
}
