//! Refuses request heads on which two HTTP implementations could disagree.
//!
//! hyper alone decides where a message ends, and it is lenient: it takes bare line feeds, and
//! picks one of two length fields. Leniency is how requests are smuggled past whoever reads
//! them differently, so this watches the bytes on their way to hyper and refuses
//! a bare CR or LF, a NUL, a folded line, an empty line before the request, two length fields,
//! or a length beside a transfer coding. It never changes a byte. After a head with a transfer
//! coding or an upgrade it stops watching: the front serves no further request on such a
//! connection.

/// Longest field name we look for, `transfer-encoding`, with its colon.
const NAME: usize = 18;

/// Two readers could understand this request differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

#[derive(Debug, Default)]
struct Head {
    /// Start of the current line, lower case, as far as it can matter.
    start: [u8; NAME],
    /// Bytes in the current line.
    line: usize,
    /// The previous byte was a CR.
    cr: bool,
    /// Lines so far.
    lines: usize,
    /// Value of the current `content-length` line so far.
    digits: Option<u64>,
    length: Option<u64>,
    coding: bool,
    upgrade: bool,
}

#[derive(Debug)]
enum State {
    Head(Head),
    /// Bytes of a body still to come.
    Body(u64),
    /// Not watching any more.
    Open,
}

/// Watches one direction of a connection, request after request.
#[derive(Debug)]
pub struct Watch(State);

impl Default for Watch {
    fn default() -> Self {
        Self(State::Head(Head::default()))
    }
}

impl Watch {
    /// Looks at the next bytes of the stream.
    pub fn see(&mut self, mut bytes: &[u8]) -> Result<(), Ambiguous> {
        while !bytes.is_empty() {
            match &mut self.0 {
                State::Open => return Ok(()),
                State::Body(left) => {
                    let skip = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    bytes = bytes.get(skip..).unwrap_or_default();
                    *left -= skip as u64;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                State::Head(head) => {
                    let mut next = None;
                    for (at, byte) in bytes.iter().enumerate() {
                        if let Some(state) = head.byte(*byte)? {
                            next = Some((state, at + 1));
                            break;
                        }
                    }
                    let Some((state, used)) = next else {
                        return Ok(());
                    };
                    self.0 = state;
                    bytes = bytes.get(used..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }
}

impl Head {
    /// What follows when this byte ended the head.
    fn byte(&mut self, byte: u8) -> Result<Option<State>, Ambiguous> {
        match byte {
            0 => return Err(Ambiguous),
            b'\n' if !self.cr => return Err(Ambiguous),
            b'\n' => {
                self.cr = false;
                return if self.line == 0 {
                    self.end().map(Some)
                } else {
                    self.end_line().map(|()| None)
                };
            }
            _ if self.cr => return Err(Ambiguous),
            b'\r' => {
                self.cr = true;
                return Ok(None);
            }
            b' ' | b'\t' if self.line == 0 => return Err(Ambiguous),
            _ => {}
        }
        if let Some(slot) = self.start.get_mut(self.line) {
            *slot = byte.to_ascii_lowercase();
        }
        if self.line >= b"content-length:".len() && self.start.starts_with(b"content-length:") {
            self.length_byte(byte)?;
        }
        self.line += 1;
        Ok(None)
    }

    fn length_byte(&mut self, byte: u8) -> Result<(), Ambiguous> {
        match byte {
            b'0'..=b'9' => {
                let value = self.digits.unwrap_or(0).checked_mul(10);
                self.digits = value.and_then(|value| value.checked_add(u64::from(byte - b'0')));
                if self.digits.is_none() {
                    Err(Ambiguous)
                } else {
                    Ok(())
                }
            }
            // Space around the number; inside it hyper refuses the head.
            b' ' | b'\t' => Ok(()),
            _ => Err(Ambiguous),
        }
    }

    fn end_line(&mut self) -> Result<(), Ambiguous> {
        // The first line is the request line, whatever it looks like.
        if self.lines > 0 {
            if self.start.starts_with(b"content-length:") {
                if self.length.is_some() {
                    return Err(Ambiguous);
                }
                self.length = Some(self.digits.ok_or(Ambiguous)?);
            }
            self.coding |= self.start.starts_with(b"transfer-encoding:");
            self.upgrade |= self.start.starts_with(b"upgrade:");
        }
        self.lines += 1;
        self.line = 0;
        self.start = [0; NAME];
        self.digits = None;
        Ok(())
    }

    fn end(&mut self) -> Result<State, Ambiguous> {
        match (self.length, self.coding || self.upgrade) {
            _ if self.lines == 0 => Err(Ambiguous),
            (Some(_), _) if self.coding => Err(Ambiguous),
            (_, true) => Ok(State::Open),
            (None | Some(0), false) => Ok(State::Head(Head::default())),
            (Some(length), false) => Ok(State::Body(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::strategy::Strategy;

    use super::*;

    fn see(pieces: &[&[u8]]) -> Result<(), Ambiguous> {
        let mut watch = Watch::default();
        pieces.iter().try_for_each(|piece| watch.see(piece))
    }

    /// The verdict must not depend on how the stream is cut.
    fn verdict(wire: &[u8]) -> bool {
        let whole = see(&[wire]).is_ok();
        let single: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(see(&single).is_ok(), whole);
        for at in 0..wire.len() {
            let (first, second) = wire.split_at(at);
            assert_eq!(see(&[first, second]).is_ok(), whole);
        }
        whole
    }

    #[test]
    fn clear_requests_pass() {
        for wire in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 7 \r\n\r\n\n\r\0\n\r\n\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: IF-T/TLS 1.0\r\nContent-Length: 0\r\n\r\n\0\0\x55\x97",
        ] {
            assert!(verdict(wire), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn requests_that_can_be_read_in_two_ways_do_not() {
        for wire in [
            &b"GET / HTTP/1.1\nHost: a\n\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
            b"\r\nGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
        ] {
            assert!(!verdict(wire), "{}", wire.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_bytes_come(
            wire in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::prelude::any::<u8>().prop_map(|byte| vec![byte]),
                    proptest::sample::select(vec![
                        &b"\r\n"[..], b"\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"content-length: ", b"12",
                        b"Transfer-Encoding: chunked\r\n", b"upgrade: x\r\n", b" ",
                    ]).prop_map(<[u8]>::to_vec),
                ],
                0..40,
            ),
            size in 1_usize..9,
        ) {
            let wire = wire.concat();
            let pieces: Vec<&[u8]> = wire.chunks(size).collect();
            proptest::prop_assert_eq!(see(&pieces), see(&[&wire]));
        }
    }
}
