//! Bytes of the protocol, client side: IF-T frames, EAP packets and attribute-value pairs.
//!
//! Written apart from the gateway's own parsers, so that a mistake there is not repeated here.
//! No I/O. Integers are big-endian.

/// IANA enterprise number of the Trusted Computing Group: version and authentication frames.
pub const VENDOR_TCG: u32 = 0x5597;
/// Enterprise number of the vendor frames: configuration, data and control.
pub const VENDOR_A4C: u32 = 0x0a4c;

/// First word of every authentication frame (vendor a4c, type 1).
pub const AUTH_TYPE: [u8; 4] = [0x00, 0x0a, 0x4c, 0x01];

/// Bytes of the IF-T header: vendor, type, length, sequence number.
pub const HEADER: usize = 16;
/// Largest frame taken from a gateway; its frames fit one TLS record each, data may be joined.
pub const MAX_FRAME: usize = 64 * 1024;

/// The other side sent something the protocol does not allow.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// One IF-T message without its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub vendor: u32,
    pub kind: u32,
    pub body: Vec<u8>,
}

/// Numbers and encodes the frames of one connection.
#[derive(Debug, Default)]
pub struct FrameWriter {
    sequence: u32,
}

impl FrameWriter {
    /// A whole frame, to be written in one piece: the gateway may take a TLS record for a frame.
    pub fn encode(&mut self, vendor: u32, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(HEADER + body.len());
        for word in [vendor, kind, length, self.sequence] {
            frame.extend_from_slice(&word.to_be_bytes());
        }
        frame.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        frame
    }
}

/// Cuts the byte stream from the gateway into frames, however it arrives.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
}

impl FrameReader {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None`: feed more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let mut words = Words(&self.buffer);
        let (Some(vendor), Some(kind), Some(length), Some(_)) =
            (words.u32(), words.u32(), words.u32(), words.u32())
        else {
            return Ok(None);
        };
        let length = length as usize;
        if !(HEADER..=MAX_FRAME).contains(&length) {
            return Err(Malformed("IF-T frame with an impossible length"));
        }
        let Some(body) = self.buffer.get(HEADER..length) else {
            return Ok(None);
        };
        let body = body.to_vec();
        self.buffer.drain(..length);
        Ok(Some(Frame {
            vendor: vendor & 0x00ff_ffff,
            kind,
            body,
        }))
    }
}

/// Reads big-endian integers from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

/// EAP codes (RFC 3748, section 4).
pub const EAP_REQUEST: u8 = 1;
pub const EAP_RESPONSE: u8 = 2;
pub const EAP_SUCCESS: u8 = 3;
/// EAP types: Identity and GTC (RFC 3748, section 5), Expanded.
pub const EAP_IDENTITY: u8 = 1;
pub const EAP_GTC: u8 = 6;
pub const EAP_EXPANDED: u8 = 254;

/// Subtypes of vendor a4c: attribute list, password.
pub const SUB_AVPS: u32 = 1;
pub const SUB_PASSWORD: u32 = 2;

/// What an EAP packet carries after code, identifier and length.
#[derive(Debug, PartialEq, Eq)]
pub enum Eap<'a> {
    /// Type Expanded of vendor a4c with this subtype.
    Expanded {
        subtype: u32,
        data: &'a [u8],
    },
    Plain {
        kind: u8,
        data: &'a [u8],
    },
    /// Success and failure carry nothing.
    Bare,
}

/// Reads one EAP packet: its code, identifier and content. Bytes after its length are ignored.
pub fn parse_eap(bytes: &[u8]) -> Result<(u8, u8, Eap<'_>), Malformed> {
    let short = Malformed("EAP packet shorter than it declares");
    let mut words = Words(bytes);
    let (Some(code), Some(id), Some(length)) = (words.u8(), words.u8(), words.u16()) else {
        return Err(short);
    };
    let Some(body) = usize::from(length)
        .checked_sub(4)
        .and_then(|count| words.take(count))
    else {
        return Err(short);
    };
    let mut words = Words(body);
    let content = match words.u8() {
        None => Eap::Bare,
        Some(EAP_EXPANDED) => match (words.array::<3>(), words.u32()) {
            (Some([0x00, 0x0a, 0x4c]), Some(subtype)) => Eap::Expanded {
                subtype,
                data: words.0,
            },
            _ => return Err(Malformed("expanded EAP packet of an unknown vendor")),
        },
        Some(kind) => Eap::Plain {
            kind,
            data: words.0,
        },
    };
    Ok((code, id, content))
}

/// An EAP packet of a plain type.
pub fn eap(code: u8, id: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(5 + data.len()).unwrap_or(u16::MAX);
    let mut packet = vec![code, id];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.push(kind);
    packet.extend_from_slice(data);
    packet
}

/// An EAP packet of type Expanded, vendor a4c.
pub fn eap_expanded(code: u8, id: u8, subtype: u32, data: &[u8]) -> Vec<u8> {
    let mut body = vec![0x00, 0x0a, 0x4c];
    body.extend_from_slice(&subtype.to_be_bytes());
    body.extend_from_slice(data);
    eap(code, id, EAP_EXPANDED, &body)
}

/// Vendor word of the attributes below.
const AVP_VENDOR: u32 = 0x583;
/// Attribute 79, EAP-Message (RFC 5281): without a vendor word.
pub const AVP_EAP: u32 = 79;
pub const AVP_REALM_NAME: u32 = 0xd4e;
pub const AVP_REALM_ENTRY: u32 = 0xd4f;
pub const AVP_REALM_ANSWER: u32 = 0xd50;
pub const AVP_COOKIE: u32 = 0xd53;
pub const AVP_FAILURE: u32 = 0xd60;
pub const AVP_SESSION: u32 = 0xd65;
pub const AVP_USER: u32 = 0xd6d;
pub const AVP_AGENT: u32 = 0xd70;
pub const AVP_PROMPT: u32 = 0xd73;
pub const AVP_NOTICE: u32 = 0xd7b;
pub const AVP_NOTICE_OK: u32 = 0xd7c;

/// Reads a list of attributes as (code, data). Attributes without the vendor word keep their code;
/// the vendor's codes do not collide with them.
pub fn parse_avps(bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, Malformed> {
    let broken = Malformed("attribute that does not fit its packet");
    let mut words = Words(bytes);
    let mut found = Vec::new();
    while !words.0.is_empty() {
        let (Some(code), Some(flags_length)) = (words.u32(), words.u32()) else {
            return Err(broken);
        };
        let length = (flags_length & 0x00ff_ffff) as usize;
        let vendor = flags_length & 0x8000_0000 != 0;
        let head = if vendor { 12 } else { 8 };
        if vendor && words.u32() != Some(AVP_VENDOR) {
            return Err(Malformed("attribute of an unknown vendor"));
        }
        let Some(data) = length.checked_sub(head).and_then(|count| words.take(count)) else {
            return Err(broken);
        };
        found.push((code, data));
        // The last pad may be missing.
        let pad = (4 - length % 4) % 4;
        words.take(pad.min(words.0.len()));
    }
    Ok(found)
}

/// Appends one attribute, padded to four bytes.
pub fn push_avp(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    let (head, flags): (usize, u32) = if code == AVP_EAP {
        (8, 0x4000_0000)
    } else {
        (12, 0x8000_0000)
    };
    let length = u32::try_from(head + data.len()).unwrap_or(0x00ff_ffff) & 0x00ff_ffff;
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&(flags | length).to_be_bytes());
    if code != AVP_EAP {
        out.extend_from_slice(&AVP_VENDOR.to_be_bytes());
    }
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_password_answer_is_the_captured_one() {
        // openconnect 9.01: user "alice", password "secret", outer id 4, inner id 2.
        let mut avps = Vec::new();
        push_avp(&mut avps, AVP_USER, b"alice");
        push_avp(
            &mut avps,
            AVP_EAP,
            &eap_expanded(EAP_RESPONSE, 2, SUB_PASSWORD, b"\x02\x02\x08secret"),
        );
        let mut body = AUTH_TYPE.to_vec();
        body.extend(eap_expanded(EAP_RESPONSE, 4, SUB_AVPS, &avps));
        let mut writer = FrameWriter { sequence: 5 };
        let captured = "00 00 55 97 00 00 00 06 00 00 00 54 00 00 00 05 00 0a 4c 01 02 04 00 40 fe 00 0a 4c
            00 00 00 01 00 00 0d 6d 80 00 00 11 00 00 05 83 61 6c 69 63 65 00 00 00 00 00 00 4f 40 00 00 1d
            02 02 00 15 fe 00 0a 4c 00 00 00 02 02 02 08 73 65 63 72 65 74 00 00 00";
        assert_eq!(writer.encode(VENDOR_TCG, 6, &body), hex(captured));
    }

    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_cut() {
        let mut writer = FrameWriter::default();
        let wire = [
            writer.encode(VENDOR_A4C, 4, b"one"),
            writer.encode(VENDOR_TCG, 5, b""),
        ]
        .concat();
        for size in 1..=wire.len() {
            let mut reader = FrameReader::default();
            let mut found = Vec::new();
            for part in wire.chunks(size) {
                reader.feed(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    found.push((frame.vendor, frame.kind, frame.body));
                }
            }
            assert_eq!(
                found,
                [(VENDOR_A4C, 4, b"one".to_vec()), (VENDOR_TCG, 5, vec![])]
            );
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let mut reader = FrameReader::default();
        reader.feed(&hex("00005597 00000005 0000000f 00000000"));
        assert!(reader.next_frame().is_err());
    }

    #[test]
    fn attributes_come_back_with_and_without_the_last_pad() {
        let mut bytes = Vec::new();
        push_avp(&mut bytes, AVP_COOKIE, b"abcde");
        push_avp(&mut bytes, AVP_EAP, b"xyz");
        let expected: [(u32, &[u8]); 2] = [(AVP_COOKIE, b"abcde"), (AVP_EAP, b"xyz")];
        assert_eq!(parse_avps(&bytes).unwrap(), expected);
        bytes.pop();
        assert_eq!(parse_avps(&bytes).unwrap(), expected);
        bytes.truncate(bytes.len() - 1);
        assert!(parse_avps(&bytes).is_err());
    }

    #[test]
    fn eap_of_other_vendors_is_refused() {
        assert!(parse_eap(&hex("01 02 000c fe 000a4d 00000001")).is_err());
        assert!(parse_eap(&hex("01 02 000d fe 000a4c 00000001")).is_err());
        assert_eq!(
            parse_eap(&hex("03 06 0004")).unwrap(),
            (EAP_SUCCESS, 6, Eap::Bare)
        );
    }
}
