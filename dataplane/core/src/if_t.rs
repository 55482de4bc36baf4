//! Framing of IF-T/TLS messages: a 16-byte header, then the body.
//!
//! Vendor, type, total length, sender's sequence number, 32 bits each in network order. The
//! vendor's top byte is reserved: ignored on receipt, 0 on sending.

use crate::bytes::field32;
use std::ops::Range;

/// Bytes of the header.
pub const HEADER: usize = 16;

/// The header of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// 24-bit IANA enterprise number.
    pub vendor: u32,
    pub kind: u32,
    /// Bytes of header and body.
    pub length: u32,
    pub sequence: u32,
}

/// The peer declared a length that is no frame's. The stream cannot be resynchronised: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength {
    pub kind: u32,
    pub declared: u32,
}

impl std::fmt::Display for BadLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "IF-T frame type {:#x} declares {} bytes",
            self.kind, self.declared
        )
    }
}

impl std::error::Error for BadLength {}

/// The header of a message of `total` bytes, header included.
pub fn encode_header(vendor: u32, kind: u32, total: u32, sequence: u32) -> [u8; HEADER] {
    let words = [vendor & 0x00ff_ffff, kind, total, sequence];
    let mut header = [0; HEADER];
    for (place, word) in header.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    header
}

/// The first frame of `buf` and the range of its body; the next frame starts where that range ends.
///
/// `max_body`: bytes a body may have; judged before the body is waited for, so a peer cannot
/// choose how much is held. `None`: feed more bytes.
pub fn next_frame(
    buf: &[u8],
    max_body: usize,
) -> Result<Option<(FrameHeader, Range<usize>)>, BadLength> {
    let (Ok(vendor), Ok(kind), Ok(length), Ok(sequence)) = (
        field32(buf, 0),
        field32(buf, 4),
        field32(buf, 8),
        field32(buf, 12),
    ) else {
        return Ok(None);
    };
    let end = length as usize;
    if end < HEADER || end - HEADER > max_body {
        return Err(BadLength {
            kind,
            declared: length,
        });
    }
    if buf.len() < end {
        return Ok(None);
    }
    Ok(Some((
        FrameHeader {
            vendor: vendor & 0x00ff_ffff,
            kind,
            length,
            sequence,
        },
        HEADER..end,
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_as_openconnect_sends_it() {
        let wire = [0, 0, 0x0a, 0x4c, 0, 0, 0, 4, 0, 0, 0, 0x10, 0, 0, 0, 9];
        assert_eq!(
            encode_header(0xff00_0a4c, 4, 16, 9),
            wire,
            "the reserved byte goes out as 0"
        );
        let header = FrameHeader {
            vendor: 0xa4c,
            kind: 4,
            length: 16,
            sequence: 9,
        };
        assert_eq!(next_frame(&wire, 0), Ok(Some((header, 16..16))));
        let mut reserved = wire;
        reserved[0] = 0x55;
        assert_eq!(
            next_frame(&reserved, 0),
            Ok(Some((header, 16..16))),
            "and is ignored on receipt"
        );
    }

    #[test]
    fn impossible_lengths_are_refused_at_once() {
        for declared in [0, 15, 117, u32::MAX] {
            let header = encode_header(0xa4c, 4, declared, 0);
            assert_eq!(
                next_frame(&header, 100),
                Err(BadLength { kind: 4, declared })
            );
        }
        assert_eq!(next_frame(&encode_header(0xa4c, 4, 116, 0), 100), Ok(None));
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_stream_is_cut(
            sent in proptest::collection::vec((0u32..1 << 24, any::<u32>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..64)), 0..12),
            size in 1usize..40,
        ) {
            let mut wire = Vec::new();
            for (vendor, kind, sequence, body) in &sent {
                wire.extend_from_slice(&encode_header(*vendor, *kind, (HEADER + body.len()) as u32, *sequence));
                wire.extend_from_slice(body);
            }
            let (mut held, mut got) = (Vec::new(), Vec::new());
            for piece in wire.chunks(size) {
                held.extend_from_slice(piece);
                while let Some((header, body)) = next_frame(&held, 64).unwrap() {
                    got.push((header.vendor, header.kind, header.sequence, held[body.clone()].to_vec()));
                    held.drain(..body.end);
                }
            }
            prop_assert!(held.is_empty());
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn any_bytes_are_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            crate::fuzz::if_t(&bytes);
        }
    }
}
