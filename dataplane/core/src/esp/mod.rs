//! ESP in UDP, tunnel mode (RFC 4303), one key per direction and SPI.
//!
//! ```text
//! SPI 4 | sequence 4 | IV 16 or 8 | payload | pad 1, 2, 3, … | pad length | next header | ICV
//! ```
//!
//! A [`SealKey`] writes such datagrams in place, an [`OpenKey`] checks and opens them in place:
//! integrity first, then the replay window, then the padding; the window moves only for authentic
//! packets. Two protections share the framing: [`cbc`] (CBC and HMAC, what openconnect knows) and
//! [`gcm`] (RFC 4106).

mod cbc;
mod gcm;
#[cfg(test)]
mod tests;

use crate::bytes::{field32, put};
use crate::discard::Discard;
use crate::link::{Sa, Suite};
use crate::replay::Window;
use std::fmt;
use std::ops::Range;

/// Most bytes in front of a payload: SPI 4, sequence 4, IV 16 (CBC). See [`SealKey::headroom`].
pub const HEADROOM: usize = 24;
/// Most bytes a packet grows by: headroom, 15 of padding, 2 of trailer, ICV.
pub const OVERHEAD: usize = HEADROOM + 15 + 2 + 16;
/// Payload of a probe: "are you there?", answered by another one.
pub const PROBE: &[u8] = crate::probe::PLAIN;
/// Next header of an IPv4 packet (and of probes over IPv4).
pub const IPV4: u8 = 4;
/// Next header of an IPv6 packet.
pub const IPV6: u8 = 41;

/// SPI and sequence number.
const HEADER: usize = 8;
/// Pad length and next header.
const TRAILER: usize = 2;

/// Rekey after this many packets: half of what a 32-bit sequence number can count. At a million
/// packets a second that leaves 35 minutes for the new keys.
const REKEY_SHORT: u64 = 1 << 31;
/// The same with 64-bit numbers: 2^35 packets of 1400 bytes are 2^42 AES blocks, where telling
/// CBC or GCM from random bytes still succeeds with a chance below 2^-44 (RFC 4106 section 5 and
/// the birthday bound of 128-bit blocks). The hard end is one doubling later.
const REKEY_EXTENDED: u64 = 1 << 35;

/// Keys that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The secret has fewer bytes than the suite needs.
    TooShort,
    /// SPIs 0 to 255 are reserved (RFC 4303 section 2.1).
    ReservedSpi,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "the secret is shorter than the suite's keys",
            Self::ReservedSpi => "SPIs 0 to 255 are reserved",
        })
    }
}

impl std::error::Error for KeyError {}

/// Why a packet was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The key has used up its sequence numbers; only new keys help.
    Exhausted,
    /// The buffer has fewer than [`SealKey::sealed_len`] bytes.
    NoRoom,
}

/// What an authentic packet holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The payload's place inside the datagram.
    pub range: Range<usize>,
    /// [`IPV4`] or [`IPV6`].
    pub next_header: u8,
}

/// The SPI of a datagram that is at least long enough to have one and a sequence number.
pub fn spi(datagram: &[u8]) -> Option<u32> {
    (datagram.len() >= HEADER)
        .then(|| field32(datagram, 0).ok())
        .flatten()
}

/// Sizes of a suite on the wire.
#[derive(Clone, Copy, Debug)]
struct Layout {
    iv: usize,
    block: usize,
    icv: usize,
}

impl Layout {
    fn of(suite: Suite) -> Self {
        match suite {
            Suite::Aes128CbcSha1 | Suite::Aes256CbcSha1 => Self {
                iv: 16,
                block: 16,
                icv: 12,
            },
            Suite::Aes128CbcSha256 | Suite::Aes256CbcSha256 => Self {
                iv: 16,
                block: 16,
                icv: 16,
            },
            Suite::Aes128Gcm | Suite::Aes256Gcm => Self {
                iv: 8,
                block: 4,
                icv: 16,
            },
        }
    }

    fn headroom(self) -> usize {
        HEADER + self.iv
    }

    /// Bytes of payload, padding and trailer.
    fn padded(self, payload: usize) -> usize {
        (payload + TRAILER).next_multiple_of(self.block)
    }
}

/// The last sequence number a key may use, and the one from which it asks to be replaced.
fn limits(esn: bool) -> (u64, u64) {
    if esn {
        (2 * REKEY_EXTENDED - 1, REKEY_EXTENDED)
    } else {
        (u64::from(u32::MAX), REKEY_SHORT)
    }
}

enum Sealer {
    Cbc(Box<cbc::Sealer>),
    Gcm(gcm::Key),
}

/// Seals packets under one SPI. It owns the sequence counter, and with it the nonces of GCM:
/// make exactly one from a set of keys, ever, and never one from keys seen before a restart.
pub struct SealKey {
    spi: u32,
    esn: bool,
    layout: Layout,
    /// Number of the packet sealed last; the first is 1.
    sequence: u64,
    sealer: Sealer,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey")
            .field("spi", &self.spi)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl SealKey {
    /// `iv_seed`: 32 fresh bytes from the operating system's generator; CBC suites derive their
    /// unpredictable IVs from it, GCM does without.
    pub fn new(sa: &Sa, iv_seed: [u8; 32]) -> Result<Self, KeyError> {
        check_spi(sa)?;
        let sealer = match sa.suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => Sealer::Gcm(gcm::Key::new(sa)?),
            _ => Sealer::Cbc(Box::new(cbc::Sealer::new(sa, iv_seed)?)),
        };
        Ok(Self {
            spi: sa.spi,
            esn: sa.esn,
            layout: Layout::of(sa.suite),
            sequence: 0,
            sealer,
        })
    }

    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// Where the payload must start in the buffer: 24 (CBC) or 16 (GCM).
    pub fn headroom(&self) -> usize {
        self.layout.headroom()
    }

    /// Length of the datagram for a payload of this many bytes.
    pub fn sealed_len(&self, payload: usize) -> usize {
        self.layout.headroom() + self.layout.padded(payload) + self.layout.icv
    }

    /// Packets sealed so far.
    pub fn used(&self) -> u64 {
        self.sequence
    }

    pub fn wants_rekey(&self) -> bool {
        self.sequence >= limits(self.esn).1
    }

    /// Seals the payload lying at `buf[headroom..headroom + len]`, in place; `buf` must have at
    /// least [`SealKey::sealed_len`] bytes. Returns the length of the datagram.
    pub fn seal(
        &mut self,
        buf: &mut [u8],
        len: usize,
        next_header: u8,
    ) -> Result<usize, SealError> {
        let datagram = self.frame(buf, len, next_header)?;
        let total = datagram.len();
        let high = self.esn.then_some((self.sequence >> 32) as u32);
        match &mut self.sealer {
            Sealer::Cbc(cbc) => cbc.seal(datagram, self.sequence, high),
            Sealer::Gcm(gcm) => gcm.seal(datagram, self.sequence, high),
        }
        .ok_or(SealError::NoRoom)?;
        Ok(total)
    }

    /// Seals several packets that go out together, as [`SealKey::seal`] would one after the other.
    /// Packet `i` has `lens[i]` bytes of payload; the datagrams follow each other in `buf` without
    /// a gap, each payload behind the headroom of its own. Returns the length of all. With CBC,
    /// where each block waits for the one before, this seals packets side by side and is faster.
    pub fn seal_batch(
        &mut self,
        buf: &mut [u8],
        lens: &[usize],
        next_header: u8,
    ) -> Result<usize, SealError> {
        let total = lens.iter().map(|len| self.sealed_len(*len)).sum();
        if total > buf.len() {
            return Err(SealError::NoRoom);
        }
        if limits(self.esn).0 - self.sequence < lens.len() as u64 {
            return Err(SealError::Exhausted);
        }
        let mut rest = buf;
        for lens in lens.chunks(cbc::BATCH) {
            let first = self.sequence + 1;
            let mut datagrams = [const { None }; cbc::BATCH];
            for (len, place) in lens.iter().zip(&mut datagrams) {
                let (datagram, behind) = rest
                    .split_at_mut_checked(self.sealed_len(*len))
                    .ok_or(SealError::NoRoom)?;
                rest = behind;
                if let Sealer::Gcm(_) = self.sealer {
                    self.seal(datagram, *len, next_header)?;
                } else {
                    *place = Some(self.frame(datagram, *len, next_header)?);
                }
            }
            if let Sealer::Cbc(cbc) = &self.sealer {
                cbc.seal_batch(datagrams, first, self.esn)
                    .ok_or(SealError::NoRoom)?;
            }
        }
        Ok(total)
    }

    /// Writes all that is not secret and takes the next sequence number: the number is gone even
    /// if sealing should fail after this, so that no nonce can be used twice.
    fn frame<'b>(
        &mut self,
        buf: &'b mut [u8],
        len: usize,
        next_header: u8,
    ) -> Result<&'b mut [u8], SealError> {
        let padded = self.layout.padded(len);
        let headroom = self.layout.headroom();
        let datagram = buf
            .get_mut(..headroom + padded + self.layout.icv)
            .ok_or(SealError::NoRoom)?;
        if self.sequence >= limits(self.esn).0 {
            return Err(SealError::Exhausted);
        }
        self.sequence += 1;
        put(datagram, 0, self.spi.to_be_bytes());
        put(datagram, 4, (self.sequence as u32).to_be_bytes());
        let pad = padded - len - TRAILER;
        let tail = datagram
            .get_mut(headroom + len..headroom + padded)
            .ok_or(SealError::NoRoom)?;
        for (byte, value) in tail.iter_mut().zip(1..) {
            *byte = value;
        }
        put(tail, pad, [pad as u8, next_header]);
        Ok(datagram)
    }
}

enum Opener {
    Cbc(Box<cbc::Opener>),
    Gcm(gcm::Key),
}

/// Opens packets of one SPI and remembers which it has seen.
pub struct OpenKey {
    spi: u32,
    esn: bool,
    layout: Layout,
    window: Window,
    opener: Opener,
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenKey")
            .field("spi", &self.spi)
            .field("next", &self.window.next())
            .finish_non_exhaustive()
    }
}

impl OpenKey {
    pub fn new(sa: &Sa) -> Result<Self, KeyError> {
        check_spi(sa)?;
        let opener = match sa.suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => Opener::Gcm(gcm::Key::new(sa)?),
            _ => Opener::Cbc(Box::new(cbc::Opener::new(sa)?)),
        };
        Ok(Self {
            spi: sa.spi,
            esn: sa.esn,
            layout: Layout::of(sa.suite),
            window: Window::new(),
            opener,
        })
    }

    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// The sender's numbers near their end.
    pub fn wants_rekey(&self) -> bool {
        self.window.next() > limits(self.esn).1
    }

    /// Checks one whole datagram and opens it in place. After an error its bytes are unspecified.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<Opened, Discard> {
        let body = self.layout.headroom()..datagram.len().saturating_sub(self.layout.icv);
        if body.end < body.start + self.layout.block {
            return Err(Discard::TooShort);
        }
        if !(body.end - body.start).is_multiple_of(self.layout.block) {
            return Err(Discard::BadLength);
        }
        if field32(datagram, 0)? != self.spi {
            return Err(Discard::UnknownSpi);
        }
        let low = field32(datagram, 4)?;
        let sequence = if self.esn {
            self.window.extended(low).ok_or(Discard::Replayed)?
        } else {
            u64::from(low)
        };
        let high = self.esn.then_some((sequence >> 32) as u32);
        match &self.opener {
            Opener::Cbc(cbc) => cbc.verify(datagram, high)?,
            Opener::Gcm(gcm) => gcm.open(datagram, high)?, // checks and decrypts in one go
        }
        if !self.window.is_new(sequence) {
            return Err(Discard::Replayed);
        }
        self.window.accept(sequence);
        if let Opener::Cbc(cbc) = &self.opener {
            cbc.decrypt(datagram)?;
        }
        let plain = datagram.get(body.clone()).ok_or(Discard::TooShort)?;
        let (payload, next_header) = strip(plain)?;
        Ok(Opened {
            range: body.start..body.start + payload,
            next_header,
        })
    }
}

fn check_spi(sa: &Sa) -> Result<(), KeyError> {
    if sa.spi > 255 {
        Ok(())
    } else {
        Err(KeyError::ReservedSpi)
    }
}

/// Length of the payload in front of padding and trailer, and the next header.
///
/// The padding is authenticated, so its check is no oracle; all of it is read anyway.
fn strip(plain: &[u8]) -> Result<(usize, u8), Discard> {
    let (rest, &[pad, next_header]) = plain
        .split_last_chunk::<TRAILER>()
        .ok_or(Discard::TooShort)?;
    let payload = rest
        .len()
        .checked_sub(usize::from(pad))
        .ok_or(Discard::BadPadding)?;
    let padding = rest.get(payload..).ok_or(Discard::BadPadding)?;
    let wrong = padding
        .iter()
        .zip(1u8..)
        .fold(0, |wrong, (byte, value)| wrong | (byte ^ value));
    if wrong != 0 {
        return Err(Discard::BadPadding);
    }
    if next_header != IPV4 && next_header != IPV6 {
        return Err(Discard::BadNextHeader);
    }
    Ok((payload, next_header))
}

/// The first `N` bytes of `secret` from `at` on.
fn key_part<const N: usize>(secret: &[u8], at: usize) -> Result<&[u8; N], KeyError> {
    secret
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(KeyError::TooShort)
}
