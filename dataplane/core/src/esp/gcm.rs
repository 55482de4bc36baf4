//! AES-GCM in ESP (RFC 4106): nonce = 4 bytes of salt from the keys and 8 bytes of IV from the
//! packet; the header is authenticated, with the whole 64-bit sequence number if it is extended.

use super::{HEADER, KeyError, key_part};
use crate::bytes::{field, put};
use crate::discard::Discard;
use crate::link::{Sa, Suite};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const IV: usize = 8;
const TAG: usize = 16;

/// One direction's key; the library keeps the expanded key and clears it when it is dropped.
pub(super) struct Key {
    key: LessSafeKey,
    salt: [u8; 4],
}

impl Key {
    pub(super) fn new(sa: &Sa) -> Result<Self, KeyError> {
        let secret = &sa.secret.0;
        let (key, salt) = match sa.suite {
            Suite::Aes128Gcm => (
                UnboundKey::new(&AES_128_GCM, key_part::<16>(secret, 0)?),
                key_part(secret, 16)?,
            ),
            _ => (
                UnboundKey::new(&AES_256_GCM, key_part::<32>(secret, 0)?),
                key_part(secret, 32)?,
            ),
        };
        Ok(Self {
            key: LessSafeKey::new(key.map_err(|_| KeyError::TooShort)?),
            salt: *salt,
        })
    }

    fn nonce(&self, iv: [u8; IV]) -> Nonce {
        let mut nonce = [0; 12];
        put(&mut nonce, 0, self.salt);
        put(&mut nonce, 4, iv);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a framed datagram. The IV is the sequence number, which [`super::SealKey`] never
    /// hands out twice.
    pub(super) fn seal(&self, datagram: &mut [u8], sequence: u64, high: Option<u32>) -> Option<()> {
        let iv = sequence.to_be_bytes();
        put(datagram, HEADER, iv);
        let aad = Header::of(datagram, high).ok()?;
        let (body, tag) = datagram
            .get_mut(HEADER + IV..)?
            .split_last_chunk_mut::<TAG>()?;
        let made = self
            .key
            .seal_in_place_separate_tag(self.nonce(iv), Aad::from(aad.bytes()), body)
            .ok()?;
        tag.copy_from_slice(made.as_ref().first_chunk::<TAG>()?);
        Some(())
    }

    /// Checks and decrypts a datagram in place.
    pub(super) fn open(&self, datagram: &mut [u8], high: Option<u32>) -> Result<(), Discard> {
        let iv = field(datagram, HEADER)?;
        let aad = Header::of(datagram, high)?;
        let body = datagram.get_mut(HEADER + IV..).ok_or(Discard::TooShort)?;
        self.key
            .open_in_place(self.nonce(iv), Aad::from(aad.bytes()), body)
            .map_err(|_| Discard::BadIcv)?;
        Ok(())
    }
}

/// What is authenticated beside the ciphertext (RFC 4106 section 5): SPI, then the 32-bit or the
/// 64-bit sequence number.
struct Header {
    bytes: [u8; 12],
    extended: bool,
}

impl Header {
    fn of(datagram: &[u8], high: Option<u32>) -> Result<Self, Discard> {
        let (spi, low) = (field::<4>(datagram, 0)?, field::<4>(datagram, 4)?);
        let mut bytes = [0; 12];
        put(&mut bytes, 0, spi);
        match high {
            Some(high) => {
                put(&mut bytes, 4, high.to_be_bytes());
                put(&mut bytes, 8, low);
            }
            None => put(&mut bytes, 4, low),
        }
        Ok(Self {
            bytes,
            extended: high.is_some(),
        })
    }

    fn bytes(&self) -> &[u8] {
        if self.extended {
            &self.bytes
        } else {
            self.bytes.first_chunk::<8>().map_or(&[], |short| short)
        }
    }
}
