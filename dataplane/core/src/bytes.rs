//! Reading and writing fixed fields of packets without a way to panic.

use crate::discard::Discard;

/// `N` bytes at `at`, or [`Discard::TooShort`].
#[inline(always)]
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Discard> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(Discard::TooShort)
}

/// Big-endian 16-bit field at `at`.
#[inline(always)]
pub(crate) fn field16(bytes: &[u8], at: usize) -> Result<u16, Discard> {
    field(bytes, at).map(u16::from_be_bytes)
}

/// Big-endian 32-bit field at `at`.
#[inline(always)]
pub(crate) fn field32(bytes: &[u8], at: usize) -> Result<u32, Discard> {
    field(bytes, at).map(u32::from_be_bytes)
}

/// Overwrites `N` bytes at `at`; nothing happens when they do not lie inside `bytes`.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<N>())
    {
        *place = value;
    }
}
