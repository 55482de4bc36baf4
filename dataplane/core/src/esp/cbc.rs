//! AES-CBC (RFC 3602) with a truncated HMAC (RFC 2404, RFC 4868), encrypt-then-MAC.
//!
//! The ICV covers SPI, sequence number, IV and ciphertext, and after them the high half of an
//! extended sequence number, which is not sent (RFC 4303 section 2.2.1).

use super::{HEADER, KeyError, key_part};
use crate::bytes::{field, put};
use crate::discard::Discard;
use crate::link::{Sa, Suite};
use aes::cipher::{
    Array, Block, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt,
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit,
    ParBlocks, consts::U16,
};
use aes::{Aes128Dec, Aes128Enc, Aes256Dec, Aes256Enc};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

const IV: usize = 16;
/// Where the ciphertext starts.
const BODY: usize = HEADER + IV;

type AesBlock = Array<u8, U16>;

/// Packets sealed side by side at most: the blocks that the widest AES instructions take at once.
pub(super) const BATCH: usize = 64;

/// HMAC with the keyed inner and outer states computed once; cloned for every packet.
enum Icv {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
}

impl Icv {
    /// The HMAC key follows the cipher key of `cipher_key` bytes.
    fn new(sa: &Sa, cipher_key: usize) -> Result<Self, KeyError> {
        let secret = &sa.secret.0;
        match sa.suite {
            Suite::Aes128CbcSha1 | Suite::Aes256CbcSha1 => {
                Hmac::new_from_slice(key_part::<20>(secret, cipher_key)?).map(Self::Sha1)
            }
            _ => Hmac::new_from_slice(key_part::<32>(secret, cipher_key)?).map(Self::Sha256),
        }
        .map_err(|_| KeyError::TooShort)
    }

    fn len(&self) -> usize {
        match self {
            Self::Sha1(_) => 12,
            Self::Sha256(_) => 16,
        }
    }

    /// Writes the ICV of all before it into the datagram's last bytes.
    fn write(&self, datagram: &mut [u8], high: Option<u32>) -> Option<()> {
        let (covered, icv) =
            datagram.split_at_mut_checked(datagram.len().checked_sub(self.len())?)?;
        match self {
            Self::Sha1(keyed) => {
                let mac = updated(keyed, covered, high).finalize().into_bytes();
                icv.copy_from_slice(mac.get(..icv.len())?);
            }
            Self::Sha256(keyed) => {
                let mac = updated(keyed, covered, high).finalize().into_bytes();
                icv.copy_from_slice(mac.get(..icv.len())?);
            }
        }
        Some(())
    }

    /// Compares in constant time.
    fn verify(&self, datagram: &[u8], high: Option<u32>) -> Result<(), Discard> {
        let at = datagram
            .len()
            .checked_sub(self.len())
            .ok_or(Discard::TooShort)?;
        let (covered, icv) = datagram.split_at_checked(at).ok_or(Discard::TooShort)?;
        match self {
            Self::Sha1(keyed) => updated(keyed, covered, high).verify_truncated_left(icv),
            Self::Sha256(keyed) => updated(keyed, covered, high).verify_truncated_left(icv),
        }
        .map_err(|_| Discard::BadIcv)
    }
}

fn updated<M: Mac + Clone>(keyed: &M, covered: &[u8], high: Option<u32>) -> M {
    let mut mac = keyed.clone();
    mac.update(covered);
    if let Some(high) = high {
        mac.update(&high.to_be_bytes());
    }
    mac
}

enum Encryption {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

enum Decryption {
    Aes128(Aes128Dec),
    Aes256(Aes256Dec),
}

/// Makes the ciphertext and ICV of framed datagrams.
pub(super) struct Sealer {
    cipher: Encryption,
    icv: Icv,
    /// IV of packet n = AES-256 of n under a random key of its own. To whom does not have that key
    /// this is a random permutation of numbers that never repeat: the next IV cannot be told from
    /// random bytes whatever was seen or chosen before (NIST SP 800-38A appendix C, first method,
    /// with a key apart from the one the packets are encrypted under).
    iv: Aes256Enc,
}

impl Sealer {
    pub(super) fn new(sa: &Sa, iv_seed: [u8; 32]) -> Result<Self, KeyError> {
        let secret = &sa.secret.0;
        let (cipher, cipher_key) = match sa.suite {
            Suite::Aes128CbcSha1 | Suite::Aes128CbcSha256 => (
                Encryption::Aes128(Aes128Enc::new(key_part::<16>(secret, 0)?.into())),
                16,
            ),
            _ => (
                Encryption::Aes256(Aes256Enc::new(key_part::<32>(secret, 0)?.into())),
                32,
            ),
        };
        let seed = zeroize::Zeroizing::new(iv_seed);
        Ok(Self {
            cipher,
            icv: Icv::new(sa, cipher_key)?,
            iv: Aes256Enc::new((&*seed).into()),
        })
    }

    pub(super) fn seal(&self, datagram: &mut [u8], sequence: u64, high: Option<u32>) -> Option<()> {
        let mut iv = AesBlock::from(u128::from(sequence).to_be_bytes());
        self.iv.encrypt_block(&mut iv);
        put(datagram, HEADER, iv.0);
        let end = datagram.len().checked_sub(self.icv.len())?;
        let chain = Encrypt {
            iv,
            body: datagram.get_mut(BODY..end)?,
        };
        match &self.cipher {
            Encryption::Aes128(aes) => aes.encrypt_with_backend(chain),
            Encryption::Aes256(aes) => aes.encrypt_with_backend(chain),
        }
        self.icv.write(datagram, high)
    }

    /// The same for framed datagrams with sequence numbers from `first` on.
    pub(super) fn seal_batch(
        &self,
        datagrams: [Option<&mut [u8]>; BATCH],
        first: u64,
        esn: bool,
    ) -> Option<()> {
        let mut ivs = [AesBlock::default(); BATCH];
        let count = datagrams.iter().flatten().count();
        let ivs = ivs.get_mut(..count)?;
        for (iv, sequence) in ivs.iter_mut().zip(first..) {
            *iv = AesBlock::from(u128::from(sequence).to_be_bytes());
        }
        self.iv.encrypt_blocks(ivs);
        let mut datagrams = datagrams;
        let mut bodies: [&mut [AesBlock]; BATCH] = std::array::from_fn(|_| Default::default());
        for ((datagram, iv), body) in datagrams
            .iter_mut()
            .flatten()
            .zip(ivs.iter())
            .zip(&mut bodies)
        {
            put(datagram, HEADER, iv.0);
            let end = datagram.len().checked_sub(self.icv.len())?;
            (*body, _) = AesBlock::slice_as_chunks_mut(datagram.get_mut(BODY..end)?);
        }
        let chains = EncryptBatch {
            ivs,
            bodies: bodies.get_mut(..count)?,
        };
        match &self.cipher {
            Encryption::Aes128(aes) => aes.encrypt_with_backend(chains),
            Encryption::Aes256(aes) => aes.encrypt_with_backend(chains),
        }
        for (datagram, sequence) in datagrams.iter_mut().flatten().zip(first..) {
            self.icv
                .write(datagram, esn.then_some((sequence >> 32) as u32))?;
        }
        Some(())
    }
}

/// Checks and decrypts datagrams.
pub(super) struct Opener {
    cipher: Decryption,
    icv: Icv,
}

impl Opener {
    pub(super) fn new(sa: &Sa) -> Result<Self, KeyError> {
        let secret = &sa.secret.0;
        let (cipher, cipher_key) = match sa.suite {
            Suite::Aes128CbcSha1 | Suite::Aes128CbcSha256 => (
                Decryption::Aes128(Aes128Dec::new(key_part::<16>(secret, 0)?.into())),
                16,
            ),
            _ => (
                Decryption::Aes256(Aes256Dec::new(key_part::<32>(secret, 0)?.into())),
                32,
            ),
        };
        Ok(Self {
            cipher,
            icv: Icv::new(sa, cipher_key)?,
        })
    }

    pub(super) fn verify(&self, datagram: &[u8], high: Option<u32>) -> Result<(), Discard> {
        self.icv.verify(datagram, high)
    }

    pub(super) fn decrypt(&self, datagram: &mut [u8]) -> Result<(), Discard> {
        let iv = AesBlock::from(field(datagram, HEADER)?);
        let end = datagram
            .len()
            .checked_sub(self.icv.len())
            .ok_or(Discard::TooShort)?;
        let chain = Decrypt {
            iv,
            body: datagram.get_mut(BODY..end).ok_or(Discard::TooShort)?,
        };
        match &self.cipher {
            Decryption::Aes128(aes) => aes.decrypt_with_backend(chain),
            Decryption::Aes256(aes) => aes.decrypt_with_backend(chain),
        }
        Ok(())
    }
}

/// One chain: each block depends on the one before. Runs inside the cipher's own function, where
/// its instructions are available and the round keys stay in registers.
struct Encrypt<'a> {
    iv: AesBlock,
    body: &'a mut [u8],
}

impl BlockSizeUser for Encrypt<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Encrypt<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let mut chained = self.iv;
        let (blocks, _) = AesBlock::slice_as_chunks_mut(self.body);
        for block in blocks {
            xor(&mut chained, block);
            aes.encrypt_block((&mut chained).into());
            *block = chained;
        }
    }
}

/// Several chains under one key, a block of each at a time.
struct EncryptBatch<'a, 'b> {
    ivs: &'a [AesBlock],
    bodies: &'a mut [&'b mut [AesBlock]],
}

impl BlockSizeUser for EncryptBatch<'_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for EncryptBatch<'_, '_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let width = ParBlocks::<B>::default().len();
        for (ivs, bodies) in self.ivs.chunks(width).zip(self.bodies.chunks_mut(width)) {
            let mut chained = ParBlocks::<B>::default();
            for (block, iv) in chained.iter_mut().zip(ivs) {
                *block = *iv;
            }
            let longest = bodies.iter().map(|body| body.len()).max().unwrap_or(0);
            for at in 0..longest {
                for (chained, body) in chained.iter_mut().zip(bodies.iter()) {
                    if let Some(block) = body.get(at) {
                        xor(chained, block);
                    }
                }
                aes.encrypt_par_blocks((&mut chained).into());
                for (chained, body) in chained.iter().zip(bodies.iter_mut()) {
                    if let Some(block) = body.get_mut(at) {
                        *block = *chained;
                    }
                }
            }
        }
    }
}

/// Blocks are decrypted independently, as many at a time as the machine can, and chained after.
struct Decrypt<'a> {
    iv: AesBlock,
    body: &'a mut [u8],
}

impl BlockSizeUser for Decrypt<'_> {
    type BlockSize = U16;
}

impl BlockCipherDecClosure for Decrypt<'_> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, aes: &B) {
        let mut previous = self.iv;
        let (blocks, _) = AesBlock::slice_as_chunks_mut(self.body);
        let (groups, rest) = ParBlocks::<B>::slice_as_chunks_mut(blocks);
        for group in groups {
            let mut plain = ParBlocks::<B>::default();
            aes.decrypt_par_blocks((&*group, &mut plain).into());
            unchain(group, &plain, &mut previous);
        }
        for block in rest {
            let mut plain = Block::<B>::default();
            aes.decrypt_block((&*block, &mut plain).into());
            unchain(
                std::slice::from_mut(block),
                std::slice::from_ref(&plain),
                &mut previous,
            );
        }
    }
}

#[inline(always)]
fn unchain(blocks: &mut [AesBlock], plain: &[AesBlock], previous: &mut AesBlock) {
    for (block, plain) in blocks.iter_mut().zip(plain) {
        let cipher = *block;
        *block = *plain;
        xor(block, previous);
        *previous = cipher;
    }
}

#[inline(always)]
fn xor(block: &mut AesBlock, with: &AesBlock) {
    *block =
        AesBlock::from((u128::from_ne_bytes(block.0) ^ u128::from_ne_bytes(with.0)).to_ne_bytes());
}
